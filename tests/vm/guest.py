"""The agent inside the machine: runs the jobs one after another and says how each one ended.

A job is started the way a login would start it: a session of its own, stdin from /dev/null, stdout and
stderr pipes. Its output is relayed as it comes, byte for byte, to files on the shared directory; its status
goes into a file that appears only when the job is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHARE = Path("/run/vm")
CGROUP = Path("/sys/fs/cgroup")
# How long output may still come after the job's process has ended: a grandchild can hold the pipe forever.
GRACE = 1.0


def loopback_up() -> None:
    """Bring lo up, as every booted machine has it (netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(s, 0x8913, request))[1]
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


def prepare_cgroup(job: dict[str, Any]) -> Path | None:
    """The cgroup the job starts in; None leaves it in the root one.

    An ordinary user gets what systemd gives with Delegate=yes: a subtree whose directory and three files are
    his (cgroups(7), "Delegation containment"), its controllers enabled, and a leaf below it to live in.
    """
    if job["cgroup"] == "root":
        return None
    uid = job["uid"]
    parent = CGROUP / "user.slice"
    own = parent / f"delegated-{uid}"
    leaf = own / "session"
    leaf.mkdir(parents=True, exist_ok=True)
    controllers = " ".join("+" + name for name in (CGROUP / "cgroup.subtree_control").read_text().split())
    for level in (parent, own):
        (level / "cgroup.subtree_control").write_text(controllers)
    for directory in (own, leaf):
        os.chown(directory, uid, uid)
        for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(directory / name, uid, uid)
    return leaf


def environment(job: dict[str, Any]) -> dict[str, str]:
    home, name = ("/home/tester", "tester") if job["uid"] else ("/root", "root")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    env = {"PATH": path, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8", "TERM": "dumb"}
    # The tree is an overlay of the host's: compiled files would only be thrown away.
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    if job["uid"]:
        env["XDG_RUNTIME_DIR"] = f"/run/user/{job['uid']}"
    env.update(job["env"])
    return env


def become(leaf: Path | None, uid: int) -> None:
    """Runs between fork and exec: into the cgroup first, while we still may."""
    if leaf is not None:
        (leaf / "cgroup.procs").write_text("0")
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def relay(process: subprocess.Popen[bytes], number: int, deadline: float) -> bool:
    """Copy the job's output until it has ended; False when the deadline passed first."""
    chosen = selectors.DefaultSelector()
    assert process.stdout is not None and process.stderr is not None
    for stream, kind in ((process.stdout, "out"), (process.stderr, "err")):
        target = os.open(SHARE / f"{number}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        chosen.register(stream, selectors.EVENT_READ, target)
    ended: float | None = None
    while chosen.get_map():
        for key, _ in chosen.select(0.2):
            data = os.read(key.fd, 65536)
            if not data:
                chosen.unregister(key.fileobj)
            while data:
                data = data[os.write(key.data, data) :]
        now = time.monotonic()
        if ended is None and process.poll() is not None:
            ended = now
        if ended is not None and now > ended + GRACE:
            break
        if ended is None and now > deadline:
            return False
    return _waited(process, deadline)


def _waited(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """A job may close its output long before it ends."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(process: subprocess.Popen[bytes], number: int) -> None:
    """First as Ctrl-C does it, so that pytest still says how far it came; then for good."""
    os.killpg(process.pid, signal.SIGINT)
    relay(process, number, time.monotonic() + 20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_job(number: int, job: dict[str, Any]) -> None:
    started = time.monotonic()
    leaf = prepare_cgroup(job)
    answer: dict[str, Any] = {"timed_out": False}
    try:
        process = subprocess.Popen(
            job["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=job["cwd"],
            env=environment(job),
            start_new_session=True,
            preexec_fn=lambda: become(leaf, job["uid"]),  # noqa: PLW1509 - one thread here
        )
    except (OSError, subprocess.SubprocessError) as error:
        answer.update(returncode=127, error=str(error))
    else:
        if not relay(process, number, started + job["timeout"]):
            answer["timed_out"] = True
            stop(process, number)
        answer["returncode"] = process.wait()
    answer["seconds"] = round(time.monotonic() - started, 2)
    appear(f"{number}.json", json.dumps(answer))


def appear(name: str, text: str) -> None:
    """Write aside and rename: the host never reads half a file."""
    aside = SHARE / f"{name}.part"
    aside.write_text(text)
    aside.rename(SHARE / name)


def main() -> int:
    loopback_up()
    appear("booted", os.uname().release)
    for number, job in enumerate(json.loads((SHARE / "jobs").read_text())):
        run_job(number, job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
