"""``exec``: a command in a container that runs, its streams, its end, and who it is run as."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import COMMAND
from tests.detached.conftest import Place, soon


@pytest.fixture
def web(place: Place) -> Place:
    place.ok("run", "-d", "--name", "web", "-e", "GIVEN=1", "host", "sleep", "1000")
    return place


@pytest.mark.parametrize(
    ("script", "status"), [("true", 0), ("exit 5", 5), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_status_is_the_commands(web: Place, script: str, status: int) -> None:
    assert web("exec", "web", "sh", "-c", script).returncode == status


def test_what_is_not_there_or_can_not_be_run_has_its_own_status(web: Place) -> None:
    assert web("exec", "web", "nosuch").returncode == 127
    assert web("exec", "web", "/etc/hosts").returncode == 126
    assert web("exec", "web", "/").returncode == 126
    assert web("exec", "nope", "true").returncode == 125
    assert web("exec", "web").returncode == 125
    assert web("exec", "-u", "nobodyatall", "web", "true").returncode == 125
    r = web("exec", "-w", "/nosuch", "web", "true")
    assert r.returncode == 125 and "/nosuch" in r.stderr


def test_the_streams_are_the_callers_own(web: Place) -> None:
    r = web("exec", "-i", "web", "sh", "-c", "cat; echo err >&2", input="fed")
    assert (r.stdout, r.stderr) == ("fed", "err\n")
    assert web("exec", "web", "cat", input="fed").stdout == ""  # without -i nothing is passed on


def test_a_file_is_written_through_a_pipe(web: Place, tmp_path: object) -> None:
    path = f"{tmp_path}/out"
    with open(path, "wb") as file:
        subprocess.run(
            [*COMMAND, "exec", "web", "sh", "-c", "echo out; readlink /proc/self/fd/1 >&2"],
            stdout=file, stderr=subprocess.PIPE, env=web.env, check=True, timeout=60,
        )  # fmt: skip
    with open(path, "rb") as file:
        assert file.read() == b"out\n"


def test_environment_directory_and_user_are_given_or_the_containers(web: Place) -> None:
    assert web.ok("exec", "web", "sh", "-c", "echo $GIVEN") == "1"
    assert web.ok("exec", "-e", "GIVEN=2", "web", "sh", "-c", "echo $GIVEN") == "2"
    assert web.ok("exec", "web", "pwd") == "/"
    assert web.ok("exec", "-w", "/usr", "web", "pwd") == "/usr"
    assert web.ok("exec", "web", "id", "-u") == "0"


def test_a_user_is_looked_up_inside(web: Place, needs_root: None) -> None:
    assert web.ok("exec", "-u", "nobody", "web", "id", "-un") == "nobody"
    assert web.ok("exec", "-u", "12:34", "web", "sh", "-c", "id -u; id -g") == "12\n34"


def test_much_goes_in_and_out(web: Place) -> None:
    text = "0123456789abcdef" * 200_000
    assert web("exec", "-i", "web", "cat", input=text).stdout == text


def test_detached_commands_run_on(web: Place) -> None:
    assert web.ok("exec", "-d", "web", "sh", "-c", "echo it > /tmp/done; sleep 1000") == ""
    soon(lambda: web("exec", "web", "cat", "/tmp/done").stdout == "it\n")
    assert "sleep 1000" in web.ok("top", "web")
    assert web("exec", "-d", "web", "nosuch").returncode == 127


def test_a_command_ends_with_who_has_asked_for_it(web: Place) -> None:
    running = web.begin("exec", "web", "sh", "-c", "setsid sleep 777 & echo ready; wait")
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    soon(lambda: "sleep 777" in web.ok("top", "web"))
    running.kill()
    running.communicate()
    soon(lambda: "sleep 777" not in web.ok("top", "web"))
    assert web.ps()[0]["State"] == "running"


def test_signals_go_to_the_command(web: Place) -> None:
    running = web.begin(
        "exec", "web", "sh", "-c", "trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done"
    )
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 42


def test_its_end_is_the_containers_when_that_ends(web: Place) -> None:
    running = web.begin("exec", "web", "sh", "-c", "echo ready; sleep 1000")
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    web.ok("kill", "web")
    running.communicate(timeout=60)
    assert running.returncode == 137
    r = web("exec", "web", "true")
    assert r.returncode == 125 and "web is not running: exited with status 137" in r.stderr


def test_a_terminal_of_its_own(web: Place) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, "exec", "-it", "web", "sh"], web.env)
    shown = b""
    deadline = time.monotonic() + 60
    os.write(fd, b"tty && echo it-is-$((6*7)); exit 9\n")
    while time.monotonic() < deadline and select.select([fd], [], [], 60)[0]:
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    os.close(fd)
    assert b"it-is-42" in shown
    r = web("exec", "-it", "web", "sh")
    assert r.returncode == 125 and "not a TTY" in r.stderr


def test_it_loads_nothing_of_a_launch(web: Place) -> None:
    code = (
        "import sys; from pyminicon.cli.main import command; assert command(['exec', 'web', 'true']) == 0\n"
    )
    code += "print(*(name for name in sys.modules if name.startswith('pyminicon.')), 'json' in sys.modules)"
    r = subprocess.run(
        [COMMAND[0], "-c", code], env=web.env, capture_output=True, text=True, check=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    ours = "cli cli.main errors cli.kept cli.kept.execute cli.kept.far cli.words detached detached.asking detached.line"
    *loaded, has_json = r.stdout.split()
    assert set(loaded) - {"pyminicon._checkout"} == {
        f"pyminicon.{name}" for name in [*ours.split(), "detached.place"]
    }
    assert has_json == "False"


def test_many_at_once_get_each_its_own(web: Place) -> None:
    running = [web.begin("exec", "web", "sh", "-c", f"echo {i}; exit {i}") for i in range(12)]
    for i, one in enumerate(running):
        assert one.communicate(timeout=120) == (f"{i}\n", "")
        assert one.returncode == i
