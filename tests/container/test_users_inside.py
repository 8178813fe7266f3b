"""Who the program is: user, groups, and how ids inside and outside go together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pyminicon
from tests.support.run import out, sh

IDS = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s '\\t ' ' '"


def ids(**options: object) -> list[str]:
    return [line.strip() for line in out(IDS, **options).splitlines()]


def plain(uid: int, gid: int, groups: str = "") -> list[str]:
    """The kernel keeps groups in order. The primary one is among them (CVE-2022-36109)."""
    row = " ".join(sorted([str(gid), *groups.split()], key=int))
    return [f"Uid: {uid} {uid} {uid} {uid}", f"Gid: {gid} {gid} {gid} {gid}", f"Groups: {row}"]


@pytest.fixture
def image(rootfs: Path) -> dict[str, object]:
    return {"image": str(rootfs)}


@pytest.mark.parametrize(
    ("user", "want"),
    [
        (None, plain(0, 0)),
        ("0", plain(0, 0)),
        ("root", plain(0, 0)),
        ("1", plain(1, 0)),
        ("1:2", plain(1, 2)),
        ("1234:0", plain(1234, 0)),
        ("0:5", plain(0, 5)),
        ("alice", plain(1000, 1000, "29 44")),
        ("1000", plain(1000, 1000, "29 44")),
        ("bob", plain(1001, 100, "29")),
        ("alice:video", plain(1000, 44)),
        ("alice:7", plain(1000, 7)),
        ("65534:65534", plain(65534, 65534)),
        ("4000000000:4000000001", plain(4000000000, 4000000001)),
    ],
)
@pytest.mark.parametrize("init", [False, True])
def test_a_user_is_exactly_who_was_asked_for(
    image: dict[str, object], user: str | None, want: list[str], init: bool, needs_root: None
) -> None:
    assert ids(user=user, init=init, **image) == want


def test_supplementary_groups_of_the_caller_are_dropped(image: dict[str, object], needs_root: None) -> None:
    before = os.getgroups()
    os.setgroups([4, 27, 1999])
    try:
        assert ids(**image)[2] == "Groups: 0"
        assert ids(user="alice", **image)[2] == "Groups: 29 44 1000"
    finally:
        os.setgroups(before)


@pytest.mark.parametrize(
    "user", ["nobody-here", "alice:no-such-group", "", ":", "1:", ":1", "-1", "1:2:3", "4294967295", "a b"]
)
def test_a_user_that_cant_be_is_refused(image: dict[str, object], user: str) -> None:
    with pytest.raises(pyminicon.SpecError, match="user"):
        pyminicon.run(["true"], user=user, **image)


def test_the_home_is_the_users(image: dict[str, object], needs_root: None) -> None:
    assert out("echo $HOME", user="alice", **image) == "/home/alice\n"
    assert out("echo $HOME", user="4711", **image) == "/\n"
    assert out("echo $HOME", **image) == "/root\n"


def test_another_user_has_no_capabilities_and_root_has_dockers() -> None:
    line = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -s '\\t' ' '"
    assert [row.split()[1] for row in out(line, user="1234").splitlines()][:3] == ["0" * 16] * 3
    rows = dict(row.split() for row in out(line).splitlines())
    assert rows["CapEff:"] == rows["CapPrm:"] == rows["CapBnd:"] == "00000000a80425fb"
    assert rows["CapInh:"] == rows["CapAmb:"] == "0" * 16


def test_a_file_denied_to_a_group_stays_denied(own_rootfs: Path, needs_root: None) -> None:
    secret = own_rootfs / "secret"
    secret.write_text("x")
    os.chown(secret, 0, 29)
    secret.chmod(0o606)
    image = {"image": str(own_rootfs)}
    assert sh("cat /secret", user="alice", **image).returncode == 1
    assert out("cat /secret", user="1000:1000", **image) == "x"


def test_a_group_that_is_denied_stays_denied_to_who_left_it_by_a_set_gid_program(
    own_rootfs: Path, needs_root: None
) -> None:
    secret, program = own_rootfs / "secret", own_rootfs / "bin/sgid"
    secret.write_text("x")
    os.chown(secret, 0, 1000)
    secret.chmod(0o606)
    program.write_bytes((own_rootfs / "bin/cat").read_bytes())
    os.chown(program, 0, 100)
    program.chmod(0o2755)
    image: dict[str, object] = {"image": str(own_rootfs), "no_new_privileges": False}
    assert sh("sgid /secret", user="alice", **image).returncode == 1
    assert out("sgid /secret", user="bob", **image) == "x"


def test_a_user_cant_write_what_is_roots(image: dict[str, object], needs_root: None) -> None:
    r = sh("touch /etc/x /x; mknod /tmp/n c 1 3; kill -0 1; chown 0 /tmp", user="1234:1234", **image)
    assert r.stderr.count("Permission denied") >= 2


@pytest.mark.parametrize("init", [False, True])
def test_a_private_user_namespace_has_its_own_root(
    image: dict[str, object], init: bool, needs_root: None
) -> None:
    text = out(
        "id -u; cat /proc/self/uid_map /proc/self/gid_map; echo x > /etc/x; stat -c %u /etc/x",
        userns="private",
        init=init,
        **image,
    )
    lines = text.splitlines()
    assert lines[0] == lines[3] == "0"
    for row in lines[1:3]:
        inside, outside, count = map(int, row.split())
        assert (inside, count) == (0, 65536)
        assert outside > 65535


def test_processes_of_a_private_user_namespace_are_nobody_of_the_host(
    image: dict[str, object], needs_root: None
) -> None:
    with pyminicon.start(
        ["sh", "-c", "echo; read x"], userns="private", stdin=pyminicon.PIPE, stdout=pyminicon.PIPE, **image
    ) as c:
        assert c.stdout is not None
        c.stdout.readline()
        assert os.stat(f"/proc/{c.pid}").st_uid > 65535


def test_users_are_mapped_as_asked(image: dict[str, object], needs_root: None) -> None:
    text = out(
        "id -u; cat /proc/self/uid_map",
        userns="0:100000:1000,1000:200000:10",
        user="1003",
        **image,
    )
    assert text.split() == ["1003", "0", "100000", "1000", "1000", "200000", "10"]


def test_a_user_outside_the_map_is_an_error(image: dict[str, object], needs_root: None) -> None:
    with pytest.raises(pyminicon.Error) as caught:
        pyminicon.run(["true"], userns="0:100000:10", user="500", **image)
    assert "user" in str(caught.value)


@pytest.mark.parametrize(
    "words", ["0:1", "a:b:c", "0:100000:0", "1:100000:10", "0:100000:4294967295", "", "0:1:2:3"]
)
def test_maps_that_cant_be_are_refused(words: str) -> None:
    with pytest.raises(pyminicon.SpecError, match="userns"):
        pyminicon.run(["true"], userns=words)


def test_a_volume_has_the_same_owners_inside_a_private_user_namespace(
    tmp_path: Path, needs_root: None
) -> None:
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 1000, 1000)
    text = out(
        "stat -c %u:%g /v/f /v; touch /v/new; stat -c %u /v/new", userns="private", volumes=[f"{tmp_path}:/v"]
    )
    assert text.split() == ["1000:1000", "0:0", "0"]
    assert os.stat(tmp_path / "new").st_uid == 0


def test_what_is_the_hosts_own_stays_unwritable_in_a_private_user_namespace(needs_root: None) -> None:
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/proc/sysrq-trigger",
    ):
        r = sh(
            f"test ! -e {path} || echo x > {path}; mount -o remount,rw /sys",
            userns="private",
            cap_add=["SYS_ADMIN"],
            seccomp="unconfined",
        )
        assert r.returncode != 0, path


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
@pytest.mark.parametrize("read_only", [False, True])
def test_layers_volumes_and_collect_work_in_a_private_user_namespace(
    image: dict[str, object], tmp_path: Path, storage: str, read_only: bool, needs_root: None
) -> None:
    where = "/t/out" if read_only else "/out"
    (tmp_path / "in").write_text("in ")
    r = sh(
        f"cat /v/in /f; rm -rf /etc/motd 2>/dev/null; echo x > {where}",
        userns="private",
        storage=storage,
        read_only=read_only,
        files={"/f": b"file"},
        volumes=[f"{tmp_path}:/v"],
        tmpfs=["/t"],
        collect=[where],
        **image,
    )
    assert (r.stdout, r.files) == ("in file", {where: b"x\n"}), r
