"""What a plan sees of an image is what overlayfs shows of it: one look for both, before anything is started."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyminicon
from pyminicon.errors import SpecError
from pyminicon.images.archive import import_path
from pyminicon.images.assemble import Job
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store
from pyminicon.plan import rootfs
from pyminicon.plan.rootfs import Rootfs

from .tars import Layout, directory, file, symlink, tar

Merged = Callable[..., Rootfs]
HOST = ["/usr:/usr:ro"]


@pytest.fixture
def merged(store: Store, tmp_path: Path) -> Iterator[Merged]:
    """The image of these layers, bottom first."""
    held: list[Rootfs] = []

    def make(*layers: bytes) -> Rootfs:
        layout = Layout(tmp_path / "layout")
        layout.index(layout.image(*layers))
        import_path(Job(store, Limits(), Progress(), names=["localhost/test:latest"]), str(layout.path))
        held.append(rootfs.find("test"))
        return held[-1]

    yield make
    for found in held:
        for fd in found.lock_fds:
            os.close(fd)


BELOW = tar(
    directory("d"), directory("d/e"), file("d/e/f", b"below"), file("etc/passwd", b"me:x:7:7::/:/x\n")
)


@pytest.mark.parametrize(
    "above",
    [
        tar(file(".wh.d")),
        tar(directory("d"), file("d/.wh.e")),
        tar(directory("d"), directory("d/e"), file("d/e/.wh.f")),
        tar(file("d", b"a file")),
        tar(directory("d"), file("d/e")),
        tar(symlink("d", "elsewhere")),
    ],
    ids=["parent", "directory", "file", "file-over-parent", "file-over-directory", "link-over-parent"],
)
def test_what_is_deleted_above_is_not_there(merged: Merged, above: bytes) -> None:
    image = merged(BELOW, above)
    assert image.entry("d/e/f") is None
    assert image.read("d/e/f") is None
    assert image.entry("etc/passwd") is not None


@pytest.mark.usefixtures("user_attributes")
@pytest.mark.parametrize("opaque", ["d", "d/e"])
def test_an_opaque_directory_hides_what_is_below_it(merged: Merged, opaque: str) -> None:
    image = merged(
        BELOW, tar(directory("d"), directory("d/e"), file(f"{opaque}/.wh..wh..opq"), file("d/e/g", b"above"))
    )
    assert image.entry("d/e/f") is None
    assert image.read("d/e/f") is None
    assert image.read("d/e/g") == b"above"


@pytest.mark.usefixtures("user_attributes")
def test_what_was_made_anew_above_a_deletion_is_there(merged: Merged) -> None:
    image = merged(
        BELOW, tar(file(".wh.d")), tar(directory("d", mode=0o700), directory("d/e"), file("d/e/g", b"anew"))
    )
    assert image.entry("d/e/f") is None
    assert image.read("d/e/g") == b"anew"
    found = image.entry("d")
    assert found is not None
    assert stat.S_IMODE(found.st_mode) == 0o700


def test_a_directory_in_two_layers_shows_both(merged: Merged) -> None:
    image = merged(BELOW, tar(directory("d"), directory("d/e"), file("d/e/g")))
    assert image.read("d/e/f") == b"below"
    assert image.read("d/e/g") == b"x"


def test_a_file_is_read_through_links_from_layer_to_layer_and_never_out(
    merged: Merged, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of this machine")
    image = merged(
        BELOW,
        tar(
            symlink("one", "d/e/f"),
            symlink("d/up", "../../../d/e"),
            symlink("two", "/d/up/../e/./f"),
            symlink("out", str(tmp_path / "secret")),
            symlink("up", "../" * 20 + str(tmp_path / "secret")[1:]),
            symlink("loop", "loop"),
            symlink("deep", "d"),
        ),
        tar(file("d/e/.wh.gone"), symlink("three", "d/e/gone")),
    )
    assert [image.read(name) for name in ("one", "two", "d/up/f", "deep/e/f")] == [b"below"] * 4
    assert [image.read(name) for name in ("out", "up", "loop", "three")] == [None] * 4
    assert image.read("") is None
    for name in ("d",):
        with pytest.raises(SpecError, match="is no regular file"):
            image.read(name)


def test_a_user_that_a_higher_layer_deleted_is_none(merged: Merged) -> None:
    merged(BELOW, tar(file("etc/.wh.passwd")))
    with pytest.raises(SpecError, match="'me' is not in the image's /etc/passwd"):
        pyminicon.run(["/x"], image="test", user="me")
