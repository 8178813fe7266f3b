"""Make a Debian with systemd as a disk image, once for each suite and recipe, and keep it beside the kernels.

What is on it is what a Debian server has: systemd, dbus, PAM's sessions, ssh, cron. Three things are added: users, a
key that lets root in as each of them, and the agent that takes jobs from the host (agent.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import kernels  # noqa: E402

PACKAGES = (
    # A server as it is installed, without documentation and mail.
    "systemd systemd-sysv udev dbus dbus-user-session libpam-systemd openssh-server openssh-client cron sudo"
    " procps kmod iproute2 uidmap util-linux passwd login"
    # What pyminicon's README asks for on such a machine, without a compiler.
    " python3 python3-venv libseccomp2"
    # machinectl and systemd-nspawn, the container that every systemd has.
    " systemd-container"
).split()
BYTES = 3 << 30
# An ordinary user, and one who has a manager without being logged in (loginctl enable-linger).
USERS = {"tester": 1000, "stays": 1001}

_AGENT = """[Unit]
Description=Takes commands from the host of this emulated machine
After=multi-user.target

[Service]
ExecStartPre=/bin/mkdir -p /run/vm
ExecStartPre=/bin/mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none,access=any vm /run/vm
ExecStart=/usr/bin/python3 -B /run/vm/agent.py
StandardOutput=journal+console
# What the agent starts goes on in units of its own; the agent's end is the machine's.
ExecStopPost=/bin/systemctl poweroff --no-block
"""

# A login on a terminal that runs the agent's job: the shell is a real one, its session made by login(1) and PAM.
_CONSOLE = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I dumb
"""
_PROFILE = """[ "$(tty)" = /dev/ttyS1 ] && [ -x /run/jobs/console ] && /run/jobs/console
"""


class ImageFailed(RuntimeError):
    """The image couldn't be made."""


def get(suite: str, refresh: bool = False) -> Path:
    """The image of ``suite``, made when there is none of this recipe. It is never written to by a machine."""
    recipe = "\0".join([suite, *PACKAGES, Path(__file__).read_text()])
    place = kernels.cache_dir() / f"systemd-{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.ext4"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"systemd-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would make it twice
        if refresh or not place.exists():
            _make(suite, place)
            for old in place.parent.glob(f"systemd-{suite}-*.ext4"):
                if old != place:
                    old.unlink()
    return place


def _make(suite: str, place: Path) -> None:
    if os.geteuid() != 0:
        raise ImageFailed("only root can make the image: run `make systemd-image` as root once")
    root, part = place.with_suffix(".root"), place.with_suffix(".part")
    shutil.rmtree(root, ignore_errors=True)
    try:
        _run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}",
              "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
              "--dpkgopt=path-exclude=/usr/share/locale/*", suite, str(root)])  # fmt: skip
        _settle(root)
        with part.open("wb") as disk:
            disk.truncate(BYTES)
        # No journal: every machine starts from the same image and throws away what it wrote.
        _run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(part)])
        part.rename(place)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        part.unlink(missing_ok=True)


def _settle(root: Path) -> None:
    """Users, the agent, the terminal; and nothing that would be busy of its own accord."""
    units = root / "etc/systemd/system"
    (units / "pyminicon-agent.service").write_text(_AGENT)
    (units / "serial-getty@ttyS1.service.d").mkdir()
    (units / "serial-getty@ttyS1.service.d/login.conf").write_text(_CONSOLE)
    (root / "etc/profile.d/console-job.sh").write_text(_PROFILE)
    (root / "etc/hostname").write_text("pyminicon-systemd\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost pyminicon-systemd\n")
    lines = ["systemctl -q enable --root=/ serial-getty@ttyS0.service"]
    # Started by the agent when a job wants a login on it, and last of all at boot.
    lines.append("ln -s ../pyminicon-agent.service /etc/systemd/system/multi-user.target.wants/")
    lines.append("systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer"
                 " e2scrub_reap.service fstrim.timer")  # fmt: skip
    lines.append("install -d -m 700 /root/.ssh")
    lines.append("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    lines.append("cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys")
    for name, uid in USERS.items():
        lines.append(f"useradd --uid {uid} --create-home --shell /bin/bash {name}")
        lines.append(f"install -d -o {name} -g {name} -m 700 /home/{name}/.ssh")
        lines.append(f"install -o {name} -g {name} -m 600 /root/.ssh/authorized_keys /home/{name}/.ssh/")
    lines.append("rm -rf /usr/lib/modules; ln -s /run/modules /usr/lib/modules")
    lines.append("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/stays")
    lines.append("rm -rf /var/cache/apt/* /var/lib/apt/lists/*")
    _run(["chroot", str(root), "sh", "-ec", "\n".join(lines)])


def _run(command: list[str]) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise ImageFailed(f"{command[0]}: exit status {done.returncode}\n{tail}")


if __name__ == "__main__":
    print(get(sys.argv[1] if len(sys.argv) > 1 else "bookworm"))
