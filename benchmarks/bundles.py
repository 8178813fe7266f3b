"""OCI bundles for crun and runc: docker's defaults around the same root file system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .rootfs import PROGRAM

CAPS = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD",
    "CAP_AUDIT_WRITE", "CAP_SETFCAP",
]  # fmt: skip
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/interrupts",
]  # fmt: skip
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
# Where distributions put the profile that docker and podman share (Debian: golang-github-containers-common).
PROFILES = ("/usr/share/containers/seccomp.json", "/etc/containers/seccomp.json")


def _mount(kind: str, at: str, *options: str) -> dict[str, Any]:
    return {"destination": at, "type": kind, "source": kind, "options": list(options)}


def _mounts() -> list[dict[str, Any]]:
    return [
        _mount("proc", "/proc", "nosuid", "noexec", "nodev"),
        _mount("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
        _mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("tmpfs", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev"),
        _mount("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro"),
    ]


def _applies(rule: dict[str, Any]) -> bool:
    wanted, barred = rule.get("includes") or {}, rule.get("excludes") or {}
    if not set(wanted.get("caps") or []) <= set(CAPS):
        return False
    if wanted.get("arches") and "amd64" not in wanted["arches"]:
        return False
    return not (set(barred.get("caps") or []) & set(CAPS)) and "amd64" not in (barred.get("arches") or [])


def seccomp() -> dict[str, Any] | None:
    """The distribution's profile in the runtime's form; None when it isn't installed."""
    path = next((Path(name) for name in PROFILES if Path(name).exists()), None)
    if path is None:
        return None
    profile = json.loads(path.read_text())
    rules = []
    for rule in profile["syscalls"]:
        if _applies(rule):
            keep = ("names", "action", "args", "errnoRet")
            rules.append({key: rule[key] for key in keep if rule.get(key) not in (None, [])})
    return {
        "defaultAction": profile["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }


def config(root: str, *, cgroup: str, with_seccomp: bool, read_only: bool = True) -> dict[str, Any]:
    """A config.json. cgroup: the cgroupsPath, below which the runtime makes its own."""
    caps = dict.fromkeys(("bounding", "effective", "permitted"), CAPS)
    linux: dict[str, Any] = {
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "cgroupsPath": cgroup,
    }
    profile = seccomp() if with_seccomp else None
    if profile:
        linux["seccomp"] = profile
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [PROGRAM],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": caps,
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": read_only},
        "hostname": "box",
        "mounts": _mounts(),
        "linux": linux,
    }


def write(folder: Path, root: str, **options: Any) -> Path:
    """Make ``folder`` a bundle and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(root, **options), indent=1))
    return folder
