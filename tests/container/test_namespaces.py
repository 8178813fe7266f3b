"""Each namespace: the container's own by default, the host's where that was asked for."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

import pyminicon
from tests.support.processes import in_namespace
from tests.support.run import out, sh

OPTION = {"pid": "pid", "ipc": "ipc", "uts": "uts", "net": "network", "cgroup": "cgroupns"}


def here(name: str) -> str:
    return os.readlink(f"/proc/self/ns/{name}")


@pytest.mark.parametrize("name", ["mnt", "pid", "ipc", "uts", "net", "cgroup"])
def test_a_container_has_namespaces_of_its_own(name: str) -> None:
    first, second = (out(f"readlink /proc/self/ns/{name}").strip() for _ in range(2))
    assert first != here(name)
    assert second != here(name)


@pytest.mark.parametrize("name", ["ipc", "uts", "net", "cgroup"])
def test_a_namespace_of_the_host_is_shared_when_asked_for(name: str) -> None:
    assert out(f"readlink /proc/self/ns/{name}", **{OPTION[name]: "host"}).strip() == here(name)


def test_the_program_is_pid_1() -> None:
    assert out("echo $$") == "1\n"


def test_under_init_the_program_is_not_pid_1() -> None:
    assert out("echo $$; cat /proc/1/comm", init=True).split()[0] != "1"


def test_processes_of_the_host_cannot_be_seen_nor_signalled() -> None:
    r = sh(f"kill -0 {os.getpid()}")
    assert r.returncode != 0
    assert "No such process" in r.stderr


def test_everything_dies_with_pid_1() -> None:
    with pyminicon.start(
        ["sh", "-c", "sleep 1000 & sleep 1000 & echo; read x"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE
    ) as c:
        assert c.stdout is not None
        c.stdout.readline()
        mark = f"/proc/{c.pid}/ns/pid"
        namespace = os.readlink(mark)
        assert len(in_namespace(namespace)) == 3
        c.kill()
        assert c.wait() == -9
    assert in_namespace(namespace) == []


def test_loopback_is_up_and_the_only_interface() -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), 5)
client.sendall(b"x")
print(socket.if_nameindex(), server.accept()[0].recv(1))
"""
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
    assert (r.stdout, r.stderr) == ("[(1, 'lo')] b'x'\n", "")


def test_nothing_beyond_loopback_can_be_reached() -> None:
    code = """
import socket
for where in (("192.0.2.1", 80), ("169.254.169.254", 80)):
    try:
        socket.create_connection(where, 5)
        print("connected")
    except OSError as error:
        print(error.errno)
"""
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
    assert r.stdout == "101\n101\n"  # ENETUNREACH


def test_servers_of_the_host_are_out_of_reach_unless_its_network_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        run = {"image": "python", "capture_output": True, "text": True}
        inside = pyminicon.run(["python", "-c", code], **run)
        assert "ConnectionRefusedError" in inside.stderr
        assert pyminicon.run(["python", "-c", code], network="host", **run).returncode == 0


def test_abstract_sockets_of_the_host_are_out_of_reach() -> None:
    name = f"pyminicon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + {name!r})"
        r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
        assert "ConnectionRefusedError" in r.stderr
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_hostname_inside_changes_nothing_outside() -> None:
    before = os.uname().nodename
    assert out("uname -n", hostname="inside") == "inside\n"
    assert os.uname().nodename == before


def test_the_cgroup_namespace_hides_where_the_container_stands() -> None:
    for line in out("cat /proc/self/cgroup").splitlines():
        assert line.split(":", 2)[2] == "/"


def test_a_private_clock_begins_at_zero() -> None:
    code = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))"
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        r = pyminicon.run(
            ["python", "-c", code], image="python", time="private", capture_output=True, text=True
        )
    except pyminicon.LaunchError as error:  # before Linux 6.x it only counts for forked processes
        assert error.stage == "timens"
        pytest.skip("needs Linux 6.2 (a time namespace that counts at exec)")
    assert r.returncode == 0, r.stderr
    for clock in r.stdout.split():
        assert 0 <= float(clock) < 60
    assert time.clock_gettime(time.CLOCK_MONOTONIC) >= before


def test_a_private_clock_begins_at_zero_to_the_millisecond() -> None:
    """Its beginnings don't follow the part of a second at which the machine's clock stands then."""
    code = """
import time
for name in ("MONOTONIC", "BOOTTIME", "MONOTONIC_COARSE"):
    print(time.clock_gettime(getattr(time, "CLOCK_" + name, 6)))
"""
    ahead = []
    for part in (0.1, 0.5, 0.9):
        time.sleep((part - time.monotonic()) % 1)
        try:
            r = pyminicon.run(
                ["python", "-c", code],
                image="python",
                time="private",
                capture_output=True,
                text=True,
                trace=True,
            )
        except pyminicon.LaunchError as error:
            assert error.stage == "timens"
            pytest.skip("needs Linux 6.2 (a time namespace that counts at exec)")
        assert r.returncode == 0, r.stderr
        clocks = [float(word) for word in r.stdout.split()]
        assert all(0 <= clock <= r.usage.wall + r.startup + 0.05 for clock in clocks), (part, clocks)
        ahead.append(clocks)
    assert len(ahead) == 3


def test_without_it_the_clock_is_the_hosts() -> None:
    inside = float(out("cat /proc/uptime").split()[0])
    assert abs(inside - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_system_v_memory_is_not_shared() -> None:
    listing = Path("/proc/sysvipc/shm").read_text().splitlines()
    assert len(out("cat /proc/sysvipc/shm").splitlines()) == 1
    assert len(out("cat /proc/sysvipc/shm", ipc="host").splitlines()) == len(listing)


def test_the_session_is_the_containers_own() -> None:
    fields = out("cat /proc/self/stat").rpartition(")")[2].split()
    group, session, terminal = int(fields[2]), int(fields[3]), int(fields[4])
    assert (group, session, terminal) == (1, 1, 0)
