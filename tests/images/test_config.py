"""What an image's configuration asks of a launch, end to end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.images.archive import import_path
from pyminicon.images.assemble import Job
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store

from .tars import Layout, directory, file, symlink, tar

REPO = Path(pyminicon.__file__).resolve().parents[1]
#: This machine's programs, over images that have none.
HOST = ["/usr:/usr:ro"]
PASSWD = b"root:x:0:0::/root:/bin/sh\nme:x:1007:1008::/home/me:/bin/sh\n"
BASE = [
    *(directory(name) for name in ("usr", "etc", "home")),
    directory("tmp", mode=0o1777),
    *(symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")),
    file("etc/passwd", PASSWD),
    file("etc/group", b"root:x:0:\nus:x:1009:me\n"),
]
#: Says when it is ready and which signal it gets.
TRAP = [
    "/bin/sh", "-c",
    "for s in TERM QUIT WINCH 37; do trap \"echo got $s; exit 0\" $s; done; echo ready; while :; do sleep 0.02; done",
]  # fmt: skip
PIPE = subprocess.PIPE
Image = Callable[..., str]


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    if not os.path.islink("/lib"):
        pytest.skip("needs a machine whose programs are all below /usr")

    def make(*layers: bytes, **wants: Any) -> str:
        layout = Layout(tmp_path / "layout")
        layout.index(layout.image(*(layers or (tar(*BASE),)), **wants))
        import_path(Job(store, Limits(), Progress(), names=["localhost/test:latest"]), str(layout.path))
        return "test"

    return make


def run(name: str, args: list[str], **options: Any) -> str:
    done = pyminicon.run(args, image=name, volumes=HOST, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


STOPSIGNALS = [("SIGQUIT", "QUIT"), ("3", "QUIT"), ("WINCH", "WINCH"), ("SIGRTMIN+3", "37"), ("", "TERM")]


@pytest.mark.parametrize(("asked", "got"), STOPSIGNALS)
def test_terminate_sends_the_images_stop_signal(image: Image, asked: str, got: str) -> None:
    with pyminicon.start(TRAP, image=image(StopSignal=asked), volumes=HOST, stdout=PIPE, text=True) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        box.terminate()
        assert box.stdout.read() == f"got {got}\n"


def test_terminate_of_a_templates_container_sends_it_too(image: Image) -> None:
    with (
        pyminicon.Template(image=image(StopSignal="SIGQUIT"), volumes=HOST) as template,
        template.start(TRAP, stdout=PIPE, text=True) as box,
    ):
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        box.terminate()
        assert box.stdout.read() == "got QUIT\n"


def test_terminate_of_asyncio_sends_it_too(image: Image) -> None:
    async def work() -> bytes:
        name = image(StopSignal="SIGQUIT")
        async with await pyminicon.aio.start(TRAP, image=name, volumes=HOST, stdout=PIPE) as box:
            assert box.stdout is not None
            assert await box.stdout.readline() == b"ready\n"
            box.terminate()
            return bytes(await box.stdout.read())

    assert asyncio.run(work()) == b"got QUIT\n"


def test_sigterm_reaches_a_command_lines_container_as_the_images_stop_signal(image: Image) -> None:
    words = [sys.executable, "-m", "pyminicon", "run", "-v", HOST[0], image(StopSignal="SIGQUIT"), *TRAP]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    with subprocess.Popen(words, stdout=PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got QUIT\n"
    assert process.returncode == 0


def test_mount_points_that_a_higher_layer_deleted_are_made_anew(image: Image) -> None:
    below = tar(*BASE, directory("proc"), directory("data"), directory("data/in"), file("data/in/x"))
    name = image(below, tar(file(".wh.proc"), file(".wh.data")))
    for read_only in (False, True):
        options = {"read_only": read_only, "tmpfs": ["/data/in:size=1m"]}
        assert (
            run(name, ["/bin/ls", "/data/in", "/proc/self/comm"], **options)
            == "/proc/self/comm\n\n/data/in:\n"
        )
