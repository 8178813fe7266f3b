#!/usr/bin/env python3
"""Run the container tests on other kernels, each as root and as an ordinary user: what `make vm-test` calls.

One boot a kernel. The kernels run one after another, or side by side with ``--parallel`` (each one's output
is then printed when it is through). The exit status is 0 only if every run ended with 0 in its time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import kernels
import machine

PATHS = ["tests/core", "tests/container", "tests/program", "tests/attacks"]
# What asks the kernel for something that kernels differ in; of each test one variant (sample.py). All of PATHS takes an
# idle machine more than half an hour for each run; this takes a quarter of that, so that four runs fit into CI.
QUICK = [
    *(
        f"tests/container/test_{name}.py"
        for name in ("namespaces", "fresh_mounts", "pseudo", "root", "volumes", "users_inside")
    ),
    "tests/container/test_limits.py",
    "tests/container/test_template.py::test_every_kind_of_container_has_templates",
    *(f"tests/attacks/test_{name}.py" for name in ("old_root", "proc_and_sys", "privilege", "syscalls")),
    *(
        f"tests/attacks/test_{name}.py"
        for name in ("release_agent", "host_memory", "core_dumps", "device_nodes")
    ),
]
# Names the one kernel of a process that --parallel started.
ONLY = "PYMINICON_VM_ONLY"
# A test that hangs shows where: after that many seconds pytest prints every thread's stack.
HANGS = "faulthandler_timeout=150"
PYTEST = [
    "-p",
    "tests.skips",
    "-p",
    "tests.vm.sample",
    "-p",
    "no:cacheprovider",
    "-q",
    "-m",
    "not slow_in_vm and not slow and not hour",
    "-o",
    HANGS,
]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="suite.py", description=__doc__)
    add = parser.add_argument
    add("--kernel", action="append", choices=list(kernels.SUITES), help="default: all of them")
    add("--as", dest="who", action="append", choices=("root", "user"), help="default: both")
    add("--budget", type=float, default=900.0, metavar="SECONDS", help="for each run of pytest")
    add("--quick", action="store_true", help="only what kernels differ in")
    add("--parallel", action="store_true", help="boot all kernels at once")
    add("--memory", default="3G")
    add("pytest", nargs=argparse.REMAINDER, metavar="-- PYTEST ARGUMENTS", help=f"default: {PATHS}")
    return parser.parse_args(argv)


def job(who: str, options: argparse.Namespace, name: str, release: str) -> machine.Job:
    """pytest as root or as the user; it first makes sure that this is the kernel it was meant for."""
    wanted = [word for word in options.pytest if word != "--"]
    wanted = wanted or (QUICK if options.quick else PATHS)
    guard = 'test "$(uname -r)" = "$1" || exit 70; shift; exec "$@"'
    missing = [
        path
        for path in wanted
        if path.startswith("tests/") and not (machine.TREE / path.split("::")[0]).exists()
    ]
    if missing:
        raise machine.MachineFailed(f"no such tests: {', '.join(missing)}")
    argv = ["sh", "-c", guard, "sh", release, sys.executable, "-m", "pytest", *PYTEST, *wanted]
    env = {"PYMINICON_STRICT_SKIPS": "1", "PYMINICON_VM": "1"}
    if options.quick:
        # Each of the four runs another variant of a test, where there are as many.
        number = 2 * list(kernels.SUITES).index(name) + (who == "user")
        env["PYMINICON_VM_SAMPLE"] = str(number)
    uid = machine.TESTER if who == "user" else 0
    return machine.Job(argv, uid=uid, timeout=options.budget, env=env)


def one_kernel(name: str, options: argparse.Namespace) -> list[str]:
    """Boot it and run; returns a line for every run, those that failed begin with FAILED."""
    started = time.monotonic()
    runs = options.who or ["root", "user"]
    try:
        kernel = kernels.get(name)
        jobs = [job(who, options, name, kernel.version) for who in runs]
        # Debian has x32 calls only when asked for at boot: with them there, the filters are tried on them.
        ended = machine.boot(kernel, jobs, memory=options.memory, append="syscall.x32=y", verbose=True)
    except (kernels.KernelUnavailable, machine.MachineFailed) as error:
        return [f"FAILED {name}: {error}"]
    lines = []
    for who, one in zip(runs, ended, strict=True):
        mark = "passed" if one.returncode == 0 else "FAILED"
        why = "out of time" if one.timed_out else f"exit status {one.returncode}"
        lines.append(f"{mark} {name} ({kernel.version}) as {who}: {why} after {one.seconds:.0f} s")
    lines.append(f"passed {name} in {time.monotonic() - started:.0f} s with its boot")
    return lines


def side_by_side(names: list[str], argv: list[str]) -> int:
    """A process a kernel; their output is shown whole, in order, when each is through."""
    rest = [word for word in argv if word != "--parallel"]
    failed = 0
    with contextlib.ExitStack() as undo:
        started = []
        for name in names:
            # A file, not a pipe: nobody reads the second one's output while the first is waited for.
            output = undo.enter_context(tempfile.TemporaryFile())
            # The last --kernel alone would add to those before it: ONLY replaces them all.
            env = {**os.environ, ONLY: name}
            command = [sys.executable, __file__, *rest]
            process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
            undo.callback(process.terminate)
            started.append((process, output))
        for process, output in started:
            failed |= process.wait()
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    options = parse(argv)
    # Ended from outside, it still has to end the machine: the finally clauses do that.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    names = [os.environ[ONLY]] if ONLY in os.environ else options.kernel or list(kernels.SUITES)
    if options.parallel and len(names) > 1:
        return side_by_side(names, argv)
    lines = []
    for name in names:
        print(f"vm: {name}", flush=True)
        lines += one_kernel(name, options)
    print("\n".join(f"vm: {line}" for line in lines), flush=True)
    return 1 if any(line.startswith("FAILED") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
