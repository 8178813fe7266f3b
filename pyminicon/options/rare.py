"""The checkers of the options that few calls give, and what several of them must not be together."""

from __future__ import annotations

import os

from pyminicon.errors import Cancelled, SpecError
from pyminicon.options import DEVNULL, PIPE, STDOUT, set_flag, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyminicon.options import Spec

_LAST_ID = 4294967294  # one more is (uid_t)-1, which is nobody's


def _entrypoint(spec: Spec, name: str, value: Any) -> None:
    # docker's `--entrypoint ""` takes the image's away and puts nothing in its place.
    if value is not None:
        words = [value] if isinstance(value, (str, bytes)) else _sequence(name, value)
        spec.entrypoint = [word for word in (text(name, word) for word in words) if word]


def _cancel(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.cancelling import Cancel

    if value is not None and not isinstance(value, Cancel):
        raise SpecError(name, f"takes a pyminicon.Cancel, not {type(value).__name__}")
    if value is not None and value.cancelled:  # nothing is begun, by whichever call
        raise Cancelled("it was cancelled before it had begun")
    spec.cancel = value


def _choice(*choices: str) -> Callable[[Spec, str, Any], None]:
    def check(spec: Spec, name: str, value: Any) -> None:
        if value not in choices:
            raise SpecError(name, f"takes {' or '.join(repr(choice) for choice in choices)}")
        setattr(spec, name, value)

    return check


def _size(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    from pyminicon import sizes

    setattr(spec, name, sizes.check(name, value))


def _codec(spec: Spec, name: str, value: Any) -> None:
    if value is not None:
        setattr(spec, name, _known_codec(name, text(name, value)))
        spec.text = True


def _known_codec(option: str, name: str) -> str:
    import codecs

    try:
        if option == "errors":
            codecs.lookup_error(name)
            return name
        if getattr(codecs.lookup(name), "_is_text_encoding", True):
            return name
    except (LookupError, ValueError):
        pass
    raise SpecError(option, f"takes what Python's codecs have for text, not {name!r:.80}")


def _env(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    try:
        items = list(value.items())
    except AttributeError:
        raise SpecError(name, f"takes a dict, not {type(value).__name__}") from None
    checked = {}
    for key, content in items:
        word = text(name, key)
        if not word or "=" in word:
            raise SpecError(name, f"{word!r} is no name of a variable: not empty and without '='")
        checked[word] = text(name, content)
    spec.env = checked


def _cwd(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    cwd = text(name, value)
    if not cwd.startswith("/"):
        raise SpecError(name, f"takes an absolute path inside the container, not {cwd!r}")
    if cwd.startswith(("/proc/self/fd", "/proc/thread-self/fd")):
        raise SpecError(name, "a descriptor's directory is not one of the container's")
    spec.cwd = cwd


def _user(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _LAST_ID:
            raise SpecError(name, f"takes ids from 0 to {_LAST_ID}")
        value = str(value)
    user = text(name, value)
    head, colon, tail = user.partition(":")
    for part in (head, tail) if colon else (head,):
        number = part.isascii() and part.isdigit()
        above = number and (
            len(part) > 10 or int(part) > _LAST_ID
        )  # int() itself refuses thousands of digits
        if not part or ":" in part or above or part.startswith("-"):
            raise SpecError(name, f"takes uid[:gid] or a name in the image's passwd, not {user!r:.80}")
    spec.user = user


def _is_address(word: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, word)
            return True
        except (OSError, ValueError):
            continue
    return False


def _add_host(spec: Spec, name: str, value: Any) -> None:
    for item in _sequence(name, value):
        host, _, address = text(name, item).partition(
            ":" if ":" in text(name, item).partition("=")[0] else "="
        )
        plain = bool(host) and all(c.isalnum() or c in "-._" for c in host)
        if not plain or not _is_address(address.strip("[]")):
            raise SpecError(name, f"takes NAME:ADDRESS, as db:10.0.0.5, not {item!r:.80}")
        spec.add_host = [*spec.add_host, (host, address.strip("[]"))]


def _dns(spec: Spec, name: str, value: Any) -> None:
    spec.dns = [text(name, item) for item in _sequence(name, value)]
    for item in spec.dns:
        if not _is_address(item):
            raise SpecError(name, f"takes addresses of name servers, not {item!r:.80}")


def _sysctls(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.network import sysctls

    spec.sysctls = sysctls(name, {} if value is None else value)


def _executable(spec: Spec, name: str, value: Any) -> None:
    if value is not None:
        spec.executable = text(name, value)


def _group_name(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    group = text(name, value)
    if not group or ":" in group or (group.lstrip("-").isdigit() and not 0 <= int(group[:12]) <= _LAST_ID):
        raise SpecError(name, f"takes a gid or a name of the image's /etc/group, not {group!r:.80}")
    return group


def _group(spec: Spec, name: str, value: Any) -> None:
    if value is not None:
        spec.group = _group_name(name, value)


def _extra_groups(spec: Spec, name: str, value: Any) -> None:
    spec.extra_groups = [_group_name(name, item) for item in _sequence(name, value)]


def _umask(spec: Spec, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 0o777:
        raise SpecError(name, "takes 0 to 0o777, or -1 for 0o022")
    spec.umask = 0o022 if value == -1 else value


def _process_group(spec: Spec, name: str, value: Any) -> None:
    if value not in (None, -1, 0) or isinstance(value, bool):
        raise SpecError(name, "takes 0: a container's program leads a session and a group of its own")


def _stop_signal(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    from pyminicon.options.stop_signal import number

    found = value if isinstance(value, int) and not isinstance(value, bool) else number(text(name, value), 0)
    if not 1 <= found <= 64:
        raise SpecError(name, f"takes a signal's name or number, not {value!r:.80}")
    spec.stop_signal = int(found)


def _hostname(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    host = text(name, value)
    if not 0 < len(host) <= 64:
        raise SpecError(name, "takes 1 to 64 letters (HOST_NAME_MAX)")
    if not host.isascii() or not all(c.isalnum() or c in "-._" for c in host):
        raise SpecError(name, "takes letters, digits, '-', '.' and '_'")
    spec.hostname = host


def _volumes(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.mounts import volume

    spec.volumes = [
        volume([text(name, part) for part in item] if isinstance(item, (tuple, list)) else text(name, item))
        for item in _sequence(name, value)
    ]


def _tmpfs(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.mounts import tmpfs

    spec.tmpfs = [tmpfs(text(name, item)) for item in _sequence(name, value)]


def _storage(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.mounts import storage

    spec.storage = storage(text(name, value))


def _sequence(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (str, bytes)):
        raise SpecError(name, "takes a list of strings, not one string")
    try:
        return list(value)
    except TypeError:
        raise SpecError(name, f"takes a list, not {type(value).__name__}") from None


def _files(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.files import files

    spec.files = () if value is None else files(value)


def _collect(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.mounts import inside

    if value is not None:
        spec.collect = [inside(name, text(name, item)) for item in _sequence(name, value)]


def _userns(spec: Spec, name: str, value: Any) -> None:
    if value in ("auto", "host", "private"):
        spec.userns = value
        return
    from pyminicon.options.users import id_ranges

    spec.userns = id_ranges(name, text(name, value))


def _rlimits(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.rlimits import check

    spec.rlimits = check(name, value)


def _names(spec: Spec, name: str, value: Any) -> None:
    setattr(spec, name, [text(name, item) for item in _sequence(name, value)])


def _seccomp(spec: Spec, name: str, value: Any) -> None:
    if isinstance(value, dict):
        spec.seccomp = value
    else:
        profile = text(name, value)
        if not profile:
            raise SpecError(name, "takes 'default', 'unconfined', a path or a dict")
        spec.seccomp = profile


#: What lists of ports and of rules have come to. Most callers ask for the same again, and to read a list once more
#: is a third of what serving a network adds to a start.
_read: dict[tuple[Any, ...], Any] = {}
_MOST_READ = 64


def _once(name: str, value: Any, read: Callable[[list[Any]], Any]) -> Any:
    key = (name, *value) if type(value) in (list, tuple) else None
    try:
        known = _read.get(key) if key is not None else None
    except TypeError:  # what has no hash is no string either, which is for the reader to say
        key = known = None
    if known is not None:
        return known
    found = read(_sequence(name, value))
    if key is not None and all(type(item) is str for item in key):
        if len(_read) >= _MOST_READ:
            _read.clear()
        _read[key] = found
    return found


def _publish(spec: Spec, name: str, value: Any) -> None:
    def read(items: list[Any]) -> Any:
        from pyminicon.options.network import publish

        return publish(name, items)

    spec.publish = _once(name, value, read)


def _egress(spec: Spec, name: str, value: Any) -> None:
    def read(items: list[Any]) -> Any:
        from pyminicon.options.egress import Rules

        return Rules(name, [text(name, item) for item in items])

    if value is not None:
        spec.egress = value if callable(value) else _once(name, value, read)


def _egress_headers(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.options.network import headers

    spec.egress_headers = headers(name, {} if value is None else value)


def _pass_fds(spec: Spec, name: str, value: Any) -> None:
    fds = _sequence(name, value)
    for fd in fds:
        if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
            raise SpecError(name, "takes descriptors, whole numbers from 0 on")
        try:
            os.get_inheritable(fd)
        except OSError:
            raise SpecError(name, f"{fd} is not an open descriptor") from None
        except OverflowError:
            raise SpecError(name, "no descriptor has a number that large") from None
    spec.pass_fds = sorted({fd for fd in fds if fd > 2})


def _host_etc(spec: Spec, name: str, value: Any) -> None:
    """What of this machine's /etc is shown though the rule hides it."""
    found = []
    for word in [] if value is None else _sequence(name, value):
        path = os.path.normpath(text(name, word)).removeprefix("/etc/")
        if path.startswith(("/", "..")) or path in ("", ".", "etc"):
            raise SpecError(name, f"takes names in /etc, as 'machine-id', not {word!r:.80}")
        if not os.path.lexists(f"/etc/{path}"):
            raise SpecError(name, f"/etc/{path} isn't there")
        found.append(path)
    spec.host_etc = sorted(set(found))


def _of_detached(spec: Spec, name: str, value: Any) -> None:
    if value is not None and value is not False:
        raise SpecError(name, "goes with a start: start(..., detach=True, name=..., labels=...)")


CHECKS: dict[str, Callable[[Spec, str, Any], None]] = {
    "detach": _of_detached,
    "name": _of_detached,
    "labels": _of_detached,
    "storage": _storage,
    "host_etc": _host_etc,
    "encoding": _codec,
    "errors": _codec,
    "entrypoint": _entrypoint,
    "env": _env,
    "cwd": _cwd,
    "make_cwd": set_flag,
    "executable": _executable,
    "group": _group,
    "extra_groups": _extra_groups,
    "umask": _umask,
    "process_group": _process_group,
    "stop_signal": _stop_signal,
    "user": _user,
    "hostname": _hostname,
    "add_host": _add_host,
    "dns": _dns,
    "sysctls": _sysctls,
    "volumes": _volumes,
    "tmpfs": _tmpfs,
    "files": _files,
    "collect": _collect,
    "collect_max": _size,
    "network": _choice("none", "off", "host", "pasta"),
    "publish": _publish,
    "egress": _egress,
    "egress_headers": _egress_headers,
    "pid": _choice("private", "host"),
    "ipc": _choice("private", "host"),
    "uts": _choice("private", "host"),
    "cgroupns": _choice("private", "host"),
    "time": _choice("host", "private"),
    "userns": _userns,
    "max_output": _size,
    "cancel": _cancel,
    "overflow": _choice("kill", "trim"),
    "rlimits": _rlimits,
    "cap_add": _names,
    "cap_drop": _names,
    "seccomp": _seccomp,
    "systempaths": _choice("default", "unconfined"),
    "pass_fds": _pass_fds,
}


def unknown(name: str, others: list[str]) -> str:
    """What is said of an option that there isn't; ``others``: those that have no checker here."""
    from difflib import get_close_matches

    if name in _ELSEWHERE:
        return f"no such option; {_ELSEWHERE[name]}"
    # Less alike means something else: privileged is no misspelt no_new_privileges.
    near = get_close_matches(name, [*CHECKS, *others], 1, 0.75)
    return f"no such option; did you mean {near[0]}?" if near else "no such option"


_ELSEWHERE = {
    "mem_limit": "did you mean memory?",
    "memswap_limit": "did you mean memory_swap?",
    "nano_cpus": "did you mean cpus?",
    "cpuset_cpus": "did you mean cpuset?",
    "pids_limit": "did you mean pids?",
    "environment": "did you mean env?",
    "working_dir": "did you mean cwd?",
    "network_mode": "did you mean network?",
    "ulimits": "did you mean rlimits?",
    "mounts": "did you mean volumes?",
    "binds": "did you mean volumes?",
    "group_add": "did you mean extra_groups?",
    "security_opt": "did you mean seccomp, or no_new_privileges?",
    "privileged": "give what is needed by name: cap_add, seccomp, userns",
    "command": "the command is the first argument",
    "shell": "for a shell line: ['sh', '-c', line]",
    "preexec_fn": "nothing of the caller's runs inside; rlimits, user, umask and cwd say the usual",
    "detach": "start() returns at once",
    "remove": "nothing is left of a container that has ended",
    "auto_remove": "nothing is left of a container that has ended",
}


# ---- what goes together -----------------------------------------------------------------------------


def check_together(spec: Spec) -> None:
    """What can only be seen when all options have been read. Raises SpecError."""
    if spec.max_output is not None or spec.overflow != "kill":
        _check_counted(spec)
    if spec.volumes or spec.tmpfs:
        _check_mount_points(spec)
    if spec.publish or spec.sysctls or spec.egress is not None or spec.egress_headers:
        from pyminicon.options import network

        network.check_together(spec)
    if spec.host_etc and spec.image not in ("host", "python"):
        raise SpecError("host_etc", "is for the images 'host' and 'python': any other has an /etc of its own")


def _check_counted(spec: Spec) -> None:
    """What doesn't come through a pipe would pass max_output unseen."""
    if spec.overflow == "trim" and spec.max_output is None:
        raise SpecError("overflow", "'trim' keeps max_output of each stream, and takes that beside it")
    if spec.tty:
        raise SpecError("max_output", "can't be held at a terminal: what is written there isn't counted")
    out, err = spec.stdout, spec.stderr
    if out not in (PIPE, DEVNULL) or err not in (PIPE, STDOUT, DEVNULL) or PIPE not in (out, err):
        raise SpecError(
            "max_output", "counts pipes: needs stdout=PIPE and stderr=PIPE or STDOUT, or capture_output=True"
        )


def _check_mount_points(spec: Spec) -> None:
    taken = {target for target, _, _ in spec.tmpfs}
    if len(taken) < len(spec.tmpfs):
        raise SpecError("tmpfs", "two of them have one target")
    for _, target, _ in spec.volumes:
        if target in taken:
            raise SpecError("volumes", f"{target} is the target of another volume or tmpfs already")
        taken.add(target)
