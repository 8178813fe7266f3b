"""Volumes, tmpfs, storage: docker's words for what is mounted where."""

from __future__ import annotations

import os

from pyminicon import sizes
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Where a mount would replace what the launch itself makes and relies on (CVE-2019-16884: a volume over
# /proc steers every later write to it).
_OURS = ("/proc", "/sys", "/dev")
_ALLOWED_BELOW = ("/dev/shm", "/dev/mqueue")


def inside(option: str, path: str) -> str:
    """An absolute path inside the container, without '..', normalised. Raises SpecError."""
    if not path.startswith("/"):
        raise SpecError(option, f"{path!r} must be an absolute path inside the container")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SpecError(option, f"{path!r} must not contain '..'")
    if len(path.encode(errors="surrogateescape")) > 4095 or any(len(part) > 255 for part in parts):
        raise SpecError(option, f"{path[:40]!r}… is longer than a path can be")
    return "/" + "/".join(parts)


def mount_point(option: str, path: str) -> str:
    """A place to mount on: as :func:`inside`, and neither / nor what the launch itself mounts."""
    target = inside(option, path)
    if target == "/":
        raise SpecError(option, "can't be mounted on /; that is the image")
    if target not in _ALLOWED_BELOW and any(target == own or target.startswith(own + "/") for own in _OURS):
        raise SpecError(option, f"{target} is the container's own and can't be mounted on")
    return target


#: docker's words behind a volume that change nothing here, and why.
MEANINGLESS = {
    "z": "no SELinux label is set",
    "Z": "no SELinux label is set",
    "cached": "a volume is the directory itself",
    "delegated": "a volume is the directory itself",
    "consistent": "a volume is the directory itself",
}


def volume(words: str | Sequence[str]) -> tuple[str, str, str]:
    """``"src:dst[:ro|rw]"``, or its parts as a tuple where a path has a colon, as (source, target, "ro" or "rw").
    Raises SpecError."""
    parts = words.split(":") if isinstance(words, str) else list(words)
    if not 2 <= len(parts) <= 3 or not parts[0]:
        raise SpecError("volumes", f"takes 'source:target[:ro]', or these as a tuple, not {words!r}")
    mode = ""
    for word in parts[2].split(",") if len(parts) == 3 else ():
        if word in ("ro", "rw"):
            if mode not in ("", word):
                raise SpecError("volumes", f"is either ro or rw, not both: {parts[2]!r}")
            mode = word
        elif word not in MEANINGLESS:
            raise SpecError("volumes", f"the part after the target is ro or rw, not {word!r}")
    source = os.path.abspath(parts[0])
    if len(source) > 4095:
        raise SpecError("volumes", "the source is longer than a path can be")
    return source, mount_point("volumes", parts[1]), mode or "rw"


def tmpfs(words: str) -> tuple[str, str, bool]:
    """``"dst[:size=64m,mode=1777,exec]"`` as (target, options for the kernel, noexec)."""
    place, _, rest = words.partition(":")
    options = {"size": "512m", "mode": "1777", "nr_inodes": "1m"}
    noexec = True  # docker's default for --tmpfs
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        if key == "size":
            options[key] = str(sizes.check("tmpfs", value, 4096))
        elif (key == "mode" and value and not set(value) - set("01234567")) or (
            key in ("uid", "gid", "nr_inodes") and value.isascii() and value.isdigit()
        ):
            options[key] = value
        elif word in ("exec", "noexec"):
            noexec = word == "noexec"
        elif word not in ("rw", "nosuid", "nodev"):
            raise SpecError("tmpfs", f"takes size=, mode=, uid=, gid=, nr_inodes=, exec; not {word!r}")
    kernel = ",".join(f"{key}={value}" for key, value in options.items())
    return mount_point("tmpfs", place), kernel, noexec


def storage(words: str) -> tuple[str, str]:
    """``"tmpfs"``, ``"tmpfs:size=1g"`` or ``"disk"`` as (kind, size in bytes or "", where none was asked for)."""
    kind, _, rest = words.partition(":")
    if kind == "disk" and not rest:
        return "disk", ""
    if kind == "tmpfs":
        if not rest:
            return "tmpfs", ""
        key, _, value = rest.partition("=")
        if key == "size":
            return "tmpfs", str(sizes.check("storage", value, 65536))
    raise SpecError("storage", f"takes 'tmpfs', 'tmpfs:size=1g' or 'disk', not {words!r}")
