"""What the user asked for, checked: options in, a frozen :class:`Spec` out.

Only the options that are given are looked at, so a plain call pays for nothing. Whatever is wrong is
a :class:`SpecError` that names the option and what it takes, before anything has been started.
"""

from __future__ import annotations

import os

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pyminicon.cgroup_limits import Limits

PIPE, STDOUT, DEVNULL = -1, -2, -3  # subprocess's own numbers, without its import

#: What a Template or a container can't change once it is made, and each run of it can.
EACH_RUN = frozenset(
    "args env cwd stdin stdout stderr input capture_output text universal_newlines encoding errors timeout "
    "check wall_time cpu_time max_output files collect collect_max pass_fds".split()
)
#: Those of them that no plan depends on.
ASIDE = EACH_RUN - {"files", "collect", "cpu_time"}
#: What ``run`` takes and ``start`` doesn't: there is nobody there to feed, to wait and to collect.
ONLY_RUN = frozenset("input timeout check capture_output collect collect_max".split())

_LAST_ID = 4294967294  # one more is (uid_t)-1, which is nobody's

#: What a plan has a cgroup for, made anew for each run.
LIMITS = frozenset("memory memory_swap cpus cpu_weight cpuset pids io_weight usage cgroup_parent".split())


class Spec:
    """One container as asked for. Fields are the options of the same name, in checked form."""

    args: Sequence[str | bytes] = ()
    image: str = "host"
    read_only = False
    storage: tuple[str, str] = ("tmpfs", "")  # (kind, size)
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    input: bytes | str | None = None
    text = False
    encoding: str | None = None
    errors: str | None = None
    timeout: float | None = None
    check = False
    entrypoint: list[str | bytes] | None = None
    env: Mapping[str, str] | None = None
    cwd: str | bytes | None = None
    user: str | None = None
    hostname: str | None = None
    volumes: Sequence[tuple[str, str, str]] = ()  # (source, target, mode)
    tmpfs: Sequence[tuple[str, str, bool]] = ()  # (target, kernel options, noexec)
    files: Sequence[tuple[str, bytes, int]] = ()  # (target, bytes, mode)
    collect: list[str] | None = None
    collect_max = 16 << 20
    network = "none"
    pid = ipc = uts = cgroupns = "private"
    time = "host"
    userns: str | list[tuple[int, int, int]] = "auto"
    limits: Limits | None = None
    wall_time: float | None = None
    cpu_time: float | None = None
    max_output: int | None = None
    rlimits: Sequence[tuple[int, int, int]] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    seccomp: Any = "default"
    no_new_privileges = True
    init = False
    pass_fds: Sequence[int] = ()
    tty = False


def parse(args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()) -> Spec:
    """Checks ``args`` and ``options`` (those that were given) into a Spec.

    ``refused``: options that the caller's function doesn't take. Raises SpecError.
    """
    spec = Spec()
    spec.args = _args(args)
    limits: dict[str, Any] = {}
    for name, value in options.items():
        if name in refused:
            raise SpecError(name, "not an option of this call")
        check = _CHECKS.get(name)
        if check is not None:
            check(spec, name, value)
        elif name in LIMITS:
            if value is not None and value is not False:
                limits[name] = value
        else:
            raise SpecError(name, _unknown(name))
    if spec.pid == "host" and (spec.init or options.get("init")):
        raise SpecError("init", "there is no pid 1 to be with pid='host'")
    if spec.max_output is not None:
        _check_counted(spec)
    if spec.volumes or spec.tmpfs:
        _check_mount_points(spec)
    _finish_limits(spec, limits)
    return spec


def _check_mount_points(spec: Spec) -> None:
    taken = {target for target, _, _ in spec.tmpfs}
    if len(taken) < len(spec.tmpfs):
        raise SpecError("tmpfs", "two of them have one target")
    for _, target, _ in spec.volumes:
        if target in taken:
            raise SpecError("volumes", f"{target} is the target of another volume or tmpfs already")
        taken.add(target)


