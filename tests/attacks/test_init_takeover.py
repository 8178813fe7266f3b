"""Whoever may trace must not become init, which isn't under the program's limits in everything."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import pyminicon
from pyminicon import _core
from pyminicon.options.parse import parse
from pyminicon.plan import build

Run = Callable[..., Any]

#: By ways into another process that ask for CAP_SYS_PTRACE (tests/attacks/attack.c, peek).
WAYS = ("maps", "readv", "writev", "mem", "mem-write", "environ", "root", "getfd", "fds", "ptrace")
DUTIES = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8  # KILL SETGID SETUID SETPCAP

KINDS: list[dict[str, Any]] = [
    {},
    {"userns": "private"},
    {"user": "1000"},
    {"cap_drop": ["ALL"]},
    {"read_only": True},
    {"no_new_privileges": False},
    {"seccomp": "unconfined"},
    {"cap_add": ["ALL"]},
]


def skip_what_takes_root(options: dict[str, Any]) -> None:
    if "user" in options and os.geteuid() != 0:
        pytest.skip("needs root to become another user")


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_program_that_may_trace_cannot_trace_read_or_write_its_init(
    hostile: Run, options: dict[str, Any]
) -> None:
    skip_what_takes_root(options)
    found = hostile("peek", 1, init=True, **{"cap_add": ["SYS_PTRACE"], **options})
    ways = WAYS
    if options.get("cap_add") == ["ALL"] and os.geteuid() == 0:
        # The kernel shows maps and environment to whoever has the machine's PERFMON; init's say nothing.
        ways = tuple(way for way in WAYS if way not in ("maps", "environ"))
    assert {way: found[way][0] for way in ways} == dict.fromkeys(ways, -1)
    assert {found[way][1] for way in ("readv", "writev", "getfd", "ptrace")} == {errno.EPERM}


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_it_can_do_all_that_with_a_program_of_its_own(hostile: Run, options: dict[str, Any]) -> None:
    skip_what_takes_root(options)
    found = hostile("debug", init=True, **{"cap_add": ["SYS_PTRACE"], **options})
    assert [found[step][0] for step in ("stopped", "peeked", "detached")] == [0, 0, 0]
    # pidfd_getfd and process_vm_* are the default filter's matter.
    assert {found[way][0] for way in ("maps", "mem", "mem-write", "environ", "root", "fds", "ptrace")} == {0}


def test_pid_1_can_be_read_where_it_is_the_program_itself(hostile: Run) -> None:
    found = hostile("peek", 1, cap_add=["SYS_PTRACE"])
    assert all(found[way][0] != -1 for way in WAYS if way not in ("ptrace", "writev"))
    assert found["writev"][1] == errno.EFAULT  # its own code; and nobody traces himself


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_init_has_what_its_duties_take_and_the_programs_own_bounds(
    inside: Run, options: dict[str, Any]
) -> None:
    skip_what_takes_root(options)
    line = "for n in 1 self; do grep -E '^(Cap(Inh|Eff|Prm|Bnd|Amb)|NoNewPrivs|Seccomp|Groups):' /proc/$n/status; done"
    r = inside(["sh", "-c", line], init=True, **options)
    lines = r.stdout.split("\n")
    half = len(lines) // 2
    init, program = (dict(one.split(":", 1) for one in part) for part in (lines[:half], lines[half:-1]))
    # What its commands may have is permitted to it, and not in effect.
    assert int(init["CapEff"], 16) == DUTIES
    assert int(init["CapPrm"], 16) == DUTIES | int(program["CapBnd"], 16)
    assert int(init["CapInh"], 16) == int(init["CapAmb"], 16) == 0
    for same in ("CapBnd", "NoNewPrivs", "Seccomp"):
        assert init[same] == program[same], same
    if os.geteuid() == 0 and "userns" not in options:
        assert not init["Groups"].split()


def test_init_serves_a_program_that_has_no_rights_at_all() -> None:
    script = "trap 'echo asked; exit 4' TERM; (sleep 0.01 &); echo there; while :; do sleep 0.01; done"
    options: dict[str, Any] = {"cap_drop": ["ALL"], "stdout": subprocess.PIPE, "init": True}
    if os.geteuid() == 0:
        options["user"] = "1000"
    with pyminicon.start(["sh", "-c", script], **options) as box:
        assert box.stdout is not None and box.stdout.readline() == b"there\n"
        box.terminate()
        assert box.stdout.readline() == b"asked\n" and box.wait(10) == 4


def test_a_filter_that_forbids_init_its_work_fails_the_launch() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["ppoll"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    assert pyminicon.run(["true"], seccomp=profile).returncode == 0
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["true"], seccomp=profile, init=True)
    assert (caught.value.stage, caught.value.errno) == ("init", 38)


@pytest.mark.parametrize(
    ("command", "options", "stage"),
    [
        (["true"], {"cwd": "/nowhere"}, "cwd"),
        (["true"], {"cwd": "/nowhere", "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, "cwd"),
        (["/nowhere"], {}, "exec"),
    ],
    ids=["cwd", "cwd, own filter", "exec"],
)
def test_a_step_that_fails_beside_inits_own_is_the_one_that_is_named(
    command: list[str], options: dict[str, Any], stage: str
) -> None:
    for _ in range(20):
        with pytest.raises(pyminicon.LaunchError) as caught:
            pyminicon.run(command, init=True, **options)
        assert (caught.value.stage, caught.value.errno) == (stage, errno.ENOENT)


@pytest.mark.parametrize(("version", "added"), [(0, "SYS_PTRACE"), (1, "SYS_PTRACE"), (5, "ALL")])
def test_a_kernel_that_cannot_keep_them_apart_refuses_the_pair(
    monkeypatch: pytest.MonkeyPatch, version: int, added: str
) -> None:
    monkeypatch.setattr(_core, "landlock_version", lambda: version)
    with pytest.raises(pyminicon.SpecError, match="init: with SYS_PTRACE"):
        pyminicon.run(["true"], init=True, cap_add=[added])
    assert pyminicon.run(["true"], cap_add=[added]).returncode == 0
    assert pyminicon.run(["true"], init=True).returncode == 0


def test_an_older_kernel_keeps_them_apart_at_the_price_of_mounting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "landlock_version", lambda: 3)
    plan = build.build(parse(["true"], {"init": True, "cap_add": ["SYS_PTRACE"]}))
    assert plan.fields["init_barrier"]
