"""Many launches of all kinds, and what the process and the machine have afterwards: ``python -m tests.soak [LAUNCHES]``.

Cold runs, a template's, a loop's, limits, launches that fail, timeouts, and workers that are killed with containers of
theirs. Prints descriptors, threads, memory, cgroups, mounts, zombies and slabs before and after; the exit status is 1
where something of it has grown. Counts are this process's own or carry its mark, so others may use the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
if not list((TOP / "pyminicon").glob("_core*.so")):  # not built in place: the installed one is meant
    sys.path[:] = [path for path in sys.path if path not in ("", str(TOP))]

import pyminicon  # noqa: E402
from pyminicon import aio  # noqa: E402

WARM = 200  # launches after which all that is made once is there
MOST_KIB = 24 << 10  # how much the memory may grow: the allocator's, not a launch's
PATIENCE = 60.0  # seconds for what ends beside us to be gone


def cold() -> None:
    assert pyminicon.run(["echo", "x"], capture_output=True).stdout == b"x\n"


def as_user() -> None:
    assert pyminicon.run(["id", "-u"], user="1000", capture_output=True).stdout == b"1000\n"


def with_init() -> None:
    assert pyminicon.run(["sh", "-c", "sleep 60 & exit 3"], init=True).returncode == 3


def limited() -> None:
    assert pyminicon.run(["true"], memory="32M", pids=8, cpus=1.0).returncode == 0


def over_its_memory() -> None:
    hog = ["sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"]
    assert pyminicon.run(hog, memory="16M", wall_time=120).limit == "memory"


def too_late() -> None:
    with contextlib.suppress(pyminicon.TimeoutExpired):
        pyminicon.run(["sleep", "60"], timeout=0.005)


def out_of_time() -> None:
    assert pyminicon.run(["sleep", "60"], wall_time=0.01).limit == "wall_time"


def missing_program() -> None:
    with contextlib.suppress(FileNotFoundError):
        pyminicon.run(["no-such-program"])
        raise AssertionError


def missing_volume() -> None:
    with contextlib.suppress(pyminicon.LaunchError):
        pyminicon.run(["true"], volumes=["/no/such/place:/v"])
        raise AssertionError


def dropped() -> None:
    with pyminicon.start(["sleep", "60"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE):
        pass


def in_a_terminal() -> None:
    with pyminicon.start(["true"], tty=True) as c:
        c.wait()


def on_a_loop() -> None:
    async def several() -> None:
        await asyncio.gather(*(aio.run(["true"]) for _ in range(6)))
        task = asyncio.ensure_future(aio.run(["sleep", "60"]))
        await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(several())


def from_a_template(template: pyminicon.Template) -> Callable[[], None]:
    def run() -> None:
        assert template.run(["echo", "x"], capture_output=True).stdout == b"x\n"

    return run


def killed_worker() -> None:
    """A process that is killed with SIGKILL while it has containers, limited ones among them."""
    pid = os.fork()
    if pid == 0:
        try:
            pyminicon.start(["sleep", "60"], memory="32M")
            for _ in range(50):
                pyminicon.run(["true"])
        finally:
            os._exit(0)
    time.sleep(random.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    KILLED.append(pid)


KILLED: list[int] = []
#: How often each kind comes, and how many launches it is.
KINDS: list[tuple[int, int, Callable[[], None]]] = [
    (40, 1, cold), (6, 1, as_user), (6, 1, with_init), (10, 1, limited), (1, 1, over_its_memory), (3, 1, too_late),
    (3, 1, out_of_time), (4, 1, missing_program), (4, 1, missing_volume), (4, 1, dropped), (2, 1, in_a_terminal),
    (3, 7, on_a_loop), (1, 3, killed_worker),
]  # fmt: skip


def work(launches: int, dice: random.Random, quiet: bool = False) -> None:
    """So many launches of all kinds, in an order of the dice."""
    with pyminicon.Template(stock=2) as template:
        kinds = [*KINDS, (30, 1, from_a_template(template))]
        weights = [weight for weight, _, _ in kinds]
        done, said = 0, time.monotonic()
        while done < launches:
            _, count, run = dice.choices(kinds, weights)[0]
            run()
            done += count
            if not quiet and time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{done} of {launches}", file=sys.stderr, flush=True)


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def cgroups() -> int:
    """Ours, and those of the workers that were killed."""
    pids = {str(os.getpid()), *map(str, KILLED)}
    return sum(
        name.startswith("pyminicon-") and bool(pids & {*name.split("-")[3:4]})
        for _, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
    )


def mounts() -> int:
    return len(Path("/proc/self/mountinfo").read_text().splitlines())


def children() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        yield from Path(f"/proc/self/task/{task}/children").read_text().split()


def zombies() -> int:
    found = 0
    for pid in children():
        with contextlib.suppress(OSError):
            found += Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return found


def slabs() -> int:
    """KiB of the kernel's own that can't be given back; the whole machine's, so it is told and not judged."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SUnreclaim:"):
            return int(line.split()[1])
    return 0


def count() -> dict[str, int]:
    gc.collect()
    return {
        "descriptors": descriptors(), "threads": status("Threads"), "memory KiB": status("VmRSS"), "cgroups": cgroups(),
        "mounts": mounts(), "children": len(list(children())), "zombies": zombies(), "slabs KiB": slabs(),
    }  # fmt: skip


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    most = {"memory KiB": MOST_KIB, "slabs KiB": 1 << 40, "mounts": 1 << 40}
    return [name for name in before if after[name] > before[name] + most.get(name, 0)]


def settled(before: dict[str, int]) -> dict[str, int]:
    """What there is once what ends beside us has ended; what killed workers left, another process's limits sweep away."""
    sweep = "import pyminicon; pyminicon.run(['true'], pids=8)"
    home = os.path.dirname(os.path.dirname(pyminicon.__file__))
    subprocess.run([sys.executable, "-c", sweep], check=True, cwd="/", env={**os.environ, "PYTHONPATH": home})
    until = time.monotonic() + PATIENCE
    while grown(before, after := count()) and time.monotonic() < until:
        time.sleep(0.2)
    return after


def main(launches: int) -> int:
    dice = random.Random(os.environ.get("SOAK_SEED") or None)
    work(WARM, dice, quiet=True)
    time.sleep(1.5)  # a loop's threads end a second after its last launch
    before, begun = count(), time.monotonic()
    work(launches, dice)
    seconds = time.monotonic() - begun
    after = settled(before)
    print(f"{launches} launches in {seconds:.0f} s, {launches / seconds:.0f} a second")
    for name in before:
        print(f"{name:<12}{before[name]:>10}{after[name]:>10}{after[name] - before[name]:>+9}")
    more = grown(before, after)
    print(f"grown: {', '.join(more) or 'nothing'}")
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