def _check_counted(spec: Spec) -> None:
    """What doesn't come through a pipe would pass max_output unseen."""
    if spec.tty:
        raise SpecError("max_output", "can't be held at a terminal: what is written there isn't counted")
    out, err = spec.stdout, spec.stderr
    if out not in (PIPE, DEVNULL) or err not in (PIPE, STDOUT, DEVNULL) or PIPE not in (out, err):
        raise SpecError(
            "max_output", "counts pipes: needs stdout=PIPE and stderr=PIPE or STDOUT, or capture_output=True"
        )


def _finish_limits(spec: Spec, limits: dict[str, Any]) -> None:
    need_kill = spec.pid == "host"
    need_cpu_time = spec.cpu_time is not None
    if not limits and not need_kill and not need_cpu_time:
        return
    from pyminicon.cgroup_limits import check

    spec.limits = check(**limits, need_kill=need_kill, need_cpu_time=need_cpu_time)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*_CHECKS, *LIMITS], 1)
    return f"no such option; did you mean {near[0]}?" if near else "no such option"


# ---- one small checker an option --------------------------------------------------------------------


def text(option: str, value: Any) -> str:
    """A str without NUL bytes, from a str or bytes or a path; SpecError otherwise."""
    if isinstance(value, (bytes, os.PathLike)):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise SpecError(option, f"takes a string, not {type(value).__name__}")
    if "\0" in value:
        raise SpecError(option, "a NUL byte can't be in it")
    if not value.isascii():
        try:
            os.fsencode(value)
        except UnicodeEncodeError:
            raise SpecError(option, f"{value[:40]!a} holds a character that names here can't have") from None
    return value


def _args(args: Any) -> list[str | bytes]:
    if isinstance(args, (str, bytes)):
        raise SpecError("args", "takes a list of strings; for a shell line: ['sh', '-c', line]")
    try:
        words = list(args)
    except TypeError:
        raise SpecError("args", f"takes a list of strings, not {type(args).__name__}") from None
    checked: list[str | bytes] = [
        word if type(word) is str and word.isascii() and "\0" not in word else text("args", word)
        for word in words
    ]
    if checked and not checked[0]:
        raise SpecError("args", "the program's name is empty")
    return checked


def _entrypoint(spec: Spec, name: str, value: Any) -> None:
    # docker's `--entrypoint ""` takes the image's away and puts nothing in its place.
    if value is not None:
        words = [value] if isinstance(value, (str, bytes)) else _sequence(name, value)
        spec.entrypoint = [text(name, word) for word in words if word]


def _bool(spec: Spec, name: str, value: Any) -> None:
    if value is not True and value is not False:
        raise SpecError(name, "takes True or False")
    setattr(spec, name, value)


def _choice(*choices: str) -> Callable[[Spec, str, Any], None]:
    def check(spec: Spec, name: str, value: Any) -> None:
        if value not in choices:
            raise SpecError(name, f"takes {' or '.join(repr(choice) for choice in choices)}")
        setattr(spec, name, value)

    return check


