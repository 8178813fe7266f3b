#!/usr/bin/env python3
"""Run a command on another kernel: ``tests/vm/run.py --kernel 6.1 --user -- pytest tests/container``.

The exit status is the command's (128+N for signal N, 124 out of time, 125 the machine itself failed), stdout
and stderr are its own. Several commands in one boot are separated by ``:::``; then the first status that
isn't 0 counts.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

import kernels
import machine

MACHINE_FAILED = 125


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    add = parser.add_argument
    add("--kernel", default="6.1", help=f"one of {', '.join(kernels.SUITES)} (default 6.1)")
    add("--user", action="store_true", help="as an ordinary user, with a delegated cgroup")
    add("--cgroup", choices=("root", "delegated"), default="", help="default: root; for --user: delegated")
    add("--timeout", type=float, default=600.0, metavar="SECONDS", help="for each command (default 600)")
    add("--env", action="append", default=[], metavar="NAME=VALUE")
    add("--cwd", default=str(machine.TREE), help="default: the top of the tree")
    add("--memory", default="3G")
    add("--cpus", type=int, default=2)
    add("--append", default="", help="more words for the kernel, like syscall.x32=y")
    add("--sysctl", action="append", default=[], metavar="NAME=VALUE")
    add("--refresh", action="store_true", help="fetch the kernel again")
    add("--fetch-only", action="store_true", help="fetch the kernel, run nothing")
    add("-v", "--verbose", action="store_true")
    add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND [::: COMMAND …]")
    return parser.parse_args(argv)


def commands(words: list[str]) -> list[list[str]]:
    if words[:1] == ["--"]:
        words = words[1:]
    parts: list[list[str]] = [[]]
    for word in words:
        if word == ":::":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def exit_status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def main(argv: list[str]) -> int:
    options = parse(argv)
    started = time.monotonic()
    # Ended from outside, it still has to end the machine: the finally clause in boot() does that.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        kernel = kernels.get(options.kernel, options.refresh)
        if options.fetch_only:
            print(f"{kernel.version} {kernel.image}")
            return 0
        env = dict(item.split("=", 1) for item in options.env)
        uid = machine.TESTER if options.user else 0
        jobs = [
            machine.Job(
                part, uid=uid, timeout=options.timeout, cwd=options.cwd, env=env, cgroup=options.cgroup
            )
            for part in commands(options.command)
        ]
        if not jobs:
            print("run.py: no command given", file=sys.stderr)
            return 2
        ended = machine.boot(
            kernel, jobs, memory=options.memory, cpus=options.cpus, append=options.append,
            sysctls=options.sysctl, verbose=options.verbose,
        )  # fmt: skip
    except (kernels.KernelUnavailable, machine.MachineFailed) as error:
        print(f"vm: {error}", file=sys.stderr)
        return MACHINE_FAILED
    if options.verbose:
        took = ", ".join(f"{one.seconds:.1f}" for one in ended)
        print(f"vm: commands took {took} s; {time.monotonic() - started:.1f} s in all", file=sys.stderr)
    return next((exit_status(one.returncode) for one in ended if one.returncode), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
