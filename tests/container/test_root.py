"""The root file system: each kind of image, the private layer over it, and that no image is ever written."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

import pyminicon
from pyminicon import plan as ops
from pyminicon.images.store import Store
from pyminicon.options import parse as spec
from pyminicon.plan import build as plan
from pyminicon.plan import read_only as plan_read_only
from tests.support import roots
from tests.support.run import out, sh


def test_the_host_image_has_this_machines_programs() -> None:
    assert out("uname -n", image="host", hostname="here") == "here\n"
    assert sh("test -x /usr/bin/env && test -e /etc/passwd").returncode == 0


@pytest.mark.parametrize("place", ["/tmp", "/root", "/home", "/run", "/var/tmp", "/mnt", "/srv", "/opt"])
def test_the_host_image_has_none_of_its_data(place: str) -> None:
    assert out(f"ls -A -I .containerenv {place}") == ""  # which is ours


@pytest.mark.parametrize("name", ["shadow", "gshadow", "sudoers", "hosts.allow", "machine-id"])
def test_the_host_image_has_no_secrets_of_etc(name: str) -> None:
    assert sh(f"test -e /etc/{name}").returncode == 1


def test_the_python_image_runs_the_callers_interpreter_and_packages() -> None:
    import sys

    code = "import sys, pytest, os; print(sys.version_info[:3], sys.prefix, pytest.__file__, os.getuid())"
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert r.stdout.split(" /")[0] == str(sys.version_info[:3])
    assert pytest.__file__ in r.stdout


def test_the_python_image_serves_any_user() -> None:
    r = pyminicon.run(
        ["python", "-c", "import json, os; print(os.getuid())"],
        image="python", user="1234", capture_output=True, text=True,
    )  # fmt: skip
    assert (r.stdout, r.stderr) == ("1234\n", "")


def test_the_parents_of_the_interpreter_hold_nothing_else() -> None:
    import sys

    top = "/" + sys.base_prefix.split("/")[1]
    if top == "/usr":
        top = "/home"
    listing = out(f"ls -A {top}", image="python").split()
    assert set(listing) <= {
        path.split("/")[2] for path in (sys.prefix, sys.base_prefix) if path.count("/") > 1
    }


def test_a_directory_is_an_image(rootfs: Path) -> None:
    assert out("cat /etc/motd", image=str(rootfs)) == "from the image\n"


def test_a_path_object_is_a_path(rootfs: Path) -> None:
    assert out("cat /etc/motd", image=rootfs) == "from the image\n"


def test_a_relative_path_is_an_image(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rootfs.parent)
    assert out("cat /etc/motd", image="./root") == "from the image\n"


def test_a_name_without_a_slash_is_no_path(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rootfs.parent)
    with pytest.raises(pyminicon.SpecError, match="image"):
        pyminicon.run(["true"], image="root")


def test_an_image_of_one_file_gets_proc_sys_dev_and_etc(bare_rootfs: Path) -> None:
    for path in ("/proc/self/status", "/sys/class", "/dev/null", "/dev/shm", "/etc/hosts", "/etc/hostname"):
        assert pyminicon.run(["/payload", "ls", path], image=str(bare_rootfs)).returncode == 0, path
    assert sorted(os.listdir(bare_rootfs)) == ["payload"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz"])
def test_an_archive_is_an_image(rootfs: Path, tmp_path: Path, kind: str, own_store: Path) -> None:
    archive = tmp_path / f"root.{kind}"
    mode = "w:" + kind.partition(".")[2]
    fast = {"preset": 0} if kind.endswith("xz") else {"compresslevel": 1} if kind.endswith("gz") else {}
    with tarfile.open(archive, mode, **fast) as tar:  # type: ignore[call-overload]
        tar.add(rootfs, ".")
    assert out("cat /etc/motd; id -u", image=str(archive)) == "from the image\n0\n"


def test_a_zst_archive_is_an_image(rootfs: Path, tmp_path: Path, own_store: Path) -> None:
    archive = tmp_path / "root.tar.zst"
    made = subprocess.run(
        f"tar -C {rootfs} -c . | zstd -q -o {archive}", shell=True, capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("needs the internet: the package zstd is not installed")
    assert out("cat /etc/motd", image=str(archive)) == "from the image\n"


@pytest.mark.parametrize("storage", ["tmpfs", "tmpfs:size=64m", "disk"])
def test_the_image_is_writable_and_the_layer_is_gone_afterwards(rootfs: Path, storage: str) -> None:
    line = (
        "echo changed > /etc/motd; rm /etc/group; mkdir /new; cat /etc/motd; ls -d /new; test ! -e /etc/group"
    )
    try:
        r = sh(line, image=str(rootfs), storage=storage)
    except pyminicon.SpecError as error:  # a layer in a user namespace before Linux 6.6 can't have a size
        assert "size" in storage and os.geteuid() != 0 and "6.6" in str(error)
        return
    assert (r.returncode, r.stdout, r.stderr) == (0, "changed\n/new\n", "")
    assert out("cat /etc/motd; ls -d /etc/group", image=str(rootfs)) == "from the image\n/etc/group\n"


def test_a_store_that_a_layer_on_disk_makes_is_closed_to_others(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = own_store / "above/store"
    monkeypatch.setenv("PYMINICON_STORE", str(store))
    before = os.umask(0o022)
    try:
        assert sh("echo x > /tmp/x", storage="disk").returncode == 0
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode)
        for path in (own_store, own_store / "above", store, store / "scratch")
    ]
    assert modes == [0o755, 0o755, 0o700, 0o700]


@pytest.mark.parametrize("made_by", ["the store", "the layer"])
def test_a_private_user_namespace_has_its_layer_on_disk_in_a_closed_store(
    own_store: Path, made_by: str, needs_root: None
) -> None:
    if made_by == "the store":
        Store(str(own_store))
    for image in ("host", "python"):
        r = sh("echo x > /tmp/x && cat /tmp/x", image=image, storage="disk", userns="private")
        assert (r.returncode, r.stdout) == (0, "x\n"), r.stderr
    with pyminicon.Template(storage="disk", userns="private") as t:
        assert t.run(["cat", "/proc/self/uid_map"], capture_output=True).returncode == 0
    assert os.listdir(own_store / "scratch") == []


def test_the_hosts_programs_are_writable_inside_and_untouched_outside(needs_root: None) -> None:
    before = os.stat("/usr/bin/env")
    assert (
        sh(
            "echo x > /usr/bin/env; touch /usr/bin/new; rm -r /usr/share/base-files; test ! -e /usr/share/base-files"
        ).returncode
        == 0
    )
    after = os.stat("/usr/bin/env")
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )
    assert not os.path.exists("/usr/bin/new")
    assert os.path.exists("/usr/share/base-files")


def test_two_containers_of_one_image_dont_see_each_others_writes(rootfs: Path) -> None:
    with pyminicon.start(
        ["sh", "-c", "echo one > /tmp/mark; echo; read x"], image=str(rootfs),
        stdin=pyminicon.PIPE, stdout=pyminicon.PIPE,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline() == b"\n"
        assert out("ls -A /tmp", image=str(rootfs)) == ""


@pytest.mark.parametrize("place", ["/", "/etc", "/tmp", "/root", "/dev", "/usr/bin"])
@pytest.mark.parametrize("image", ["host", "directory"])
def test_read_only_is_read_only_everywhere(rootfs: Path, place: str, image: str) -> None:
    image = str(rootfs) if image == "directory" else image
    r = sh(f"touch {place}/x", image=image, read_only=True)
    assert r.returncode == 1
    assert "Read-only file system" in r.stderr


def test_read_only_leaves_tmpfs_shm_and_volumes_writable(rootfs: Path, tmp_path: Path) -> None:
    line = "touch /scratch/x /v/y /dev/shm/z && echo written"
    options = {"tmpfs": ["/scratch"], "volumes": [f"{tmp_path}:/v"]}
    assert out(line, image=str(rootfs), read_only=True, **options) == "written\n"
    assert os.listdir(tmp_path) == ["y"]


def test_a_read_only_root_cannot_be_made_writable_again(rootfs: Path) -> None:
    r = sh("mount -o remount,rw /; touch /x", image=str(rootfs), read_only=True)
    assert r.returncode != 0
    assert "Read-only file system" in r.stderr


def test_the_layer_has_the_size_that_was_asked_for(rootfs: Path) -> None:
    try:
        r = sh(
            "head -c 8m /dev/zero > /big 2>/dev/null || echo full; wc -c < /big",
            image=str(rootfs),
            storage="tmpfs:size=4m",
        )
    except (
        pyminicon.SpecError
    ) as error:  # an ordinary user before Linux 6.6 gets it, or is told that he can't
        assert os.geteuid() != 0 and "storage" in str(error) and "6.6" in str(error)
        return
    assert r.stdout.startswith("full\n")
    assert int(r.stdout.split()[1]) < 4 << 20


def test_attributes_of_the_image_are_kept(own_rootfs: Path) -> None:
    (own_rootfs / "tmp").chmod(0o1777)
    (own_rootfs / "etc").chmod(0o750)
    line = "stat -c '%a %u:%g' / /tmp /etc"
    want = "".join(
        f"{os.stat(p).st_mode & 0o7777:o} {os.stat(p).st_uid}:{os.stat(p).st_gid}\n"
        for p in (own_rootfs, own_rootfs / "tmp", own_rootfs / "etc")
    )
    if os.geteuid() != 0:
        want = want.replace(f"{os.geteuid()}:{os.getegid()}", "0:0")
    assert out(line, image=str(own_rootfs)) == want


@pytest.mark.parametrize(
    "name", [":colon", "comma,", "back\\slash", "sp ace", "new\nline", "ünï", "=eq,uals:x"]
)
def test_any_directory_name_can_be_an_image(_minimal: Path, tmp_path: Path, name: str) -> None:
    root = roots.copy_of(_minimal, tmp_path / name)
    assert out("cat /etc/motd", image=str(root)) == "from the image\n"
    assert out("cat /etc/motd", image=str(root), read_only=True) == "from the image\n"


def test_the_old_root_is_gone() -> None:
    lines = out("cat /proc/self/mountinfo").splitlines()
    where = [line.split()[4] for line in lines]
    assert where.count("/") == 1
    allowed = ("/", "/usr", "/etc/", "/proc", "/sys", "/dev", "/bin", "/sbin", "/lib")
    assert [path for path in where if not path.startswith(allowed)] == []


def test_no_way_leads_above_the_root() -> None:
    top = out("stat -c '%i %d' / /.. /../../../.. /proc/1/root/..").splitlines()
    assert len(set(top)) == 1


def test_device_nodes_of_an_image_open_nothing(own_rootfs: Path, needs_root: None) -> None:
    os.mknod(own_rootfs / "tmp/kmsg", 0o20666, os.makedev(1, 11))
    os.mknod(own_rootfs / "tmp/null", 0o20666, os.makedev(1, 3))
    r = sh("head -c1 /tmp/kmsg; echo x > /tmp/null", image=str(own_rootfs))
    assert r.returncode != 0
    assert r.stderr.count("Permission denied") == 2
    assert sh("echo x > /dev/null", image=str(own_rootfs)).returncode == 0


def test_setuid_programs_of_an_image_gain_nothing(own_rootfs: Path, needs_root: None) -> None:
    (own_rootfs / "bin/id").chmod(0o4755)
    assert out("id -u", image=str(own_rootfs), user="1000") == "1000\n"


def test_a_root_that_holds_the_callers_own_program_is_never_bound_itself(
    own_rootfs: Path, needs_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be executed would be all that lies in that directory, whatever its name."""

    for name in ("proc", "sys", "dev", "etc"):
        (own_rootfs / name).mkdir(exist_ok=True)
    for name in ("hosts", "hostname"):
        (own_rootfs / "etc" / name).write_text("the image's\n")

    def kind() -> int:
        return int(
            plan.build(spec.parse(["x"], {"image": str(own_rootfs), "read_only": True})).fields["root"]
        )

    assert kind() == ops.ROOT_BIND
    about = own_rootfs.stat()
    assert (about.st_dev, about.st_ino) not in plan_read_only._above_own_program()
    monkeypatch.setattr(plan_read_only, "_above", frozenset({(about.st_dev, about.st_ino)}))
    assert kind() == ops.ROOT_COVER


def test_a_root_that_is_bound_shows_the_launchs_own_names(own_rootfs: Path) -> None:
    for name in ("hosts", "hostname"):
        (own_rootfs / "etc" / name).write_text("the image's\n")
    line = "cat /etc/hostname; touch /etc/hostname /etc/new 2>/dev/null || echo kept"
    assert out(line, image=str(own_rootfs), read_only=True, hostname="box") == "box\nkept\n"
    assert (own_rootfs / "etc/hostname").read_text() == "the image's\n"
