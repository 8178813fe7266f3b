"""The network namespace is made beside the launch where a processor is to spare, and by the launch elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pyminicon
from tests.support import groups, leftovers
from tests.support.python import environment, fresh
from tests.support.run import out

INSIDE = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; readlink /proc/self/ns/net"


def test_the_network_is_the_containers_own_and_only_loopback_is_in_it() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    device, namespace = out(INSIDE).split()
    assert device == "lo"
    assert namespace != before
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_no_netns_helper_is_left_when_a_launch_returns() -> None:
    pyminicon.run(["true"])
    before = leftovers.children()
    for _ in range(20):
        with pyminicon.start(["sleep", "30"]) as box:
            (mine,) = leftovers.children() - before
            assert mine == str(box.pid)
    assert leftovers.children() == before


def test_on_one_processor_the_launch_makes_it_itself() -> None:
    code = f"""
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import pyminicon
r = pyminicon.run(["sh", "-c", {INSIDE!r}], capture_output=True, text=True, check=True)
print(r.stdout.split()[0], os.sched_getaffinity(0) == {{min(os.sched_getaffinity(0))}})
"""
    assert fresh(code).stdout == "lo True\n"


def test_many_threads_at_once_each_get_their_own() -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(out(f"{INSIDE}; sleep 0.5"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {words.split()[0] for words in seen} == {"lo"}
    assert len({words.split()[1] for words in seen}) == len(threads)


FILTERED = f"""
import os, resource, pyminicon
from tests.support import deny, filtered, leftovers
pyminicon.run(["true"])
pyminicon.run(["true"], init=True)
before = leftovers.count()
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
filtered.load(filtered.one_call(deny.number("unshare"), ANSWER))
def launched(**options):
    r = pyminicon.run(["sh", "-c", {INSIDE!r}], capture_output=True, text=True, check=True, **options)
    return r.stdout.split()[0]
print(FIRST)
print(launched(), launched(init=True), launched(read_only=True))
with pyminicon.Template() as template:
    print(template.run(["true"]).returncode)
print(leftovers.appeared(before))
"""


@pytest.mark.parametrize("answer", ["filtered.ERRNO | 1", "filtered.ERRNO | 38", "filtered.KILL_PROCESS"])
@pytest.mark.parametrize("first", ["launched()", "launched(init=True)", "pyminicon.Template().close()"])
def test_a_caller_who_may_not_unshare_gets_it_from_clone(answer: str, first: str, tmp_path: Path) -> None:
    code = FILTERED.replace("ANSWER", answer).replace("FIRST", first)
    done = fresh(f"import os\nos.chdir({str(tmp_path)!r})\n{code}")
    assert (done.stderr, done.stdout.splitlines()[1:]) == ("", ["lo lo lo", "0", "{}"])
    # A core of the netns helper would be a picture of the caller's memory.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_refusal_is_never_lost_however_late_the_netns_helper_ends() -> None:
    code = """
import os, pyminicon
from tests.support import deny, filtered
pyminicon.run(["true"])
program = filtered.one_call(deny.number("unshare"), filtered.ERRNO | 1)
statuses = []
for _ in range(100):
    worker = os.fork()
    if worker == 0:
        filtered.load(program)
        try:
            os._exit(pyminicon.run(["true"]).returncode)
        finally:
            os._exit(99)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
print(set(statuses))
"""
    assert fresh(code).stdout == "{0}\n"


@pytest.mark.slow
def test_a_netns_helper_that_is_stopped_stops_nobody_else(needs_root: None) -> None:
    pyminicon.run(["true"])
    here = os.readlink("/proc/self/ns/mnt")
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    others = set(children.read_text().split())
    going, stopped, outlived = True, 0, 0

    def is_netns_helper(pid: str) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/mnt") == here
        except OSError:
            return False

    def stop(pid: str) -> None:
        nonlocal stopped, outlived
        os.kill(int(pid), signal.SIGSTOP)
        if is_netns_helper(pid):
            stopped += 1
            deadline = time.monotonic() + 15
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            outlived += Path(f"/proc/{pid}").exists()
        os.kill(int(pid), signal.SIGCONT)

    def watch() -> None:
        while going and stopped < 2:
            for pid in set(children.read_text().split()) - others:
                with contextlib.suppress(ProcessLookupError):
                    stop(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while stopped < 2 and time.monotonic() < deadline:
            assert out(INSIDE, timeout=60).split()[0] == "lo"
    finally:
        going = False
        thread.join()
    assert stopped or len(os.sched_getaffinity(0)) == 1
    assert not outlived


def test_the_last_free_process_is_the_containers(needs_root: None) -> None:
    group = Path("/sys/fs/cgroup/pids")
    if not (group / "cgroup.procs").exists():
        pytest.skip("needs cgroup v1")
    group = group / f"pyminicon-{os.getpid()}-room"
    code = f"""
import os, pyminicon
from pathlib import Path
group = Path({str(group)!r})
pyminicon.run(["true"])
(group / "cgroup.procs").write_text(str(os.getpid()))
now = int((group / "pids.current").read_text())
for room in 1, 2:
    (group / "pids.max").write_text(str(now + room))
    print([pyminicon.run(["true"]).returncode for _ in range(20)] == [0] * 20)
(group / "pids.max").write_text(str(now))
try:
    pyminicon.run(["true"])
except pyminicon.LaunchError as error:
    print(error.stage)
"""
    group.mkdir()
    try:
        assert fresh(code).stdout.splitlines() == ["True", "True", "clone"]
    finally:
        groups.remove(group)


@pytest.mark.slow
def test_a_signals_handler_may_launch_while_a_launch_of_its_thread_waits() -> None:
    launched = 0

    def launch(*_: object) -> None:
        nonlocal launched
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        launched += out(INSIDE).split()[0] == "lo"

    before = signal.getsignal(signal.SIGALRM)
    try:
        for number in range(120):
            signal.signal(signal.SIGALRM, launch)
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + number * 0.00003)
            assert out(INSIDE, init=True).split()[0] == "lo"
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert launched > 20


def test_a_worker_forked_while_others_launch_has_netns_helpers_as_its_parent_has(needs_root: None) -> None:
    # Of a PID namespace of its own the kernel says which number it has given last.
    code = """
import os, threading, pyminicon
pyminicon.run(["true"])
def numbers(launches=10):
    first = int(open("/proc/sys/kernel/ns_last_pid").read())
    for _ in range(launches):
        pyminicon.run(["true"])
    return (int(open("/proc/sys/kernel/ns_last_pid").read()) - first) / launches
alone = numbers()
going = True
def launch():
    while going:
        pyminicon.run(["true"])
thread = threading.Thread(target=launch)
thread.start()
workers = []
for _ in range(10):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        pyminicon.run(["true"])  # and its reaper
        os._exit(int(numbers() * 10))
    os.close(read)
    workers.append((pid, write))
going = False
thread.join()
seen = set()
for pid, write in workers:
    os.write(write, b"x")
    seen.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) / 10)
print(seen == {alone}, seen, alone)
"""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=90
    )
    assert done.stdout.startswith("True"), done
