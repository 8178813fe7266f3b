"""A machine as systemd arranges it, without systemd: cgroups of its names, and a stand-in for its programs.

Run as root, `python -m tests.support.manager WAY PROGRAM`: the Python program runs in a unified tree of its own (a
cgroup namespace and a mount namespace), in the cgroup that WAY names. What it says and its status are passed on.
The stand-ins for systemd-run and busctl do what pyminicon asks of them, by the hand of a process that is root.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from tests.support import ordinary

UID = ordinary.UID
USER = f"user.slice/user-{UID}.slice"
MANAGER = f"{USER}/user@{UID}.service"

#: the cgroup of the program, its user, and whether its unit is delegated
WAYS = {
    "root session": ("user.slice/user-0.slice/session-1.scope", 0, False),
    "service": ("system.slice/own.service", 0, False),
    "delegated service": ("system.slice/own.service", 0, True),
    "subgroup of a delegated service": ("system.slice/own.service/main", 0, True),
    "session": (f"{USER}/session-2.scope", UID, False),
    "user service": (f"{MANAGER}/app.slice/own.service", UID, False),
    "delegated user scope": (f"{MANAGER}/app.slice/own.scope", UID, True),
    "delegated service of a user": ("system.slice/own.service", UID, True),
    "cron": ("system.slice/cron.service", UID, False),
    "cron without a manager": ("system.slice/cron.service", -UID, False),
    "no systemd": ("own", 0, False),
}

_STAND_IN = """#!{python}
import os, sys
home, name = "{home}", os.path.basename(sys.argv[0])
with open(home + "/asked", "a") as log:
    log.write(repr(sys.argv) + "\\n")
answer = home + "/answer-%d" % os.getpid()
os.mkfifo(answer)
with open(home + "/requests", "w") as pipe:
    pipe.write(repr([os.getpid(), os.geteuid(), name, *sys.argv[1:]]) + "\\n")
with open(answer) as pipe:
    said = pipe.read()
if said:
    sys.exit(said)
if name == "systemd-run":
    program = sys.argv[sys.argv.index("--") + 1:]
    os.execv(program[0], program)
"""

_libc = ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    _called(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


def unified_mount() -> Path | None:
    """Where cgroup v2 is mounted on this machine."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split(" ")[4])
    return None


