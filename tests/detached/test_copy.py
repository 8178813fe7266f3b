"""``cp``: out of a container that runs or has ended, and into one that runs."""

from __future__ import annotations

import io
import os
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
    assert web("cp", "web:/nosuch", str(tmp_path)).returncode == 125
    assert web("cp", "nope:/etc", str(tmp_path)).returncode == 125
    assert web("cp", "web:/etc", "web:/tmp").returncode == 125
    assert web("cp", str(tmp_path), str(tmp_path)).returncode == 125
    assert os.listdir(tmp_path) == [name for name in os.listdir(tmp_path) if name in ("state", "store")]


def test_files_and_directories_go_in(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("contents")
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    place.ok("cp", str(source), "web:/tmp")
    assert place.ok("exec", "web", "cat", "/tmp/src/sub/file") == "contents"
    place.ok("cp", f"{source}/.", "web:/tmp/other")
    assert place.ok("exec", "web", "cat", "/tmp/other/sub/file") == "contents"
    place.ok("cp", str(source / "sub/file"), "web:/tmp/renamed")
    assert place.ok("exec", "web", "cat", "/tmp/renamed") == "contents"


def test_a_tar_goes_in_from_standard_input(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("contents")
    with tarfile.open(tmp_path / "made.tar", "w") as tar:
        tar.add(tmp_path / "file", "a/file")
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    with open(tmp_path / "made.tar", "rb") as file:
        place.ok("cp", "-", "web:/tmp", stdin=file)
    assert place.ok("exec", "web", "cat", "/tmp/a/file") == "contents"


def test_nothing_goes_into_what_has_ended(place: Place, tmp_path: Path) -> None:
    place.ok("run", "-d", "--name", "web", "host", "true")
    place.ok("wait", "web")
    (tmp_path / "file").write_text("contents")
    r = place("cp", str(tmp_path / "file"), "web:/tmp")
    assert r.returncode == 125 and "web is not running" in r.stderr


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
