"""The container's limits hold for its program, and not for the steps of its launch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import pyminicon

LINE = ["sh", "-c", "ulimit -n; ulimit -Hn"]
MODES: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"userns": "private"},
    {"user": "54321"},
    {"user": "54321", "init": True},
    {"read_only": True},
    {"network": "host"},
    {"memory": "64M"},
]
#: As low as a small program can begin with.
LOW: dict[str, Any] = {
    "cpu": 5,
    "fsize": 0,
    "data": 4 << 20,
    "stack": 256 << 10,
    "core": 0,
    "rss": 0,
    "nproc": 1,
    "nofile": 4,
    "memlock": 0,
    "as": 32 << 20,
    "locks": 0,
    "sigpending": 0,
    "msgqueue": 0,
    "nice": 0,
    "rtprio": 0,
    "rttime": 1000,
}


def possible(options: dict[str, Any]) -> None:
    if os.geteuid() != 0 and ("user" in options or "memory" in options):
        pytest.skip("needs root to become another user, and cgroups")


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("most", [4, 12, 64])
def test_few_descriptors_are_enough_for_a_launch(rootfs: Path, options: dict[str, Any], most: int) -> None:
    possible(options)
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    try:
        for image in ("host", str(rootfs)):
            r = pyminicon.run(
                LINE, image=image, rlimits={"nofile": most}, capture_output=True, text=True, **options
            )
            assert (r.returncode, r.stdout) == (0, f"{most}\n{most}\n"), r
    finally:
        for fd in held:
            os.close(fd)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_every_limit_may_be_as_low_as_a_program_can_live_with(rootfs: Path, options: dict[str, Any]) -> None:
    possible(options)
    for name, most in LOW.items():
        for image in ("host", str(rootfs)):
            r = pyminicon.run(["/bin/true"], image=image, rlimits={name: most}, **options)
            assert r.returncode == 0, name
    together = {name: most for name, most in LOW.items() if name != "rttime"}
    assert pyminicon.run(["/bin/true"], rlimits=together, **options).returncode == 0


def test_a_templates_runs_bring_more_than_the_program_may_open() -> None:
    read, write = os.pipe()
    high = os.dup2(read, 200)
    with pyminicon.Template(stock=2, rlimits={"nofile": (12, 20)}) as template:
        for _ in range(3):
            r = template.run(LINE, capture_output=True, text=True, pass_fds=[high])
            assert (r.returncode, r.stdout) == (0, "12\n20\n"), r
    for fd in (read, write, high):
        os.close(fd)
