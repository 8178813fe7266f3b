"""From the words of the command line to the options of :func:`pyminicon.start`."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Taken over as they are.
_PLAIN = {
    "hostname": "hostname",
    "workdir": "cwd",
    "user": "user",
    "volume": "volumes",
    "tmpfs": "tmpfs",
    "read-only": "read_only",
    "storage": "storage",
    "memory": "memory",
    "memory-swap": "memory_swap",
    "cpuset-cpus": "cpuset",
    "cgroup-parent": "cgroup_parent",
    "usage": "usage",
    "max-output": "max_output",
    "network": "network",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroupns": "cgroupns",
    "time": "time",
    "userns": "userns",
    "cap-add": "cap_add",
    "cap-drop": "cap_drop",
    "init": "init",
    "tty": "tty",
    "entrypoint": "entrypoint",
}

# The Python option that a number on the command line becomes.
_NUMBERS = {
    "cpus": ("cpus", float),
    "cpu-weight": ("cpu_weight", int),
    "io-weight": ("io_weight", int),
    "pids-limit": ("pids", int),
    "cpu-time": ("cpu_time", float),
}

# Python options whose word here doesn't follow from the tables above.
_WORDS = {
    "wall_time": "--timeout",
    "rlimits": "--ulimit",
    "seccomp": "--security-opt",
    "no_new_privileges": "--security-opt",
    "env": "--env",
    "args": "COMMAND",
    "image": "IMAGE",
}


def options(given: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that ``given`` (as options.parse has it) stands for. Raises SpecError."""
    call: dict[str, Any] = {}
    for name, value in given.items():
        plain = _PLAIN.get(name)
        if plain is not None:
            call[plain] = value
        elif name in _NUMBERS:
            call[_NUMBERS[name][0]] = _number(name, value)
        elif name in _MADE:
            _MADE[name](call, given)
    if call.get("pids") == -1:  # docker's word for none
        del call["pids"]
    return call


def command_line_name(option: str) -> str:
    """The word for a Python option in this command: ``cpuset`` is ``--cpuset-cpus``."""
    for name, target in _PLAIN.items():
        if target == option:
            return f"--{name}"
    for name, (target, _) in _NUMBERS.items():
        if target == option:
            return f"--{name}"
    return _WORDS.get(option, option)


def _number(name: str, value: str) -> float:
    try:
        number: float = _NUMBERS[name][1](value)
        return number
    except ValueError:
        raise SpecError(f"--{name}", f"takes a number, not {value!r}") from None


