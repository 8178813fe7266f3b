"""The command line: ``python -m pyminicon``. Each module is imported only by the command that needs it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

OWN_FAILURE = 125
_PIPE, _STDOUT, _NULL = -1, -2, -3  # subprocess's numbers


def say(message: str) -> None:
    """``message`` as one line on stderr."""
    # A caller without stderr must still get its exit status.
    try:
        os.write(2, f"{one_line(message)}\n".encode(errors="surrogateescape"))
    except OSError:
        pass


def one_line(message: str) -> str:
    """As it is said, whatever a path or an argument in it contains."""
    return "pyminicon: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


def sentence(error: Exception) -> str:
    """What there is to say of it: of a system call that failed on a file its path and why, without the number."""
    from pyminicon.errors import Error

    if isinstance(error, OSError) and not isinstance(error, Error) and error.strerror:
        paths = [
            one for one in (error.filename, error.filename2) if isinstance(one, (str, bytes, os.PathLike))
        ]
        return ": ".join([*(os.fsdecode(path) for path in paths), error.strerror])
    return str(error)


def leave(status: int) -> NoReturn:
    """Ends the process at once: nothing of ours needs the interpreter's own shutdown (0.8 ms)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            status = status or OWN_FAILURE
    os._exit(status)


def stdio(wanted: dict[str, Any], given: dict[str, Any]) -> bool:
    """Which descriptors go in as they are, and which through a pipe; whether there is one to serve.

    Pipes are handed over: not a byte is copied. A terminal never is: whoever holds it can read
    what is typed and, with CAP_SYS_ADMIN, put words into its input (TIOCSTI, ioctl_tty(2)). Neither is
    what has a name here: by /proc/self/fd it can be opened again for writing, and its mode changed. Nor what
    couldn't be opened again at all: /dev/stdout is a socket to nobody (ENXIO), and another user's pipe is closed to us.
    """
    stdin, stdout, stderr = (_way(fd) for fd in (0, 1, 2))
    wanted["stdin"] = stdin if given.get("interactive") else _NULL
    counted = "max_output" in wanted
    wanted["stdout"] = _PIPE if counted else stdout
    wanted["stderr"] = _PIPE if counted else stderr
    if stdout == stderr == _PIPE and _same_file(1, 2):
        wanted["stderr"] = _STDOUT  # one pipe for one file: what comes out keeps its order
    return _PIPE in (wanted["stdin"], wanted["stdout"], wanted["stderr"])


def _way(fd: int) -> int | None:
    """How one of our own descriptors goes in: as it is (None), through a pipe, or as the null device."""
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # closed: the container finds the null device there
        return None
    if name.startswith("pipe:["):
        return None if os.geteuid() in (0, os.fstat(fd).st_uid) else _PIPE
    return _NULL if name == "/dev/null" else _PIPE


def _same_file(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
