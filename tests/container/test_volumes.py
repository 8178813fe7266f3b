"""Volumes and tmpfs: what is seen, what may be written, and which mounts travel which way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.support.python import environment, fresh
from tests.support.run import out, sh


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    (place / "below").mkdir(parents=True)
    (place / "file").write_text("data\n")
    return place


@pytest.mark.parametrize("image", ["host", "directory"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_volume_is_the_directory_itself(data: Path, rootfs: Path, image: str, read_only: bool) -> None:
    image = str(rootfs) if image == "directory" else image
    line = "cat /mnt/v/file; echo new > /mnt/v/new"
    assert out(line, image=image, read_only=read_only, volumes=[f"{data}:/mnt/v"]) == "data\n"
    assert (data / "new").read_text() == "new\n"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_can_be_a_volume(data: Path, rootfs: Path, read_only: bool) -> None:
    for target in ("/etc/motd", "/mnt/deep/new"):
        line = f"cat {target}; echo changed > {target}"
        assert out(line, image=str(rootfs), read_only=read_only, volumes=[f"{data}/file:{target}"]) in (
            "data\n",
            "changed\n",
        )
    assert (data / "file").read_text() == "changed\n"


def test_a_read_only_volume_cannot_be_written(data: Path) -> None:
    r = sh("cat /v/file; echo x > /v/file; touch /v/new; mount -o remount,rw /v", volumes=[f"{data}:/v:ro"])
    assert r.returncode != 0
    assert r.stdout == "data\n"
    assert r.stderr.count("Read-only file system") >= 2
    assert sorted(os.listdir(data)) == ["below", "file"]


def in_own_mounts(code: str) -> str:
    """Python in a mount namespace of its own whose mounts are shared, as systemd leaves a machine's."""
    head = "import os, subprocess, sys, pyminicon\ndef do(*words): subprocess.run(words, check=True)\n"
    r = subprocess.run(
        # Private first: where / is shared, as systemd has it, `shared` alone would make a peer of the machine's.
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"),
            *(sys.executable, "-c", head + code),
        ],
        capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=60,
    )  # fmt: skip
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_read_only_holds_for_writable_mounts_below(data: Path, needs_root: None) -> None:
    text = in_own_mounts(f"""
do("mount", "-t", "tmpfs", "none", "{data}/below")
open("{data}/below/there", "w").close()
for mode in ("ro", "rw"):
    r = pyminicon.run(["sh", "-c", "ls /v/below; touch /v/below/x"], volumes=["{data}:/v:" + mode], capture_output=True, text=True)
    print(r.returncode, r.stdout.split(), "Read-only" in r.stderr)
""")
    assert text == "1 ['there'] True\n0 ['there'] False\n"


def test_no_mount_made_inside_appears_outside(data: Path, needs_root: None) -> None:
    text = in_own_mounts(f"""
before = open("/proc/self/mountinfo").read()
r = pyminicon.run(["sh", "-c", "mount -t tmpfs none /v/below && touch /v/below/x && mount -t tmpfs none /mnt && echo done"],
    volumes=["{data}:/v"], cap_add=["SYS_ADMIN"], seccomp="unconfined", capture_output=True, text=True)
print(r.stdout.strip(), os.listdir("{data}/below"), open("/proc/self/mountinfo").read() == before)
""")
    assert text == "done [] True\n"


def test_no_later_mount_of_the_host_appears_inside(data: Path, needs_root: None) -> None:
    text = in_own_mounts(f"""
c = pyminicon.start(["sh", "-c", "echo; read x; ls /v/below"], volumes=["{data}:/v"],
    stdin=pyminicon.PIPE, stdout=pyminicon.PIPE, text=True)
with c:
    c.stdout.readline()
    do("mount", "-t", "tmpfs", "none", "{data}/below")
    open("{data}/below/late", "w").close()
    print(c.communicate("go\\n")[0].split(), os.listdir("{data}/below"))
""")
    assert text == "[] ['late']\n"


def test_a_volume_brings_the_mounts_below_it_along(data: Path, needs_root: None) -> None:
    text = in_own_mounts(f"""
do("mount", "-t", "tmpfs", "none", "{data}/below")
open("{data}/below/there", "w").close()
print(pyminicon.run(["ls", "/v/below"], volumes=["{data}:/v"], capture_output=True, text=True).stdout)
""")
    assert text.strip() == "there"


