#!/usr/bin/env python3
"""The limits in every way in which people's programs are started on a machine with systemd: ``make systemd-test``.

Boots once, runs limits.py in each way, and prints one line for each. The exit status is 0 only if every check gave
the answer that it must give there.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import agent
import boot
import image
import kernels
import machine

CHECKS = "memory pids cpus cpuset cpu_time io usage freeze pid_host commands reload owner caller".split()
LONGEST = 150
# Whoever isn't given a cgroup by anybody: root in no service, and no manager of his own. Everything else works
# everywhere, but for what the user's manager isn't given itself (systemd 252: cpuset and io).
NOBODY = agent.NO_MANAGER
NOT_THE_USERS = {"cpuset", "io"}


def expected(way: str, check: str) -> str:
    """A pattern for the answer."""
    if way in NOBODY:
        return rf"refused: .{{1,{LONGEST}}}"
    if way.startswith("user-") and way != "user-system-service" and check in NOT_THE_USERS:
        return rf"ok|refused: .{{1,{LONGEST}}}"
    return "ok"


# What the search may take, and the look at the place at each launch after: so many times a container without limits,
# which takes a millisecond on a machine that isn't emulated; it does more system calls than these, which emulation slows
# most.
SEARCH, LATER = 30, 0.1


def cost(took: dict[str, float] | None) -> tuple[bool, str]:
    """Whether the place is found fast enough, and how fast."""
    if took is None:
        return True, ""
    search, later = took["search"] / took["plain"], took["later"] / took["plain"]
    good = search <= SEARCH and later <= LATER
    line = "the place: {search:.0f} ms once, {later:.2f} at each launch, where a container takes {plain:.0f} ms, with a limit {limited:.0f}"
    return good, ("" if good else "TOO SLOW ") + line.format(**took)


def verdict(way: str, answers: dict[str, str]) -> tuple[bool, str]:
    """Whether the way is right, and its line."""
    parts, good = [], True
    for check in CHECKS:
        answer = " ".join(answers.get(check, "wrong: it never came to that").split())
        right = re.fullmatch(expected(way, check), answer) is not None
        good = good and right
        shown = answer if answer == "ok" or not right else "refused"
        parts.append(f"{check} {shown}" if right else f"{check.upper()} {shown}")
    return good, ", ".join(parts)


def one(booted: boot.Booted, way: str, timeout: float) -> tuple[bool, str]:
    started = time.monotonic()
    output = io.BytesIO()
    ended = booted.run("exec python3 tests/vm/systemd/limits.py", way, timeout=timeout, output=output)
    answers: dict[str, str] = {}
    rest: list[str] = []
    took: dict[str, float] | None = None
    for line in output.getvalue().decode(errors="replace").splitlines():
        try:
            told = json.loads(line)
            if "timing" in told:
                took = told["timing"]
            else:
                answers[told["check"]] = told["answer"]
        except (ValueError, KeyError, TypeError):
            rest.append(line)
    good, line = verdict(way, answers)
    if ended.returncode != 0:
        good, line = False, f"{line}; exit status {ended.returncode}: {' / '.join(rest[-4:])}"
    fast, how_fast = cost(took)
    good = good and fast
    seconds = time.monotonic() - started
    line = "; ".join(part for part in (line, how_fast) if part)
    return good, f"systemd: {'right' if good else 'WRONG'} {way} ({seconds:.0f} s): {line}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="walk.py", description=__doc__)
    add = parser.add_argument
    add("--suite", default="bookworm", choices=list(boot.SUITES))
    add("--way", action="append", choices=list(agent.WAYS), help="default: all of them")
    add("--timeout", type=float, default=180.0, metavar="SECONDS", help="for each way")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    booted = boot.Booted(options.suite)
    wrong, ways, started = [], options.way or list(agent.WAYS), time.monotonic()
    try:
        booted.start()
        print(f"systemd: {options.suite} is up after {time.monotonic() - started:.0f} s", flush=True)
        for way in ways:
            good, line = one(booted, way, options.timeout)
            print(line, flush=True)
            wrong += [] if good else [way]
    except (kernels.KernelUnavailable, machine.MachineFailed, image.ImageFailed) as error:
        print(f"systemd: {error}", flush=True)
        return 125
    finally:
        booted.stop()
    took = time.monotonic() - started
    print(
        f"systemd: {options.suite}: {len(ways) - len(wrong)} ways right, wrong: {' '.join(wrong) or 'none'}; {took:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
