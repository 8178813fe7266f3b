"""What is left of a container at its end, whoever is the first to learn of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pyminicon
from pyminicon import aio
from pyminicon.detached import asking
from tests.detached.conftest import Place, soon


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """For this process as well."""
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    return place


_WROTE = "echo it > /tmp/it; echo ready; "


@pytest.mark.parametrize(
    ("options", "script", "ending"),
    [
        ((), "sleep 1000", ("kill", "web")),
        ((), "trap '' TERM; sleep 1000", ("stop", "-t", "0", "web")),
        ((), "until [ -e /tmp/go ]; do sleep 0.05; done", ("exec", "web", "touch", "/tmp/go")),
        (
            ("--max-output", "64k"),
            "until [ -e /tmp/go ]; do sleep 0.05; done; yes",
            ("exec", "web", "touch", "/tmp/go"),
        ),
    ],
    ids=["killed", "stopped", "by-itself", "limit"],
)
def test_the_layer_stays_though_a_command_was_running_at_the_end(
    place: Place, options: tuple[str, ...], script: str, ending: tuple[str, ...]
) -> None:
    place.ok("run", "-d", "--name", "web", *options, "host", "sh", "-c", _WROTE + script)
    soon(lambda: place("logs", "web").stdout == "ready\n")
    for _ in range(3):
        place.ok("exec", "-d", "web", "sleep", "1000")
    place(*ending)
    place.ok("wait", "web")
    assert "it\n" in place.ok("cp", "web:/tmp/it", "-")
    place.ok("rm", "web")
    assert place.layers() == []


def test_it_stays_where_the_command_was_somebodys_in_python(here: Place) -> None:
    with pyminicon.start(detach=True, name="web") as c:
        c.path("/tmp/it").write_text("it\n")
        process = c.start(["sleep", "1000"])
        c.kill()
        assert (process.wait(60), c.wait(60)) == (-9, -9)
    assert "it\n" in here.ok("cp", "web:/tmp/it", "-")


def test_a_layer_that_can_not_be_kept_is_lost_with_the_reason(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    (file,) = place.state.glob("containers/*/state")
    fields = json.loads(file.read_text())
    in_the_way = place.store / "scratch" / f"kept-{fields['boot']}-{fields['id']}"
    (in_the_way / "full").mkdir(parents=True)
    try:
        place.ok("kill", "web")
        r = place("cp", "web:/etc/hostname", "-")
        assert (r.returncode, r.stdout) == (125, "")
        assert r.stderr.endswith(f"no layer is left of it: {in_the_way}: Directory not empty\n"), r.stderr
    finally:
        shutil.rmtree(in_the_way)


def test_what_was_asked_to_leave_nothing_leaves_no_layer(place: Place, tmp_path: Path) -> None:
    for options, removing in (((), ("rm", "-f", "web")), (("--rm", "--storage", "disk"), ("kill", "web"))):
        place.ok("run", "-d", "--name", "web", *options, "host", "sleep", "1000")
        place.ok("exec", "-d", "web", "sleep", "1000")
        place.ok(*removing)
        soon(lambda: place.ps("-a") == [])
        soon(lambda: place.layers() == [])


def test_what_ends_at_once_is_a_container_all_the_same(here: Place) -> None:
    for turn in range(12):
        with pyminicon.start(["sh", "-c", "exit 3"], detach=True) as c:
            assert (c.wait(60), c.poll(), c.limit) == (3, 3, None), turn
            with pytest.raises(pyminicon.ContainerEnded):
                c.run(["true"])


def test_it_is_one_on_a_loop_as_well(here: Place) -> None:
    async def run() -> None:
        for turn in range(12):
            async with await aio.start(["sh", "-c", "exit 3"], detach=True) as c:
                assert (await c.wait(), c.poll(), c.limit) == (3, 3, None), turn

    asyncio.run(run())


def test_who_attaches_as_it_ends_hears_that_it_has(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    really = asking.connect

    def late(directory: str) -> object:
        to = really(directory)
        here.ok("kill", "web")
        return to

    monkeypatch.setattr(asking, "connect", late)
    with pytest.raises(pyminicon.ContainerEnded) as raised:
        pyminicon.attach("web")
    assert raised.value.returncode == -9


def test_what_was_removed_elsewhere_has_ended_for_its_holders(here: Place) -> None:
    c = pyminicon.start(detach=True, name="web")
    processes = [c.start(["sleep", "1000"]) for _ in range(2)]
    here.ok("rm", "-f", "web")
    assert [p.wait(60) for p in processes] == [-9, -9]
    assert (c.wait(60), c.poll(), c.limit) == (-9, -9, None)
    c.close()


def test_its_own_status_is_known_after_it_was_removed(here: Place) -> None:
    script = "until [ -e /tmp/go ]; do sleep 0.05; done; exit 5"
    with (
        pyminicon.start(["sh", "-c", script], detach=True, name="web") as c,
        pyminicon.attach("web") as other,
    ):
        c.run(["touch", "/tmp/go"])
        here.ok("wait", "web")
        here.ok("rm", "web")
        assert (c.wait(60), other.poll()) == (5, 5)


def test_it_is_so_on_a_loop_as_well(here: Place) -> None:
    async def run() -> None:
        c = await aio.start(detach=True, name="web")
        process = await c.start(["sleep", "1000"])
        here.ok("rm", "-f", "web")
        assert (await process.wait(), await c.wait(), c.poll()) == (-9, -9, -9)
        await c.aclose()

    asyncio.run(run())


def test_nothing_is_said_at_the_exit_of_who_held_what_was_removed(here: Place) -> None:
    code = """
