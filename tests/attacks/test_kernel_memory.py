"""Memory of the kernel's that a container has it hold: within the limit, or not to be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

LIMIT = 48  # MB
OPTIONS: dict[str, Any] = {
    "image": "python",
    "memory": f"{LIMIT}M",
    "rlimits": {"nofile": (4000, 4000)},
    "timeout": 120,
}

# Each holds as much as it can of 200 MB and says how many it got.
_HOLD = """
import errno, socket, struct, sys
held, most, kept = 0, 200 << 20, []
def queued(one):  # SO_MEMINFO: what waits in its receive queue
    return struct.unpack("9I", one.getsockopt(socket.SOL_SOCKET, 55, 36))[0]
def hold():
    global held
    while held < most:
        before = held
        held += step()
        if held == before: return
try:
    {step}
    hold()
except OSError as error:
    print(errno.errorcode[error.errno], end=" ")
print(held >> 20, flush=True)
"""

TCP = """
    server = socket.create_server(("127.0.0.1", 0), backlog=1000)
    def step():
        one = socket.socket(); one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
        one.settimeout(2); one.connect(server.getsockname()); other = server.accept()[0]
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30); one.setblocking(False)
        kept.extend((one, other)); sent = 0
        try:
            while sent < most: sent += one.send(bytes(65536))
        except BlockingIOError: pass
        return sent
"""

DATAGRAMS = """
    def step():
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, PROTOCOL); other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, PROTOCOL)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30); other.bind(("127.0.0.1", 0)); kept.append(other)
        for _ in range(50): one.sendto(bytes(60000), other.getsockname())
        one.close()
        return queued(other)
"""

UNIX = """
    def step():
        pair = socket.socketpair(); pair[0].setblocking(False); kept.extend(pair); sent = 0
        try:
            while True: sent += pair[0].send(bytes(65536))
        except BlockingIOError: pass
        return sent
"""

NETLINK = """
    def step():
        other = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2); other.bind((0, 0)); kept.append(other)
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2); one.setblocking(False); sent = 0
        try:
            while True: sent += one.sendto(bytes(60000), other.getsockname())
        except BlockingIOError: pass
        return sent
"""

RINGS = """
    def step():
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); kept.append(one)
        one.setsockopt(263, 5, struct.pack("4I", 1 << 20, 16, 1 << 12, 16 << 8))
        return 16 << 20
"""

KINDS = {
    "tcp": TCP,
    "udp": DATAGRAMS.replace("PROTOCOL", "0"),
    "udplite": DATAGRAMS.replace("PROTOCOL", "136"),
    "unix": UNIX,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_in_sockets_is_within_the_limit_of_memory(
    kind: str, inside: Run, needs_root: None
) -> None:
    script = _HOLD.format(step=KINDS[kind].strip())
    r = inside(["python", "-c", script], **OPTIONS)
    held = int(r.stdout.split()[-1]) if r.stdout else 0
    assert r.limit == "memory" or held <= LIMIT * 1.3, r
    # The other half: without a limit it holds them all.
    free = inside(["python", "-c", script], **{**OPTIONS, "memory": None})
    assert free.stdout in ("200\n", "EPROTONOSUPPORT 0\n") or int(free.stdout.split()[-1]) > 150, free


@pytest.mark.parametrize(("kind", "answer"), [(NETLINK, "EPROTONOSUPPORT 0\n"), (RINGS, "EPERM 0\n")])
def test_what_no_cgroup_counts_is_not_to_be_had(
    kind: str, answer: str, inside: Run, needs_root: None
) -> None:
    script = _HOLD.format(step=kind.strip())
    assert inside(["python", "-c", script], **OPTIONS).stdout == answer
    free = inside(["python", "-c", script], seccomp="unconfined", **OPTIONS)
    assert int(free.stdout.split()[-1]) > 100, "it isn't the filter that holds it"


def test_the_machines_asynchronous_reads_are_not_to_be_had(hostile: Run) -> None:
    assert hostile("sys", 206, 4000, "b:8")["call"] == (-1, 38)
    assert hostile("sys", 206, 4, "b:8", seccomp="unconfined")["call"] == (0, 0)


def test_the_hosts_log_cannot_be_written(hostile: Run, inside: Run, needs_root: None) -> None:
    """docker's capabilities have AUDIT_WRITE; PAM takes "no such protocol" for a kernel without audit."""
    assert hostile("sys", 41, 16, 3, 9)["call"] == (-1, 93)
    assert hostile("sys", 41, 16, 3, 9, seccomp="unconfined")["call"][0] >= 0
    script = "mknod /dev/shm/kmsg c 1 11; echo mine > /dev/shm/kmsg; cat /proc/kmsg; dmesg"
    r = inside(["sh", "-c", script])
    assert r.stdout == "" and r.stderr.count("ermitted") + r.stderr.count("ermission denied") >= 3, r
