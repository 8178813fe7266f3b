"""A new detached container: its keeper is started, told what to keep, and heard."""

from __future__ import annotations

import _socket
import os
import sys

from pyminicon.detached import asking, line, place
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LOG_SIZE = 10 << 20
_LINE = 3  # the keeper's descriptor of the line to whoever starts it

#: What a container doesn't take that outlives its caller, and why.
_NOT_DETACHED = {
    "stdin": "goes nowhere: what runs detached is spoken with by attach",
    "stdout": "goes to the log of a detached container",
    "stderr": "goes to the log of a detached container",
    "pass_fds": "can't be given with detach: the descriptors would end with the caller",
    "cancel": "can't be given with detach: kill() ends it",
    "trace": "can't be given with detach",
    "text": "can't be given with detach: its output is bytes in a log",
    "encoding": "can't be given with detach: its output is bytes in a log",
    "errors": "can't be given with detach: its output is bytes in a log",
    "universal_newlines": "can't be given with detach: its output is bytes in a log",
}


class Wish:
    """What is asked for beside the options of a start."""

    def __init__(
        self,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        remove: bool = False,
        log_max_size: int = LOG_SIZE,
        interactive: bool = False,
        stop_timeout: int | None = None,
        speaks_on: bool = False,
    ) -> None:
        if name is not None:
            place.check_name(name)
        self.fields: dict[str, Any] = {
            "name": name,
            "labels": _labels(labels),
            "remove": remove,
            "log_max_size": log_max_size,
            "interactive": interactive,
            "stop_timeout": stop_timeout,
            # Whoever goes on speaking with it on the line is told at once what he needs: it may have ended when he asks.
            "speaks_on": speaks_on,
        }


def _labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    wanted = SpecError("labels", "takes a dict of strings, {'key': 'value'}")
    if labels is not None and not hasattr(labels, "items"):
        raise wanted
    found = dict(labels or {})
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise wanted
    return found


def begin(args: Any, options: Mapping[str, Any], wish: Wish) -> tuple[dict[str, Any], line.Line]:
    """Starts a container with a keeper of its own: its state (``speaks_on``: what questions._about tells), and a line
    to the keeper. Raises as start does."""
    for name, why in _NOT_DETACHED.items():
        value = options.get(name)
        if value is not None and value is not False and value != ():
            raise SpecError(name, why)
    request = {
        "args": None if args is None else [_plain(word) for word in _listed(args)],
        "options": {name: _told(name, value) for name, value in options.items()},
        "wish": wish.fields,
        "cwd": _cwd(),
        "path": [os.path.abspath(path) for path in sys.path if path],
    }
    place.top(make=True)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    to = line.Line(ours)
    try:
        try:
            _spawn(theirs.fileno(), options.get("image") == "python")
        finally:
            theirs.close()
        to.send(request)
        return asking.answer(to), to
    except ConnectionResetError:
        to.close()
        raise Error("the keeper of the container ended before it had started it") from None
    except BaseException:
        to.close()
        raise


def begin_for_good(args: Any, options: dict[str, Any]) -> tuple[str, line.Line, dict[str, Any]]:
    """What ``start`` with ``detach=True`` asks for: where its state lies, a line to its keeper, what that tells."""
    wish = Wish(name=options.pop("name", None), labels=options.pop("labels", None), speaks_on=True)
    about, to = begin(args, options, wish)
    return f"{place.top()}/containers/{about['id']}", to, about


def _listed(args: Any) -> Any:
    if isinstance(args, (str, bytes)):
        raise SpecError("args", "takes a list of strings; for a shell line: ['sh', '-c', line]")
    return args


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _told(name: str, value: Any) -> Any:
    """As it is told the keeper. Raises SpecError for what belongs to this process."""
    import marshal

    plain = _plain(value)
    try:
        marshal.dumps(plain)
    except ValueError:
        raise SpecError(name, "can't be given with detach: it belongs to this process") from None
    return plain


def _plain(value: Any) -> Any:
    """As marshal takes it: paths as strings, what is iterated as lists."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, os.PathLike):
        path = os.fsdecode(os.fspath(value))
        return (
            path if "/" in path else f"./{path}"
        )  # a path object says by its type what a string says by a slash
    if hasattr(value, "items"):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if hasattr(value, "__iter__"):
        return [_plain(one) for one in value]
    return value  # marshal says what it is


def _spawn(fd: int, whole: bool) -> None:
    """A keeper, nobody's child, with nothing of ours but the environment and ``fd``. ``whole``: as this interpreter
    is set up, because that is the container's image."""
    if not sys.executable:
        raise Error("a detached container needs the interpreter as a program, and sys.executable is empty")
    package = os.path.dirname(sys.modules["pyminicon"].__path__[0])
    # Without site and with as few modules as there can be: what they take each keeper takes.
    flags = [] if whole else ["-I", "-S"]
    code = (
        f"import sys; sys.path.append({package!r}); from pyminicon.keeper.process import main; main({_LINE})"
    )
    argv = [sys.executable, *flags, "-c", code]
    # First, and glibc clears close-on-exec also where it has that number already.
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, _LINE)]
    actions += [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in (0, 1, 2)]
    pid = os.posix_spawn(
        sys.executable, argv, os.environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_SIGNALS
    )
    try:
        os.waitpid(pid, 0)  # it forks at once, so that the keeper is nobody's child
    except ChildProcessError:  # another thread's wait has seen it
        pass


_SIGNALS = tuple(number for number in range(1, 32) if number not in (9, 19))
