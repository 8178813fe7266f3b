"""What is said of misuse, and of what has ended: each error names its option, and nothing is passed over."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
import pyminicon.aio

AsUser = Callable[..., subprocess.CompletedProcess[str]]

#: What needs a container alive.
NEEDS = {
    "freeze": lambda c: c.freeze(),
    "thaw": lambda c: c.thaw(),
    "update": lambda c: c.update(memory="9M"),
    "update of nothing": lambda c: c.update(),
    "stats": lambda c: c.stats(),
}


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("end", ["close", "kill"])
def test_what_needs_a_container_alive_says_that_it_has_ended(name: str, end: str) -> None:
    c = pyminicon.start()
    getattr(c, end)()
    code = c.wait(10)
    with pytest.raises(pyminicon.ContainerEnded) as caught:
        NEEDS[name](c)
    assert (caught.value.id, caught.value.returncode, code) == (c.id, code, {"close": 0, "kill": -9}[end])
    assert c.usage.wall > 0  # what it has used in all is told afterwards as well
    c.close()


def test_a_container_that_has_ended_by_itself_says_so_before_anybody_has_asked() -> None:
    with pyminicon.start(["true"]) as c:
        os.waitid(os.P_PIDFD, c.pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(pyminicon.ContainerEnded):
            c.stats()


def test_the_same_of_one_on_a_loop() -> None:
    async def main() -> None:
        c = await pyminicon.aio.start()
        assert c.stats().wall > 0
        await c.aclose()
        for name, ask in NEEDS.items():
            with pytest.raises(pyminicon.ContainerEnded):
                ask(c)
                raise AssertionError(name)

    asyncio.run(main())


def test_a_user_without_an_id_inside_is_refused_by_name(as_user: AsUser) -> None:
    done = as_user("""
import pyminicon
with pyminicon.start(userns="0:%d:1" % __import__("os").geteuid()) as c:
    asks = {
        "run": lambda: c.run(["id"], user="1000"),
        "name": lambda: c.run(["id"], user="nobody"),
        "group": lambda: c.run(["id"], user="0:5"),
        "start": lambda: c.start(["id"], user="1000"),
        "path": lambda: c.path("/tmp/x", user="1000").exists(),
        "copy_in": lambda: c.copy_in("/etc/hostname", "/tmp/x", user="1000"),
    }
    for name, ask in asks.items():
        try:
            ask()
        except pyminicon.SpecError as error:
            print(name, error)
    print("root", c.run(["id", "-u"], user="root", capture_output=True, text=True).stdout)
