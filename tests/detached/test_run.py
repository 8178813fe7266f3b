"""``run -d`` and what becomes of it: ps, exec, logs, wait, stop, kill, rm, inspect."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.detached.conftest import Place, alive, soon


def test_a_detached_container_runs_on_and_is_listed_until_it_is_removed(place: Place) -> None:
    container = place.ok("run", "-d", "--name", "web", "--label", "job=7", "host", "sleep", "1000")
    assert re.fullmatch("[0-9a-f]{12}", container)
    (row,) = place.ps()
    assert (row["ID"], row["Names"], row["State"], row["Labels"]) == (container, "web", "running", "job=7")
    about = place.about("web")
    assert about["State"]["Running"] and about["Config"]["Cmd"] == ["sleep", "1000"]
    assert os.path.exists(f"/proc/{about['State']['Pid']}")
    assert place.ok("stop", "-t", "30", "web") == "web"
    assert place.ps() == []
    (row,) = place.ps("-a")
    assert row["State"] == "exited" and row["Status"].startswith("Exited (143)")
    assert place.ok("rm", "web") == "web"
    assert place.ps("-a") == []


def test_neither_terminal_nor_session_nor_working_directory_is_held(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    keeper = place.about("web")["KeeperPid"]
    assert os.readlink(f"/proc/{keeper}/cwd") == "/"
    assert [os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert os.getsid(keeper) not in (os.getsid(0), keeper)  # no leader: no terminal can become its own
    assert int(Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[4]) == 0  # tty_nr


def test_what_the_caller_has_open_is_not_held(place: Place, tmp_path: Path) -> None:
    with open(tmp_path / "mine", "w") as file:
        place.ok("run", "-d", "--name", "web", "host", "sleep", "1000", pass_fds=[file.fileno()])
    keeper = place.about("web")["KeeperPid"]
    held = [os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper}/fd")]
    assert str(tmp_path / "mine") not in held


def test_the_log_has_both_streams_apart_and_a_line_without_end(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", "echo one; echo two >&2; printf three")
    place.ok("wait", "web")
    r = place("logs", "web")
    assert (r.stdout, r.stderr) == ("one\nthree", "two\n")
    assert place("logs", "--tail", "2", "web").stdout.endswith("three")
    assert place("logs", "--tail", "0", "web").stdout == ""
    assert place("logs", "--since", "1h", "web").stdout == "one\nthree"
    assert place("logs", "--since", str(time.time() + 1000), "web").stdout == ""
    stamped = place("logs", "-t", "web").stdout
    assert re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z )one\n\S+ three", stamped)


def test_bytes_that_are_no_text_come_out_as_they_went_in(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", r"printf '\377\000\n\n\r\n\303\n'")
    place.ok("wait", "web")
    r = subprocess.run(
        [*_command(), "logs", "web"], env=place.env, capture_output=True, check=True, timeout=60
    )
    assert r.stdout == b"\xff\0\n\n\r\n\xc3\n"


def _command() -> list[str]:
    from tests.cli.conftest import COMMAND

    return COMMAND


def test_logs_that_follow_end_with_the_container(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", "echo first; sleep 1000")
    follower = place.begin("logs", "-f", "web")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "first\n"
    assert follower.poll() is None
    place.ok("kill", "web")
    assert follower.communicate(timeout=60)[0] == ""
    assert follower.returncode == 0


def test_what_is_written_while_logs_follow_is_shown_and_nothing_twice(place: Place) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done"
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", script)
    assert place("logs", "-f", "web").stdout.split() == [str(i) for i in range(3000)]
    assert place("logs", "web").stdout.split() == [str(i) for i in range(3000)]


def test_the_log_is_bounded_and_keeps_what_is_newest(place: Place) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    place.ok("run", "-d", "--name", "web", "--log-max-size", "64k", "host", "sh", "-c", script)
    place.ok("wait", "web")
    files = list(Path(place.about("web")["LogPath"]).parent.glob("log*"))
    assert sum(file.stat().st_size for file in files) <= 64 << 10
    lines = place("logs", "web").stdout.split("\n")
    assert lines[-2] == "line 19999" and lines[0] != "line 0" and len(lines) > 200
    numbers = [int(line.split()[1]) for line in lines[1:-1]]
    assert numbers == list(range(numbers[0], 20000))


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_wait_prints_how_it_has_ended_before_and_after_the_end(
    place: Place, script: str, status: int
) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", f"sleep 0.3; {script}")
    assert place.ok("wait", "web") == str(status)
    assert place.ok("wait", "web") == str(status)
    assert place.about("web")["State"]["ExitCode"] == status


def test_what_removes_itself_leaves_nothing(place: Place) -> None:
    place.ok("run", "-d", "--rm", "--name", "web", "host", "sleep", "1000")
    descriptors = f"/proc/{place.about('web')['KeeperPid']}/fd"
    before = len(os.listdir(descriptors))
    waiter = place.begin("wait", "web")
    soon(lambda: len(os.listdir(descriptors)) > before)  # it stands at the keeper's door
    place.ok("kill", "web")
    assert waiter.communicate(timeout=60) == ("137\n", "")
    soon(lambda: place.ps("-a") == [])
    soon(lambda: place.layers() == [])
    assert place("logs", "web").returncode == 125


def test_stop_sends_the_stop_signal_and_kills_after_a_while(place: Place) -> None:
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done"
    place.ok("run", "-d", "--name", "deaf", "host", "sh", "-c", script)
    soon(lambda: place("logs", "deaf").stdout == "ready\n")
    begun = time.monotonic()
    place.ok("stop", "-t", "3", "deaf")
    assert time.monotonic() - begun > 2.9
    assert place.about("deaf")["State"]["ExitCode"] == 137
    assert "asked" in place("logs", "deaf").stdout
    hears = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done"
    place.ok("run", "-d", "--name", "hears", "--stop-signal", "USR1", "host", "sh", "-c", hears)
    soon(lambda: place("logs", "hears").stdout == "ready\n")
    place.ok("stop", "hears")
    assert place.about("hears")["State"]["ExitCode"] == 3


def test_a_signal_reaches_the_program(place: Place) -> None:
    script = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", script)
    soon(lambda: place("logs", "web").stdout == "ready\n")
    place.ok("kill", "-s", "HUP", "web")
    soon(lambda: "hup" in place("logs", "web").stdout)
    assert place("kill", "-s", "NOPE", "web").returncode == 125
    place.ok("kill", "web")
    assert place.ok("wait", "web") == "137"


def test_the_limits_of_a_run_hold_without_anybody_waiting(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "--timeout", "0.5", "host", "sleep", "1000")
    assert place.ok("wait", "web") == "137"
    assert place.about("web")["State"]["Limit"] == "wall_time"
    assert place.layers() and place.ok("rm", "web") == "web"


def test_rm_removes_what_runs_only_by_force(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    r = place("rm", "web")
    assert r.returncode == 125 and "web is running: stop it first, or rm -f" in r.stderr
    pid = place.about("web")["State"]["Pid"]
    place.ok("rm", "-f", "web")
    assert not alive(pid)
    assert place.ok("rm", "-f", "web") == ""
    assert place("rm", "web").returncode == 125


def test_the_id_is_written_to_a_new_file(place: Place, tmp_path: Path) -> None:
    container = place.ok("run", "-d", "--cidfile", str(tmp_path / "id"), "host", "sleep", "1000")
    assert (tmp_path / "id").read_text() == container
    r = place("run", "-d", "--name", "no", "--cidfile", str(tmp_path / "id"), "host", "true")
    assert r.returncode == 125
    assert [row["ID"] for row in place.ps("-a")] == [container]


def test_ps_filters_by_name_label_and_status(place: Place) -> None:
    place.ok("run", "-d", "--name", "one", "-l", "kind=a", "host", "sleep", "1000")
    place.ok("run", "-d", "--name", "two", "-l", "kind=b", "host", "true")
    place.ok("wait", "two")

    def names(*filters: str) -> list[str]:
        words = [word for one in filters for word in ("--filter", one)]
        return sorted(row["Names"] for row in place.ps("-a", *words))

    assert names() == ["one", "two"]
    assert names("name=tw") == ["two"]
    assert names("label=kind") == ["one", "two"]
    assert names("label=kind=a") == ["one"]
    assert names("status=exited") == ["two"]
    assert names("label=kind=a", "status=exited") == []
    assert names("status=running", "status=exited") == ["one", "two"]
    assert place("ps", "--filter", "colour=red").returncode == 125
    assert place("ps", "--filter", "status=gone").returncode == 125
    assert place.ok("ps", "-q") == place.about("one")["Id"]
    assert place.ok("ps", "-a", "--format", "{{.Names}}:{{.State}}").split() == ["two:exited", "one:running"]


def test_inspect_prints_a_list_and_takes_a_template(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "-e", "A=b", "-w", "/tmp", "-l", "k=v", "host", "sleep", "1000")
    assert place.ok("inspect", "-f", "{{.State.Status}} {{json .Config.Labels}}", "web") == (
        'running {"k": "v"}'
    )
    config = place.about("web")["Config"]
    assert config["WorkingDir"] == "/tmp" and "A=b" in config["Env"]
    r = place("inspect", "web", "nope")
    assert r.returncode == 125 and len(json.loads(r.stdout)) == 1 and "no such container: nope" in r.stderr


def test_a_program_that_is_not_there_fails_the_run_and_leaves_nothing(place: Place) -> None:
    r = place("run", "-d", "--name", "web", "host", "nosuch")
    assert r.returncode == 127 and "nosuch" in r.stderr
    r = place("run", "-d", "--name", "web", "--memory", "lots", "host", "true")
    assert r.returncode == 125
    assert place.ps("-a") == []
    place.ok("run", "-d", "--name", "web", "host", "true")


def test_restart_is_refused_with_the_reason(place: Place) -> None:
    r = place("run", "-d", "--restart", "always", "host", "true")
    assert r.returncode == 125 and "systemd unit" in r.stderr


def test_pause_stops_and_unpause_lets_go_on(place: Place, needs_root: None) -> None:
    script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", script)
    soon(lambda: len(place("logs", "web").stdout) > 10)
    place.ok("pause", "web")
    (row,) = place.ps()
    assert row["State"] == "paused" and "(Paused)" in row["Status"]
    before = soon(lambda: _settled(place))
    r = place("exec", "web", "true")
    assert r.returncode == 125 and "unpause web" in r.stderr
    assert place("pause", "web").returncode == 125
    place.ok("unpause", "web")
    soon(lambda: len(place("logs", "web").stdout) > before)
    assert place("unpause", "web").returncode == 125
    place.ok("pause", "web")
    place.ok("stop", "-t", "5", "web")  # what is paused ends as well


def _settled(place: Place) -> int:
    first = len(place("logs", "web").stdout)
    time.sleep(0.3)
    return first if first == len(place("logs", "web").stdout) else 0


def test_top_and_stats_tell_once_in_a_pipe(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    lines = place.ok("top", "web").splitlines()
    assert lines[0].split() == ["USER", "PID", "PPID", "STATE", "TIME", "RSS", "COMMAND"]
    assert len(lines) == 2 and lines[1].endswith("sleep 1000")
    (row,) = [json.loads(line) for line in place.ok("stats", "--format", "json").splitlines()]
    assert row["Name"] == "web" and row["MemUsage"] != "--" and int(row["PIDs"]) >= 1
    place.ok("stop", "web")
    assert place("top", "web").returncode == 125
    assert place("stats", "web").returncode == 125
