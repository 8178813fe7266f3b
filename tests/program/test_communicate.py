"""communicate(): what subprocess.Popen's does, container by container."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL, PIPE, STDOUT
from tests.program.conftest import alive
from tests.support.waiting import soon

ALL = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
SHELL = ["/bin/sh", "-c"]


@pytest.mark.parametrize(
    ("line", "streams", "text", "told"),
    [
        ("cat; echo e >&2", ALL, False, b"in\n"),
        ("cat; echo e >&2", ALL, True, "in\n"),
        (r"printf 'a\r\nb\rc\n'", ALL, True, None),
        ("cat", {"stdin": PIPE}, False, b"x"),
        ("echo a; echo b >&2", {"stdout": PIPE, "stderr": STDOUT}, False, None),
        ("echo a", {"stdout": PIPE, "stderr": DEVNULL}, True, None),
        ("read x; echo got:$x", ALL, True, None),
        ("cat", ALL, False, b""),
        ("true", ALL, False, b"x" * 300_000),
        ("exec >&- 2>&-; sleep 0.2; exit 3", ALL, False, None),
        ("exit 5", {}, False, None),
        (r"printf '\303\244'", {"stdout": PIPE, "encoding": "latin-1"}, False, None),
        (r"printf '\377'", {"stdout": PIPE, "encoding": "utf-8", "errors": "replace"}, False, None),
    ],
)
def test_it_answers_as_popen_does(line: str, streams: dict[str, Any], text: bool, told: Any) -> None:
    with subprocess.Popen([*SHELL, line], text=text, **streams) as process:
        wanted = process.communicate(told)
    with pyminicon.start([*SHELL, line], text=text, **streams) as box:
        assert box.communicate(told) == wanted
        assert box.returncode == process.returncode
        for ours, theirs in (
            (box.stdin, process.stdin),
            (box.stdout, process.stdout),
            (box.stderr, process.stderr),
        ):
            assert (ours is None) == (theirs is None)
            assert ours is None or (ours.closed and theirs is not None and theirs.closed)


def test_megabytes_in_both_directions_and_both_outputs() -> None:
    data = os.urandom(1 << 20) * 4
    with pyminicon.start([*SHELL, "tee /dev/stderr"], **ALL) as box:
        assert box.communicate(data) == (data, data)


def test_nothing_is_lost_over_several_timeouts() -> None:
    with pyminicon.start([*SHELL, "cat; for i in 1 2 3; do sleep 0.3; echo $i; done"], **ALL) as box:
        timeouts, so_far = 0, b""
        data = b"x" * 500_000
        first: Any = data
        while True:
            try:
                out, err = box.communicate(first, timeout=0.05)
                break
            except pyminicon.TimeoutExpired as error:
                assert isinstance(error, subprocess.TimeoutExpired)
                timeouts += 1
                assert (error.output or b"").startswith(so_far)
                so_far = error.output or b""
                first = None
        assert timeouts >= 3
        assert (out, err) == (data + b"1\n2\n3\n", b"")


def test_input_a_second_time_is_refused() -> None:
    with pyminicon.start([*SHELL, "sleep 0.3; cat"], **ALL) as box:
        with pytest.raises(pyminicon.TimeoutExpired):
            box.communicate(b"first", timeout=0)
        with pytest.raises(ValueError, match="after starting communication"):
            box.communicate(b"second")
        assert box.communicate() == (b"first", b"")


def test_called_again_it_says_the_same() -> None:
    for text in (False, True):
        with pyminicon.start([*SHELL, "echo a"], stdout=PIPE, stderr=PIPE, text=text) as box:
            assert box.communicate() == box.communicate()


def test_after_a_timeout_the_streams_are_as_they_were() -> None:
    with pyminicon.start([*SHELL, "sleep 1; echo late"], stdout=PIPE) as box:
        with pytest.raises(pyminicon.TimeoutExpired):
            box.communicate(timeout=0.05)
        assert box.stdout is not None
        assert box.stdout.readline() == b"late\n"  # waits, as on any pipe


@pytest.mark.parametrize("text", [False, True])
def test_a_partly_read_stream_loses_nothing(text: bool) -> None:
    line = r"i=0; while [ $i -lt 3000 ]; do printf '%d \303\244\303\266\n' $i; i=$((i+1)); done"
    with pyminicon.start([*SHELL, line], stdout=PIPE, text=text) as box:
        assert box.stdout is not None
        first = box.stdout.readline()
        rest, _ = box.communicate()
    whole = first + rest
    wanted = "".join(f"{n} äö\n" for n in range(3000))
    assert whole == (wanted if text else wanted.encode())


def test_a_character_cut_in_two_by_the_reader_is_whole() -> None:
    line = r"printf 'x\n\303'; sleep 0.3; printf '\244'"
    with pyminicon.start([*SHELL, line], stdout=PIPE, text=True) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "x\n"
        assert box.communicate()[0] == "ä"


def test_what_was_written_before_comes_first() -> None:
    with pyminicon.start(["/bin/cat"], stdin=PIPE, stdout=PIPE) as box:
        assert box.stdin is not None
        box.stdin.write(b"before ")
        assert box.communicate(b"after") == (b"before after", None)


def test_closed_streams_are_left_alone() -> None:
    with pyminicon.start([*SHELL, "cat; echo e >&2"], **ALL) as box:
        assert box.stdin is not None
        assert box.stdout is not None
        box.stdin.close()
        box.stdout.close()
        assert box.communicate() == (b"", b"e\n")


def test_a_reader_that_has_gone_is_no_error() -> None:
    with pyminicon.start([*SHELL, "exec <&-; sleep 0.2; echo still"], **ALL) as box:
        assert box.stdin is not None
        time.sleep(0.1)
        box.stdin.write(b"x")
        assert box.communicate(b"y" * 200_000) == (b"still\n", b"")


@pytest.mark.parametrize(("text", "told"), [(False, "str"), (True, b"bytes"), (False, 7)])
def test_the_wrong_type_of_input_is_refused_and_the_container_goes_on(text: bool, told: Any) -> None:
    with pyminicon.start([*SHELL, "cat"], text=text, **ALL) as box:
        with pytest.raises(TypeError):
            box.communicate(told)
        assert box.poll() is None


def test_it_ends_with_the_container_though_another_holds_the_pipe() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to open a descriptor of another process")
    with pyminicon.start([*SHELL, "read x; echo all"], stdin=PIPE, stdout=PIPE) as box:
        holder = os.open(f"/proc/{box.pid}/fd/1", os.O_WRONLY)
        try:
            assert box.communicate(b"\n", timeout=60) == (b"all\n", None)
        finally:
            os.close(holder)


def test_max_output_gives_all_that_was_allowed() -> None:
    with pyminicon.start(
        [*SHELL, "while :; do echo line; done"], stdout=PIPE, stderr=PIPE, max_output=100_000
    ) as box:
        out, err = box.communicate(timeout=30)
        assert (len(out) + len(err), box.limit) == (100_000, "output")
    with pyminicon.start(
        [*SHELL, "head -c 100000 /dev/zero"], stdout=PIPE, stderr=STDOUT, max_output=100_000
    ) as box:
        assert len(box.communicate(timeout=30)[0]) == 100_000
        assert (box.limit, box.returncode) == (None, 0)


def test_not_one_byte_more_than_was_allowed_comes_however_they_drip() -> None:
    line = "while :; do printf x; printf y >&2; done"
    for most in (1, 2, 99, 100):
        for _ in range(12):
            with pyminicon.start([*SHELL, line], stdout=PIPE, stderr=PIPE, max_output=most) as box:
                out, err = box.communicate(timeout=30)
                assert (len(out) + len(err), box.limit, box.returncode) == (most, "output", -9)


def test_too_much_is_noticed_also_while_nobody_reads() -> None:
    with pyminicon.start(["/usr/bin/yes"], stdout=PIPE, stderr=STDOUT, max_output=50_000) as box:
        assert box.wait(timeout=20) == -9
        assert (len(box.communicate()[0]), box.limit) == (50_000, "output")
    with pyminicon.start(
        ["/usr/bin/yes"], stdout=PIPE, stderr=STDOUT, max_output=65_536
    ) as box:  # what the pipe holds
        assert box.wait(timeout=20) == -9
        assert (len(box.communicate()[0]), box.limit) == (65_536, "output")


def test_a_timeout_leaves_the_container_running_as_popen_does(mark: str) -> None:
    with pyminicon.start(["/bin/sleep", mark], stdout=PIPE) as box:
        with pytest.raises(pyminicon.TimeoutExpired) as caught:
            box.communicate(timeout=0.3)
        assert caught.value.timeout == 0.3
        assert soon(lambda: alive(mark))
        box.kill()
        assert box.communicate() == (b"", None)
        assert box.returncode == -9


@pytest.mark.parametrize("seconds", [30 * 86400, 2.0**63, 1e300, float("inf")])
def test_a_timeout_longer_than_the_kernel_counts_is_waited_for(seconds: float) -> None:
    for command in (False, True):
        with (
            pyminicon.start() as living,
            pyminicon.start([*SHELL, "sleep 0.3; echo hi"], stdout=PIPE) as alone,
        ):
            box: Any = living.start([*SHELL, "sleep 0.3; echo hi"], stdout=PIPE) if command else alone
            assert box.communicate(timeout=seconds)[0] == b"hi\n"
            assert box.wait(timeout=seconds) == 0
    with pyminicon.start([*SHELL, "sleep 0.3; exit 4"]) as box:
        assert box.wait(timeout=seconds) == 4


@pytest.mark.parametrize("seconds", [0, -0.0, -1, -1e300, float("-inf"), float("nan")])
def test_a_timeout_that_is_over_or_no_number_doesnt_wait(seconds: float) -> None:
    with pyminicon.start(["/bin/sleep", "60"]) as box:
        with pytest.raises(pyminicon.TimeoutExpired):
            box.wait(timeout=seconds)
        assert box.poll() is None
