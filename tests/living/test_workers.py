"""Who carries commands out: workers of init's, which wait for the next when their command has ended."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pyminicon
from tests.support.threads import in_threads
from tests.support.waiting import soon


def workers(init: int) -> list[str]:
    """Init's children that are there, by the caller's pids."""
    found = []
    for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if ") Z" not in Path(f"/proc/{pid}/stat").read_text():
                found.append(pid)
    return found


def test_one_after_the_other_are_carried_out_by_one() -> None:
    with pyminicon.start() as c:
        seen: set[str] = set()
        for _ in range(50):
            assert c.run(["true"]).returncode == 0
            seen |= set(workers(c.pid))
        # A second one is there if a command came before the first had said that it waits; another one if it had
        # waited for so long that it went.
        assert len(seen) < 20


def test_where_no_command_comes_init_is_alone() -> None:
    with pyminicon.start() as c:
        for _ in range(3):
            assert soon(lambda: workers(c.pid) == [])
            before = times_asleep(c.pid)
            assert c.run(["echo", "x"], capture_output=True).stdout == b"x\n"
            assert soon(lambda was=before: times_asleep(c.pid) > was)


def test_beside_a_command_that_lasts_no_other_worker_stays() -> None:
    with pyminicon.start() as c, c.start(["sleep", "100"]) as lasting:
        assert c.run(["true"]).returncode == 0
        assert soon(lambda: len(workers(c.pid)) == 1)
        assert c.run(["echo", "x"], capture_output=True).stdout == b"x\n"
        assert lasting.poll() is None


def test_many_commands_at_once_after_a_pause() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        r = c.run(["echo", str(number)], capture_output=True, timeout=60)
        if r.stdout != b"%d\n" % number:
            wrong.append(r)

    with pyminicon.start() as c:
        for _ in range(3):
            assert soon(lambda: workers(c.pid) == [])
            in_threads(20, work)
        assert wrong == []


def test_a_command_that_comes_when_its_worker_goes_isnt_lost() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        with pyminicon.start() as c:
            for turn in range(10):
                time.sleep(0.495 + 0.001 * ((number + 3 * turn) % 12))
                r = c.run(["echo", "x"], capture_output=True, timeout=60)
                if r.stdout != b"x\n":
                    wrong.append(r)

    in_threads(12, work)
    assert wrong == []


def test_init_has_its_name_and_nothing_else_to_tell() -> None:
    with pyminicon.start() as c:
        line = Path(f"/proc/{c.pid}/cmdline")
        assert soon(lambda: line.read_bytes() == b"pyminicon-init\0")
        read = c.run(["sh", "-c", "cat /proc/1/cmdline"], capture_output=True)
        assert read.stdout == b"pyminicon-init\0"


def test_a_waiting_init_holds_one_page_table_of_each_level() -> None:
    with pyminicon.start() as c:

        def highest() -> int:
            lines = Path(f"/proc/{c.pid}/maps").read_text().splitlines()
            return max(int(line.split("-")[0], 16) for line in lines if "[vsyscall]" not in line)

        assert soon(lambda: 0x400000 < highest() < 0x600000)


def times_asleep(pid: int | str) -> int:
    """How often it has gone to sleep, and so been woken."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary")
    ]
    return int(line.split()[1])


def test_init_sleeps_through_commands_one_after_the_other() -> None:
    with pyminicon.start() as c:
        c.run(["true"])
        assert soon(lambda: len(workers(c.pid)) in (1, 2))
        before = times_asleep(c.pid)
        for _ in range(20):
            assert c.run(["true"]).returncode == 0
        # Once a command, or seldom: where one came before the last worker had said that it waits.
        assert times_asleep(c.pid) - before < 10


def test_init_wakes_for_a_command_beside_another() -> None:
    with pyminicon.start() as c, c.start(["sleep", "100"]):
        before = times_asleep(c.pid)
        assert c.run(["echo", "x"], capture_output=True).stdout == b"x\n"
        assert soon(lambda: times_asleep(c.pid) > before)  # the answer may be here before it sleeps again


def test_a_command_never_waits_for_another_or_what_that_has_left() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(15):
            line = "sleep 100 >/dev/null 2>&1 & echo x" if (turn + number) % 3 else "echo x"
            r = c.run(["sh", "-c", line], capture_output=True, timeout=60)
            if r.stdout != b"x\n":
                wrong.append(r)

    with pyminicon.start() as c:
        work(0)  # one after the other, each beside what the former has left
        in_threads(8, work)
        assert wrong == []


def test_of_many_at_once_two_stay() -> None:
    with pyminicon.start() as c:
        many = [c.start(["sleep", "100"]) for _ in range(12)]
        assert len(workers(c.pid)) >= 12
        for one in many:
            one.kill()
        for one in many:
            assert one.wait(60) == -9
        assert soon(lambda: len(workers(c.pid)) <= 2, 60)
        assert c.run(["echo", "x"], capture_output=True).stdout == b"x\n"


def test_a_worker_that_waits_may_be_killed(needs_root: None) -> None:
    with pyminicon.start() as c:
        for _ in range(20):
            assert c.run(["true"]).returncode == 0
            waiting = set(workers(c.pid))
            for pid in waiting:
                with contextlib.suppress(ProcessLookupError):  # one too many goes by itself
                    os.kill(int(pid), 9)
            assert soon(lambda gone=waiting: not gone & set(workers(c.pid)))
        assert c.run(["echo", "x"], capture_output=True).stdout == b"x\n"


def test_the_end_of_a_command_is_never_that_of_the_next_its_worker_takes() -> None:
    wrong: list[object] = []
    over = time.monotonic() + 6

    def end() -> None:
        while time.monotonic() < over:
            with c.start(["true" if time.monotonic_ns() % 3 else "sleep", "100"]) as one:
                one.kill()

    def go_on() -> None:
        while time.monotonic() < over:
            r = c.run(["sh", "-c", "true & wait; echo x"], capture_output=True)
            if (r.returncode, r.stdout) != (0, b"x\n"):
                wrong.append(r)

    with pyminicon.start() as c:
        threads = [threading.Thread(target=work) for work in (end, end, end, go_on, go_on, go_on)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [] and c.poll() is None
