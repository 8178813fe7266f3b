"""start() and the Container it gives: subprocess.Popen, in a container."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE, container
from tests.support.python import fresh


def cat() -> pyminicon.Container:
    return pyminicon.start(["cat"], stdin=PIPE, stdout=PIPE)


def test_a_container_can_be_talked_to() -> None:
    with cat() as c:
        assert c.stdin is not None
        assert c.stdout is not None
        c.stdin.write(b"ping\n")
        c.stdin.flush()
        assert c.stdout.readline() == b"ping\n"
        c.stdin.close()
        assert c.wait() == 0
    assert c.returncode == 0


def test_text_streams_are_text() -> None:
    with pyminicon.start(["cat"], stdin=PIPE, stdout=PIPE, text=True) as c:
        assert c.stdin is not None
        assert c.stdout is not None
        c.stdin.write("grüß\n")
        c.stdin.flush()
        assert c.stdout.readline() == "grüß\n"


def test_it_has_a_pid_a_pidfd_and_an_id() -> None:
    with cat() as c:
        assert os.path.exists(f"/proc/{c.pid}")
        assert len(c.id) == 12
        assert c.fileno() == c.pidfd
        signal.pidfd_send_signal(c.pidfd, 0)


def test_poll_says_none_until_it_has_ended() -> None:
    with cat() as c:
        assert c.poll() is None
        assert c.returncode is None
        assert c.stdin is not None
        c.stdin.close()
        select.select([c], [], [], 10)
        assert c.poll() == 0
        assert c.poll() == 0


def test_the_pidfd_becomes_readable_at_the_end() -> None:
    with cat() as c:
        assert select.select([c], [], [], 0)[0] == []
        c.kill()
        assert select.select([c], [], [], 10)[0] == [c]
        assert c.wait() == -9


def test_wait_with_a_timeout_raises_and_leaves_it_running() -> None:
    with cat() as c:
        with pytest.raises(pyminicon.TimeoutExpired):
            c.wait(timeout=0.1)
        assert c.poll() is None


def test_communicate_feeds_and_drains_both_streams() -> None:
    with pyminicon.start(["sh", "-c", "cat; echo err >&2"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as c:
        data = b"x" * (3 << 20)
        out, err = c.communicate(data)
        assert (out, err, c.returncode) == (data, b"err\n", 0)


def test_communicate_can_be_tried_again_after_its_timeout() -> None:
    with pyminicon.start(["sh", "-c", "echo one; sleep 1; echo two"], stdout=PIPE) as c:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            c.communicate(timeout=0.1)
        assert caught.value.output in (None, b"one\n")
        assert c.communicate() == (b"one\ntwo\n", None)


def test_signals_reach_a_program_that_handles_them() -> None:
    with pyminicon.start(
        ["sh", "-c", "trap 'exit 5' TERM; echo; while :; do sleep 0.05; done"], stdout=PIPE
    ) as c:
        assert c.stdout is not None
        c.stdout.readline()
        c.terminate()
        assert c.wait(10) == 5


def test_under_init_sigterm_ends_a_program_without_a_handler() -> None:
    with pyminicon.start(["sh", "-c", "echo; exec sleep 1000"], stdout=PIPE, init=True) as c:
        assert c.stdout is not None
        c.stdout.readline()
        c.terminate()
        assert c.wait(10) == -15


def test_signals_to_a_container_that_has_ended_do_nothing() -> None:
    with cat() as c:
        c.kill()
        c.wait()
        c.kill()
        c.terminate()
        c.send_signal(1)
        assert c.returncode == -9


def test_leaving_the_block_kills_what_still_runs() -> None:
    with pyminicon.start(["sleep", "1000"]) as c:
        pid = c.pid
    assert c.returncode == -9
    assert not os.path.exists(f"/proc/{pid}")


def test_an_exception_in_the_block_kills_it_too() -> None:
    with pytest.raises(RuntimeError), pyminicon.start(["sleep", "1000"]) as c:
        raise RuntimeError
    assert c.returncode == -9


def test_a_forgotten_container_runs_on_and_ends_with_the_interpreter() -> None:
    code = """
import gc, os, pyminicon, time
pid = pyminicon.start(["sleep", "1000"]).pid
gc.collect()
time.sleep(0.1)
print(pid, os.path.exists(f"/proc/{pid}"))
"""
    r = fresh(code)
    pid, ran_on = r.stdout.split()
    assert ran_on == "True"
    assert not os.path.exists(f"/proc/{pid}")


def test_forgotten_containers_that_have_ended_dont_pile_up() -> None:
    """As subprocess buries forgotten children at the next start."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(150):
        pyminicon.start(["true"])
        time.sleep(0.001)
    assert len(os.listdir("/proc/self/fd")) < before + 100
    deadline = time.monotonic() + 5
    while container._running and time.monotonic() < deadline:
        container._burial = 0
        container._bury()
        time.sleep(0.01)


