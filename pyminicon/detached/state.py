"""What is known of a detached container, as its keeper writes it and everybody reads it: JSON, whole or not there."""

from __future__ import annotations

import os

from pyminicon.detached import place
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Another number means other fields, or another way to speak with the keeper.
VERSION = 1
_PIECE = 1 << 16


_boot = ""


def boot() -> str:
    """Another after each start of the machine, which leaves nothing of detached containers."""
    global _boot
    if not _boot:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot = file.read(8)
    return _boot


# ---- writing: by the keeper, which has no json (its imports are 1 MiB)


def encode(value: Any) -> str:
    """``value`` in JSON."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bytes):
        return _quoted(os.fsdecode(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(str(key))}: {encode(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(encode(one) for one in value) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    number = ord(character)
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


_RESERVE = 4096


def reserve(directory: str, fields: dict[str, Any]) -> None:
    """Room for the last word, so that a full disk doesn't keep it from being said."""
    size = len(encode(fields)) + _RESERVE
    fd = os.open(f"{directory}/state.end", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def write(directory: str, fields: dict[str, Any], last: bool = False) -> None:
    """Replaces the state. ``last``: into the room that was reserved for it."""
    data = encode(fields).encode() + b"\n"
    path = f"{directory}/state.{'end' if last else 'tmp'}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if last else os.O_TRUNC)
    fd = os.open(path, flags, 0o600)
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])
        if last:
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)
    os.rename(path, f"{directory}/state")


# ---- reading


def read(directory: str) -> dict[str, Any] | None:
    """What is known of the container, with ``status`` as it is now; None where it is gone or not there yet."""
    kept = place.is_kept(directory)  # asked first: the last word is written before the lock goes
    fields = _read(directory)
    if fields is None or fields["boot"] != boot():
        return None
    if fields["status"] in ("running", "paused") and not kept:
        fields = _read(directory) or fields
        if fields["status"] in ("running", "paused"):
            fields |= {"status": "dead", "returncode": -9, "error": "its keeper was killed"}
    return fields


def _read(directory: str) -> dict[str, Any] | None:
    import json

    try:
        # Not as a file object: there may be hundreds of them.
        fd = os.open(f"{directory}/state", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Error(f"{directory}/state: {error.strerror}") from None
    data = b""
    try:
        while piece := os.read(fd, _PIECE):
            data += piece
        fields: dict[str, Any] = json.loads(data)
        if fields["version"] == VERSION:
            return fields
    except (OSError, ValueError, KeyError, TypeError):
        raise Error(f"{directory}/state: is damaged: rm -r {directory}") from None
    finally:
        os.close(fd)
    raise Error(f"container {fields['id']} is another version's of pyminicon: ask that")


def text_of(directory: str) -> str | None:
    """The state as it is written, for whoever has no json."""
    try:
        fd = os.open(f"{directory}/state", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def every(where: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(directory, state) of all containers, in the order in which they were made."""
    found = []
    for directory in place.directories(where or place.top()):
        fields = read(directory)
        if fields is not None:
            found.append((directory, fields))
    yield from sorted(found, key=lambda one: (one[1]["created"], one[1]["id"]))


def exit_status(fields: dict[str, Any]) -> int:
    """As a shell has it: 128+N for signal N."""
    code = fields.get("returncode") or 0
    return code if code >= 0 else 128 - code


def ended(fields: dict[str, Any]) -> str:
    """How it has, in a few words."""
    if fields.get("error"):
        return str(fields["error"])
    if fields.get("limit"):
        return f"ended by its limit: {fields['limit']}"
    return f"exited with status {exit_status(fields)}"
