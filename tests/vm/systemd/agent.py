"""Pid something inside the machine with systemd: takes jobs from the shared directory and starts each in its *way*.

A way is how a program comes to run on such a machine: in a login session, in a service, from cron. The job's command
is put into a script of its own, which writes its output and exit status to files: what starts it may be a daemon that
throws output away. Python's own library only: this runs on the machine's bare interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARE = Path("/run/vm")
JOBS = Path("/run/jobs")
CODE = Path("/opt/pyminicon")
USER, UID, STAYS = "tester", 1000, "stays"
# What has ended without leaving a status gets this long: the status file of a job under cron comes from elsewhere.
GRACE = 3.0

_SSH = "ssh -q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes".split()
_RUN = "systemd-run --quiet --collect".split()


def _login(user: str, *argv: str) -> list[str]:
    """In a new login session of ``user``'s: su -l has pam_systemd make one, as login(1) does."""
    return ["su", "-l", user, "-c", shlex.join(argv)]


def _cron(user: str) -> Callable[[str], list[str]]:
    def start(script: str) -> list[str]:
        Path("/etc/cron.d/job").write_text(f"* * * * * {user} {script}\n")
        # Cron works at the full minute: let the next one begin soon after cron has read its tables.
        to_go = 48 - time.time() % 60
        subprocess.run(
            ["date", "-s", f"@{time.time() + max(0.0, to_go):.0f}"], check=True, capture_output=True
        )
        subprocess.run(["systemctl", "restart", "cron"], check=True)
        return []

    return start


def _console(script: str) -> list[str]:
    """A login on a terminal, whose shell reads /etc/profile.d/console-job.sh."""
    (JOBS / "console").unlink(missing_ok=True)
    (JOBS / "console").symlink_to(script)
    return ["systemctl", "restart", "serial-getty@ttyS1"]


def _nspawn(script: str) -> list[str]:
    """A container of systemd's over the machine's own root."""
    root = Path("/run/nspawn-root")
    root.mkdir(exist_ok=True)
    if not os.path.ismount(root):
        subprocess.run(["mount", "--bind", "/", str(root)], check=True)
    # A network of its own, as machines in /var/lib/machines have: with the host's, CAP_NET_ADMIN is taken away.
    binds = [f"--bind={JOBS}", f"--bind={CODE}", "--private-network"]
    return [
        "systemd-nspawn",
        "-q",
        "-D",
        str(root),
        "--machine=job",
        "--as-pid2",
        "--console=pipe",
        *binds,
        script,
    ]


#: How each way starts a script; an empty list means that something else does.
WAYS: dict[str, Callable[[str], list[str]]] = {
    "console": _console,
    "session": lambda script: _login("root", script),
    "ssh": lambda script: [*_SSH, "root@localhost", script],
    "cron": _cron("root"),
    "service": lambda script: [*_RUN, "--wait", script],
    "service-delegate": lambda script: [*_RUN, "--wait", "-p", "Delegate=yes", script],
    "scope": lambda script: [*_RUN, "--scope", script],
    "scope-delegate": lambda script: [*_RUN, "--scope", "-p", "Delegate=yes", script],
    "container": _nspawn,
    "user-session": lambda script: _login(USER, script),
    "user-ssh": lambda script: [*_SSH, f"{USER}@localhost", script],
    "user-service": lambda script: _login(USER, *_RUN, "--user", "--wait", script),
    "user-service-delegate": lambda script: _login(USER, *_RUN, "--user", "--wait", "-p", "Delegate=yes", script),
    "user-scope": lambda script: _login(USER, *_RUN, "--user", "--scope", script),
    "user-scope-delegate": lambda script: _login(USER, *_RUN, "--user", "--scope", "-p", "Delegate=yes", script),
    "user-system-service": lambda script: [*_RUN, "--wait", f"--uid={USER}", "-p", "Delegate=yes", script],
    "user-system-service-plain": lambda script: [*_RUN, "--wait", f"--uid={USER}", script],
    "user-cron-linger": _cron(STAYS),
    "user-cron": _cron(USER),
}  # fmt: skip


#: Ways in which the user has no manager of his own.
NO_MANAGER = ("user-system-service-plain", "user-cron")