def seconds(option: str, value: str) -> float:
    """``"1.5"``, ``"90s"``, ``"2m"``, ``"1h"`` in seconds, as timeout(1) takes them."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(value[-1:])
    try:
        return float(value[:-1]) * unit if unit else float(value)
    except ValueError:
        raise SpecError(option, f"takes seconds, or a number with s, m, h or d, not {value!r}") from None


def _timeout(call: dict[str, Any], given: dict[str, Any]) -> None:
    call["wall_time"] = seconds("--timeout", given["timeout"])


def _env(call: dict[str, Any], given: dict[str, Any]) -> None:
    call["env"] = environment(given)


def environment(given: dict[str, Any]) -> dict[str, str]:
    """Files first, then ``-e``, as docker has it. A KEY without '=' is taken from the caller's
    environment, and isn't set when it isn't there."""
    found: dict[str, str] = {}
    for path in given.get("env-file", ()):
        for number, line in enumerate(_lines(path), 1):
            text = line.lstrip()
            if text and not text.startswith("#"):
                name = text.partition("=")[0]
                if not name or name != name.strip() or " " in name:
                    raise SpecError("--env-file", f"{path}, line {number}: {name!r} is no name of a variable")
                _variable(found, text)
    for word in given.get("env", ()):
        if not word or word.startswith("="):
            raise SpecError("--env", f"takes KEY=VALUE or KEY, not {word!r}")
        _variable(found, word)
    return found


def _variable(into: dict[str, str], word: str) -> None:
    name, equals, value = word.partition("=")
    if equals:
        into[name] = value
    elif name in os.environ:
        into[name] = os.environ[name]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            # Not splitlines: a value may hold what Unicode takes for the end of a line.
            return [line.removesuffix("\r") for line in file.read().split("\n")]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError("--env-file", f"{path}: {reason}") from None


def ulimit(words: str) -> tuple[str, tuple[int, int]]:
    """``"nofile=256[:512]"`` as the name and (soft, hard)."""
    name, _, value = words.partition("=")
    soft, colon, hard = value.partition(":")
    try:
        low = int(soft) if soft != "unlimited" else -1
        high = (int(hard) if hard != "unlimited" else -1) if colon else low
    except ValueError:
        raise SpecError("--ulimit", f"takes NAME=SOFT[:HARD] in whole numbers, not {words!r}") from None
    return name, (low, high)


def _ulimits(call: dict[str, Any], given: dict[str, Any]) -> None:
    call["rlimits"] = dict(ulimit(words) for words in given["ulimit"])


def _securities(call: dict[str, Any], given: dict[str, Any]) -> None:
    for words in given["security-opt"]:
        security(call, words)


def _mounts(call: dict[str, Any], given: dict[str, Any]) -> None:
    for words in given["mount"]:
        mount(call, words)


def security(call: dict[str, Any], words: str) -> None:
    """One ``--security-opt``."""
    name, value = _either(words)
    if name == "seccomp" and value:
        call["seccomp"] = value
    elif name == "no-new-privileges" and value in ("", "true", "false"):
        call["no_new_privileges"] = value != "false"
    else:
        takes = "takes seccomp=unconfined, seccomp=FILE, no-new-privileges[=false]"
        raise SpecError("--security-opt", f"{takes}, not {words!r}")


def _either(words: str) -> tuple[str, str]:
    # docker takes '=' and, of old, ':'.
    for at, character in enumerate(words):
        if character in "=:":
            return words[:at], words[at + 1 :]
    return words, ""


def mount(call: dict[str, Any], words: str) -> None:
    """One ``--mount``: type=bind or type=tmpfs, in docker's words."""
    fields: dict[str, str] = {}
    for word in words.split(","):
        key, equals, value = word.partition("=")
        key = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(key, key)
        if key not in ("type", "source", "target", "readonly", "tmpfs-size", "tmpfs-mode"):
            known = "type source target readonly tmpfs-size tmpfs-mode"
            raise SpecError("--mount", f"{key!r} is none of {known}")
        fields[key] = value if equals else "true"
    kind, target = fields.get("type", ""), fields.get("target", "")
    read_only = fields.get("readonly", "false")
    if not target or read_only not in ("true", "false", "1", "0"):
        raise SpecError("--mount", f"takes type=bind,source=SRC,target=DST[,readonly], not {words!r}")
    if kind == "bind" and fields.get("source"):
        mode = "ro" if read_only in ("true", "1") else "rw"
        if ":" in fields["source"] or ":" in target:
            raise SpecError("--mount", "a ':' can't be in a path here")
        call.setdefault("volumes", []).append(f"{fields['source']}:{target}:{mode}")
    elif kind == "tmpfs" and "source" not in fields and read_only in ("false", "0"):
        more = [f"{key[6:]}={fields[key]}" for key in ("tmpfs-size", "tmpfs-mode") if key in fields]
        call.setdefault("tmpfs", []).append(target + (":" + ",".join(more) if more else ""))
    else:
        raise SpecError("--mount", f"takes type=bind with a source, or type=tmpfs without, not {words!r}")


def _name(call: dict[str, Any], given: dict[str, Any]) -> None:
    name = given["name"]
    plain = all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    if not name or not plain or not name[0].isalnum():
        raise SpecError("--name", "takes letters, digits, '_', '.' and '-', the first a letter or digit")
    if "hostname" not in given and given.get("uts") != "host":
        if len(name) > 64:
            raise SpecError("--name", "takes 64 characters at most, being the host name too")
        call["hostname"] = name


def _rm(call: dict[str, Any], given: dict[str, Any]) -> None:
    if not given["rm"]:
        raise SpecError("--rm", "can't be false: nothing is ever left of a container that has ended")


# The words that need more than a new name.
_MADE: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "timeout": _timeout,
    "env": _env,
    "env-file": _env,
    "mount": _mounts,
    "ulimit": _ulimits,
    "security-opt": _securities,
    "name": _name,
    "rm": _rm,
}
