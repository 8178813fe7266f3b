"""Privileges that a program could keep, regain or hand on."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]
DOCKERS = 0xA80425FB


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize(
    "options", [{}, {"init": True}, {"userns": "private"}, {"volumes": ["/usr:/mnt:ro"]}]
)
def test_inheritable_and_ambient_capabilities_are_empty(
    options: dict[str, Any], inside: Run, needs_root: None
) -> None:
    status = fields(inside(["cat", "/proc/self/status"], **options).stdout)
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert int(status["CapBnd"], 16) == int(status["CapPrm"], 16) == int(status["CapEff"], 16) == DOCKERS
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_not_even_those_of_a_caller_who_has_them(tmp_path: Path, needs_root: None) -> None:
    """A caller with inheritable and ambient capabilities (CVE-2022-29162 was the runtime's own)."""
    capsh = shutil.which("setpriv") or pytest.skip("needs root's setpriv")
    code = "import pyminicon; print(pyminicon.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    base = [str(capsh), "--inh-caps", "+net_admin,+sys_admin", "--ambient-caps", "+net_admin,+sys_admin"]
    seen = fields(
        subprocess.run([*base, "cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    )
    assert int(seen["CapAmb"], 16) != 0
    status = fields(
        subprocess.run(
            [*base, sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
        ).stdout
    )
    assert (
        int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0 and int(status["CapEff"], 16) == DOCKERS
    )


@pytest.mark.parametrize("init", [False, True])
def test_a_user_has_no_capability_left(init: bool, inside: Run, needs_root: None) -> None:
    status = fields(inside(["cat", "/proc/self/status"], user="1000:1000", init=init).stdout)
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 0
    assert status["Groups"].strip() in ("", "1000")


def test_a_setuid_program_gains_nothing(own_rootfs: Path, inside: Run, needs_root: None) -> None:
    program = own_rootfs / "bin" / "suid"
    shutil.copy2(own_rootfs / "bin" / "id", program)
    program.chmod(0o4755)
    assert inside(["/bin/suid", "-u"], image=str(own_rootfs), user="1000").stdout == "1000\n"
    assert (
        inside(["/bin/suid", "-u"], image=str(own_rootfs), user="1000", no_new_privileges=False).stdout
        == "0\n"
    )


def test_nor_one_that_a_volume_brings(
    own_rootfs: Path, tmp_path: Path, inside: Run, needs_root: None
) -> None:
    brought = tmp_path / "suid"
    shutil.copy2(own_rootfs / "bin" / "id", brought)
    brought.chmod(0o4755)
    tmp_path.chmod(0o755)
    script = "/data/suid -u"
    assert inside(["sh", "-c", script], volumes=[f"{tmp_path}:/data"], user="1000").stdout == "1000\n"
    control = Path(f"/var/tmp/pyminicon-suid-{os.getpid()}")  # where another user can go
    shutil.copy2(brought, control)
    try:
        assert (
            subprocess.run([control, "-u"], capture_output=True, text=True, check=False, user=1000).stdout
            == "0\n"
        )
    finally:
        control.unlink()


def test_a_program_with_file_capabilities_gains_nothing(
    own_rootfs: Path, inside: Run, needs_root: None
) -> None:
    net_raw = 1 << 13
    program = own_rootfs / "bin" / "capable"
    shutil.copy2(own_rootfs / "bin" / "cat", program)
    # struct vfs_cap_data, revision 2, effective: cap_net_raw=ep, which root inside has.
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, net_raw, 0, 0, 0))
    for given, has in ((True, 0), (False, net_raw)):
        r = inside(
            ["/bin/capable", "/proc/self/status"],
            image=str(own_rootfs),
            user="1000",
            no_new_privileges=given,
        )
        status = dict(line.split(":", 1) for line in r.stdout.splitlines())
        assert int(status["CapEff"], 16) == has


def test_no_new_privileges_and_the_bounding_set_cannot_be_undone(hostile: Run, outside: Run) -> None:
    assert hostile("sys", 157, 38, 0, 0, 0, 0)["call"] == (-1, 22)  # PR_SET_NO_NEW_PRIVS only goes up
    header, all_of_them = "d:2205082000000000", "d:" + "ff" * 24
    assert hostile("sys", 126, header, all_of_them)["call"] == (-1, 1)
    assert hostile("sys", 157, 47, 2, 21, 0, 0)["call"][0] == -1  # an ambient CAP_SYS_ADMIN
    assert outside("sys", 157, 38, 0, 0, 0, 0)["call"] == (-1, 22)
    assert outside("sys", 126, header, "d:" + "00" * 24)["call"] == (0, 0)


@pytest.mark.parametrize(
    "user, ids",
    [("1", "1 1"), ("1:2", "1 2"), ("0", "0 0"), ("1000:0", "1000 0"), ("4294967294", "4294967294 0")],
)
def test_a_number_is_exactly_that_user(user: str, ids: str, inside: Run, needs_root: None) -> None:
    """`-u 1` became root in another runtime (CVE-2026-30892)."""
    status = fields(inside(["cat", "/proc/self/status"], user=user).stdout)
    uid, gid = ids.split()
    assert status["Uid"].split() == [uid] * 4 and status["Gid"].split() == [gid] * 4


@pytest.mark.parametrize(
    "user",
    [
        "-1",
        "4294967295",
        "4294967296",
        "1:",
        ":1",
        "",
        "1:2:3",
        "0x0",
        " 0",
        "1 ",
        "nobody-of-that-name",
        "root:x y",
        "1e3",
        "٣",
    ],
)
def test_a_user_that_is_none_starts_nothing(user: str) -> None:
    with pytest.raises(pyminicon.SpecError, match="user"):
        pyminicon.run(["true"], user=user)