def write_script(number: int, job: dict[str, Any]) -> Path:
    """The job as a program that anybody may start, without arguments, from anywhere."""
    script = JOBS / f"{number}.sh"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in job["env"].items())
    script.write_text(
        f"#!/bin/bash\nexec </dev/null >>{JOBS}/{number}.out 2>&1\ncd {CODE}\n{exports}"
        f"( {job['command']}\n)\necho $? >{JOBS}/{number}.rc.part; mv {JOBS}/{number}.rc.part {JOBS}/{number}.rc\n"
    )
    script.chmod(0o755)
    output = JOBS / f"{number}.out"
    output.touch()
    output.chmod(0o666)
    return script


def unpack(name: str) -> None:
    """The code that the host sent, if it is another than the one that is there."""
    stamp = CODE / ".name"
    if not name or (stamp.exists() and stamp.read_text() == name):
        return
    shutil.rmtree(CODE, ignore_errors=True)
    with tarfile.open(SHARE / name) as tar:
        tar.extractall(CODE)
    stamp.write_text(name)


def oblige() -> None:
    """Do what a job asks for and may not do itself: limits.py writes its wish into a file."""
    wish = JOBS / "ask"
    if not wish.exists():
        return
    asked = json.loads(wish.read_text())
    if asked["verb"] == "reload":
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    elif asked["verb"] == "limit":
        # By its inode: in a container the same cgroup has another path.
        for above, _, _ in os.walk("/sys/fs/cgroup"):
            with contextlib.suppress(FileNotFoundError):  # a container's, which has ended meanwhile
                if os.stat(above).st_ino == asked["cgroup"]:
                    (Path(above) / "memory.max").write_text(str(asked["value"]))
    wish.unlink()


def follow(number: int, process: subprocess.Popen[bytes] | None, deadline: float) -> int | None:
    """Copy the output as it comes until the status is there; None when the time is over."""
    source, target = JOBS / f"{number}.out", SHARE / f"{number}.out"
    status = JOBS / f"{number}.rc"
    ended = None
    with source.open("rb") as reader, target.open("ab", buffering=0) as writer:
        while True:
            there, now = status.exists(), time.monotonic()
            oblige()
            while data := reader.read(65536):
                writer.write(data)
            if there:
                return int(status.read_text())
            if process is not None and process.poll() is not None:
                ended = ended or now
                if now > ended + GRACE:
                    writer.write(
                        f"agent: {process.args} ended with {process.returncode}, no status\n".encode()
                    )
                    return 125
            if now > deadline:
                return None
            time.sleep(0.1)


def run_job(number: int, job: dict[str, Any]) -> None:
    started = time.monotonic()
    unpack(job["code"])
    script = write_script(number, job)
    if job["way"] in NO_MANAGER:  # it goes on for some seconds after the last login
        subprocess.run(["loginctl", "terminate-user", USER], check=False, capture_output=True)
        subprocess.run(["systemctl", "stop", f"user@{UID}"], check=False, capture_output=True)
    argv = WAYS[job["way"]](str(script))
    # The console unit's own start is no end of the job; nor is what cron does.
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True) if argv else None
    elsewhere = job["way"] == "console" or process is None
    status = follow(number, None if elsewhere else process, started + job["timeout"])
    Path("/etc/cron.d/job").unlink(missing_ok=True)
    (JOBS / "console").unlink(missing_ok=True)
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.0 if status is None else 20.0)
        process.kill()
        process.wait()
    answer = {
        "timed_out": status is None,
        "returncode": status,
        "seconds": round(time.monotonic() - started, 2),
    }
    appear(f"{number}.json", json.dumps(answer))


def appear(name: str, text: str) -> None:
    """Write aside and rename: the host never reads half a file."""
    aside = SHARE / f"{name}.part"
    aside.write_text(text)
    aside.rename(SHARE / name)


def main() -> None:
    JOBS.mkdir(exist_ok=True)
    JOBS.chmod(0o1777)
    # Whoever comes in may write here, not only the one who made the file (fs.protected_regular on sticky directories).
    Path("/proc/sys/fs/protected_regular").write_text("0")
    appear("booted", os.uname().release)
    number = 0
    while not (SHARE / "stop").exists():
        path = SHARE / f"{number}.job"
        if path.exists():
            run_job(number, json.loads(path.read_text()))
            number += 1
        else:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