""")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line] == [
        "run",
        "name",
        "group",
        "start",
        "path",
        "copy_in",
        "root",
    ]
    assert lines[0].startswith(
        "run user: no uid 1000 in this container, only 0: start it with user='1000', or ranges in"
    )
    assert " gid 5 " in lines[2] and "root 0" in lines[6]
    assert all(len(line) < 170 for line in lines)


def test_a_terminal_that_is_none_is_refused_before_anything_starts() -> None:
    with pyminicon.start() as c:
        for streams in ({"stdout": pyminicon.PIPE}, {"stdin": pyminicon.PIPE}, {"stdin": pyminicon.DEVNULL}):
            with pytest.raises(pyminicon.SpecError, match="tty: takes a terminal as stdin"):
                c.start(["true"], tty=True, **streams)
        outer, inner = pty.openpty()
        with c.start(["true"], tty=True, stdin=inner, stdout=inner, stderr=inner) as p:
            assert p.wait(30) == 0
        os.close(outer)
        os.close(inner)

    async def main() -> None:
        async with await pyminicon.aio.start() as c:
            with pytest.raises(pyminicon.SpecError, match="tty: takes a terminal as stdin"):
                await c.start(["true"], tty=True, stdout=pyminicon.PIPE)

    asyncio.run(main())


def test_an_archive_of_text_is_refused_in_words_of_ours(home: Any) -> None:
    for tar in (io.StringIO("x"), "x", 5):
        with pytest.raises(TypeError, match="an archive is bytes or a binary file, not"):
            home.put_archive("/tmp", tar)
    with pytest.raises(OSError, match="not an archive"):
        home.put_archive("/tmp", io.BytesIO(b"x"))


def test_misuse_of_ports_names_the_port(home: Any) -> None:
    for port in ("x", "/run/socket", 0, 65536, 1.5, True, None):
        with pytest.raises(pyminicon.SpecError, match=r"^port: takes a whole number from 1 to 65535"):
            home.wait_port(port, 1)
    for port in ("x", "/run/socket", -1):
        with pytest.raises(pyminicon.SpecError, match=r"^port: takes a whole number from 0 to 65535"):
            home.listen(port)
    for timeout in ("x", -1, None):
        with pytest.raises(pyminicon.SpecError, match=r"^timeout: takes seconds"):
            home.wait_port(1, timeout)
    with pytest.raises(pyminicon.SpecError, match=r"^timeout: takes seconds"):
        home.connect(1, timeout="x")
    with pytest.raises(pyminicon.SpecError, match=r"^port_or_unix_path: takes a port, or the absolute path"):
        home.connect("x")


def test_a_slash_and_a_dot_copy_what_is_in_a_directory(home: Any, tmp_path: Path) -> None:
    (tmp_path / "project" / "inner").mkdir(parents=True)
    (tmp_path / "project" / "inner" / "file").write_text("x")
    source = str(tmp_path / "project")
    home.path("/tmp/there").mkdir()
    for dots, target, found in (
        ("/.", "there", "/tmp/there/inner/file"),
        ("/.", "new", "/tmp/new/inner/file"),
        ("", "there", "/tmp/there/project/inner/file"),
    ):
        home.copy_in(source + dots, f"/tmp/{target}")
        assert home.path(found).read_text() == "x"
    assert sorted(one.name for one in home.path("/tmp/there").iterdir()) == ["inner", "project"]
    back = tmp_path / "back"
    back.mkdir()
    home.copy_out("/tmp/new/.", str(back))
    assert os.listdir(back) == ["inner"] and (back / "inner" / "file").read_text() == "x"
    home.copy_out("/tmp/new", str(back))
    assert sorted(os.listdir(back)) == ["inner", "new"]
    home.copy_out("/tmp/new/.", str(tmp_path / "made"))
    assert (tmp_path / "made" / "inner" / "file").read_text() == "x"
    with pytest.raises(NotADirectoryError):
        home.copy_out("/tmp/new/inner/file/.", str(back))
    with pytest.raises(NotADirectoryError):
        home.copy_in(f"{source}/inner/file/.", "/tmp/there")


def test_an_expired_wait_tells_the_timeout_that_was_given(home: Any) -> None:
    with home.start(["sleep", "60"]) as p:
        for ask in (p.wait, lambda timeout: p.communicate(timeout=timeout)):
            with pytest.raises(pyminicon.TimeoutExpired) as caught:
                ask(0.05)
            assert (caught.value.timeout, caught.value.cmd) == (0.05, ["sleep", "60"])
    for ask in (home.wait, lambda timeout: home.communicate(timeout=timeout)):
        with pytest.raises(pyminicon.TimeoutExpired) as caught:
            ask(0.05)
        assert caught.value.timeout == 0.05 and str(caught.value).startswith(f"Command 'container {home.id}'")


def test_what_is_yes_or_no_takes_nothing_else(home: Any) -> None:
    for value in (5, "x", "", [], 1.0):
        for name in (
            "trace",
            "usage",
            "text",
            "universal_newlines",
            "capture_output",
            "check",
            "init",
            "detach",
        ):
            call = pyminicon.start if name == "detach" else pyminicon.run
            with pytest.raises(pyminicon.SpecError, match=f"^{name}: takes True or False"):
                call(["true"], **{name: value})
        for name in ("trace", "text", "capture_output", "check"):
            with pytest.raises(pyminicon.SpecError, match=f"^{name}: takes True or False"):
                home.run(["true"], **{name: value})
    for value in (True, False, None, 1, 0):
        options = dict.fromkeys(("text", "universal_newlines", "capture_output"), value)
        assert pyminicon.run(["true"], **options).stdout == ("" if value else None)
