"""What goes wrong around a detached container: its keeper was stopped, its log removed, several want the same."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyminicon
import pyminicon.aio
from pyminicon.detached import asking, line
from tests.detached.conftest import Place, alive, soon


@contextmanager
def _stopped(place: Place, name: str) -> Iterator[int]:
    """Its keeper, which doesn't run meanwhile."""
    pid: int = place.about(name)["KeeperPid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGCONT)


def test_who_asks_a_keeper_that_was_stopped_is_told_so(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    with _stopped(place, "web") as pid:
        begun = [
            place.begin(*words)
            for words in (
                ("exec", "web", "true"),
                ("stop", "web"),
                ("top", "web"),
                ("wait", "web"),
                ("pause", "web"),
            )
        ]
        assert [row["State"] for row in place.ps()] == ["running"]
        assert place.ok("logs", "web") == ""
        for one in begun:
            out, err = one.communicate(timeout=100)
            assert (one.returncode, out) == (125, "")
            assert f"kill -CONT {pid}" in err and err.count("\n") == 1
    assert place.ok("exec", "web", "echo", "it") == "it"


def test_rm_by_force_ends_a_keeper_that_was_stopped(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    inside = place.about("web")["State"]["Pid"]
    with _stopped(place, "web") as pid:
        place.ok("rm", "-f", "web")
        assert not alive(pid)
    soon(lambda: not alive(inside))
    assert place.ps("-a") == []


def test_a_keeper_at_whose_door_too_many_stand_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    (directory,) = (place.state / "containers").iterdir()
    with _stopped(place, "web"), monkeypatch.context() as impatient:
        impatient.setattr(asking, "PATIENCE", 1)
        waiting = []
        fd = os.open(directory, os.O_PATH)
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(line.address(fd))
        except BlockingIOError:
            pass
        with pytest.raises(asking.Silent, match="kill -CONT"):
            asking.connect(str(directory))
        for one in waiting:
            one.close()
        os.close(fd)
    asking.connect(str(directory)).close()


def test_a_keeper_that_is_stopped_holds_nobody_up_beyond_his_timeout(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))

    async def on_a_loop() -> int:
        turns = 0
        box = await pyminicon.aio.attach("web")
        async with box:
            with _stopped(place, "web"):
                late = asyncio.create_task(box.run(["true"], timeout=0.5))
                while not late.done():
                    turns += 1
                    await asyncio.sleep(0.01)
                with pytest.raises(pyminicon.TimeoutExpired):
                    await late
            assert (await box.run(["true"])).returncode == 0
        return turns

    with pyminicon.start(["sleep", "1000"], detach=True, name="web") as c:
        with _stopped(place, "web") as keeper, monkeypatch.context() as impatient:
            for capture in (False, True):
                with pytest.raises(pyminicon.TimeoutExpired):
                    c.run(["true"], timeout=0.5, capture_output=capture)
            impatient.setattr(asking, "PATIENCE", 1)
            with pytest.raises(pyminicon.Error, match=f"kill -CONT {keeper},"):
                c.stats()
        assert c.run(["true"]).returncode == 0
        assert asyncio.run(on_a_loop()) > 10


def test_a_container_from_python_says_it_too_and_goes_on_afterwards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    with pyminicon.start(["sleep", "1000"], detach=True, name="web") as c:
        with _stopped(place, "web"), monkeypatch.context() as impatient:
            impatient.setattr(asking, "PATIENCE", 1)
            with pytest.raises(pyminicon.Error, match="doesn't answer"):
                c.stats()
            with pytest.raises(pyminicon.Error, match="doesn't answer"):
                c.run(["true"])
        assert c.run(["true"]).returncode == 0
        assert c.stats().wall > 0


def test_a_log_that_was_removed_stays_bounded_and_begins_anew(place: Place) -> None:
    script = "echo first; until [ -e /tmp/go ]; do sleep 0.05; done; seq 20000; echo last"
    place.ok("run", "-d", "--name", "web", "--log-max-size", "64k", "host", "sh", "-c", script)
    soon(lambda: place("logs", "web").stdout == "first\n")
    log = Path(place.about("web")["LogPath"])
    log.unlink()
    assert place.ok("logs", "web") == ""
    place.ok("exec", "web", "touch", "/tmp/go")
    place.ok("wait", "web")
    assert place("logs", "web").stdout.endswith("last\n")
    assert sum(file.stat().st_size for file in log.parent.glob("log*")) <= 64 << 10


@pytest.mark.parametrize("word", ["abc", "-5", "2026-13-45T00:00:00Z", "²", "1.2.3", "", "nan", "inf"])
def test_a_time_that_is_none_is_refused(place: Place, word: str) -> None:
    place.ok("run", "-d", "--name", "web", "host", "true")
    r = place("logs", f"--since={word}", "web")
    assert (r.returncode, r.stdout) == (
        125,
        "",
    ) and "--since: takes 10m, 1700000000 or 2026-01-02T03:04:05Z, not" in r.stderr, r


def test_several_wait_and_hear_the_same(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    waiting = [place.begin("wait", "web", "web") for _ in range(4)]
    place.ok("exec", "web", "true")
    place.ok("kill", "web")
    assert [one.communicate(timeout=100) for one in waiting] == [("137\n137\n", "")] * 4


def test_of_several_that_remove_the_same_none_fails_for_the_others(place: Place) -> None:
    for turn in range(3):
        place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
        removing = [place.begin("rm", "-f", "web") for _ in range(4)]
        ended = [(*one.communicate(timeout=100), one.returncode) for one in removing]
        assert [code for *_, code in ended] == [0] * 4, (turn, ended)
        assert place.ps("-a") == []


def test_what_a_dead_keeper_served_is_served_no_more(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "-p", "0:80", "--egress", "example.com", "host", "sleep", "1000")
    host, port = place.ok("port", "web", "80").rsplit(":", 1)
    socket.create_connection((host, int(port))).close()
    os.kill(place.about("web")["KeeperPid"], signal.SIGKILL)
    soon(lambda: place.ps() == [])

    def refused() -> bool:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return True
        return False

    soon(refused)
    place.ok("rm", "web")
    place.ok("run", "-d", "--name", "web", "-p", f"{port}:80", "host", "true")


@pytest.mark.parametrize("session", [True, False])
def test_from_inside_a_container_of_ours_it_works_too(place: Place, tmp_path: Path, session: bool) -> None:
    script = """
    P="$1 -m pyminicon"
    $P run -d --name inner host sleep 1000 >/dev/null && $P exec inner hostname && $P rm -f inner && $P ps -aq
    """
    env = ["-e", "XDG_RUNTIME_DIR=/tmp"] if session else []
    r = subprocess.run(
        [
            sys.executable, "-m", "pyminicon", "run", "--rm", "--security-opt", "seccomp=unconfined",
            "--security-opt", "systempaths=unconfined", "--cap-add", "ALL", *env, "python",
            "sh", "-c", script, "sh", sys.executable,
        ],
        env=place.env, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (r.returncode, r.stdout) == (0, "inner\ninner\n"), r