def test_devices_and_setuid_programs_of_a_volume_are_dead(tmp_path: Path, needs_root: None) -> None:
    os.mknod(tmp_path / "kmsg", 0o20666, os.makedev(1, 11))
    r = sh("head -c1 /v/kmsg; grep ' /v ' /proc/self/mountinfo", volumes=[f"{tmp_path}:/v"])
    assert "Permission denied" in r.stderr
    assert "nosuid,nodev" in r.stdout


def test_volumes_may_lie_in_each_other_in_any_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / name).touch()
    volumes = [f"{tmp_path}/b:/v/in:ro", f"{tmp_path}/a:/v"]
    for order in (volumes, volumes[::-1]):
        assert out("ls /v; ls /v/in", volumes=order) == "a\nin\nb\nin\n"


def test_a_volume_over_a_directory_of_the_image_hides_it(data: Path, rootfs: Path) -> None:
    assert out("ls /etc/file", image=str(rootfs), volumes=[f"{data}:/etc:ro"]) == "/etc/file\n"


def test_a_missing_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["true"], volumes=[f"{tmp_path}/missing:/v"])
    error = caught.value
    assert (error.stage, error.errno, error.subject) == ("mount", errno.ENOENT, f"{tmp_path}/missing")
    assert str(error) == f"mount: {tmp_path}/missing: No such file or directory"


def test_a_file_over_a_directory_is_an_error(data: Path) -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["true"], volumes=[f"{data}/file:/usr"])
    assert caught.value.stage == "mount"
    assert caught.value.subject == "/usr"


def test_a_relative_source_is_meant_from_the_callers_directory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    assert out("cat /v/file", volumes=["./data:/v"]) == "data\n"
    assert out("cat /v/file", volumes=["data:/v"]) == "data\n"


# ---- traps: a link in the source or in the image must never lead a mount outside ----------------------


MODES: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"read_only": True},
    {"user": "1000"},
    {"userns": "private"},
]


@pytest.mark.parametrize("mode", MODES, ids=repr)
def test_a_source_that_is_a_link_is_what_it_leads_to(
    data: Path, mode: dict[str, Any], needs_root: None
) -> None:
    for above in data.parents[:4]:
        above.chmod(above.stat().st_mode | 0o011)
    (data.parent / "to-file").symlink_to("data/file")
    (data.parent / "to-directory").symlink_to("to-data")  # and over another
    (data.parent / "to-data").symlink_to(data)
    volumes = [f"{data.parent}/to-file:/etc/localtime:ro", f"{data.parent}/to-directory:/v:ro"]
    line = ["cat", "/etc/localtime", "/v/file"]
    assert pyminicon.run(line, volumes=volumes, capture_output=True, **mode).stdout == b"data\ndata\n"
    with pyminicon.Template(stock=1, volumes=volumes, **mode) as template:
        (data.parent / "to-data").unlink()
        (data.parent / "to-file").unlink()
        (data.parent / "to-file").symlink_to("/etc/shadow")
        # The template's is what it led to when the template was made.
        assert template.run(line, capture_output=True).stdout == b"data\ndata\n"


def test_a_source_that_is_a_link_to_nothing_or_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("gone")
    for name, number in (("loop", errno.ELOOP), ("nothing", errno.ENOENT)):
        with pytest.raises(pyminicon.LaunchError) as caught:
            pyminicon.run(["true"], volumes=[f"{tmp_path}/{name}:/v"])
        assert (caught.value.stage, caught.value.errno) == ("mount", number)
        assert caught.value.subject == f"{tmp_path}/{name}"