import pyminicon, subprocess, sys
c = pyminicon.start(detach=True, name="web")
process = c.start(["sleep", "1000"])
subprocess.run([sys.executable, "-m", "pyminicon", "rm", "-f", "web"], check=True)
"""
    r = subprocess.run(
        [sys.executable, "-c", code], env=here.env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (r.returncode, r.stdout, r.stderr) == (0, "web\n", "")


def _inside(place: Place) -> int:
    return place.ok("top", "web").count("sleep 1000")


def test_what_was_begun_through_an_attached_container_ends_with_it(here: Place) -> None:
    here.ok("run", "-d", "--name", "web", "host", "sleep", "2000")
    here.ok("exec", "-d", "web", "sleep", "1000")
    with pyminicon.attach("web") as other, pyminicon.attach("web") as c:
        mine = [c.start(["sh", "-c", "s=1000; sleep $s & sleep $s"], stdout=pyminicon.PIPE) for _ in range(2)]
        others = other.start(["sleep", "1000"])
        soon(lambda: _inside(here) == 6)
        c.close()
        assert [p.poll() for p in mine] == [-9, -9]
        assert others.poll() is None and _inside(here) == 2
        with pytest.raises(pyminicon.Error, match="let go of by close"):
            c.run(["true"])
        with pytest.raises(pyminicon.Error, match="let go of by close"):
            c.wait(60)
        assert c.poll() is None
    assert others.wait(60) == -9 and _inside(here) == 1
    here.ok("kill", "web")
    assert (c.poll(), c.wait(60)) == (-9, -9)


def test_a_run_in_another_thread_ends_with_it_too(here: Place) -> None:
    here.ok("run", "-d", "--name", "web", "host", "sleep", "2000")
    found: list[int] = []
    c = pyminicon.attach("web")
    thread = threading.Thread(target=lambda: found.append(c.run(["sleep", "1000"]).returncode))
    thread.start()
    soon(lambda: _inside(here) == 1)
    c.close()
    thread.join(60)
    assert found == [-9] and _inside(here) == 0


def test_what_was_begun_on_a_loop_ends_with_it_as_well(here: Place) -> None:
    async def run() -> None:
        c = await aio.attach("web")
        process = await c.start(["sleep", "1000"])
        running = asyncio.ensure_future(c.run(["sleep", "1000"]))
        waiting = asyncio.ensure_future(c.wait())
        while _inside(here) != 2:
            await asyncio.sleep(0.02)
        await c.aclose()
        assert _inside(here) == 0
        assert (await process.wait(), (await running).returncode) == (-9, -9)
        with pytest.raises(pyminicon.Error, match="let go of by close"):
            await waiting
        with pytest.raises(pyminicon.Error, match="let go of by close"):
            await c.run(["true"])
        assert c.poll() is None

    here.ok("run", "-d", "--name", "web", "host", "sleep", "2000")
    asyncio.run(run())
    assert [info.status for info in pyminicon.containers()] == ["running"]