def test_a_container_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        pyminicon.Container(None, None, None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["input", "timeout", "check", "capture_output", "collect"])
def test_start_doesnt_take_what_only_run_can_do(option: str) -> None:
    value = {"input": b"x", "timeout": 1, "check": True, "capture_output": True, "collect": ["/x"]}[option]
    with pytest.raises(pyminicon.SpecError, match=option):
        pyminicon.start(["true"], **{option: value})


def test_a_forked_worker_holds_a_handle_that_does_nothing() -> None:
    with cat() as c:
        pid = os.fork()
        if pid == 0:
            try:
                c.kill()
                c.terminate()
                done = c.poll() is None
                c.close()
                os._exit(0 if done else 1)
            except BaseException:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert c.poll() is None
        assert c.communicate(b"alive")[0] == b"alive"


def test_a_forked_worker_can_start_its_own() -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            r = pyminicon.run(["echo", "from the worker"], capture_output=True)
            status = 0 if r.stdout == b"from the worker\n" else 3
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_several_threads_may_wait_for_one_container() -> None:
    with cat() as c:
        seen: list[int] = []
        threads = [threading.Thread(target=lambda: seen.append(c.wait())) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        c.kill()
        for thread in threads:
            thread.join(10)
        assert seen == [-9] * 8


def test_usage_of_a_running_container_can_be_asked_for() -> None:
    with cat() as c:
        assert c.usage.wall >= 0
        assert c.usage.memory_peak is None


def test_after_close_there_is_no_pidfd_that_could_be_anothers() -> None:
    with pyminicon.start(["/bin/true"], stdout=pyminicon.PIPE) as c:
        assert c.fileno() >= 0
    assert (c.pidfd, c.fileno()) == (-1, -1)
    assert c.communicate() == (b"", None)


@pytest.mark.parametrize("number", [9999, -1, 65, "TERM", None, True, 1.5, 10**30], ids=repr)
def test_what_is_no_signal_is_refused(number: Any) -> None:
    with pyminicon.start(["/bin/sleep", "60"]) as c, pytest.raises(pyminicon.SpecError, match="1 to 64"):
        c.send_signal(number)


STDIN = """
import os, pyminicon, sys, threading, time
pyminicon.run(["true"])
begun = time.monotonic()
def full(**options):
    box = pyminicon.start(["sleep", "inf"], stdin=pyminicon.PIPE, **options)
    os.set_blocking(box.stdin.fileno(), False)
    try:
        while True:
            os.write(box.stdin.fileno(), b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(box.stdin.fileno(), True)
    box.stdin.write("more" if options else b"more")
    return box
"""


@pytest.mark.parametrize("options", ["", "text=True"], ids=["bytes", "text"])
def test_leaving_the_block_waits_for_nobody_who_should_read(options: str) -> None:
    r = fresh(STDIN + f"with full({options}): pass\nprint(time.monotonic() - begun < 20)")
    assert r.stdout == "True\n"


def test_leaving_the_interpreter_waits_for_nobody_who_should_read() -> None:
    r = fresh(STDIN + "box = full()\nprint('left', flush=True)")
    assert (r.returncode, r.stdout) == (0, "left\n")


def test_closing_waits_for_no_worker_that_has_inherited_a_pipe() -> None:
    """A reader of stdin that is none of the container's: its end of the pipe stays open."""
    code = """
box = full()
other = os.dup(box.stdin.fileno())
reader = os.open(f"/proc/{box.pid}/fd/0", os.O_RDONLY)
box.close()
print(time.monotonic() - begun < 20, box.stdin.closed, box.returncode)
"""
    assert fresh(STDIN + code).stdout == "True True -9\n"


def test_communicate_feeds_what_was_written_before_within_its_time() -> None:
    code = """
box = full()
try:
    box.communicate(b"input", timeout=0.3)
except pyminicon.TimeoutExpired:
    print(time.monotonic() - begun < 20)
box.close()
with pyminicon.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as box:
    box.stdin.write(b"first ")
    print(box.communicate(b"then")[0])
"""
    assert fresh(STDIN + code).stdout == "True\nb'first then'\n"


@pytest.mark.parametrize("way", ["wait", "communicate"])
def test_whoever_waits_hears_of_a_close_in_another_thread(way: str) -> None:
    for _ in range(30):
        c = pyminicon.start(["sleep", "inf"], stdout=pyminicon.PIPE)
        seen: list[object] = []
        thread = threading.Thread(target=lambda c=c, seen=seen: seen.append(getattr(c, way)()))  # type: ignore[misc]
        thread.start()
        if len(os.listdir("/proc/self/task")) % 2:
            time.sleep(0.002)
        c.close()
        thread.join(60)
        assert not thread.is_alive()
        assert seen == ([-9] if way == "wait" else [(b"", None)])
        assert c.pidfd == -1
