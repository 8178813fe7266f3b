"""Containers from stored images: what overlayfs makes of our layers, and what the configuration does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.images import remove
from pyminicon.images.archive import import_path
from pyminicon.images.assemble import Job
from pyminicon.images.errors import Busy
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store

from .tars import Layout, directory, file, symlink, tar

#: This machine's programs, over images that have none.
HOST = ["/usr:/usr:ro"]
DIRECTORIES = [directory(name) for name in ("usr", "etc", "tmp")] + [
    symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")
]


@pytest.fixture(autouse=True)
def merged_usr() -> None:
    if not os.path.islink("/lib"):
        pytest.skip("needs a machine whose programs are all below /usr")


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Callable[..., str]:
    def make(*layers: bytes, **wants: Any) -> str:
        layout = Layout(tmp_path / "layout")
        layout.index(layout.image(*layers, **wants))
        import_path(Job(store, Limits(), Progress(), names=["localhost/test:latest"]), str(layout.path))
        return "test"

    return make


def output(name: str, script: str, **options: Any) -> str:
    done = pyminicon.run(
        ["/bin/sh", "-c", script], image=name, volumes=HOST, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_whiteouts_and_opaque_directories_hide_what_is_below(image: Callable[..., str]) -> None:
    name = image(
        tar(
            *DIRECTORIES,
            directory("d"),
            file("d/gone"),
            file("d/stays"),
            directory("o"),
            file("o/old"),
            directory("whole"),
            file("whole/x"),
        ),
        tar(file("d/.wh.gone"), file("o/.wh..wh..opq"), file("o/new"), file(".wh.whole")),
        tar(directory("whole"), file("whole/again")),
    )
    assert output(name, "ls / /d /o /whole -1").split() == (
        [
            "/:",
            "bin",
            "d",
            "dev",
            "etc",
            "lib",
            "lib64",
            "o",
            "proc",
            "sbin",
            "sys",
            "tmp",
            "usr",
            "whole",
            "/d:",
            "stays",
            "/o:",
            "new",
            "/whole:",
            "again",
        ]
    )


def test_the_image_is_never_written(image: Callable[..., str], store: Store) -> None:
    name = image(tar(*DIRECTORIES, file("f", b"one")))
    assert output(name, "echo two > /f; rm -r /tmp; cat /f") == "two\n"
    assert output(name, "cat /f; ls -d /tmp") == "one/tmp\n"


def test_ten_layers_and_more_are_laid_over_each_other(image: Callable[..., str]) -> None:
    layers = [tar(*DIRECTORIES)] + [tar(file("n", str(i).encode()), file(f"f{i}")) for i in range(40)]
    assert output(image(*layers), "cat /n; ls -d /f* | wc -l") == "3940\n"


def test_a_running_container_keeps_its_image(image: Callable[..., str], store: Store) -> None:
    name = image(tar(*DIRECTORIES, file("f", b"here")))
    pipe = -1
    with pyminicon.start(["/bin/cat"], image=name, volumes=HOST, stdin=pipe, stdout=pipe) as running:
        with pytest.raises(Busy):
            remove.remove(store, name)
        assert remove.prune(store, everything=True) == []
        assert running.stdin is not None
        running.stdin.close()
        running.wait()
    remove.remove(store, name)


def test_the_configuration_is_honoured(image: Callable[..., str]) -> None:
    passwd = b"root:x:0:0::/:/bin/sh\nme:x:7:8::/home:/bin/sh\n"
    layer = tar(*DIRECTORIES, directory("work"), file("etc/passwd", passwd), file("etc/group", b"us:x:9:\n"))
    name = image(layer, Env=["COLOUR=blue", "PATH=/usr/bin"], WorkingDir="/work")
    assert output(name, "echo $COLOUR $PWD") == "blue /work\n"
    assert output(name, "echo $COLOUR $PWD", env={"COLOUR": "red"}, cwd="/tmp") == "red /tmp\n"
