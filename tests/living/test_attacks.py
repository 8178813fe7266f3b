"""What a program inside does to init, to its workers and to other commands."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE
from tests.living.conftest import names
from tests.support.waiting import soon

Home = Any


@pytest.mark.parametrize("number", [9, 19, 15, 11, 2, 34])
def test_no_signal_from_inside_reaches_init(home: Home, number: int) -> None:
    home.run(["sh", "-c", f"kill -{number} 1"])
    assert home.run(["echo", "served"], capture_output=True).stdout == b"served\n"


def test_who_kills_his_worker_ends_himself_and_what_he_has_left(home: Home) -> None:
    with home.start(["sleep", "777"]) as other:
        r = home.run(["sh", "-c", "setsid sleep 70 & kill -9 $PPID; sleep 70"], timeout=20)
        assert r.returncode == -9
        assert soon(lambda: names(home) == ["sleep"]) and other.poll() is None
    assert home.run(["true"]).returncode == 0


def test_who_kills_all_he_can_kills_no_container(home: Home) -> None:
    for _ in range(20):
        r = home.run(["sh", "-c", "kill -9 -1; sleep 100"], timeout=20)
        assert r.returncode == -9
    assert soon(lambda: home.run(["echo", "on"], capture_output=True).stdout == b"on\n")


def test_a_worker_that_is_stopped_goes_on(home: Home) -> None:
    stop = "for i in 1 2 3; do for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = $$ ] || kill -STOP $n; done; done 2>/dev/null; echo did"
    for _ in range(5):
        assert home.run(["sh", "-c", stop], capture_output=True, timeout=20).stdout == b"did\n"
        assert home.run(["echo", "on"], capture_output=True, timeout=20).stdout == b"on\n"


def test_in_a_container_with_a_program_the_death_of_a_worker_is_the_end_of_all() -> None:
    with pyminicon.start(["sleep", "300"], init=True) as c:
        assert (
            c.run(["sh", "-c", "(setsid sleep 200 &); kill -9 $PPID; sleep 100"], timeout=20).returncode == -9
        )
        assert c.wait(10) != 0
    with pyminicon.start(["sleep", "300"], init=True) as c:  # one that only waits is nobody's loss
        c.run(["true"])
        kill = "for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = $PPID ] || [ $n = 2 ] || [ $n = $$ ] || kill -9 $n; done 2>/dev/null; exit 0"
        assert c.run(["sh", "-c", kill], timeout=20).returncode == 0
        # It may have been handed a command just then, which has died with it.
        assert soon(lambda: c.run(["true"], timeout=20).returncode == 0) and c.poll() is None


def test_a_stop_to_be_traced_is_no_end() -> None:
    code = "import ctypes, os; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0; print('traced', flush=True); os.kill(os.getpid(), 28); os._exit(7)"
    with pyminicon.start(image="python", cap_drop=["ALL"]) as c:
        with c.start(["python", "-c", code], stdout=PIPE) as p:
            assert p.stdout is not None and p.stdout.readline() == b"traced\n"
            assert not soon(lambda: p.poll() is not None, 0.3)
            p.kill()
            assert p.wait(10) == -9
        assert names(c) == []


def test_a_full_pid_table_refuses_commands_and_nothing_else() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        pytest.skip("needs root to limit the processes of another user")
    del libc
    with pyminicon.start(user="4242", rlimits={"nproc": (30, 30)}, image="python") as c:
        code = "import os, time\ntry:\n while True:\n  if os.fork() == 0: time.sleep(300)\nexcept OSError: print('full', flush=True); time.sleep(300)"
        with c.start(["python", "-c", code], stdout=PIPE) as p:
            assert p.stdout is not None and p.stdout.readline() == b"full\n"
            assert c.run(["id", "-u"], user="0", capture_output=True).stdout == b"0\n"
        assert c.run(["true"], timeout=20).returncode == 0


@pytest.mark.parametrize("options", [{}, {"userns": "private"}, {"cap_add": ["SYS_PTRACE"]}], ids=str)
def test_neither_init_nor_a_worker_can_be_read_or_traced(options: dict[str, Any]) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in (1, os.getppid()):
    for name in ("mem", "environ", "maps"):
        try:
            data = open(f"/proc/{pid}/{name}", "rb").read(16)
            print("open", pid, name, len(data))
        except OSError as error:
            pass
    for fd in os.listdir(f"/proc/{pid}/fd"):  # their numbers are no secret
        try:
            print("fd", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    if libc.ptrace(16, pid, 0, 0) == 0:
        print("traced", pid)
    print("tried")
"""
    with pyminicon.start(image="python", **options) as c:
        r = c.run(["python", "-c", code], capture_output=True, text=True, timeout=30)
        assert r.stdout.split("\n")[:-1] == ["tried", "tried"], r


def test_with_ptrace_commands_can_still_signal_each_other() -> None:
    with pyminicon.start(cap_add=["SYS_PTRACE"]) as c, c.start(["sleep", "300"]) as p:
        assert c.run(["sh", "-c", f"kill -15 {p.pid}"]).returncode == 0
        assert p.wait(10) == -15


def test_no_command_has_a_descriptor_that_it_was_not_given(home: Home) -> None:
    with open("/etc/hostname") as stray, home.start(["sleep", "100"], stdin=PIPE, stdout=PIPE):
        os.set_inheritable(stray.fileno(), True)
        r = home.run(["ls", "/proc/self/fd"], capture_output=True, text=True)
        assert r.stdout.split() == ["0", "1", "2", "3"]  # 3: the listing itself


def test_three_hundred_at_once(home: Home) -> None:
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(home.run(["true"]).returncode)) for _ in range(300)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 300
    assert names(home) == []


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "outside", "huge", "loop", "proc"])
def test_a_hostile_passwd_is_refused_and_leads_nowhere(kind: str, tmp_path: Path) -> None:
    make = {
        "fifo": "mkfifo /etc/passwd",
        "device": "mknod /etc/passwd c 1 5 || ln -s /dev/zero /etc/passwd",
        "directory": "mkdir /etc/passwd",
        "outside": f"ln -s {tmp_path}/passwd /etc/passwd",
        "huge": "head -c 2000000 /dev/zero > /etc/passwd",
        "loop": "ln -s passwd /etc/passwd",
        "proc": "ln -s /proc/self/root/../proc/1/status /etc/passwd",
    }[kind]
    (tmp_path / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    with pyminicon.start() as c:
        c.run(["sh", "-c", f"rm -f /etc/passwd; {make}"], check=True)
        with pytest.raises(pyminicon.SpecError, match="user"):
            c.run(["true"], user="evil")
        assert c.run(["true"]).returncode == 0


def test_a_passwd_behind_links_inside_is_found(home: Home) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user inside")
    home.run(
        ["sh", "-c", "echo good:x:44:44::/:/bin/sh > /tmp/p; rm -f /etc/passwd; ln -s /tmp/p /etc/passwd"],
        check=True,
    )
    assert home.run(["id", "-u"], user="good", capture_output=True).stdout == b"44\n"
