"""The limits, tried in one way of being started: prints a line of JSON for each, {"check", "answer", "seconds"}, and
before them one with what the place costs, {"timing"}.

The answer is "ok", "refused: …" (what pyminicon said) or "wrong: …". Runs inside the machine, as whoever it is there.
What only root may do is asked of the agent through a file (agent.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyminicon

ASK = Path("/run/jobs/ask")
CGROUPS = Path("/sys/fs/cgroup")
BUSY = ["sh", "-c", "while :; do :; done"]
GROWING = ["tail", "/dev/zero"]  # holds all it reads until it finds a line's end
MIB = 1 << 20


LIMITED = "import pyminicon; pyminicon.run(['true'], memory='32M')"


class Refused(Exception):
    """It can't be had here, as pyminicon said in another way than by an error of this process."""


def ask(verb: str, **words: Any) -> None:
    """Have the agent do it, and wait until it is done."""
    part = ASK.with_name(f"ask.{os.getpid()}")
    part.write_text(json.dumps({"verb": verb, **words}))
    part.rename(ASK)
    deadline = time.monotonic() + 60
    while ASK.exists():
        assert time.monotonic() < deadline, f"the agent didn't {verb}"
        time.sleep(0.05)


def cgroup_of(pid: int | str) -> Path:
    line = next(
        line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    return CGROUPS / line[3:].lstrip("/")


def memory() -> None:
    r = pyminicon.run(GROWING, memory="32M", timeout=60)
    assert r.limit == "memory", r
    assert r.usage.memory_peak is not None and r.usage.memory_peak < 40 * MIB, r.usage


def pids() -> None:
    forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait"
    r = pyminicon.run(["sh", "-c", forks], pids=6, capture_output=True, text=True, timeout=60)
    assert "fork" in r.stderr, r


def cpus() -> None:
    # As long as it takes to use so much at a fifth of a processor, however slow the machine is; emulated, the set-up
    # itself uses a third of a second before the limit is there. Where the emulator itself had no turn for a second, that
    # counts as used: again then. Without the limit each would take 1.2 seconds.
    for _ in range(3):
        r = pyminicon.run(BUSY, cpus=0.2, cpu_time=1.2, timeout=90)
        assert r.limit == "cpu_time", (r, r.usage)
        if r.usage.wall > 2.4:
            return
    raise AssertionError((r, r.usage))


def cpuset() -> None:
    r = pyminicon.run(["nproc"], cpuset="1", capture_output=True, text=True, timeout=60)
    assert r.stdout == "1\n", r


def cpu_time() -> None:
    r = pyminicon.run(BUSY, cpu_time=0.5, timeout=60)
    assert r.limit == "cpu_time", r


def io() -> None:
    write = "dd if=/dev/zero of=/data/f bs=1M count=4 conv=fsync 2>/dev/null"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        r = pyminicon.run(
            ["sh", "-c", write], volumes=[f"{place}:/data"], usage=True, memory="64M", timeout=60
        )
    if r.usage.io_written is None:
        raise Refused("usage.io_written is None: nobody delegates the io controller")
    assert r.returncode == 0 and r.usage.io_written >= 4 * MIB, (r, r.usage)


def usage() -> None:
    r = pyminicon.run(["sh", "-c", "x=1"], usage=True, timeout=60)
    if r.usage.memory_peak is r.usage.pids_peak is None:
        raise Refused("usage.memory_peak is None: nobody gives a cgroup")
    assert r.usage.memory_peak and r.usage.user is not None, r.usage


def freeze() -> None:
    with pyminicon.start(["sleep", "inf"], memory="32M") as c:
        where = cgroup_of(c.pid)
        (where / "cgroup.freeze").write_text("1")
        _soon(lambda: "frozen 1" in (where / "cgroup.events").read_text(), "it froze")
        (where / "cgroup.freeze").write_text("0")


def pid_host() -> None:
    with pyminicon.start(["sh", "-c", "sleep 4321 & sleep 4321"], pid="host", stdin=subprocess.DEVNULL) as c:
        where = cgroup_of(c.pid)
        _soon(lambda: len((where / "cgroup.procs").read_text().split()) > 1, "both ran")
        inside = (where / "cgroup.procs").read_text().split()
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in inside), "a process is left"
    _soon(lambda: not where.exists(), "its cgroup went")


def commands() -> None:
    """Each has a cgroup of its own in a container to live in, which goes on when one is killed for memory."""
    with (
        pyminicon.start(memory="32M", pids=64, cpus=1.0, usage=True) as c,
        c.start(["sleep", "inf"]) as other,
    ):
        r = c.run(GROWING, timeout=60)
        assert (r.returncode, r.limit) == (-9, "memory"), r
        assert r.usage.memory_peak and r.usage.memory_peak > 20 * MIB, r.usage
        assert c.run(BUSY, cpu_time=0.3, timeout=60).limit == "cpu_time"
        try:
            c.run(["sh", "-c", "(setsid sleep inf &); sleep inf"], timeout=3)
            raise AssertionError("it ended by itself")
        except pyminicon.TimeoutExpired:
            pass
        left = [one.command_line for one in c.processes()]
        assert other.poll() is None and left == [["sleep", "inf"]], left
        assert c.poll() is None and c.limit is None
    assert c.returncode == 0, c.returncode


