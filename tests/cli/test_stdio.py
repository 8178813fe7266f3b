"""Streams are docker's: no stdin without -i, and nothing is copied that can be handed over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import COMMAND, Cli, Started, environment


def test_without_i_there_is_no_input(cli: Cli) -> None:
    assert cli("run", "host", "cat", input="ignored").stdout == ""


def test_with_i_stdin_goes_in(anybody: Cli) -> None:
    assert anybody("run", "-i", "host", "cat", input="some\nlines").stdout == "some\nlines"


def test_a_file_goes_in_as_it_is(tmp_path: Path) -> None:
    """The very file, not a copy of what is in it: the command reads on where it stopped."""
    data = tmp_path / "data"
    data.write_text("first\nsecond\n")
    line = f"{{ {' '.join(COMMAND)} run -i host head -c 6; cat; }} <{data}"
    out = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, env=environment(), check=True
    ).stdout
    assert out == "first\nsecond\n"


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
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=True, timeout=30
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
