"""How a container that lives ends, and what becomes of its commands then."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import pyminicon
from tests.living.conftest import names

Home = Any


def test_close_is_0_and_kill_is_9() -> None:
    with pyminicon.start() as c:
        assert c.poll() is None
    assert (c.returncode, c.limit) == (0, None)
    c = pyminicon.start()
    c.kill()
    assert c.wait(10) == -9
    c.close()


def test_after_the_end_everything_that_needs_it_alive_says_so(home: Home) -> None:
    home.kill()
    for call in (home.run, home.start):
        with pytest.raises(pyminicon.ContainerEnded) as caught:
            call(["true"])
        assert (caught.value.id, caught.value.returncode, caught.value.limit) == (home.id, -9, None)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.id, again.returncode, str(again)) == (home.id, -9, str(caught.value))


def test_running_commands_end_with_it() -> None:
    with pyminicon.start() as c:
        p = c.start(["sleep", "100"])
    assert (c.returncode, p.wait(10), p.limit) == (0, -9, None)
    with pyminicon.start() as c:
        p = c.start(["sleep", "100"])
        threading.Timer(1.0, c.kill).start()
        r = c.run(["sleep", "100"])
        assert (r.returncode, r.limit, p.wait(10), c.wait(10)) == (-9, None, -9, -9)


def test_its_limit_is_told_of_its_commands() -> None:
    with pyminicon.start(wall_time=1.5) as c:
        p = c.start(["sleep", "100"])
        r = c.run(["sleep", "100"])
        assert (r.returncode, r.limit) == (-9, "wall_time")
        assert (p.wait(10), p.limit, c.wait(10), c.limit) == (-9, "wall_time", -9, "wall_time")
        with pytest.raises(pyminicon.ContainerEnded, match="wall_time"):
            c.run(["true"])


def test_terminate_tells_every_process_and_then_closes() -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    with pyminicon.start() as c:
        p = c.start(["sh", "-c", script], stdout=pyminicon.PIPE)
        assert p.stdout is not None and p.stdout.readline() == b"ready\n"
        c.terminate()
        assert p.stdout.readline() == b"told\n"
        assert (p.wait(10), c.wait(10)) == (7, 0)
    with pyminicon.start() as c:  # whoever doesn't listen isn't waited for
        c.run(["sh", "-c", "(trap '' TERM; sleep 100) & exit 0"])
        begun = time.monotonic()
        c.terminate()
        assert c.wait(60) == 0 and time.monotonic() - begun < 60


def test_a_signal_goes_to_every_process_inside() -> None:
    with pyminicon.start() as c:
        both = [c.start(["sleep", "100"]) for _ in range(2)]
        c.send_signal(10)
        assert [p.wait(10) for p in both] == [-10, -10]
        assert c.run(["true"]).returncode == 0


def test_a_container_that_nobody_holds_warns_and_is_ended_with_the_program() -> None:
    c = pyminicon.start()
    pidfd = os.dup(c.pidfd)
    try:
        with pytest.warns(ResourceWarning, match="still running"):
            del c
        from pyminicon import container

        for kept in list(container._running.values()):
            kept.end()
        import select

        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)


def test_a_forked_child_ends_nothing_and_can_ask_nothing(home: Home) -> None:
    p = home.start(["sleep", "100"])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            p.kill()
            home.kill()
            home.close()
            home.run(["true"])
        except pyminicon.ContainerEnded:
            code = 2
        except pyminicon.Error:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert p.poll() is None and home.run(["true"]).returncode == 0
    p.kill()
    assert p.wait(10) == -9 and names(home) == []


def test_a_forked_child_waits_for_no_lock_of_a_container_that_was_in_use(home: Home) -> None:
    over = threading.Event()

    def use() -> None:
        while not over.is_set():
            home.stats()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    asked: list[Callable[[], object]] = [
        lambda: home.run(["true"], cpu_time=1),
        home.processes,
        lambda: home.start(["true"], tty=True),
        lambda: home.path("/tmp", user="root").exists(),
    ]
    try:
        for turn in range(40):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                with contextlib.suppress(BaseException):
                    asked[turn % len(asked)]()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
