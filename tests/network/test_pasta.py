"""network="pasta": out as the caller's machine is, TCP, UDP, names and IPv6, and nothing of it is left."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import pyminicon
from tests.network import world

_TOOLS = '''
import asyncio, os, signal, socket, subprocess, sys, time
import pyminicon
from pyminicon import aio
ASK = """
import socket, sys, urllib.request as u
if len(sys.argv) > 1:
    print("names", sorted({row[4][0] for row in socket.getaddrinfo("www.test", 80)}))
for host in ("203.0.113.1", "[2001:db8::1]"):
    print(u.urlopen(f"http://{host}/", timeout=30).read().decode())
for family, host in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(30)
    s.sendto(b"abc", (host, 7))
    print(s.recv(99).decode())
"""
OUT = "far away\\nfar away\\ncba\\ncba\\n"
NAMES = "names ['2001:db8::1', '203.0.113.1']\\n"
ARGS = ["python3", "-c", ASK]
HOW = dict(network="pasta", capture_output=True, text=True, timeout=60)
def pastas():
    """The processes of pasta's in this network, and what keeps them."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\\0")
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
            here = os.geteuid() or os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
        except OSError:
            continue
        if state != "Z" and here and words[0].rpartition("/")[2] in ("pasta", "pyminicon-pasta"):
            found[int(pid)] = words[0].rpartition("/")[2]
    return found