@pytest.mark.parametrize(
    "trap", ["CANARY", "../../../../../../..CANARY", "/proc/self/cwd", "/proc/1/root/CANARY"]
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_target_that_is_a_link_in_the_image_is_contained(
    own_rootfs: Path, tmp_path: Path, trap: str, read_only: bool
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / "mark").touch()
    (own_rootfs / "way").symlink_to(trap.replace("CANARY", str(canary)))
    for where in ("/way", "/way/deeper"):
        try:
            sh(
                "true",
                image=str(own_rootfs),
                read_only=read_only,
                volumes=[f"{source}:{where}"],
                tmpfs=["/way/t"],
            )
        except pyminicon.LaunchError as error:
            assert error.stage in ("mount", "rootfs")
    assert os.listdir(canary) == []
    assert os.listdir(source) == ["mark"]


def test_links_of_the_image_are_followed_inside(own_rootfs: Path, tmp_path: Path) -> None:
    (own_rootfs / "real").mkdir()
    (own_rootfs / "way").symlink_to("/real")
    (tmp_path / "mark").touch()
    assert "mark" in out("ls /real", image=str(own_rootfs), volumes=[f"{tmp_path}:/way"]).split()


@pytest.mark.slow
def test_a_target_that_flips_between_directory_and_link_never_leads_out(
    own_rootfs: Path, tmp_path: Path
) -> None:
    """CVE-2021-30465: somebody exchanges the mount target while the container is set up."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (own_rootfs / "real").mkdir()
    (own_rootfs / "trap").symlink_to(canary)
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None)
a, b = os.fsencode("{own_rootfs}/real"), os.fsencode("{own_rootfs}/trap")
print(flush=True)
while True:
    libc.renameat2(-100, a, -100, b, 2)
"""
    source = tmp_path / "source"
    source.mkdir()
    racer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert racer.stdout is not None
    racer.stdout.readline()
    started = 0
    try:
        for _ in range(150):
            try:
                pyminicon.run(
                    ["/bin/true"],
                    image=str(own_rootfs),
                    volumes=[f"{source}:/real/x"],
                    files={"/real/f": b"x"},
                )
                started += 1
            except pyminicon.LaunchError as error:
                assert error.stage in ("mount", "rootfs")
    finally:
        racer.kill()
        racer.wait()
        racer.stdout.close()
    assert os.listdir(canary) == []
    assert started > 0


# ---- tmpfs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_a_tmpfs_is_empty_writable_and_of_its_size(rootfs: Path, read_only: bool) -> None:
    line = "ls -A /etc; head -c 3m /dev/zero > /etc/x 2>/dev/null || echo full; stat -f -c '%T' /etc"
    text = out(line, image=str(rootfs), read_only=read_only, tmpfs=["/etc:size=1m,mode=700"])
    assert text == "full\ntmpfs\n"


def test_a_tmpfs_has_the_mode_and_owner_that_were_asked_for() -> None:
    assert out("stat -c %a /t", tmpfs=["/t:mode=750"]) == "750\n"
    assert out("stat -c %a /t", tmpfs=["/t"]) == "1777\n"
    assert out("touch /t/x; echo ok", tmpfs=["/t"], user="1234") == "ok\n"


def test_a_tmpfs_runs_programs_only_when_asked() -> None:
    line = "printf '#!/bin/sh\\necho ran' > /t/x; chmod +x /t/x; /t/x"
    assert sh(line, tmpfs=["/t"]).returncode == 126
    assert out(line, tmpfs=["/t:exec"]) == "ran\n"


MANY = """
import resource, sys
import pyminicon
if sys.argv[1] != "-":
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
volumes = [f"{sys.argv[2]}/{n}:/v{n}" for n in range(40)]
try:
    r = pyminicon.run(["sh", "-c", "stat -c %u /v[0-9]*"], userns="private", volumes=volumes, capture_output=True, text=True)
    print(sorted(set(r.stdout.split())), r.stdout.count("\\n"))
except pyminicon.LaunchError as error:
    print("refused", error.errno)
"""


def test_of_many_mapped_volumes_none_is_left_out_in_silence(tmp_path: Path, needs_root: None) -> None:
    """A message whose descriptors a limit cuts off would leave the rest with the host's owners."""
    for n in range(40):
        (tmp_path / f"{n}").mkdir()
    told = {}
    for limit in ("-", *(str(n) for n in range(20, 130, 10))):
        r = fresh(f"import sys; sys.argv[1:] = [{limit!r}, {str(tmp_path)!r}]\n{MANY}")
        assert r.returncode == 0, r.stderr
        told[limit] = r.stdout.strip()
    assert told["-"] == "['0'] 40"
    assert set(told.values()) == {"['0'] 40", "refused 24"}, told
