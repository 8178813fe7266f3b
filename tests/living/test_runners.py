"""A process that waits in the cgroup of the next command: it is that command, or in nobody's way."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL
from tests.living.conftest import names, stops_while_frozen
from tests.living.test_memory import limited
from tests.living.test_spare_groups import groups, name_in
from tests.support.threads import in_threads
from tests.support.waiting import soon


def waiting(c: Any) -> dict[str, int]:
    """Who runs init's own program in a command's cgroup of v2: the cgroup's name and the host's pid."""
    found: dict[str, int] = {}
    for path in groups():
        try:
            pids = [] if (path / "tasks").exists() else (path / "cgroup.procs").read_text().split()
            for pid in pids:
                if os.path.samefile(f"/proc/{pid}/exe", f"/proc/{c.pid}/exe"):
                    found[path.name] = int(pid)
        except OSError:  # it has gone meanwhile
            continue
    return found


def runner(c: Any) -> tuple[str, int]:
    """Of a container whose commands are slow to join their cgroups."""
    c.run(["true"])
    if not [path for path in groups() if not (path / "tasks").exists()]:
        pytest.skip("needs cgroup v2 that is the caller's to use, alone or beside v1")
    assert soon(lambda: len(waiting(c)) == 1)
    name, pid = next(iter(waiting(c).items()))
    assert soon(lambda: is_told_of(pid))
    return name, pid


def is_told_of(pid: int) -> bool:
    """Whether its worker has told the caller of it: that is what the worker does before it sleeps until its end."""
    (parent,) = re.findall(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return ") S " in Path(f"/proc/{parent}/stat").read_text()


def slow() -> dict[str, Any]:
    """A container with a cgroup of v2, which beside v1 takes one that is named: this process's own."""
    beside_v1 = Path("/sys/fs/cgroup/cpuacct/tasks").exists()
    return {"usage": True, **({"cgroup_parent": "."} if beside_v1 else {})}


@pytest.fixture
def box() -> Any:
    with pyminicon.start(**slow(), cgroupns="host") as c:
        yield c
    assert groups() == set()


@limited
def test_the_next_command_is_the_one_that_waited(box: Any) -> None:
    for _ in range(3):
        name, pid = runner(box)
        r = box.run(["sh", "-c", "cat /proc/self/cgroup; echo $$"], capture_output=True, text=True)
        *rows, number = r.stdout.splitlines()
        assert name_in("\n".join(rows)) == name
        assert pid != 0 and number.isdigit()
        assert soon(lambda name=name: name not in waiting(box))  # type: ignore[misc]


@limited
def test_the_first_command_after_the_start_finds_somebody_as_well(box: Any) -> None:
    if not soon(lambda: len(waiting(box)) == 1, 3):
        runner(box)  # skips where nobody waits
        raise AssertionError("nobody waited before the first command")
    ((name, pid),) = waiting(box).items()
    assert soon(lambda: is_told_of(pid))
    r = box.run(["sh", "-c", "cat /proc/self/cgroup"], capture_output=True, text=True)
    assert name_in(r.stdout) == name


