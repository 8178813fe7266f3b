"""``cp``: out of a container that runs or has ended, and into one that runs."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND
from tests.detached.conftest import Place, soon

MAKE = """
mkdir -p /tmp/d/e; echo x > /tmp/d/e/f; chmod 640 /tmp/d/e/f; ln -s e/f /tmp/d/l; ln -s d /tmp/way
echo new > /usr/new; rm /etc/group; mkdir /usr/made; ln -s /etc/passwd /tmp/out
echo ready; sleep 1000
"""


@pytest.fixture(params=["running", "ended"])
def web(request: pytest.FixtureRequest, place: Place) -> Place:
    """One with files of its own, which runs or has ended."""
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", MAKE)
    soon(lambda: place("logs", "web").stdout == "ready\n")
    if request.param == "ended":
        place.ok("kill", "web")
    return place


def test_a_directory_comes_out_with_links_and_modes(web: Place, tmp_path: Path) -> None:
    web.ok("cp", "web:/tmp/d", str(tmp_path / "d"))
    assert (tmp_path / "d/e/f").read_text() == "x\n"
    assert (tmp_path / "d/e/f").stat().st_mode & 0o777 == 0o640
    assert os.readlink(tmp_path / "d/l") == "e/f"
    (tmp_path / "there").mkdir()
    web.ok("cp", "web:/tmp/d", str(tmp_path / "there"))
    assert (tmp_path / "there/d/e/f").exists()
    web.ok("cp", "web:/tmp/d/.", str(tmp_path / "contents"))
    assert sorted(os.listdir(tmp_path / "contents")) == ["e", "l"]


def test_what_has_changed_in_the_image_is_seen_as_it_is_inside(web: Place, tmp_path: Path) -> None:
    web.ok("cp", "web:/usr/new", str(tmp_path))
    assert (tmp_path / "new").read_text() == "new\n"
    web.ok("cp", "web:/usr/made", str(tmp_path))
    assert os.listdir(tmp_path / "made") == []
    web.ok("cp", "web:/etc/passwd", str(tmp_path))  # untouched: it is the image's
    assert (tmp_path / "passwd").stat().st_size > 0
    r = web("cp", "web:/etc/group", str(tmp_path))
    assert r.returncode == 125 and "No such file" in r.stderr
    assert not (tmp_path / "group").exists()


def test_what_the_image_hides_stays_hidden(web: Place, tmp_path: Path) -> None:
    assert web("cp", "web:/etc/shadow", str(tmp_path)).returncode == 125


def test_links_on_the_way_are_followed_inside_and_the_last_is_not(web: Place, tmp_path: Path) -> None:
    web.ok("cp", "web:/tmp/way/e/f", str(tmp_path))
    assert (tmp_path / "f").read_text() == "x\n"
    web.ok("cp", "web:/tmp/out", str(tmp_path))
    assert os.readlink(tmp_path / "out") == "/etc/passwd"


def test_a_tar_goes_to_standard_output(web: Place) -> None:
    r = subprocess.run(
        [*COMMAND, "cp", "web:/tmp/d", "-"], env=web.env, stdout=subprocess.PIPE, check=True, timeout=60
    )
    with tarfile.open(fileobj=io.BytesIO(r.stdout)) as tar:
        assert sorted(tar.getnames()) == ["d", "d/e", "d/e/f", "d/l"]
        member = tar.extractfile("d/e/f")
        assert member is not None and member.read() == b"x\n"


def test_what_is_not_there_is_an_error(web: Place, tmp_path: Path) -> None:
    r = web("cp", "web:/nosuch", str(tmp_path))
    assert (r.returncode, r.stderr) == (125, "pyminicon: /nosuch: No such file or directory\n")
    r = web("cp", "web:/etc/passwd", f"{tmp_path}/nosuch/x")
    assert r.returncode == 125 and r.stderr.startswith(f"pyminicon: {tmp_path}/nosuch"), r
    r = web("cp", f"{tmp_path}/nosuch", "web:/tmp")
    assert (r.returncode, r.stderr) == (125, f"pyminicon: {tmp_path}/nosuch: No such file or directory\n")
    assert web("cp", "nope:/etc", str(tmp_path)).returncode == 125
    assert web("cp", "web:/etc", "web:/tmp").returncode == 125
    assert web("cp", str(tmp_path), str(tmp_path)).returncode == 125
    assert os.listdir(tmp_path) == [name for name in os.listdir(tmp_path) if name in ("state", "store")]


def test_files_and_directories_go_in(web: Place, tmp_path: Path) -> None:
    # Of the image where root of the container may write there: an ordinary user's has no right over the host's root.
    shared = "/usr/local/share" if os.geteuid() == 0 else "/tmp/d/e"
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("contents")
    (source / "sub/file").chmod(0o4750)
    (source / "link").symlink_to("/etc/passwd")
    web.ok("cp", str(source), "web:/tmp")
    web.ok("cp", f"{source}/.", "web:/tmp/other")
    web.ok("cp", str(source / "sub/file"), "web:/tmp/renamed")
    web.ok("cp", str(source / "sub/file"), "web:/tmp/renamed")  # which replaces it
    web.ok("cp", str(source / "sub/file"), "web:/tmp/way/e/f")  # through the container's own links
    web.ok("cp", str(source / "sub/file"), "web:/etc/group")  # which was deleted
    web.ok("cp", str(source / "sub"), f"web:{shared}")
    for path in ("src/sub/file", "other/sub/file", "renamed", "d/e/f"):
        assert _read(web, f"/tmp/{path}", tmp_path) == "contents"
    assert _read(web, "/etc/group", tmp_path) == "contents"
    assert _read(web, f"{shared}/sub/file", tmp_path) == "contents"
    web.ok("cp", "web:/tmp/src", str(tmp_path / "back"))
    assert os.readlink(tmp_path / "back/link") == "/etc/passwd"
    assert (tmp_path / "back/sub/file").stat().st_mode & 0o7777 == 0o750
    assert not Path("/usr/local/share/sub").exists()


def _read(web: Place, path: str, tmp_path: Path) -> str:
    web.ok("cp", f"web:{path}", str(tmp_path / "read"))
    try:
        return (tmp_path / "read").read_text()
    finally:
        (tmp_path / "read").unlink()


def test_what_can_not_go_in_is_an_error_and_changes_nothing(web: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("contents")
    (tmp_path / "dir").mkdir()
    for source, target in (
        ("file", "/nosuch/x"),
        ("file", "/nosuch/"),
        ("dir", "/tmp/d/e/f"),
        ("nosuch", "/tmp"),
    ):
        r = web("cp", str(tmp_path / source), f"web:{target}")
        assert r.returncode == 125 and r.stderr.count("\n") == 1, (source, target, r)
    assert _read(web, "/tmp/d/e/f", tmp_path) == "x\n"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        assert web("cp", str(tmp_path / "socket"), "web:/tmp").returncode == 125


def test_a_tar_goes_in_from_standard_input(web: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("contents")
    with tarfile.open(tmp_path / "made.tar", "w") as tar:
        tar.add(tmp_path / "file", "a/b/file")
        hard = tarfile.TarInfo("a/hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, "a/b/file"
        tar.addfile(hard)
    with open(tmp_path / "made.tar", "rb") as file:
        web.ok("cp", "-", "web:/tmp", stdin=file)
    assert _read(web, "/tmp/a/b/file", tmp_path) == _read(web, "/tmp/a/hard", tmp_path) == "contents"
    with open(tmp_path / "made.tar", "rb") as file:
        assert web("cp", "-", "web:/tmp/d/e/f", stdin=file).returncode == 125


def test_a_tar_that_leads_out_puts_nothing_there(web: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with tarfile.open(tmp_path / "made.tar", "w") as tar:
        link = tarfile.TarInfo("way-out")
        link.type, link.linkname = tarfile.SYMTYPE, str(out)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("way-out/file"))
    with open(tmp_path / "made.tar", "rb") as file:
        web("cp", "-", "web:/tmp", stdin=file)
    with tarfile.open(tmp_path / "made.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../../../file"))
    with open(tmp_path / "made.tar", "rb") as file:
        assert web("cp", "-", "web:/tmp", stdin=file).returncode == 125
    assert os.listdir(out) == []


def test_a_directory_in_the_place_of_a_deleted_one_shows_nothing_of_it(place: Place, tmp_path: Path) -> None:
    (tmp_path / "new/sub").mkdir(parents=True)
    (tmp_path / "new/file").write_text("new")
    root = tmp_path / "root"
    (root / "new").mkdir(parents=True)
    (root / "new/old").write_text("old")
    for name in ("bin", "lib", "lib64", "usr", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir()
    volumes = [word for name in ("bin", "lib", "lib64", "usr") for word in ("-v", f"/{name}:/{name}:ro")]
    place.ok("run", "-d", "--name", "web", *volumes, f"{root}/.", "sh", "-c", "rm -r /new")
    place.ok("wait", "web")
    place.ok("cp", str(tmp_path / "new"), "web:/")
    place.ok("cp", "web:/new", str(tmp_path / "seen"))
    assert sorted(os.listdir(tmp_path / "seen")) == ["file", "sub"]
    assert os.listdir(root / "new") == ["old"]
    r = place("cp", str(tmp_path / "new/file"), "web:/usr/x")  # a volume
    assert r.returncode == 125 and "Read-only" in r.stderr
    assert not Path("/usr/x").exists()


def test_what_has_no_layer_takes_nothing(place: Place, tmp_path: Path) -> None:
    place.ok("run", "-d", "--name", "web", "--storage", "tmpfs", "host", "true")
    place.ok("wait", "web")
    (tmp_path / "file").write_text("contents")
    r = place("cp", str(tmp_path / "file"), "web:/tmp")
    assert r.returncode == 125 and "in memory" in r.stderr


def test_a_layer_in_memory_goes_with_its_container(place: Place, tmp_path: Path) -> None:
    place.ok("run", "-d", "--name", "web", "--storage", "tmpfs", "host", "touch", "/tmp/it")
    place.ok("wait", "web")
    r = place("cp", "web:/tmp/it", str(tmp_path))
    assert r.returncode == 125 and "in memory" in r.stderr


def test_a_volume_is_found_where_it_was(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("contents")
    place.ok("run", "-d", "--name", "web", "-v", f"{tmp_path}/data:/data", "host", "true")
    place.ok("wait", "web")
    place.ok("cp", "web:/data/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "contents"
