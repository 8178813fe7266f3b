"""Detached containers from Python: start(detach=True), attach, containers, and the same on a loop."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.detached.conftest import Place, soon


@pytest.fixture(autouse=True)
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    yield
    gc.collect()


def test_it_outlives_who_has_started_it(place: Place) -> None:
    code = "import pyminicon; print(pyminicon.start(['sleep', '1000'], detach=True, name='web', labels={'a': 'b'}).id)"
    r = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=True, timeout=60
    )
    (info,) = pyminicon.containers()
    assert (info.id, info.name, info.labels) == (r.stdout.strip(), "web", {"a": "b"})
    assert (info.status, info.command, info.image) == ("running", ["sleep", "1000"], "host")
    assert info.returncode is None and info.finished is None and info.created <= info.started
    assert r.stderr == ""


def test_leaving_the_block_lets_go_and_ends_nothing(place: Place) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pyminicon.start(["sleep", "1000"], detach=True, name="web") as c:
            assert isinstance(c, pyminicon.Container) and c.poll() is None
        with pyminicon.attach("web") as c:
            assert c.run(["echo", "it"], capture_output=True, text=True).stdout == "it\n"
        del c
        gc.collect()
    assert [info.status for info in pyminicon.containers()] == ["running"]


def test_nobodys_child_is_left_to_who_has_started_it(place: Place) -> None:
    before = subprocess.run(["true"], check=True)
    assert before.returncode == 0
    pyminicon.start(["sleep", "1000"], detach=True, name="web")
    with pytest.raises(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) == (0, 0):
            raise ChildProcessError


def test_without_args_it_lives_for_commands(place: Place) -> None:
    c = pyminicon.start(detach=True, name="home", cwd="/tmp", env={"A": "b"})
    assert c.run(["sh", "-c", "echo $A; pwd"], capture_output=True, text=True).stdout == "b\n/tmp\n"
    c.path("file").write_text("contents")
    c.close()
    with pyminicon.attach("home") as again:
        assert again.path("/tmp/file").read_text() == "contents"
        assert place.ok("exec", "home", "cat", "/tmp/file") == "contents"
        again.terminate()
        assert again.wait(timeout=60) == 0 or again.returncode == -15
    assert pyminicon.containers()[0].status == "exited"


def test_run_has_the_words_of_every_other_run(place: Place) -> None:
    with pyminicon.start(detach=True, name="home") as c:
        r = c.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="fed", capture_output=True, text=True)
        assert (r.returncode, r.stdout, r.stderr, r.limit) == (3, "fed", "err\n", None)
        r = c.run(["sh", "-c", "echo out; echo err >&2"], stdout=pyminicon.PIPE, stderr=pyminicon.STDOUT)
        assert r.stdout == b"out\nerr\n" and r.stderr is None
        with pytest.raises(pyminicon.CalledProcessError):
            c.run(["false"], check=True)
        with pytest.raises(FileNotFoundError) as missing:
            c.run(["nosuch"])
        assert isinstance(missing.value, pyminicon.LaunchError) and missing.value.stage == "exec"
        with pytest.raises(pyminicon.SpecError):
            c.run(["true"], memory="64M")
        with pytest.raises(pyminicon.SpecError):
            c.run(["true"], user="nobodyatall")
        assert c.run(["sleep", "100"], wall_time=0.2).limit == "wall_time"
        r = c.run(["sh", "-c", "seq 100000"], capture_output=True, max_output=1000, overflow="trim")
        assert len(r.stdout) == 1000 and r.dropped[0] > 500_000
        assert c.run(["yes"], capture_output=True, max_output=100_000).limit == "output"
        assert c.returncode is None


def test_a_timeout_ends_all_that_has_come_of_the_command(place: Place) -> None:
    with pyminicon.start(detach=True, name="home") as c:
        with pytest.raises(pyminicon.TimeoutExpired) as over:
            c.run(["sh", "-c", "echo so far; setsid sleep 777 & wait"], capture_output=True, timeout=2)
        assert over.value.output == b"so far\n"
        soon(lambda: "sleep 777" not in place.ok("top", "home"))
        cancel = pyminicon.Cancel()
        p = c.start(["sleep", "778"], cancel=cancel)
        cancel.cancel()
        assert p.wait(timeout=60) == -9


def test_processes_speak_get_signals_and_end(place: Place) -> None:
    with pyminicon.start(detach=True, name="home") as c:
        with c.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE, text=True) as p:
            assert p.poll() is None
            assert p.communicate("words") == ("words", None)
            assert p.returncode == 0
        p = c.start(["sleep", "1000"])
        assert p.host_pid is not None and os.path.exists(f"/proc/{p.host_pid}")
        with pytest.raises(pyminicon.TimeoutExpired):
            p.wait(timeout=0.1)
        p.send_signal(10)
        assert p.wait(timeout=60) == -10
        with c.start(["sleep", "1000"]) as p:
            pass
        assert p.returncode == -9
        with c.start(["sh"], tty=True) as t:
            assert t.terminal is not None
            t.terminal.write(b"exit 5\n")
            assert t.wait(timeout=60) == 5


def test_it_knows_when_the_container_has_ended(place: Place) -> None:
    c = pyminicon.start(["sleep", "1000"], detach=True, name="web")
    other = pyminicon.attach("web")
    p = other.start(["sleep", "1000"])
    c.kill()
    assert c.wait(timeout=60) == -9
    assert other.wait(timeout=60) == -9 and p.wait(timeout=60) == -9
    with pytest.raises(pyminicon.ContainerEnded):
        other.run(["true"])
    with pytest.raises(pyminicon.ContainerEnded) as ended:
        pyminicon.attach("web")
    assert ended.value.returncode == -9
    with pytest.raises(pyminicon.Error, match="no such container"):
        pyminicon.attach("nope")
    for each in (c, other):
        each.close()


def test_a_killed_keeper_is_an_end_as_well(place: Place) -> None:
    with pyminicon.start(["sleep", "1000"], detach=True, name="web") as c:
        p = c.start(["sleep", "1000"], stdout=pyminicon.PIPE)
        os.kill(place.about("web")["KeeperPid"], 9)
        assert p.communicate(timeout=60)[0] == b"" and p.returncode == -9
        assert c.wait(timeout=60) == -9
        with pytest.raises(pyminicon.ContainerEnded):
            c.run(["true"])
    soon(lambda: pyminicon.containers()[0].status == "dead")  # once the kernel is through with it


def test_what_can_not_outlive_the_caller_is_refused(place: Place) -> None:
    wrong: list[dict[str, Any]] = [
        {"stdin": pyminicon.PIPE}, {"stdout": 1}, {"pass_fds": (1,)}, {"cancel": pyminicon.Cancel()}, {"text": True},
        {"name": "a b"}, {"name": 5}, {"labels": {"a": 1}}, {"labels": ["a"]}, {"labels": "a=b"}, {"labels": 5},
        {"memory": "lots"}, {"nosuch": 1},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(pyminicon.SpecError) as refused:
            pyminicon.start(["true"], detach=True, **options)
        assert refused.value.option == next(iter(options))
    for options in ({"name": "web"}, {"labels": {"a": "b"}}):
        with pytest.raises(pyminicon.SpecError, match="detach=True"):
            pyminicon.start(["true"], **options)
    with pytest.raises(pyminicon.SpecError):
        pyminicon.run(["true"], detach=True)
    with pytest.raises(pyminicon.LaunchError):
        pyminicon.start(["nosuch"], detach=True)
    assert pyminicon.containers() == []


def test_it_can_be_measured_limited_and_stopped(place: Place, needs_root: None) -> None:
    with pyminicon.start(["sleep", "1000"], detach=True, name="web", memory="64M") as c:
        assert (c.stats().memory or 0) > 0
        c.update(memory="32M")
        assert [one.command_line for one in c.processes()] == [["sleep", "1000"]]
        c.freeze()
        assert pyminicon.containers()[0].status == "paused"
        c.thaw()
        assert pyminicon.containers()[0].status == "running"
    with pytest.raises(TypeError):
        pickle.dumps(c)


def test_a_socket_inside_is_made_by_the_keeper(place: Place) -> None:
    with pyminicon.start(detach=True, name="web") as c:
        listener = c.listen(8080)
        with c.connect(8080) as mine, listener:
            theirs, _ = listener.accept()
            mine.sendall(b"word")
            assert theirs.recv(10) == b"word"
            theirs.close()


def test_published_ports_are_told_and_lead_inside(place: Place) -> None:
    c = pyminicon.start(detach=True, name="web", publish=["0:80"])
    with c, c.listen(80) as listener:
        host, port = c.ports[80]
        assert place.ok("port", "web") == f"80/tcp -> {host}:{port}"
        assert place.ok("port", "web", "80") == f"{host}:{port}"
        assert place("port", "web", "81").returncode == 125
        assert f"{host}:{port}->80/tcp" in place.ps()[0]["Ports"]
        with socket.create_connection((host, port), timeout=60) as mine:
            mine.sendall(b"word")
            theirs, _ = listener.accept()
            with theirs:
                assert theirs.recv(10) == b"word"
        assert c.refused == []
    with pyminicon.attach("web") as again:
        assert again.ports == {80: (host, port)}


def test_the_same_on_a_loop(place: Place) -> None:
    async def talk() -> None:
        c = await aio.start(detach=True, name="home")
        async with c:
            r = await c.run(["cat"], input=b"fed", capture_output=True)
            assert (r.stdout, r.returncode) == (b"fed", 0)
            many = await asyncio.gather(*(c.run(["sh", "-c", f"exit {i}"]) for i in range(8)))
            assert [one.returncode for one in many] == list(range(8))
            with pytest.raises(FileNotFoundError):
                await c.run(["nosuch"])
        async with await aio.attach("home") as again:
            with pytest.raises(pyminicon.TimeoutExpired):
                await again.run(["sleep", "777"], timeout=0.3)
            begun = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(again.run(["sleep", "778"]), 0.3)
            assert time.monotonic() - begun < 30
            p = await again.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE)
            assert await p.communicate(b"words") == (b"words", None)
            await again.path("/tmp/file").write_text("contents")
            assert await again.path("/tmp/file").read_text() == "contents"
        assert [info.status for info in pyminicon.containers()] == ["running"]
        assert "sleep 77" not in place.ok("top", "home")
        last = await aio.attach("home")
        last.kill()
        assert await last.wait() == -9
        await last.aclose()
        with pytest.raises(pyminicon.ContainerEnded):
            await aio.attach("home")

    asyncio.run(talk())


def test_who_goes_on_writing_after_a_commands_end_is_not_waited_for(place: Place) -> None:
    with pyminicon.start(detach=True) as c:
        script = "echo y; for i in 1 2 3 4; do yes & done; sleep 0.2"
        r = c.run(["sh", "-c", script], capture_output=True, timeout=60)
        assert (r.returncode, r.stdout[:2]) == (0, b"y\n")
        c.kill()
        c.wait()