@limited
def test_a_process_that_is_started_is_the_one_that_waited(box: Any) -> None:
    for _ in range(3):
        name, pid = runner(box)
        with box.start(["sh", "-c", "cat; echo $$"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as p:
            assert p.host_pid == pid and name_in(Path(f"/proc/{pid}/cgroup").read_text()) == name
            told, _ = p.communicate(b"in\n", timeout=30)
            assert told.split() == [b"in", str(p.pid).encode()] and p.returncode == 0
    runner(box)
    with box.start(["sh", "-c", "setsid sleep 300 & sleep 300"]) as p:
        assert p.poll() is None
        p.kill()
        assert p.wait(30) == -9
    assert names(box) == []
    runner(box)
    with box.start(["sh", "-c", "exit 3"]) as p:
        assert p.wait(30) == 3


@limited
def test_on_a_loop_as_well() -> None:
    async def commands() -> None:
        async with await pyminicon.aio.start(**slow(), cgroupns="host") as c:
            for _ in range(3):
                await c.run(["true"])
                await asyncio.sleep(0.2)
                seen = waiting(c)
                if not seen:
                    pytest.skip("needs cgroup v2 that is the caller's to use, alone or beside v1")
                r = await c.run(["sh", "-c", "cat /proc/self/cgroup"], capture_output=True, text=True)
                assert name_in(r.stdout) in seen
                await asyncio.sleep(0.2)
                seen = waiting(c)
                async with await c.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as p:
                    assert p.host_pid in seen.values()
                    assert await p.communicate(b"x") == (b"x", None) and p.returncode == 0
                await asyncio.sleep(0.2)
                with pytest.raises(FileNotFoundError):
                    await c.start(["/none"])
                await asyncio.sleep(0.2)
                begun = asyncio.ensure_future(c.run(["sleep", "300"]))
                await asyncio.sleep(0.05)
                begun.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await begun
                assert await asyncio.to_thread(names_of, c) == []

    def names_of(c: Any) -> list[str]:
        return [row.command_line[0] for row in c._processes()]

    asyncio.run(commands())


@limited
def test_who_waits_has_a_terminal_when_it_is_a_command_with_one(box: Any) -> None:
    runner(box)
    with box.start(["sh", "-c", "tty; test -t 0 && echo yes"], tty=True) as p:
        assert p.wait(30) == 0
        assert b"yes" in p.terminal.read(4096)


@limited
def test_descriptors_of_any_number_come_to_a_process(box: Any) -> None:
    read, write = os.pipe()
    many = [os.dup(write) for _ in range(40)]
    try:
        _, pid = runner(box)
        with box.start(
            ["sh", "-c", f"ls /proc/self/fd; echo x > /dev/fd/{many[-1]}"],
            stdout=pyminicon.PIPE,
            pass_fds=many,
        ) as p:
            told = p.communicate(timeout=30)[0].split()
            assert p.host_pid == pid and p.returncode == 0
        assert (
            {int(number) for number in told} >= {0, 1, 2, *many}
            and len(told) == 44
            and os.read(read, 9) == b"x\n"
        )
    finally:
        for fd in (read, write, *many):
            os.close(fd)


@limited
def test_who_waits_is_none_of_the_containers_processes(box: Any) -> None:
    runner(box)
    assert box.processes() == [] and names(box) == []


@limited
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSTOP, signal.SIGHUP, signal.SIGRTMIN], ids=str)
def test_a_signal_to_who_waits_is_none_to_the_command(box: Any, number: int) -> None:
    name, pid = runner(box)
    for _ in range(3):
        os.kill(pid, number)
    r = box.run(["sh", "-c", "cat /proc/self/cgroup"], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and name_in(r.stdout) == name


@limited
def test_one_that_was_killed_takes_no_command_along(box: Any) -> None:
    for wait in (True, False, True, False):
        name, pid = runner(box)
        os.kill(pid, signal.SIGKILL)
        if wait:
            assert soon(lambda name=name: name not in waiting(box))  # type: ignore[misc]
        r = box.run(["echo", "x"], capture_output=True, timeout=30)
        assert (r.returncode, r.stdout) == (0, b"x\n")


@limited
def test_when_root_inside_has_killed_everybody_commands_go_on(box: Any) -> None:
    for _ in range(3):
        runner(box)
        box.run(["sh", "-c", "kill -9 -1"], timeout=30)
        assert soon(lambda: box.run(["true"], timeout=30).returncode == 0)
        assert names(box) == []


@limited
def test_nobody_waits_once_all_is_told_to_end(box: Any) -> None:
    runner(box)
    box.terminate()
    assert box.wait(30) == 0


@limited
def test_a_command_by_it_is_ended_with_all_that_has_come_of_it(box: Any) -> None:
    runner(box)
    with pytest.raises(pyminicon.TimeoutExpired):
        box.run(["sh", "-c", "setsid sleep 300 & sleep 300"], timeout=0.2)
    assert names(box) == []
    assert box.run(["sh", "-c", "kill -9 $$"]).returncode == -9


@limited
def test_how_it_couldnt_begin_is_told(box: Any) -> None:
    runner(box)
    with pytest.raises(FileNotFoundError) as failed:
        box.run(["/none"])
    assert isinstance(failed.value, pyminicon.LaunchError) and failed.value.stage == "exec"
    runner(box)
    with pytest.raises(pyminicon.LaunchError) as nowhere:
        box.run(["true"], cwd="/none")
    assert nowhere.value.stage == "cwd"


@limited
def test_how_a_process_couldnt_begin_is_told(box: Any) -> None:
    for options, kind, stage in (
        ({"args": ["/none"]}, FileNotFoundError, "exec"),
        ({"args": ["/tmp"]}, PermissionError, "exec"),
        ({"args": ["true"], "cwd": "/none"}, FileNotFoundError, "cwd"),
    ):
        runner(box)
        with pytest.raises(kind) as failed:
            box.start(**options)
        assert isinstance(failed.value, pyminicon.LaunchError) and failed.value.stage == stage
    assert box.run(["true"]).returncode == 0


@limited
def test_one_that_was_killed_takes_no_process_along(box: Any) -> None:
    for wait in (True, False) * 5:
        name, pid = runner(box)
        os.kill(pid, signal.SIGKILL)
        if wait:
            assert soon(lambda name=name: name not in waiting(box))  # type: ignore[misc]
        with box.start(["echo", "x"], stdout=pyminicon.PIPE) as p:
            assert p.communicate(timeout=30)[0] == b"x\n" and p.returncode == 0


@limited
def test_with_a_filter_of_ones_own_commands_go_on() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    with pyminicon.start(**slow(), seccomp=profile, cgroupns="host") as c:
        for _ in range(2):
            runner(c)
            with c.start(["true"]) as p:
                assert p.wait(30) == 0
            runner(c)
            with pytest.raises(FileNotFoundError):
                c.start(["/none"])


@limited
def test_a_command_too_long_for_a_message_goes_another_way(box: Any) -> None:
    name, _ = runner(box)
    long = ["x" * 4000] * 40
    r = box.run(["sh", "-c", 'cat /proc/self/cgroup; exec printf %s "$#"', "sh", *long], capture_output=True)
    assert r.stdout.endswith(b"40") and name not in r.stdout.decode()


@limited
def test_streams_and_descriptors_come_to_it(box: Any) -> None:
    runner(box)
    read, write = os.pipe()
    try:
        script = f"cat; echo err >&2; echo passed > /dev/fd/{write}"
        r = box.run(["sh", "-c", script], input="in", text=True, capture_output=True, pass_fds=[write])
        assert (r.stdout, r.stderr, os.read(read, 99)) == ("in", "err\n", b"passed\n")
    finally:
        os.close(read)
        os.close(write)
    runner(box)
    r = box.run(["sh", "-c", "ls /proc/self/fd"], stdout=pyminicon.PIPE, stdin=DEVNULL)
    assert r.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own


@limited
def test_freezing_holds_who_waits_and_the_command_after_it(box: Any) -> None:
    runner(box)
    box.freeze()
    box.thaw()
    assert box.run(["true"], timeout=30).returncode == 0
    with box.start(["sh", "-c", "while echo x; do sleep 0.01; done"], stdout=pyminicon.PIPE) as p:
        stops_while_frozen(box, p)


@limited
def test_its_figures_are_its_commands_own(box: Any) -> None:
    for _ in range(3):
        runner(box)
        quiet = box.run(["true"]).usage
        runner(box)
        many = box.run(["sh", "-c", "sleep 0.01 & sleep 0.01 & sleep 0.01 & wait"]).usage
        assert quiet.pids_peak in (None, 1) and many.pids_peak in (None, 4)
        assert quiet.user + quiet.system < 0.1


@limited
def test_a_command_that_takes_all_processes_leaves_the_next_one_room() -> None:
    with pyminicon.start(pids=33, **slow()) as c:
        for _ in range(2):
            c.run(["true"])
            with pytest.raises(pyminicon.TimeoutExpired):
                c.run(
                    ["sh", "-c", "(while :; do sleep 300 & done); exec sleep 300"], timeout=1, stderr=DEVNULL
                )
            assert c.run(["true"], timeout=30).returncode == 0


@limited
def test_nobody_waits_where_few_processes_may_be() -> None:
    with pyminicon.start(pids=31, **slow(), cgroupns="host") as c:
        c.run(["true"])
        assert not soon(lambda: waiting(c), 0.3)
        c.update(pids=32)
        runner(c)


@limited
def test_a_changed_limit_holds_for_who_waits() -> None:
    with pyminicon.start(image="python", memory="256M", **slow()) as c:
        for _ in range(2):
            c.run(["true"])
        c.update(memory="64M")
        r = c.run(["python", "-c", "bytearray(128 << 20)"], stderr=DEVNULL)
        assert (r.returncode, r.limit) == (-9, "memory")


@limited
def test_the_thread_that_made_it_is_gone_afterwards(box: Any) -> None:
    threads = Path("/proc/self/task")
    before = len(list(threads.iterdir()))
    runner(box)
    assert soon(lambda: len(list(threads.iterdir())) <= before)


def test_a_container_with_a_program_has_none() -> None:
    with pyminicon.start(["sleep", "300"], init=True) as c:
        c.run(["true"])
        assert waiting(c) == {}


@limited
def test_its_descriptors_go_with_the_container() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with pyminicon.start(**slow()) as c:
        c.run(["true"])
    before = count()
    for _ in range(40):
        with pyminicon.start(**slow()) as c:
            c.run(["true"])
    assert soon(lambda: count() <= before)


@limited
def test_a_command_that_comes_while_its_runner_is_made_ends_when_it_ends() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(10):
            with pyminicon.start(**slow()) as c:
                c.run(["true"])
                time.sleep(
                    0.001 * ((number + 3 * turn) % 12)
                )  # one is made 10 ms after the last command began
                r = c.run(["sh", "-c", "sleep 0.2; echo x"], capture_output=True)
                if (r.returncode, r.stdout) != (0, b"x\n"):
                    wrong.append(r)

    in_threads(6, work)
    assert wrong == []
