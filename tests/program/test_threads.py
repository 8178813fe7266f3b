"""Many threads launching at once, beside others that open and close descriptors all the time."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pyminicon
from tests.program.conftest import Program
from tests.support.threads import in_threads

Start = Callable[..., Program]


def inside(**options: object) -> list[str]:
    """What the descriptors of a container are, those of its own readlink's aside."""
    r = pyminicon.run(["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, **options)
    assert r.returncode == 0, r.stderr
    return sorted(line.split()[-3] for line in r.stdout.splitlines()[1:])


def test_32_threads_launch_at_once() -> None:
    def work(number: int) -> None:
        for turn in range(8):
            r = pyminicon.run(
                ["/bin/sh", "-c", f"cat; echo {number}.{turn}; exit {number}"],
                input=b"in ",
                capture_output=True,
            )
            assert (r.returncode, r.stdout) == (number, b"in %d.%d\n" % (number, turn))

    in_threads(32, work)


def test_32_threads_launch_every_kind_at_once(tmp_path: Path) -> None:
    kinds: list[dict[str, object]] = [
        {}, {"init": True}, {"userns": "private"}, {"volumes": [f"{tmp_path}:/v"]}, {"read_only": True},
        {"files": {"/tmp/x": b"x"}}, {"wall_time": 60}, {"rlimits": {"nofile": 64}},
    ]  # fmt: skip
    if os.geteuid() == 0:
        kinds.append({"user": "1000:1000"})
    tmp_path.chmod(0o755)

    def work(number: int) -> None:
        for turn in range(4):
            options = kinds[(number + turn) % len(kinds)]
            assert inside(**options) == ["0", "1", "2", "3"]
            with pyminicon.start(["/bin/sh", "-c", f"exit {number}"], **options) as box:
                assert box.wait(60) == number

    in_threads(32, work)


def test_10_000_descriptors_and_a_thread_that_opens_more_leak_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(10_000, (soft if hard == resource.RLIM_INFINITY else hard) - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many + 200), hard))
    held, going = [], True

    def churn() -> None:
        while going:
            # Inheritable: whatever the launch doesn't close would be there.
            fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            for fd in fds:
                os.set_inheritable(fd, True)
            for fd in fds:
                os.close(fd)

    churning = [threading.Thread(target=churn) for _ in range(2)]
    try:
        for _ in range(many):
            held.append(os.open("/dev/null", os.O_RDONLY))
            os.set_inheritable(held[-1], True)
        for thread in churning:
            thread.start()
        for options in [{}, {"init": True}, {"userns": "private"}] * 10:
            assert inside(**options) == ["0", "1", "2", "3"]
    finally:
        going = False
        for thread in churning:
            if thread.ident is not None:
                thread.join()
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_pass_fds_hands_out_those_and_no_others() -> None:
    first, second = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(second, True)
    try:
        assert inside(pass_fds=[first]) == sorted(
            ["0", "1", "2", "3", str(first)] if first != 3 else ["0", "1", "2", "3", "4"]
        )
    finally:
        os.close(first)
        os.close(second)


def state() -> dict[str, object]:
    """What a launch could change in this process."""
    libc = ctypes.CDLL(None)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mask = os.umask(0)
    os.umask(mask)
    return {
        "dumpable": libc.prctl(3, 0, 0, 0, 0),
        "pdeathsig": status.get("Pdeathsig"),
        "owner of /proc/self": os.stat("/proc/self/mem").st_uid,
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "pending": status["SigPnd"] + status["ShdPnd"],
        "ignored and caught": status["SigIgn"] + status["SigCgt"],
        "umask": mask,
        "cwd": os.getcwd(),
        "root": os.stat("/").st_ino,
        "descriptors": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")},
        "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")],
        "limits": [resource.getrlimit(number) for number in range(16)],
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": os.sched_getaffinity(0),
        "cgroup": Path("/proc/self/cgroup").read_text(),
        "session": (os.getsid(0), os.getpgid(0)),
    }  # fmt: skip


def test_after_1000_launches_the_program_is_what_it_was(tmp_path: Path) -> None:
    kinds: list[dict[str, object]] = [
        {},
        {},
        {},
        {"init": True},
        {"userns": "private"},
        {"volumes": [f"{tmp_path}:/v"]},
    ]
    if os.geteuid() == 0:
        kinds.append({"user": "1000:1000"})
    for options in kinds:
        pyminicon.run(["/bin/true"], **options)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        threads, before = len(os.listdir("/proc/self/task")), state()
        for number in range(1000):
            r = pyminicon.run(["/bin/true"], capture_output=number % 3 == 0, **kinds[number % len(kinds)])
            assert r.returncode == 0
            if number % 100 == 0:  # a launch that fails changes nothing either
                try:
                    pyminicon.run(["/no/such"], **kinds[number % len(kinds)])
                except pyminicon.LaunchError as error:
                    error.__traceback__ = None
        after = state()
        assert len(os.listdir("/proc/self/task")) <= threads  # others' may have ended meanwhile
        assert after == before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_errno_of_the_program_is_left_alone(program: Start) -> None:
    running = program("""
import ctypes, pyminicon
libc = ctypes.CDLL(None, use_errno=True)
pyminicon.run(['/bin/true'])
libc.close(-1)                                  # EBADF, into ctypes' own copy and back around each call
before = ctypes.get_errno()
pyminicon.run(['/bin/true'])
print(before, ctypes.get_errno())
""")
    assert running.end() == (0, "9 9\n")


def test_memory_doesn_t_grow_with_launches() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(100):
        pyminicon.run(["/bin/true"], capture_output=True)
    before = resident()
    for _ in range(500):
        pyminicon.run(["/bin/true"], capture_output=True)
    assert resident() - before < 4 << 20


def test_a_program_with_closed_standard_streams(program: Start) -> None:
    """A daemon: what the core opens would come to lie on 0, 1 and 2."""
    running = program("""
import sys
out = os.dup(1)
for fd in (0, 1, 2):
    os.close(fd)
import pyminicon
told = []
for options in ({}, {'init': True}, {'userns': 'private'}, {'usage': os.geteuid() == 0}):
    r = pyminicon.run(['/bin/sh', '-c', 'readlink /proc/self/fd/0 /proc/self/fd/2; exit 4'], stdout=-1, text=True, **options)
    told.append((r.returncode, r.stdout.split()))
    r = pyminicon.run(['/bin/true'], **options)
    told.append(r.returncode)
    try:
        pyminicon.run(['/no/such'], **options)
    except pyminicon.LaunchError as error:
        told.append(error.stage)
os.write(out, repr(set(map(repr, told))).encode())
os._exit(0)
""")
    code, out = running.end()
    assert code == 0
    assert eval(out) == {"(4, ['/dev/null', '/dev/null'])", "0", "'exec'"}
