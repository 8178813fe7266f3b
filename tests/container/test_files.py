"""files: put in before the start. collect: taken out after the end, and only what is honest."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

import pyminicon
from tests.support.run import out, sh


@pytest.mark.parametrize("image", ["host", "directory"])
@pytest.mark.parametrize("read_only", [False, True])
def test_files_are_put_where_they_were_asked_for(
    rootfs: Path, tmp_path: Path, image: str, read_only: bool
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a path")
    source.chmod(0o600)
    files = {"/tmp/a": b"bytes\0\xff", "/new/deep/b": source, "/etc/motd": b"replaced"}
    image = str(rootfs) if image == "directory" else image
    line = "od -An -c /tmp/a; cat /new/deep/b; stat -c ' %a' /new/deep/b; cat /etc/motd"
    text = out(line, image=image, files=files, read_only=read_only)
    assert text.split() == "b y t e s \\0 377 from a path 600 replaced".split()


def test_a_program_among_the_files_can_be_run() -> None:
    r = pyminicon.run(["/x/prog"], files={"/x/prog": b"#!/bin/sh\necho ran\n"}, capture_output=True)
    assert r.stdout == b"ran\n"


def test_files_belong_to_the_user_of_the_container() -> None:
    assert (
        out("stat -c %u:%g /tmp/f; echo x >> /tmp/f; cat /tmp/f", files={"/tmp/f": b""}, user="1234:56")
        == "1234:56\nx\n"
    )
    assert out("stat -c %u:%g /tmp/f", files={"/tmp/f": b""}, user="1234:56", read_only=True) == "1234:56\n"


@pytest.mark.parametrize("read_only", [False, True])
def test_what_the_launch_puts_into_etc_can_be_replaced(read_only: bool, rootfs: Path) -> None:
    files = {"/etc/hosts": b"mine", "/etc/passwd": b"root:x:0:0::/:/bin/sh"}
    for image in ("host", str(rootfs)):
        text = out("cat /etc/hosts /etc/passwd", image=image, read_only=read_only, files=files)
        assert text == "mineroot:x:0:0::/:/bin/sh"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_in_the_place_of_a_directory_is_an_error(read_only: bool, rootfs: Path) -> None:
    for target in ("/etc", "/tmp", "/usr/bin"):
        with pytest.raises(pyminicon.Error, match=target):
            pyminicon.run(["true"], image=str(rootfs), read_only=read_only, files={target: b"x"})


def test_files_go_on_top_of_tmpfs_and_volumes(tmp_path: Path) -> None:
    assert out("cat /t/f", tmpfs=["/t"], files={"/t/f": b"in the tmpfs"}) == "in the tmpfs"
    assert out("cat /v/f", volumes=[f"{tmp_path}:/v"], files={"/v/f": b"in the volume"}) == "in the volume"
    assert (tmp_path / "f").read_bytes() == b"in the volume"


def test_a_link_of_the_image_doesnt_lead_a_file_elsewhere(own_rootfs: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (own_rootfs / "etc/motd").unlink()
    (own_rootfs / "etc/motd").symlink_to(canary)
    (own_rootfs / "way").symlink_to(tmp_path)
    assert out("cat /etc/motd", image=str(own_rootfs), files={"/etc/motd": b"mine"}) == "mine"
    assert (own_rootfs / "etc/motd").is_symlink()
    try:
        pyminicon.run(["/bin/true"], image=str(own_rootfs), files={"/way/canary": b"overwritten"})
    except pyminicon.LaunchError as error:
        assert error.stage in ("mount", "rootfs")
    assert canary.read_text() == "untouched"


def test_sixteen_megabytes_go_in_and_come_out() -> None:
    data = os.urandom(1 << 20) * 16
    r = pyminicon.run(["cp", "/in", "/out"], files={"/in": data}, collect=["/out"])
    assert r.files == {"/out": data}


@pytest.mark.parametrize("where", ["/out", "/tmp/out", "/t/out", "/v/out", "/dev/shm/out", "/a/b/c"])
@pytest.mark.parametrize("init", [False, True])
def test_collect_reads_from_the_layer_tmpfs_and_volumes(tmp_path: Path, where: str, init: bool) -> None:
    line = f"mkdir -p $(dirname {where}) && printf 'x\\0y' > {where}"
    r = sh(line, collect=[where, "/not/there"], tmpfs=["/t"], volumes=[f"{tmp_path}:/v"], init=init)
    assert r.files == {where: b"x\0y"}


def test_collect_works_after_a_failing_program() -> None:
    assert sh("echo log > /log; exit 3", collect=["/log"]).files == {"/log": b"log\n"}


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
def test_collect_reads_both_kinds_of_layers(storage: str, rootfs: Path, own_store: Path) -> None:
    r = sh("echo x > /out", image=str(rootfs), storage=storage, collect=["/out", "/etc/motd"])
    assert r.files == {"/out": b"x\n", "/etc/motd": b"from the image\n"}


TRAPS = {
    "a link to a file of the host": ("ln -s /etc/shadow /out", errno.ELOOP),
    "a link to a file inside": ("echo x > /real; ln -s /real /out", errno.ELOOP),
    "a dangling link": ("ln -s /nowhere /out", errno.ELOOP),
    "a magic link": ("ln -s /proc/self/exe /out", errno.ELOOP),
    "a fifo": ("mkfifo /out", errno.EINVAL),
    "a directory": ("mkdir /out", errno.EISDIR),
    "a device": ("mknod /out c 1 3", errno.EINVAL),
    "a socket": ("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/out')\"", errno.EINVAL),
    "a file that is too large": ("head -c 17m /dev/zero > /out", errno.EFBIG),
    "a sparse file that is too large": ("truncate -s 1T /out", errno.EFBIG),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_an_output_that_isnt_an_honest_file_is_told_by_its_path_and_all_else_is_there(
    trap: str, tmp_path: Path
) -> None:
    line, number = TRAPS[trap]
    if trap == "a device" and os.geteuid() != 0:
        pytest.skip("needs root to make a device node")
    if trap == "a socket" and not os.path.exists("/usr/bin/python3"):
        line = line.replace("python3", "python")
    volume = [f"{tmp_path}:/s"] if "sparse" in trap else []
    line = line.replace("/out", "/s/out") if volume else line
    where = "/s/out" if volume else "/out"
    image = "python" if "socket" in trap else "host"
    line = f"{line} || echo FAILED; echo good > /good; echo said; exit 3"
    r = sh(line, collect=["/good", where, "/none"], volumes=volume, image=image)
    assert (r.returncode, r.stdout, r.files) == (3, "said\n", {"/good": b"good\n"})
    assert r.usage.wall > 0
    assert {path: error.errno for path, error in r.collect_errors.items()} == {
        where: number,
        "/none": errno.ENOENT,
    }
    error = r.collect_errors[where]
    assert isinstance(error, IsADirectoryError if number == errno.EISDIR else OSError)
    assert error.filename == where and "collect" in str(error)


def test_what_is_collected_is_no_error_and_what_isnt_there_is_one() -> None:
    r = sh("echo x > /out", collect=["/out"])
    assert (r.files, r.collect_errors) == ({"/out": b"x\n"}, {})
    r = sh("echo x > /out", collect=["/none", "/out/below"])
    assert isinstance(r.collect_errors["/none"], FileNotFoundError)
    assert isinstance(r.collect_errors["/out/below"], NotADirectoryError)
    assert sh("true").collect_errors == {}


def test_a_result_with_errors_of_collect_goes_through_pickle() -> None:
    r = pickle.loads(pickle.dumps(sh("ln -s / /out; exit 4", collect=["/out"])))
    assert (r.returncode, r.files) == (4, {})
    assert r.collect_errors["/out"].errno == errno.ELOOP and r.collect_errors["/out"].filename == "/out"


def test_many_files_are_collected_each_for_itself() -> None:
    line = "for i in $(seq 40); do echo $i > /f$i; done; rm /f7; mkdir /f7"
    r = sh(line, collect=[f"/f{i}" for i in range(1, 41)])
    assert r.files == {f"/f{i}": f"{i}\n".encode() for i in range(1, 41) if i != 7}
    assert list(r.collect_errors) == ["/f7"]


def test_a_container_that_had_no_time_has_an_error_for_each_path() -> None:
    r = sh("sleep 60", collect=["/out"], wall_time=1e-9)
    assert (r.limit, r.files) == ("wall_time", {})
    assert isinstance(r.collect_errors["/out"], OSError)


def test_a_directory_on_the_way_that_is_a_link_is_an_error() -> None:
    r = sh("ln -s /etc /way", collect=["/way/passwd"])
    assert (r.files, r.collect_errors["/way/passwd"].errno) == ({}, errno.ELOOP)


def test_nothing_is_collected_from_proc_and_sys() -> None:
    for path in ("/proc/self/environ", "/proc/1/cmdline", "/proc/self/root/etc/passwd"):
        r = sh("true", collect=[path])
        assert r.files == {} and list(r.collect_errors) == [path]


def test_collect_max_is_the_most_a_file_may_have() -> None:
    line = "printf 12345678 > /out"
    assert sh(line, collect=["/out"], collect_max=4096).files == {"/out": b"12345678"}
    r = sh("head -c 5000 /dev/zero > /out", collect=["/out"], collect_max="4k")
    assert (r.files, r.collect_errors["/out"].errno) == ({}, errno.EFBIG)


def test_files_that_the_user_inside_made_unreadable_are_still_collected(needs_root: None) -> None:
    r = sh("umask 077; echo x > /tmp/out; chmod 000 /tmp/out", user="1234", collect=["/tmp/out"])
    assert r.files == {"/tmp/out": b"x\n"}
