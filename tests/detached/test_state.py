"""Where state lies and whose it is; names and ids; keepers that are killed; disks that are full."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pyminicon
from pyminicon.detached import place as places
from pyminicon.detached.place import is_kept
from tests.detached.conftest import Place, alive, soon


def test_the_state_is_this_users_alone(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    for path in (place.state, place.state / "containers", place.state / "names"):
        assert path.stat().st_mode & 0o777 == 0o700
    (container,) = (place.state / "containers").iterdir()
    assert container.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in container.iterdir()} == {"state", "state.end", "socket", "log"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in container.iterdir())
    assert json.loads((container / "state").read_text())["name"] == "web"


def test_without_a_directory_there_are_no_containers(place: Place) -> None:
    assert place.ps("-a") == []
    assert not place.state.exists()
    assert place("exec", "web", "true").stderr == "pyminicon: no such container: web\n"


def test_who_holds_the_lock_of_names_and_has_been_stopped_holds_nobody_up_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_PATIENCE", 0.05)
    with (
        places.Locked(str(tmp_path)),
        pytest.raises(pyminicon.Error, match="lock: whoever holds it doesn't go on: fuser -v"),
    ):
        places.Locked(str(tmp_path)).__enter__()
    with places.Locked(str(tmp_path)):
        pass


def test_a_directory_that_is_open_to_others_is_refused(place: Place) -> None:
    place.state.mkdir(mode=0o700)
    place.state.chmod(0o777)
    for words in (("run", "-d", "host", "true"), ("ps",), ("exec", "x", "true")):
        r = place(*words)
        assert r.returncode == 125 and "is open to others (mode 777)" in r.stderr
    place.state.chmod(0o700)
    shutil.rmtree(place.state)


def test_a_strangers_directory_link_or_file_is_refused(
    place: Place, tmp_path: Path, needs_root: None
) -> None:
    place.state.mkdir(mode=0o700)
    os.chown(place.state, 4711, 4711)
    r = place("run", "-d", "host", "true")
    assert r.returncode == 125 and "belongs to uid 4711" in r.stderr
    assert os.listdir(place.state) == []
    place.state.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.state.symlink_to(tmp_path / "elsewhere")
    r = place("run", "-d", "host", "true")
    assert r.returncode == 125 and "is no directory" in r.stderr
    place.state.unlink()
    place.state.write_text("")
    r = place("run", "-d", "host", "true")
    assert r.returncode == 125 and "is no directory" in r.stderr
    assert "XDG_RUNTIME_DIR" in r.stderr
    place.state.unlink()


def test_a_socket_that_somebody_else_listens_at_is_not_spoken_with(place: Place, needs_root: None) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    (container,) = (place.state / "containers").iterdir()
    (container / "socket").rename(container / "kept")
    stranger = os.fork()
    if stranger == 0:
        try:
            os.chdir(container)
            made = socket.socket(socket.AF_UNIX)
            made.bind("socket")
            os.setresuid(4711, 4711, 4711)
            made.listen()
            time.sleep(1000)
        finally:
            os._exit(0)
    try:
        soon((container / "socket").exists)
        r = soon(lambda: "somebody else" in (place("exec", "web", "true").stderr))
        assert r
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)
        (container / "socket").unlink()
        (container / "kept").rename(container / "socket")


@pytest.mark.parametrize("name", ["a/b", "", "-x", ".hidden", "x" * 129, "x" * 300, "naïve", "a b", "../up"])
def test_a_name_that_can_not_be_is_refused(place: Place, name: str) -> None:
    r = place("run", "-d", f"--name={name}", "host", "true")
    assert r.returncode == 125 and r.stderr.startswith("pyminicon: --name: takes ")
    assert len(r.stderr) < 150


def test_a_long_name_is_a_name_and_no_host_name(place: Place) -> None:
    name = "x" * 128
    place.ok("run", "-d", "--name", name, "host", "sleep", "1000")
    assert place.ok("exec", name, "hostname") == place.about(name)["Id"]
    place.ok("run", "-d", "--name", "short", "host", "sleep", "1000")
    assert place.ok("exec", "short", "hostname") == "short"


def test_a_name_is_taken_until_its_container_is_removed(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "true")
    place.ok("wait", "web")
    r = place("run", "-d", "--name", "web", "host", "true")
    assert r.returncode == 125 and "web is taken by container" in r.stderr and "pyminicon rm web" in r.stderr
    place.ok("rm", "web")
    place.ok("run", "-d", "--name", "web", "host", "true")
    place.ok("wait", "web")
    place.ok("run", "-d", "--name", "other", "host", "true")  # which doesn't free the name of what has ended
    assert place("run", "-d", "--name", "web", "host", "true").returncode == 125


def test_of_eight_that_want_a_name_at_once_one_gets_it(place: Place) -> None:
    begun = [place.begin("run", "-d", "--name", "web", "host", "sleep", "1000") for _ in range(8)]
    ended = [(one.communicate(timeout=120), one.returncode) for one in begun]
    assert sorted(code for _, code in ended) == [0] + [125] * 7
    assert all("taken" in err for (_, err), code in ended if code)
    assert len(place.ps("-a")) == 1


def test_an_ids_beginning_names_it_unless_it_is_anothers_too(place: Place) -> None:
    first = place.ok("run", "-d", "host", "sleep", "1000")
    assert place.ok("exec", first[:6], "echo", "it") == "it"
    # Ids are random: a second one that begins alike is made by hand, of a state that is the first's.
    other = first[:11] + ("0" if first[11] != "0" else "1")
    shutil.copytree(
        place.state / "containers" / first,
        place.state / "containers" / other,
        ignore=shutil.ignore_patterns("socket"),
    )
    r = place("exec", first[:6], "true")
    assert r.returncode == 125 and "more than one container's id begins like this" in r.stderr
    assert place.ok("exec", first, "echo", "it") == "it"
    shutil.rmtree(place.state / "containers" / other)


def test_a_killed_keeper_takes_its_container_along_and_is_not_shown_as_running(place: Place) -> None:
    limits = ["--memory", "64m"] if os.geteuid() == 0 else []  # and with them a cgroup to be left
    script = "setsid sleep 1000 & sleep 1000"
    place.ok("run", "-d", "--name", "web", *limits, "host", "sh", "-c", script)
    about = place.about("web")
    inside = [int(pid) for pid in soon(lambda: _children_of(about["State"]["Pid"]))]
    os.kill(about["KeeperPid"], signal.SIGKILL)
    soon(lambda: place.ps() == [])  # once the kernel is through with it
    (row,) = place.ps("-a")
    assert row["State"] == "dead"
    soon(lambda: not any(alive(pid) for pid in [about["State"]["Pid"], *inside]))
    soon(lambda: not _cgroups_of(about["KeeperPid"]))
    soon(lambda: place.layers() == [])
    r = place("exec", "web", "true")
    assert r.returncode == 125 and "its keeper was killed" in r.stderr
    assert place.ok("wait", "web") == "137"
    place.ok("rm", "web")


def _children_of(pid: int) -> list[str]:
    """What descends from a process: pids."""
    found: list[str] = []
    waiting = [str(pid)]
    while waiting:
        words = Path(f"/proc/{waiting[0]}/task/{waiting.pop(0)}/children").read_text().split()
        found += words
        waiting += words
    return found


def _cgroups_of(pid: int) -> list[str]:
    return [root for root, _, _ in os.walk("/sys/fs/cgroup") if "pyminicon-" in root and f"-{pid}-" in root]


def test_a_keeper_that_is_asked_to_end_stops_its_container(place: Place) -> None:
    script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", script)
    soon(lambda: place("logs", "web").stdout == "ready\n")
    os.kill(place.about("web")["KeeperPid"], signal.SIGTERM)
    soon(lambda: place.ps() == [])
    assert place.about("web")["State"]["ExitCode"] == 4
    assert "asked" in place("logs", "web").stdout


@pytest.mark.parametrize(
    ("remove", "moments"), [(False, 6), (True, 6), pytest.param(False, 50, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_a_keeper_leaves_nothing_that_runs(
    place: Place, remove: bool, moments: int
) -> None:
    flags = ["--rm"] if remove else []
    for moment in range(moments):
        begun = place.begin("run", "-d", *flags, "--name", f"n{moment}", "host", "sleep", "1000")
        assert soon(lambda begun=begun: _keepers(place) or begun.poll() is not None)
        time.sleep(random.uniform(0, 0.08))
        for pid in _keepers(place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        begun.communicate(timeout=120)
        soon(lambda: not _keepers(place))
        soon(lambda: place.ps() == [], left=place.ps)  # what it was making has its lock until it dies of it
    containers = place.state / "containers"
    soon(lambda: not any(is_kept(f"{containers}/{name}") for name in os.listdir(containers)))  # by the dying
    place.ok("run", "-d", "--name", "n0b", "host", "true")  # which clears away what was being made
    place.ok("wait", "n0b")
    left = {row["Names"] for row in place.ps("-a")}
    assert not remove or left == {"n0b"}
    soon(lambda: [name for name in place.layers() if name.startswith("layer-")] == [])
    assert [name for name in os.listdir(containers) if name.startswith(".")] == []


def test_what_a_killed_keeper_had_in_hand_is_removed_with_its_container(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    about = place.about("web")
    container = place.state / "containers" / about["Id"]
    os.kill(about["KeeperPid"], signal.SIGKILL)
    soon(lambda: not is_kept(str(container)))
    # The name is on its way to the other names, a state to the place of the one before.
    (container / "name").symlink_to(about["Id"])
    (container / "state.tmp").write_text("")
    place.ok("rm", "web")
    assert not container.exists()


def test_what_lies_in_the_place_of_a_container_keeps_nobody_from_starting_one(place: Place) -> None:
    place.ok("run", "-d", "--name", "first", "host", "true")
    left, strange = (place.state / "containers" / name for name in ("0123456789ab", ".new-1-2"))
    for directory in (left, strange):
        directory.mkdir(mode=0o700)
    (left / "name").symlink_to("0123456789ab")
    (strange / "directory").mkdir()
    place.ok("run", "-d", "--name", "second", "host", "true")
    assert not left.exists()
    (strange / "directory").rmdir()
    place.ok("run", "-d", "--name", "third", "host", "true")
    assert not strange.exists()


def test_a_keeper_without_a_descriptor_left_waits_for_one_and_takes_no_processor(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    keeper = place.about("web")["KeeperPid"]
    (container,) = (place.state / "containers").iterdir()
    before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir(f"/proc/{keeper}/fd"))) + 1
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (most, before[1]))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            directory = os.open(container, os.O_PATH)
            sock.connect(f"/proc/self/fd/{directory}/socket")
            os.close(directory)
        soon(lambda: len(os.listdir(f"/proc/{keeper}/fd")) == most)
        begun = _processor_time(keeper)
        time.sleep(0.5)
        assert _processor_time(keeper) - begun < 0.1
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, before)
        assert place.ok("exec", "web", "echo", "there") == "there"


def _processor_time(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_who_gives_up_waiting_for_the_start_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(to: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    monkeypatch.setattr("pyminicon.detached.asking.answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pyminicon.start(["sleep", "1000"], detach=True, name="web")
    soon((place.state / "lock").exists)  # the keeper is at it
    soon(lambda: not _keepers(place))
    assert place.ps("-a") == []
    assert not (place.state / "names" / "web").is_symlink()


def _keepers(place: Place) -> list[int]:
    found = []
    word = f"PYMINICON_STATE={place.state}\0".encode()
    for entry in os.listdir("/proc"):
        try:
            if not entry.isdigit() or Path(f"/proc/{entry}/comm").read_text() != "pyminicon-keep\n":
                continue
            if word in Path(f"/proc/{entry}/environ").read_bytes() and alive(int(entry)):
                found.append(int(entry))
        except OSError:
            continue
    return found


def _in_mount_namespace(place: Place, script: str) -> subprocess.CompletedProcess[str]:
    """A shell that may mount: what it mounts nobody else sees."""
    run = f'run() {{ {sys.executable} -m pyminicon "$@"; }}\n'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", run + script],
        env=place.env, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_read_only_state_directory_is_named(place: Place, needs_root: None) -> None:
    place.state.mkdir(mode=0o700)
    script = f"mount --bind {place.state} {place.state}; mount -o remount,bind,ro {place.state}\n"
    r = _in_mount_namespace(place, script + "run run -d host true; echo $?; run ps; echo $?")
    assert r.stdout.split()[0] == "125" and r.stdout.split()[-1] == "0"
    assert str(place.state) in r.stderr and "Read-only file system" in r.stderr
    place.state.rmdir()


def test_a_full_disk_costs_output_and_not_the_container_nor_its_end(place: Place, needs_root: None) -> None:
    place.state.mkdir(mode=0o700)
    script = f"""
    mount -t tmpfs -o size=300k,mode=700 none {place.state}
    run run -d --name web host sh -c 'echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 100000; exit 3'
    until run logs web | grep -q first; do :; done
    head -c 1000000 /dev/zero > {place.state}/filler
    run run -d --name other host true; echo other $?
    run exec web touch /tmp/go; echo exec $?
    run wait web; echo wait $?
    rm {place.state}/filler
    run ps -a --format '{{{{.Names}}}} {{{{.State}}}}'
    run inspect -f 'lost {{{{.LostOutput}}}}' web
    run logs web | head -n 1
    run rm web; echo rm $?
    """
    r = _in_mount_namespace(place, script)
    words = r.stdout.split("\n")
    assert "other 125" in words and "No space left" in r.stderr and "exec 0" in words, r
    assert words[words.index("exec 0") + 1 : words.index("exec 0") + 3] == ["3", "wait 0"]
    assert "web exited" in words and "first" in words and "rm 0" in words, r
    lost = next(int(word.split()[1]) for word in words if word.startswith("lost "))
    assert lost > 100_000
    place.state.rmdir()


def test_a_clock_that_was_set_changes_no_time_that_has_passed(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    (container,) = (place.state / "containers").iterdir()
    fields = json.loads((container / "state").read_text())
    fields["created"] += 1e6  # as if the clock had been set back since
    fields["started"] += 1e6
    (container / "state").write_text(json.dumps(fields))
    (row,) = place.ps()
    assert row["RunningFor"] == "0 seconds ago"
    assert row["Status"].startswith("Up ") and "second" in row["Status"]


def test_what_was_before_the_machine_was_started_again_is_gone(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "true")
    place.ok("wait", "web")
    soon(lambda: not _keepers(place))
    (container,) = (place.state / "containers").iterdir()
    fields = json.loads((container / "state").read_text())
    (container / "state").write_text(json.dumps(fields | {"boot": "00000000"}))
    kept = Path(fields["kept"])
    kept.rename(kept.with_name("kept-00000000-" + fields["id"]))
    assert place.ps("-a") == []
    place.ok("run", "-d", "--name", "web", "host", "true")
    place.ok("wait", "web")
    assert len(place.ps("-a")) == 1 and not container.exists()
    assert [name for name in place.layers() if "00000000" in name] == []


def test_a_damaged_state_is_named_with_what_to_do(place: Place) -> None:
    (place.state / "containers" / "0123456789ab").mkdir(parents=True, mode=0o700)
    place.state.chmod(0o700)
    (place.state / "names").mkdir()
    (place.state / "containers" / "0123456789ab" / "state").write_text('{"vers')
    r = place("ps")
    assert r.returncode == 125 and "is damaged: rm -r" in r.stderr
    shutil.rmtree(place.state)


@pytest.mark.slow
def test_eight_shells_start_and_stop_a_hundred_and_nothing_is_left(place: Place) -> None:
    def shell(number: int) -> list[str]:
        ids = []
        for turn in range(13):
            name = f"s{number}-{turn}"
            ids.append(place.ok("run", "-d", "--name", name, "host", "sleep", "1000"))
            assert place.ok("exec", name, "hostname") == name
            assert place("run", "-d", "--name", name, "host", "true").returncode == 125
            if turn % 2:
                place.ok("stop", "-t", "20", name)
                place.ok("rm", name)
            else:
                place.ok("rm", "-f", name)
        return ids

    with ThreadPoolExecutor(8) as pool:
        ids = [one for found in pool.map(shell, range(8)) for one in found]
    assert len(set(ids)) == 104
    assert place.ps("-a") == []
