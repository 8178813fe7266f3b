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
    "user": "user",
    "tmpfs": "tmpfs",
    "read-only": "read_only",
    "storage": "storage",
    "host-etc": "host_etc",
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
    "group-add": "extra_groups",
    "stop-signal": "stop_signal",
    "add-host": "add_host",
    "dns": "dns",
    "publish": "publish",
    "egress": "egress",
}

# docker's word for no limit; an empty list of CPUs is none either.
_UNLIMITED = {
    "memory": ("0",),
    "memory-swap": ("0",),
    "cpus": ("0", "0.0"),
    "pids-limit": ("0", "-1"),
    "cpuset-cpus": ("",),
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
    "cwd": "--workdir",
    "volumes": "--volume",
    "pass_fds": "--preserve-fds",
    "rlimits": "--ulimit",
    "sysctls": "--sysctl",
    "seccomp": "--security-opt",
    "no_new_privileges": "--security-opt",
    "systempaths": "--security-opt",
    "env": "--env",
    "args": "COMMAND",
    "image": "IMAGE",
}


#: What is to be said of words that mean nothing here.
notes: list[str] = []


def options(given: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that ``given`` (as options.parse has it) stands for. Raises SpecError."""
    call: dict[str, Any] = {}
    for name, value in given.items():
        if value in _UNLIMITED.get(name, ()):
            continue
        plain = _PLAIN.get(name)
        if plain is not None:
            call[plain] = value
        elif name in _NUMBERS:
            call[_NUMBERS[name][0]] = _number(name, value)
        elif name in _MADE:
            _MADE[name](call, given)
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


_MOST_OF_ENV = 6 << 20  # the kernel's own limit; a device or a FIFO may have no end


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            text = file.read(_MOST_OF_ENV + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError("--env-file", f"{path}: {reason}") from None
    if len(text) > _MOST_OF_ENV:
        raise SpecError("--env-file", f"{path}: has more than 6M, which is all that a program can be given")
    # Not splitlines: a value may hold what Unicode takes for the end of a line.
    return [line.removesuffix("\r") for line in text.split("\n")]


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


def _sysctls(call: dict[str, Any], given: dict[str, Any]) -> None:
    call["sysctls"] = {}
    for words in given["sysctl"]:
        name, equals, value = words.partition("=")
        if not equals:
            raise SpecError("--sysctl", f"takes net.NAME=VALUE, not {words!r:.80}")
        call["sysctls"][name.strip()] = value


def _workdir(call: dict[str, Any], given: dict[str, Any]) -> None:
    # What is to be made is named as docker names it: without a look at links.
    wanted = given["workdir"]
    call["cwd"] = os.path.normpath(wanted) if wanted.startswith("/") and ".." in wanted else wanted
    call["make_cwd"] = True


def _volumes(call: dict[str, Any], given: dict[str, Any]) -> None:
    from pyminicon.options.mounts import MEANINGLESS

    call.setdefault("volumes", []).extend(given["volume"])
    for words in given["volume"]:
        mode = words.split(":")[2:]
        for word in mode[0].split(",") if mode else ():
            if word in MEANINGLESS:
                _note("--volume", word, MEANINGLESS[word])


def _note(option: str, word: str, why: str) -> None:
    """What docker has a meaning for and nothing here has is said, not ignored."""
    notes.append(f"{option}: {word!r} means nothing here: {why}")


def _shm_size(call: dict[str, Any], given: dict[str, Any]) -> None:
    if given.get("ipc") == "host":
        raise SpecError("--shm-size", "can't be given with --ipc host, whose /dev/shm it is")
    call.setdefault("tmpfs", []).append(f"/dev/shm:size={given['shm-size']},mode=1777")


_DEVICES = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))


def _devices(call: dict[str, Any], given: dict[str, Any]) -> None:
    for words in given["device"]:
        source, _, rest = words.partition(":")
        target = rest.partition(":")[0] or source
        if source not in _DEVICES or target not in (source, "r", "w", "rw", "rwm"):
            names = ", ".join(sorted(name[5:] for name in _DEVICES))
            raise SpecError("--device", f"{source} can't go in: a container has {names}, and no other device")


def _preserved(call: dict[str, Any], given: dict[str, Any]) -> None:
    word = given["preserve-fds"]
    if not (word.isascii() and word.isdigit() and len(word) < 5):
        raise SpecError("--preserve-fds", f"takes how many descriptors from 3 on, not {word!r}")
    call["pass_fds"] = list(range(3, 3 + int(word)))


def _stop_timeout(call: dict[str, Any], given: dict[str, Any]) -> None:
    word = given["stop-timeout"]
    if not word.removeprefix("-").isdigit() or not word.isascii() or int(word) < -1:
        raise SpecError("--stop-timeout", f"takes whole seconds, or -1 for never, not {word!r}")


def _labels(call: dict[str, Any], given: dict[str, Any]) -> None:
    for word in given["label"]:
        if not word.partition("=")[0]:
            raise SpecError("--label", f"takes KEY=VALUE or KEY, not {word!r}")


def _cidfile(call: dict[str, Any], given: dict[str, Any]) -> None:
    path = given["cidfile"]
    if os.path.lexists(path):
        raise SpecError("--cidfile", f"{path} is there already: remove it, or name another")


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
    elif name == "label" and (
        value == "disable" or value.partition(":")[0] in ("user", "role", "type", "level")
    ):
        if value != "disable":
            raise SpecError(
                "--security-opt", f"{words!r}: no SELinux label is set here; label=disable says so"
            )
        _note("--security-opt", words, "no SELinux label is set")
    elif name == "apparmor" and value == "unconfined":
        _note("--security-opt", words, "no AppArmor profile is set, the caller's own stays")
    elif name == "systempaths" and value == "unconfined":
        call["systempaths"] = value
    elif name == "no-new-privileges" and value in ("", "true", "false"):
        call["no_new_privileges"] = value != "false"
    else:
        takes = (
            "takes seccomp=unconfined, seccomp=FILE, systempaths=unconfined, no-new-privileges[=false], "
            "label=disable, apparmor=unconfined"
        )
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
    for word in _fields(words):
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
        call.setdefault("volumes", []).append((fields["source"], target, mode))
    elif kind == "tmpfs" and "source" not in fields and read_only in ("false", "0"):
        more = [f"{key[6:]}={fields[key]}" for key in ("tmpfs-size", "tmpfs-mode") if key in fields]
        call.setdefault("tmpfs", []).append(target + (":" + ",".join(more) if more else ""))
    else:
        raise SpecError("--mount", f"takes type=bind with a source, or type=tmpfs without, not {words!r}")


def _fields(words: str) -> list[str]:
    """A line of CSV, as docker reads it: a field with a comma in it stands in quotes."""
    if '"' not in words:
        return words.split(",")
    import csv

    try:
        return next(csv.reader([words], strict=True))
    except csv.Error as error:
        raise SpecError("--mount", f"{words!r}: {error}") from None


def _name(call: dict[str, Any], given: dict[str, Any]) -> None:
    if given.get("detach"):  # which knows it by that name
        return
    name = given["name"]
    plain = all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    if not name or not plain or not name[0].isalnum():
        raise SpecError("--name", "takes letters, digits, '_', '.' and '-', the first a letter or digit")
    if "hostname" not in given and given.get("uts") != "host":
        if len(name) > 64:
            raise SpecError("--name", "takes 64 characters at most, being the host name too")
        call["hostname"] = name


def _rm(call: dict[str, Any], given: dict[str, Any]) -> None:
    if not given["rm"] and not given.get("detach"):
        raise SpecError("--rm", "can't be false without -d: nothing is left of what has ended")


# The words that need more than a new name.
_MADE: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "timeout": _timeout,
    "workdir": _workdir,
    "volume": _volumes,
    "shm-size": _shm_size,
    "device": _devices,
    "preserve-fds": _preserved,
    "stop-timeout": _stop_timeout,
    "label": _labels,
    "cidfile": _cidfile,
    "env": _env,
    "env-file": _env,
    "mount": _mounts,
    "ulimit": _ulimits,
    "sysctl": _sysctls,
    "security-opt": _securities,
    "name": _name,
    "rm": _rm,
}