class Machine:
    """The tree, in namespaces that the calling process enters for good."""

    def __init__(self) -> None:
        mount = unified_mount()
        assert mount is not None
        self.mount, self.outside = mount, mount / f"pyminicon-test-{os.getpid()}"
        self.before = Path("/proc/self/cgroup").read_text().split("0::", 1)[1].split("\n")[0]
        self.outside.mkdir()
        (self.outside / "cgroup.procs").write_text(str(os.getpid()))
        self.home = Path(tempfile.mkdtemp(prefix="manager-"))
        self.home.chmod(0o755)

    def enter(self) -> None:
        _called(_libc.unshare(0x00020000 | 0x02000000))
        _mount("none", "/", "none", (1 << 18) | (1 << 14))
        _libc.umount2(b"/sys/fs/cgroup", 2)
        _mount("none", "/sys/fs/cgroup", "cgroup2")
        _mount("none", "/run", "tmpfs")
        os.mkdir("/sys/fs/cgroup/init.scope")
        Path("/sys/fs/cgroup/init.scope/cgroup.procs").write_text("0")

    def arrange(self, way: str) -> tuple[Path, int]:
        cgroup, uid, delegated = WAYS[way]
        if way != "no systemd":
            os.makedirs("/run/systemd/system")
        if uid > 0:
            os.makedirs(f"/run/user/{uid}/systemd")
            Path(f"/run/user/{uid}/systemd/private").touch()
        own = Path("/sys/fs/cgroup") / cgroup
        os.makedirs(own)
        os.makedirs(f"/sys/fs/cgroup/{MANAGER}/app.slice", exist_ok=True)
        for directory in (MANAGER, f"{MANAGER}/app.slice"):
            self.give(Path("/sys/fs/cgroup") / directory, UID)
        uid = abs(uid)
        unit = own if own.name.endswith((".service", ".scope")) else own.parent
        if delegated:
            os.setxattr(unit, "trusted.delegate", b"1")
            os.setxattr(unit, "user.delegate", b"1")
        if uid and (delegated or MANAGER in cgroup):
            self.give(own, uid)
        if MANAGER in cgroup:
            os.chown(own / "cgroup.kill", uid, uid)
        return own, uid

    @staticmethod
    def give(directory: Path, uid: int) -> None:
        for path in (
            directory,
            *(directory / f"cgroup.{name}" for name in ("procs", "threads", "subtree_control")),
        ):
            os.chown(path, uid, uid)

    def serve(self) -> None:
        """Answers the stand-ins for as long as this process runs."""
        requests = self.home / "requests"
        os.mkfifo(requests, 0o622)
        requests.chmod(0o622)
        for name in ("systemd-run", "busctl"):
            (self.home / name).write_text(_STAND_IN.format(python=sys.executable, home=self.home))
            (self.home / name).chmod(0o755)
        self.home.chmod(0o777)
        (self.home / "asked").touch()
        (self.home / "asked").chmod(0o666)
        keep = os.open(requests, os.O_RDWR)
        threading.Thread(target=self._answer_all, args=(keep,), daemon=True).start()

    def _answer_all(self, fd: int) -> None:
        with open(fd) as lines:
            for line in lines:
                pid, uid, name, *words = eval(line)
                try:
                    said = self._do(pid, uid, name, words)
                except Exception as error:
                    said = f"{name}: {error!r}"
                (self.home / f"answer-{pid}").write_text(said)

    def _do(self, pid: int, uid: int, name: str, words: list[str]) -> str:
        if name == "busctl":
            unit, below, _, pid = words[-4:]
            target = Path(f"/sys/fs/cgroup/{USER}/{unit}{below}")
        else:
            option = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
            path = "/".join(_slices(option["--slice"]))
            if "--user" in words:
                if not os.path.exists(f"/run/user/{uid}/systemd/private"):
                    return "Failed to connect to bus: No medium found"
                path = f"{MANAGER}/{path}"
            target = Path("/sys/fs/cgroup") / path / option["--unit"]
            os.makedirs(target)
            os.setxattr(target, "user.delegate", b"1")
            if uid:
                self.give(target, uid)
                os.chown(target / "cgroup.kill", uid, uid)  # it was made by the user's own manager
        (target / "cgroup.procs").write_text(str(pid))
        return ""


def _slices(name: str) -> list[str]:
    """system-a.slice lies in system.slice."""
    if name == "-.slice":
        return []
    words = name.removesuffix(".slice").split("-")
    return [f"{'-'.join(words[: count + 1])}.slice" for count in range(len(words))]


def _run(machine: Machine, way: str, program: str) -> int:
    machine.enter()
    own, uid = machine.arrange(way)
    machine.serve()
    tools = str(machine.home)

    def join() -> None:
        _libc.prctl(1, 9)  # PR_SET_PDEATHSIG: none of it outlives a test that was given up
        (own / "cgroup.procs").write_text("0")

    begin = f"from pyminicon.cgroups import systemd; systemd._PATH = {tools!r} + ':' + systemd._PATH\n"
    command = [sys.executable, "-c", begin + program]
    if uid:
        hold = machine.home / "hold"
        hold.mkdir()
        command = ordinary.command(command, hold)
    environment = {**os.environ, "ASKED": f"{tools}/asked"}
    return subprocess.run(command, check=False, preexec_fn=join, env=environment).returncode


def main() -> int:
    machine = Machine()
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        os.close(go)
        _libc.prctl(1, 9)
        os.read(ready, 1)
        try:
            status = _run(machine, sys.argv[1], sys.argv[2])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    # Whoever cleans up stays outside, and with him in there the tree's root would give no controllers.
    (machine.mount / machine.before.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
    os.close(go)
    _, status = os.waitpid(pid, 0)
    left = machine.home / "left"
    for _ in range(100):
        if not any(file.read_text() for file in machine.outside.rglob("cgroup.procs")):
            break
        time.sleep(0.05)
    else:
        left.touch()
        print(
            "processes are left:",
            *(f"{file}: {file.read_text()!r}" for file in machine.outside.rglob("cgroup.procs")),
        )
        (machine.outside / "cgroup.kill").write_text("1")
        time.sleep(0.2)
    for directory, _, _ in os.walk(machine.outside, topdown=False):
        os.rmdir(directory)
    failed = left.exists()
    shutil.rmtree(machine.home)
    return 98 if failed else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