def _seconds(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(name, f"takes seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        raise SpecError(name, "takes seconds, not a number that large") from None
    # A timeout of 0 asks once; a limit of 0 would be a container that may not run at all.
    if not seconds >= 0 or (seconds == 0 and name != "timeout"):
        raise SpecError(name, f"takes seconds above 0, not {seconds:g}")
    setattr(spec, name, seconds)


def _size(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    from pyminicon import sizes

    setattr(spec, name, sizes.check(name, value))


def _image(spec: Spec, name: str, value: Any) -> None:
    image = text(name, value)
    if not image:
        raise SpecError(name, "takes host, python, a path with a slash, or a name in the image store")
    # A path object says by its type what a string says by the way it begins.
    spec.image = image if isinstance(value, str) else os.path.join(".", image)


def _stdio(spec: Spec, name: str, value: Any) -> None:
    if isinstance(value, bool) or (isinstance(value, int) and not DEVNULL <= value < 1 << 31):
        raise SpecError(name, "takes a descriptor, a file, PIPE, DEVNULL or None")
    if value == STDOUT and isinstance(value, int) and name != "stderr":
        raise SpecError(name, "STDOUT is for stderr alone")
    if value is not None and not isinstance(value, int) and not hasattr(value, "fileno"):
        raise SpecError(name, "takes a descriptor, a file, PIPE, DEVNULL or None")
    if value is not None and getattr(spec, name) is not None:
        raise SpecError(
            name, f"can't be given together with {'input' if name == 'stdin' else 'capture_output'}"
        )
    if value is not None:
        setattr(spec, name, value)


def _input(spec: Spec, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        spec.input = value
    else:
        try:
            spec.input = bytes(memoryview(value))
        except TypeError:
            raise SpecError(name, f"takes bytes or str, not {type(value).__name__}") from None
    if spec.stdin is not None and spec.stdin != PIPE:
        raise SpecError("stdin", "can't be given together with input")
    spec.stdin = PIPE


def _capture(spec: Spec, name: str, value: Any) -> None:
    if not value:
        return
    if spec.stdout is not None or spec.stderr is not None:
        raise SpecError(name, "can't be given together with stdout or stderr")
    spec.stdout = spec.stderr = PIPE


def _text_mode(spec: Spec, name: str, value: Any) -> None:
    if name in ("text", "universal_newlines"):
        spec.text = spec.text or bool(value)
    elif value is not None:
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
    from pyminicon.mount_words import volume

    spec.volumes = [volume(text(name, item)) for item in _sequence(name, value)]


def _tmpfs(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.mount_words import tmpfs

    spec.tmpfs = [tmpfs(text(name, item)) for item in _sequence(name, value)]


def _storage(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.mount_words import storage

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
    from pyminicon.put_files import files

    spec.files = files(value) if value else ()


def _collect(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.mount_words import inside

    if value is not None:
        spec.collect = [inside(name, text(name, item)) for item in _sequence(name, value)]


def _userns(spec: Spec, name: str, value: Any) -> None:
    if value in ("auto", "host", "private"):
        spec.userns = value
        return
    from pyminicon.users import id_ranges

    spec.userns = id_ranges(name, text(name, value))


def _rlimits(spec: Spec, name: str, value: Any) -> None:
    from pyminicon.rlimits import check

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


_CHECKS: dict[str, Callable[[Spec, str, Any], None]] = {
    "image": _image,
    "read_only": _bool,
    "storage": _storage,
    "stdin": _stdio,
    "stdout": _stdio,
    "stderr": _stdio,
    "input": _input,
    "capture_output": _capture,
    "text": _text_mode,
    "universal_newlines": _text_mode,
    "encoding": _text_mode,
    "errors": _text_mode,
    "timeout": _seconds,
    "check": _bool,
    "entrypoint": _entrypoint,
    "env": _env,
    "cwd": _cwd,
    "user": _user,
    "hostname": _hostname,
    "volumes": _volumes,
    "tmpfs": _tmpfs,
    "files": _files,
    "collect": _collect,
    "collect_max": _size,
    "network": _choice("none", "host"),
    "pid": _choice("private", "host"),
    "ipc": _choice("private", "host"),
    "uts": _choice("private", "host"),
    "cgroupns": _choice("private", "host"),
    "time": _choice("host", "private"),
    "userns": _userns,
    "wall_time": _seconds,
    "cpu_time": _seconds,
    "max_output": _size,
    "rlimits": _rlimits,
    "cap_add": _names,
    "cap_drop": _names,
    "seccomp": _seccomp,
    "no_new_privileges": _bool,
    "init": _bool,
    "pass_fds": _pass_fds,
    "tty": _bool,
}