def until(true, what):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)
'''

_EVERYWHERE = (
    _TOOLS
    + """
before = pastas()
def same(): return set(pastas()) <= set(before)
for options in ({}, {"init": True}, {"user": "1000"}, {"read_only": True}, {"memory": "200M"} if not os.geteuid() else {}):
    r = pyminicon.run([*ARGS, "names"], **HOW, **options)
    assert r.stdout == NAMES + OUT, (options, r.stdout, r.stderr)
if not os.geteuid():
    assert pyminicon.run(ARGS, **HOW, userns="private").stdout == OUT
with pyminicon.start(network="pasta", publish=["0:8080"]) as c:
    assert c.run(ARGS, capture_output=True, text=True).stdout == OUT
    with c.listen(8080) as inner, socket.create_connection(c.ports[8080]) as s:
        inner.accept()[0].sendall(b"in")
        assert s.recv(9) == b"in"
with pyminicon.start(ARGS, network="pasta", stdout=-1, text=True) as c:
    assert c.communicate()[0] == OUT
with pyminicon.Template(network="pasta") as t:
    for _ in range(3):
        assert t.run(ARGS, capture_output=True, text=True).stdout == OUT
async def in_a_loop():
    both = await asyncio.gather(*[aio.run(ARGS, **HOW) for _ in range(2)])
    assert [r.stdout for r in both] == [OUT, OUT]
    async with await aio.start(network="pasta") as c:
        assert (await c.run(ARGS, capture_output=True, text=True)).stdout == OUT
asyncio.run(in_a_loop())
until(same, "pasta is left")
try:
    os.waitpid(-1, os.WNOHANG)
    raise SystemExit("there is a child")
except ChildProcessError:
    pass
# What listens on this machine's own loopback isn't there, by whatever address.
with socket.create_server(("127.0.0.1", 4711)), socket.create_server(("127.0.0.1", 0)):
    code = "import socket\\nfor h in ('127.0.0.1', '203.0.113.1', '203.0.113.2'):\\n try: socket.create_connection((h, 4711), 5); print('reached', h)\\n except OSError: pass"
    r = pyminicon.run(["python3", "-c", code], **HOW)
    assert r.stdout == r.stderr == "", r
print("all of it")
"""
)


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_every_kind_of_container_reaches_what_its_caller_reaches(tmp_path: Path, user: bool) -> None:
    ran = world.run(_EVERYWHERE, tmp_path, user)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-3000:]


_RESOLVER = (
    _TOOLS
    + """
import threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.53", 53))
def forward():
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        q, who = s.recvfrom(9999)
        far.sendto(q, ("203.0.113.1", 53))
        s.sendto(far.recv(9999), who)
threading.Thread(target=forward, daemon=True).start()
r = pyminicon.run([*ARGS, "names"], **HOW)
assert r.stdout == NAMES + OUT, (r.stdout, r.stderr)
assert pyminicon.run(["cat", "/etc/resolv.conf"], **HOW).stdout == "nameserver 169.254.1.1\\n"
assert pyminicon.run([*ARGS, "names"], **HOW, dns=["203.0.113.1"]).stdout == NAMES + OUT
print("all of it")
"""
)


def test_a_name_server_on_the_callers_loopback_answers_inside(tmp_path: Path) -> None:
    ran = world.run(_RESOLVER, tmp_path, resolver="127.0.0.53")
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-3000:]


_COMMAND = (
    _TOOLS
    + """
import json, shutil, tempfile
os.environ["PYMINICON_STATE"] = os.environ["PYMINICON_STORE"] = state = tempfile.mkdtemp()
def command(*words):
    r = subprocess.run([sys.executable, "-m", "pyminicon", *words], capture_output=True, text=True, timeout=100, stdin=-3)
    assert r.returncode == 0, (words, r)
    return r.stdout
before = pastas()
assert command("run", "--network", "pasta", "--sysctl", "net.ipv4.ip_forward=1", "host", *ARGS, "names") == NAMES + OUT
assert command("run", "--network=pasta", "-p", "0:80", "host", *ARGS) == OUT
told = command("run", "--network", "pasta", "--dry-run", "host", "true")
assert "a way out, by " in told and "--config-net" in told, told
until(lambda: set(pastas()) <= set(before), "a dry run, or the runs, have left one")
r = subprocess.run([sys.executable, "-m", "pyminicon", "doctor", "--json"], capture_output=True, text=True, timeout=100)
rows = {row["name"]: row for row in json.loads(r.stdout)["checks"]}
assert rows["pasta"]["seen"].startswith("an interface inside: "), rows["pasta"]
command("run", "-d", "--name", "away", "--network", "pasta", "-p", "0:80", "--sysctl", "net.ipv4.ip_default_ttl=65", "host", "sleep", "1000")
assert command("exec", "away", *ARGS, "names") == NAMES + OUT
assert command("exec", "away", "cat", "/proc/sys/net/ipv4/ip_default_ttl") == "65\\n"
with pyminicon.attach("away") as c, c.listen(80) as inner, socket.create_connection(c.ports[80]) as s:
    inner.accept()[0].sendall(b"in")
    assert s.recv(9) == b"in"
assert len(set(pastas()) - set(before)) == 2, pastas()
command("rm", "-f", "away")
until(lambda: set(pastas()) <= set(before), "pasta is left")
shutil.rmtree(state)
print("all of it")
"""
)


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_the_command_line_has_it_also_for_containers_that_outlive_it(tmp_path: Path, user: bool) -> None:
    ran = world.run(_COMMAND, tmp_path, user)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-3000:]


_ENDS = (
    _TOOLS
    + """
OWNER = "import pyminicon, time; c = pyminicon.start(['sleep', '1000'], network='pasta'); print(c.pid, flush=True); time.sleep(1000)"
def of(kind, before): return [pid for pid, name in pastas().items() if name == kind and pid not in before]
for stopped in ("", "pasta", "pyminicon-pasta"):
    before = pastas()
    p = subprocess.Popen([sys.executable, "-c", OWNER], stdout=-1, text=True)
    inside = int(p.stdout.readline())
    until(lambda: of("pasta", before) and of("pyminicon-pasta", before), "no pasta")
    for pid in of(stopped, before):
        os.kill(pid, signal.SIGSTOP)
    p.kill()
    p.wait()
    until(lambda: not set(pastas()) - set(before), f"its owner was killed, {stopped or 'nothing'} stopped: {pastas()}")
    until(lambda: not os.path.exists(f"/proc/{inside}/root/bin"), "the container")
# The container's end, however it comes, with either of them stopped.
for stopped in ("", "pasta", "pyminicon-pasta"):
    for end in ("kill", "close"):
        before = pastas()
        with pyminicon.start(["sleep", "1000"], network="pasta") as c:
            for pid in of(stopped, before):
                os.kill(pid, signal.SIGSTOP)
            getattr(c, end)()
            c.wait()
        until(lambda: not set(pastas()) - set(before), f"{end}, {stopped or 'nothing'} stopped: {pastas()}")
# What keeps it is killed: the kernel ends pasta, and the container lives on without a way out.
before = pastas()
with pyminicon.start(network="pasta") as c:
    until(lambda: of("pyminicon-pasta", before), "nobody keeps it")
    os.kill(of("pyminicon-pasta", before)[0], signal.SIGKILL)
    until(lambda: not set(pastas()) - set(before), "pasta is left")
    assert c.run(["true"]).returncode == 0
# Nobody waits for the container: its end is seen all the same.
before = pastas()
c = pyminicon.start(["true"], network="pasta")
until(lambda: not set(pastas()) - set(before), "pasta is left")
c.close()
print("all of it")
"""
)


def test_it_ends_with_the_container_whatever_ends_that(tmp_path: Path) -> None:
    ran = world.run(_ENDS, tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-3000:]


def test_no_pasta_and_an_old_one_are_named_with_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pyminicon.LaunchError, match="apt-get install passt") as caught:
        pyminicon.run(["true"], network="pasta")
    assert (caught.value.stage, caught.value.errno) == ("network", 2)
    _pretend(tmp_path, "echo \"pasta: unrecognized option '--config-net'\" >&2; exit 1")
    with pytest.raises(pyminicon.LaunchError, match="too old: install passt of 2023 or later") as caught:
        pyminicon.run(["true"], network="pasta")
    assert caught.value.stage == "network"
    _pretend(tmp_path, "echo no; echo 'No interface at all' >&2; exit 1")
    with pytest.raises(pyminicon.LaunchError, match="it says: No interface at all"):
        pyminicon.run(["true"], network="pasta")
    assert pyminicon.run(["true"]).returncode == 0


def test_a_pasta_that_never_comes_up_is_given_up_at_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _pretend(tmp_path, "exec /bin/sleep 100")
    with pytest.raises(pyminicon.TimeoutExpired):
        pyminicon.run(["true"], network="pasta", timeout=0.5)


def _pretend(directory: Path, script: str) -> None:
    program = directory / "pasta"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def test_what_doesnt_go_with_it_is_refused_before_anything_starts() -> None:
    with pytest.raises(pyminicon.SpecError, match="egress: can't be given with network='pasta'"):
        pyminicon.run(["true"], network="pasta", egress=["example.com"])
    with pytest.raises(pyminicon.SpecError, match="network"):
        pyminicon.run(["true"], network="paste")  # type: ignore[call-overload]
