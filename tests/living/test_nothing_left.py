"""What many commands leave: nothing, of the machine's, the caller's and the container's."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import pytest

import pyminicon
from tests.living.conftest import names


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd")) if os.geteuid() == 0 else 0


def many(count: int, **options: Any) -> None:
    gc.collect()
    with pyminicon.start(**options) as c:
        for _ in range(3):  # from the second on a spare cgroup's files are open
            c.run(["true"])
        before = len(os.listdir("/proc/self/fd")), descriptors_of(c.pid)
        for number in range(count):
            assert c.run(["true"]).returncode == 0
            if number % 50 == 0:
                with pytest.raises(pyminicon.LaunchError):
                    c.run(["no-such-program"])
                with c.start(["sleep", "100"], stdout=pyminicon.PIPE):
                    pass
        gc.collect()
        after = len(os.listdir("/proc/self/fd")), descriptors_of(c.pid)
        # A second spare cgroup and a second worker come where one command is on the heels of another.
        assert after[0] <= before[0] + (40 if options.get("memory") else 0) and after[1] <= before[1] + 4
        assert names(c) == [] and c.processes() == []


@pytest.mark.parametrize("options", [{}, {"userns": "private"}, {"read_only": True}], ids=str)
def test_three_hundred_commands_leave_nothing(leftovers: None, options: dict[str, Any]) -> None:
    many(300, **options)


@pytest.fixture
def watchdog() -> None:
    """The thread that holds limits is made once a process."""
    with pyminicon.start(wall_time=60):
        pass


def test_nor_do_they_with_a_cgroup_for_each(watchdog: None, leftovers: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a limit wherever this runs")
    many(100, memory="64M")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"memory": "64M"}], ids=str)
def test_twenty_thousand_commands_leave_nothing(
    watchdog: None, leftovers: None, options: dict[str, Any]
) -> None:
    if options and os.geteuid() != 0:
        pytest.skip("needs root for a limit wherever this runs")
    with pyminicon.start(**options) as c:

        def go(count: int) -> None:
            for _ in range(count):
                assert c.run(["true"]).returncode == 0

        def at_once(count: int) -> None:
            threads = [threading.Thread(target=go, args=(count,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        go(1)
        at_once(50)  # as many spare cgroups as there will be
        before = len(os.listdir("/proc/self/fd")), descriptors_of(c.pid)
        at_once(5000)
        after = len(os.listdir("/proc/self/fd")), descriptors_of(c.pid)
        assert after[0] <= before[0] + (40 if options else 0) and after[1] == before[1]
        assert names(c) == []
