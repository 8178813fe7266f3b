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
        layout = Layout(tmp_path / f"layout-{len(os.listdir(tmp_path))}")
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


BOTH = pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners are kept for root alone")


@BOTH
@pytest.mark.parametrize("workdir", ["/srv/app", "/home", "/link/app", "work", "/opt/x/"])
def test_the_working_directory_is_the_images_and_made_where_it_lacks_it(
    image: Image, read_only: bool, workdir: str
) -> None:
    name = image(
        tar(*BASE, directory("real"), directory("real/app"), symlink("link", "/real")), WorkingDir=workdir
    )
    where = {"/link/app": "/real/app", "work": "/work", "/opt/x/": "/opt/x"}.get(workdir, workdir)
    assert run(name, ["/bin/pwd", "-P"], read_only=read_only) == f"{where}\n"
    assert run(name, ["/bin/pwd"], read_only=read_only, cwd="/etc") == "/etc\n"
    with pyminicon.Template(image=name, volumes=HOST, read_only=read_only) as template:
        assert template.run(["/bin/pwd", "-P"], capture_output=True).stdout == f"{where}\n".encode()


def test_a_working_directory_behind_a_link_of_the_image_is_made_where_the_link_leads(image: Image) -> None:
    name = image(tar(*BASE, directory("real"), symlink("link", "/real")), WorkingDir="/link/app")
    assert run(name, ["/bin/pwd", "-P"]) == "/real/app\n"


@BOTH
def test_a_working_directory_below_a_mount_is_made_in_it(image: Image, read_only: bool) -> None:
    name = image(WorkingDir="/data/app", Volumes={"/data": {}})
    assert run(name, ["/bin/pwd"], read_only=read_only, tmpfs=["/data"]) == "/data/app\n"
    assert run(name, ["/bin/pwd"], read_only=read_only) == "/data/app\n"


@BOTH
@AS_ROOT
@pytest.mark.parametrize("userns", ["host", "private"])
def test_the_images_own_user_can_write_to_its_volumes(image: Image, read_only: bool, userns: str) -> None:
    volume = directory("data", mode=0o750, uid=1007, gid=1008)
    name = image(tar(*BASE, volume), User="me", Volumes={"/data": {}})
    script = "echo x > /data/x && /usr/bin/stat -c '%u %g %a' /data"
    shown = run(name, ["/bin/sh", "-c", script], read_only=read_only, userns=userns)
    assert shown == "1007 1008 750\n"


@BOTH
def test_a_volume_that_the_image_lacks_is_made(image: Image, read_only: bool) -> None:
    name = image(Volumes={"/var/lib/db": {}, "/data/": {}})
    script = "echo x > /var/lib/db/x && echo y > /data/y && cat /var/lib/db/x /data/y"
    assert run(name, ["/bin/sh", "-c", script], read_only=read_only) == "x\ny\n"


def test_a_volume_of_the_callers_goes_before_the_images(image: Image, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/f").write_text("mine")
    name = image(Volumes={"/data": {}})
    done = pyminicon.run(
        ["/bin/cat", "/data/f"], image=name, read_only=True, volumes=[*HOST, f"{tmp_path}/mine:/data"],
        capture_output=True,
    )  # fmt: skip
    assert done.stdout == b"mine"


def test_entrypoint_and_cmd_are_put_together_as_docker_has_it(image: Image) -> None:
    name = image(Entrypoint=["/bin/echo", "entry"], Cmd=["cmd", "more"])
    assert run(name, []) == "entry cmd more\n"
    assert run(name, ["mine"]) == "entry mine\n"
    assert run(name, ["mine"], entrypoint=["/bin/echo", "own"]) == "own mine\n"
    assert run(name, [], entrypoint="/bin/echo") == "\n"
    assert run(image(Cmd=["/bin/echo", "cmd"]), []) == "cmd\n"
    assert run(image(Cmd=["/bin/echo", "cmd"]), ["/bin/echo", "mine"]) == "mine\n"


def test_entrypoint_of_the_command_line_takes_the_place_of_the_images_own(image: Image) -> None:
    name = image(Entrypoint=["/bin/echo", "entry"], Cmd=["cmd"])
    words = [sys.executable, "-m", "pyminicon", "run", "-v", HOST[0]]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for more, said in (
        ([name], "entry cmd\n"),
        ([name, "mine"], "entry mine\n"),
        (["--entrypoint", "/bin/echo", name, "mine"], "mine\n"),
        (["--entrypoint", "/bin/echo", name], "\n"),
        (["--entrypoint", "", name, "/bin/echo", "bare"], "bare\n"),
    ):
        done = subprocess.run([*words, *more], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_an_image_that_says_no_command_needs_one(image: Image) -> None:
    with pytest.raises(pyminicon.SpecError, match="there is no program to run"):
        pyminicon.run([], image=image(Env=["A=b"]))


def test_the_environment_is_the_images_and_the_callers_goes_before_it(image: Image) -> None:
    name = image(Env=["COLOUR=blue", "EMPTY=", "PATH=/bin"])
    shown = run(name, ["env"], env={"COLOUR": "red", "MORE": "x=y"}).splitlines()
    assert {"COLOUR=red", "EMPTY=", "PATH=/bin", "MORE=x=y", "HOME=/root", "TERM=xterm"} <= set(shown)


@AS_ROOT
def test_the_user_is_found_by_name_in_the_images_own_passwd_and_group(image: Image) -> None:
    ids = ["/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME"]
    assert run(image(User="me"), ids).split() == ["1007", "1008", "1008", "1009", "/home/me"]
    assert run(image(User="me:us"), ids).split() == ["1007", "1009", "1009", "/home/me"]
    assert run(image(User="1007"), ids).split() == ["1007", "1008", "1008", "1009", "/home/me"]
    assert run(image(User="me"), ids, user="0").split() == ["0", "0", "0", "/root"]
    with pytest.raises(pyminicon.SpecError, match="'nobody' is not in the image's /etc/passwd"):
        pyminicon.run(["/x"], image=image(User="nobody"))
