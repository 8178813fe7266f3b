"""What the user asked for, checked: options in, a :class:`Spec` out.

Only the options that are given are looked at, so a plain call pays for nothing: the checkers of those that few
calls give are a module of their own. Whatever is wrong is a :class:`SpecError` that names the option and what
it takes, before anything has been started.
"""

from __future__ import annotations

import os

from pyminicon.errors import Error, SpecError, not_loaded
from pyminicon.options import (
    ASIDE,
    DEVNULL,
    EACH_COMMAND,
    EACH_RUN,
    LIMITS,
    LIVES,
    ONLY_RUN,
    PIPE,
    SERVED,
    STDOUT,
    Spec,
    set_flag,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "ASIDE",
    "DEVNULL",
    "EACH_COMMAND",
    "EACH_RUN",
    "LIMITS",
    "LIVES",
    "ONLY_RUN",
    "PIPE",
    "SERVED",
    "STDOUT",
    "Spec",
    "parse",
    "words",
]


def parse(args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()) -> Spec:
    """Checks ``args`` and ``options`` (those that were given) into a Spec.

    ``refused``: options that the caller's function doesn't take. Raises SpecError.
    """
    try:
        return _parse(args, options, refused)
    except ImportError as error:
        raise not_loaded(error) from error


def _parse(args: Any, options: dict[str, Any], refused: frozenset[str]) -> Spec:
    spec = Spec()
    spec.args = _args(args)
    limits: dict[str, Any] = {}
    for name, value in options.items():
        if name in refused:
            raise SpecError(name, "not an option of this call")
        if name in LIMITS:
            if value is not None:
                limits[name] = value
            continue
        check = _CHECKS.get(name) or _rare(name)
        try:
            check(spec, name, value)
        except (ValueError, OverflowError) as error:  # as a number of 5,000 digits that is to be shown
            if isinstance(error, Error):
                raise
            raise SpecError(name, str(error)) from error
    if spec.pid == "host" and (spec.init or options.get("init")):
        raise SpecError("init", "there is no pid 1 to be with pid='host'")
    elsewhere = spec.volumes or spec.tmpfs or spec.host_etc or spec.sysctls
    if (
        elsewhere
        or spec.max_output is not None
        or spec.overflow != "kill"
        or spec.publish
        or SERVED & options.keys()
    ):
        from pyminicon.options import rare as spec_rare

        spec_rare.check_together(spec)
    _finish_limits(spec, limits)
    return spec


def _finish_limits(spec: Spec, limits: dict[str, Any]) -> None:
    need_kill = spec.pid == "host"
    need_cpu_time = spec.cpu_time is not None
    if not limits and not need_kill and not need_cpu_time:
        return
    from pyminicon.cgroups.limits import check

    spec.limits = check(**limits, need_kill=need_kill, need_cpu_time=need_cpu_time, lives=spec.args is LIVES)


def _rare(name: str) -> Callable[[Spec, str, Any], None]:
    from pyminicon.options import rare as spec_rare

    check = spec_rare.CHECKS.get(name)
    if check is None:
        raise SpecError(name, spec_rare.unknown(name, [*_CHECKS, *LIMITS]))
    return check


# ---- one small checker an option --------------------------------------------------------------------


def _text(option: str, value: Any) -> str:
    if type(value) is str and value.isascii() and "\0" not in value:
        return value
    return text(option, value)


def _args(args: Any) -> list[str | bytes]:
    lives: bool = args is LIVES
    return LIVES if lives else words(args)  # itself: exec_spec_of() knows it by that


def words(args: Any) -> list[str | bytes]:
    """``args``, checked: a program's. Raises SpecError."""
    if isinstance(args, (str, bytes)):
        raise SpecError("args", "takes a list of strings; for a shell line: ['sh', '-c', line]")
    try:
        given = list(args)
    except TypeError:
        raise SpecError("args", f"takes a list of strings, not {type(args).__name__}") from None
    checked: list[str | bytes] = [_text("args", word) for word in given]
    return checked


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


def _image(spec: Spec, name: str, value: Any) -> None:
    image = _text(name, value)
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


def _is_on(name: str, value: Any) -> bool:
    """None is what subprocess has where such a one isn't given; its callers also write 1 and 0."""
    if value is not None and not (isinstance(value, int) and value in (0, 1)):
        raise SpecError(name, "takes True or False")
    return bool(value)


def _capture(spec: Spec, name: str, value: Any) -> None:
    if not _is_on(name, value):
        return
    if spec.stdout is not None or spec.stderr is not None:
        raise SpecError(name, "can't be given together with stdout or stderr")
    spec.stdout = spec.stderr = PIPE


def _text_mode(spec: Spec, name: str, value: Any) -> None:
    spec.text = _is_on(name, value) or spec.text


#: The options that most calls give; the others' are in :mod:`pyminicon.options.rare`.
_CHECKS: dict[str, Callable[[Spec, str, Any], None]] = {
    "image": _image,
    "read_only": set_flag,
    "stdin": _stdio,
    "stdout": _stdio,
    "stderr": _stdio,
    "input": _input,
    "capture_output": _capture,
    "text": _text_mode,
    "universal_newlines": _text_mode,
    "timeout": _seconds,
    "check": set_flag,
    "wall_time": _seconds,
    "cpu_time": _seconds,
    "no_new_privileges": set_flag,
    "init": set_flag,
    "tty": set_flag,
}
