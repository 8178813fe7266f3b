"""A machine and its Internet, each a network namespace: nothing of it leaves this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ordinary

#: What is out there: answers of one kind for TCP and UDP, over IPv4 and IPv6, and the name www.test for both.
INTERNET = """
import socket, threading
def web(s):
    while True:
        with s.accept()[0] as c:
            c.recv(9999)
            c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nfar away")
def echo(s):
    while True:
        data, who = s.recvfrom(9999)
        s.sendto(data[::-1], who)
def names(s):
    while True:
        q, who = s.recvfrom(9999)
        end = q.index(b"\\0", 12) + 5
        kind = q[end - 3]
        found = socket.inet_aton("203.0.113.1") if kind == 1 else socket.inet_pton(socket.AF_INET6, "2001:db8::1")
        known = q[12:end - 4] == b"\\3www\\4test\\0"[:-1] + b"\\0" and kind in (1, 28)
        row = b"\\xc0\\x0c" + q[end - 4:end] + b"\\0\\0\\0\\x3c" + len(found).to_bytes(2, "big") + found if known else b""
        s.sendto(q[:2] + (b"\\x81\\x80" if known else b"\\x81\\x83") + b"\\0\\1\\0" + (b"\\1" if known else b"\\0") + b"\\0" * 4 + q[12:end] + row, who)
def udp(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    return s
threading.Thread(target=web, args=(socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True),)).start()
threading.Thread(target=echo, args=(udp(7),)).start()
threading.Thread(target=names, args=(udp(53),)).start()
print("up", flush=True)
"""

_SETUP = """
set -e
mount --make-rprivate /
mkdir -p {hold}/w; mount -t tmpfs -o mode=755 none {hold}/w
mkdir -p /dev/net; touch /dev/net/tun 2>/dev/null || true
mknod -m 666 {hold}/w/tun c 10 200; mount --bind {hold}/w/tun /dev/net/tun
echo nameserver {resolver} > {hold}/w/resolv.conf; mount --bind {hold}/w/resolv.conf "$(readlink -f /etc/resolv.conf)"
ip link set lo up
mkfifo {hold}/w/up
unshare -n {python} {hold}/internet.py > {hold}/w/up & far=$!
trap 'kill $far' EXIT
read word < {hold}/w/up & waits=$!
wait $waits
ip link add out type veth peer name in netns $far
nsenter -t $far -n sh -ec 'ip link set lo up; ip addr add 203.0.113.1/24 dev in; ip addr add 2001:db8::1/64 dev in nodad; ip link set in up'
ip addr add 203.0.113.2/24 dev out; ip addr add 2001:db8::2/64 dev out nodad; ip link set out up
ip route add default via 203.0.113.1; ip -6 route add default via 2001:db8::1
{command}
"""


def run(
    code: str, tmp_path: Path, user: bool = False, resolver: str = "203.0.113.1", timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Runs Python ``code`` on that machine, as root or as an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make networks")
    for tool in ("pasta", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    (tmp_path / "internet.py").write_text(INTERNET)
    tmp_path.chmod(0o755)
    hold = tmp_path / "user"
    hold.mkdir(exist_ok=True)
    words = [sys.executable, "-c", code]
    command = shlex.join(ordinary.command(words, hold) if user else words)
    script = _SETUP.format(hold=tmp_path, python=sys.executable, command=command, resolver=resolver)
    return subprocess.run(
        ["unshare", "-mnp", "--fork", "--kill-child", "--mount-proc", "--", "timeout", "-s", "KILL", str(timeout), "sh", "-c", script],
        capture_output=True, text=True, cwd="/", timeout=timeout + 30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