def reload() -> None:
    """systemd writes back what it thinks a cgroup's settings are: the limits must be what they were."""
    with pyminicon.start(["sleep", "inf"], memory="32M", cpus=0.5, pids=16) as c:
        where = cgroup_of(c.pid)
        before = _limits(where)
        assert set(before.values()) == {"33554432", "50000 100000", "16"}, before
        ask("reload")
        if os.geteuid() and os.environ.get("XDG_RUNTIME_DIR"):
            subprocess.run(["systemctl", "--user", "daemon-reload"], check=True, timeout=60)
        assert _limits(where) == before and cgroup_of(c.pid) == where, _limits(where)
    r = pyminicon.run(["true"], memory="32M", cpus=0.5, pids=16, timeout=60)
    assert r.returncode == 0, r


def owner() -> None:
    """Who started it is killed: nothing stays, no process, no cgroup, no unit."""
    before = set(_ours())
    code = (
        "import pyminicon, time\nc = pyminicon.start(['sleep', 'inf'], memory='32M', pids=16)\n"
        "print(c.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Refused("it couldn't start one")
        where = cgroup_of(line.strip())
        assert set(_ours()) - before, "no cgroup of ours was there at all"
        process.send_signal(signal.SIGKILL)
        process.wait()
        _soon(lambda: not os.path.exists(f"/proc/{line.strip()}/exe"), "the container ended")
        try:
            _soon(lambda: not where.exists() and not set(_ours()) - before, "its cgroups went", 5)
        except AssertionError:
            # In a unit that is delegated to us no manager takes the empty directory away: the next program does, at
            # its first launch.
            assert _delegated_here(), f"left: {sorted(set(_ours()) - before)}"
            subprocess.run([sys.executable, "-c", LIMITED], check=True, timeout=60)
            _soon(lambda: not where.exists(), f"its cgroups went: {sorted(_ours())}")


def caller() -> None:
    """The caller's own cgroup has 100M: what a container takes beyond kills the container, not the caller."""
    home = os.stat(HOME)
    code = (
        "import pyminicon, sys\nr = pyminicon.run(['tail', '/dev/zero'], pids=16, timeout=90)\n"
        "print('container', r.returncode, r.limit, flush=True)"
    )
    ask("limit", cgroup=home.st_ino, value=100 * MIB)
    try:
        r = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
        )
    finally:
        ask("limit", cgroup=home.st_ino, value="max")
    if "pyminicon.LaunchError: " in r.stderr:
        raise Refused(r.stderr.strip().splitlines()[-1].removeprefix("pyminicon.LaunchError: "))
    assert r.stdout.startswith("container -9"), (
        f"the caller ended with {r.returncode}: {r.stdout} {r.stderr[-300:]}"
    )


def _limits(where: Path) -> dict[str, str]:
    return {name: (where / name).read_text().strip() for name in ("memory.max", "cpu.max", "pids.max")}


def _ours() -> Iterator[str]:
    for above, names, _ in os.walk(CGROUPS):
        for name in names:
            if "pyminicon" in name:
                yield os.path.join(above, name)


def _delegated_here() -> bool:
    """Whether this process was put into a leaf of its own unit."""
    return cgroup_of("self") != HOME


def _soon(condition: Callable[[], bool], what: str, within: float = 20) -> None:
    deadline = time.monotonic() + within  # an emulated processor, and others beside
    while True:
        with contextlib.suppress(OSError):  # the directory went while it was looked at
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


# What the place costs, in a process of its own: the search once, a look at it and the launcher at each launch after;
# and a container without limits, by which the rest can be judged on a processor that is emulated.
TIMING = """
import json, time, pyminicon
from pyminicon import cgroups
def ms(call, count):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return sorted(times)[count // 2]
pyminicon.run(["true"])
plain = ms(lambda: pyminicon.run(["true"]), 9)
limits = cgroups.check(pids=64)
search = ms(lambda: cgroups.plan(limits), 1)
pyminicon.run(["true"], pids=64)
later = ms(lambda: cgroups.plan(limits), 99)
limited = ms(lambda: pyminicon.run(["true"], pids=64), 9)
print(json.dumps({"plain": plain, "search": search, "later": later, "limited": limited}))
"""


def timing() -> dict[str, float] | None:
    """In milliseconds; None where nothing is to be had.

    The least of three processes' each: what else the machine does in that moment would count as ours.
    """
    took = []
    for _ in range(3):
        r = subprocess.run(
            [sys.executable, "-c", TIMING], capture_output=True, text=True, check=False, timeout=120
        )
        if r.returncode:
            return None
        took.append(json.loads(r.stdout))
    return {name: min(one[name] for one in took) for name in took[0]}


CHECKS: list[Callable[[], None]] = [
    memory, pids, cpus, cpuset, cpu_time, io, usage, freeze, pid_host, commands, reload, owner, caller,
]  # fmt: skip
# Where we began: the library may move this process into a leaf of the unit that is delegated to it.
HOME = cgroup_of("self")


def main(names: list[str]) -> None:
    if not names and (took := timing()) is not None:
        print(json.dumps({"timing": took}), flush=True)
    for check in CHECKS:
        if names and check.__name__ not in names:
            continue
        started = time.monotonic()
        try:
            check()
            answer = "ok"
        except (pyminicon.Error, Refused) as error:
            answer = f"refused: {error}"
        except Exception as error:
            answer = f"wrong: {type(error).__name__}: {error}"
        seconds = round(time.monotonic() - started, 1)
        print(json.dumps({"check": check.__name__, "answer": answer, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
