"""Streams are docker's: no stdin without -i, pipes handed over, and nothing that has a name on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cli, Started, environment


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False, timeout=60
    )


def test_without_i_there_is_no_input(cli: Cli) -> None:
    assert cli("run", "host", "cat", input="ignored").stdout == ""


def test_with_i_stdin_goes_in(anybody: Cli) -> None:
    assert anybody("run", "-i", "host", "cat", input="some\nlines").stdout == "some\nlines"


def test_a_file_comes_in_whole_and_its_end_is_seen(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"line\n" * 500_000)
    line = f"{' '.join(COMMAND)} run -i host cat < {data} | cmp - {data} && echo same"
    assert shell(line).stdout == "same\n"


def test_a_command_that_reads_a_part_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"line\n" * 500_000)
    assert shell(f"{' '.join(COMMAND)} run -i host head -n 1 < {data}").stdout == "line\n"


WRITE = "echo X 1<>/proc/self/fd/0"  # opened anew, for writing, whatever it was opened for before


def test_a_command_cannot_write_the_file_it_reads(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("mine\n")
    shell(f"{' '.join(COMMAND)} run -i host sh -c '{WRITE}' < {data}")
    assert data.read_text() == "mine\n"
    shell(f"sh -c '{WRITE}' < {data}")
    assert data.read_text() == "X\nne\n"  # without a container in between it can


@pytest.mark.parametrize("number", [1, 2])
def test_a_command_cannot_change_the_mode_of_the_file_it_writes(number: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"echo before >&{number}; chmod 4777 /proc/self/fd/{number}; echo after >&{number}"
    shell(f"{' '.join(COMMAND)} run host sh -c '{script}' {number}> {out}")
    assert out.stat().st_mode & 0o7000 == 0
    assert out.read_text().startswith("before\n") and out.read_text().endswith("after\n")
    # Nothing is written afterwards: an ordinary user's write would take the bit away again.
    shell(f"sh -c 'chmod 4777 /proc/self/fd/{number}' {number}> {out}")
    assert out.stat().st_mode & 0o7777 == 0o4777


def test_output_to_one_file_keeps_its_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("was there\n")
    shell(f"{' '.join(COMMAND)} run host sh -c 'echo 1; echo 2 >&2; echo 3; echo 4 >&2' >> {out} 2>&1")
    assert out.read_text() == "was there\n1\n2\n3\n4\n"


def test_a_named_pipe_is_served_and_not_handed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    script = "echo through; chmod 777 /proc/self/fd/1"
    r = shell(f"cat {tmp_path}/fifo & {' '.join(COMMAND)} run host sh -c '{script}' > {tmp_path}/fifo; wait")
    assert r.stdout == "through\n" and (tmp_path / "fifo").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("way", ["< /dev/null", "<&-"])
def test_the_null_device_is_the_containers_own(way: str, needs_root: None) -> None:
    script = "stat -L -c %d /proc/self/fd/0; stat -c %d /dev; chmod 667 /proc/self/fd/0"
    before = os.stat("/dev/null").st_mode
    try:
        r = shell(f"{' '.join(COMMAND)} run -i host sh -c '{script}' {way}")
        assert os.stat("/dev/null").st_mode == before
    finally:
        os.chmod("/dev/null", before & 0o7777)
    device, dev = r.stdout.split()
    assert device == dev != str(os.stat("/dev/null").st_dev)


def test_the_ends_of_pipes_are_the_containers_own(cli: Cli) -> None:
    r = cli(
        "run",
        "host",
        "sh",
        "-c",
        "readlink /proc/self/fd/1 | cut -d: -f1; ls -l /proc/self/fd | grep -c pipe",
    )
    assert r.stdout.splitlines()[0] == "pipe"


def test_a_hundred_megabytes_come_through_whole() -> None:
    line = f"{' '.join(COMMAND)} run host head -c 100000000 /dev/zero | wc -c"
    out = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, env=environment(), check=True
    ).stdout
    assert out == "100000000\n"


def test_a_reader_that_has_enough_ends_the_writer() -> None:
    line = f"{' '.join(COMMAND)} run host yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    r = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=True, timeout=60
    )
    assert r.stdout.splitlines()[0] == "y"


def test_closed_streams_are_no_obstacle() -> None:
    line = f"{' '.join(COMMAND)} run host sh -c 'exit 5' <&- >&- 2>&-; echo $?"
    out = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, env=environment(), check=True
    ).stdout
    assert out == "5\n"


def test_output_beyond_the_limit_ends_it(cli: Cli) -> None:
    r = cli("run", "--max-output", "4k", "host", "yes")
    assert (r.returncode, len(r.stdout)) == (137, 4096)
    assert r.stderr == "pyminicon: ended by its limit: output\n"


def test_output_to_a_terminal_is_not_counted_but_refused(cli: Cli) -> None:
    for words in (("-t",), ("-t", "--dry-run")):
        r = cli("run", *words, "--max-output", "4k", "host", "yes")
        assert (r.returncode, r.stdout) == (125, "")
        assert r.stderr.startswith("pyminicon: --max-output: can't be held at a terminal")
    assert cli("run", "--dry-run", "--max-output", "4k", "host", "yes").returncode == 0


def test_output_is_seen_while_it_runs(start: Callable[..., Started]) -> None:
    one = start("run", "-i", "host", "sh", "-c", "echo ready; read x; echo got $x", stdin=subprocess.PIPE)
    assert one.line() == "ready\n"
    assert one.process.stdin is not None
    one.process.stdin.write("it\n")
    one.process.stdin.flush()
    assert one.line() == "got it\n"
    assert one.status() == 0
