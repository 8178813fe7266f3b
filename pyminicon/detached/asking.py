"""A question to a keeper, its answer, and the errors that it raises there, raised here."""

from __future__ import annotations

import _socket
import os

from pyminicon import errors
from pyminicon.detached import line, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


class NotRunning(errors.Error):
    """The container has ended; ``fields``: what is known of it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        from pyminicon.detached import state

        ended = state.ended(fields)
        super().__init__(f"container {fields['name']} is not running: {ended}")
        self.fields: dict[str, Any] = fields


class Silent(errors.Error):
    """The keeper is there and doesn't answer: it was stopped (SIGSTOP), say. ``pid``: the keeper, 0 where that can't be
    known."""

    def __init__(self, directory: str, pid: int) -> None:
        go_on = f"kill -CONT {pid}, or " if pid else ""
        name = os.path.basename(directory)
        super().__init__(f"container {name}: its keeper doesn't answer: {go_on}pyminicon rm -f {name}")
        self.pid: int = pid


PATIENCE = 10  # seconds for a keeper to say that it listens


def connect(directory: str, within: float | None = None) -> line.Line:
    """To the keeper of the container, which listens. Raises NotRunning, Silent (after ``within`` seconds, else
    PATIENCE), and Error where somebody else is there."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _gone(directory) from None
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    except BaseException:
        os.close(fd)
        raise
    line.set_patience(sock, PATIENCE if within is None else within)
    try:
        sock.connect(line.address(fd))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        raise not_running(directory) from None
    except BlockingIOError:  # as many wait already as may
        sock.close()
        raise Silent(directory, keeper_of(directory)) from None
    except OSError as error:
        sock.close()
        raise errors.Error(f"{directory}/socket: {error.strerror}") from None
    finally:
        os.close(fd)
    if line.peer_uid(sock) != os.geteuid():
        sock.close()
        raise errors.Error(f"{directory}/socket: somebody else listens there: rm -r {directory}")
    to = line.Line(sock)
    try:
        to.send({"do": "hello"})
        heard = to.receive()
    except BlockingIOError:
        pid = line.peer_pid(sock)
        to.close()
        raise Silent(directory, pid) from None
    except ConnectionResetError:
        heard = None
    if heard is None:
        to.close()
        place_left(directory)
        raise not_running(directory)
    line.set_patience(sock, 0)
    return to


def keeper_of(directory: str) -> int:
    """By its state; nobody is killed by that."""
    from pyminicon.detached import state

    fields = state.read(directory) or {}
    return fields.get("keeper", 0) if fields.get("status") in ("running", "paused") else 0


def end_keeper(directory: str, pid: int) -> None:
    """Ends a keeper that doesn't answer, and its container with it: a process is one as long as the lock is held."""
    if not pid:
        return
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with open(f"/proc/{pid}/comm") as file:
            ours = file.read() == "pyminicon-keep\n"
        if ours and place.is_kept(directory):
            import signal

            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)
    place_left(directory)


def not_running(directory: str) -> errors.Error:
    """What there is to say where no keeper answers."""
    from pyminicon.detached import state

    fields = state.read(directory)
    if fields is None:
        return _gone(directory)
    if fields["status"] in ("running", "paused"):
        return errors.Error(f"container {fields['name']}: its keeper doesn't answer at {directory}/socket")
    return NotRunning(fields)


def _gone(directory: str) -> errors.Error:
    return place.NoSuchContainer(f"no such container: {os.path.basename(directory)}")


def ask(to: line.Line, question: dict[str, Any], fds: Sequence[int] = ()) -> Any:
    """The answer to one question. Raises what the keeper has raised; ConnectionResetError where it has gone."""
    to.send(question, fds)
    return answer(to)


def answer(to: line.Line) -> Any:
    """Likewise, to what was asked before."""
    message = to.receive()
    if message is None:
        raise ConnectionResetError("the keeper has ended")
    if "error" in message:
        raise_again(message["error"])
    if "ok" not in message:
        to.end = message["end"]
        raise ConnectionResetError("the container has ended")
    return message["ok"]


def once(directory: str, question: dict[str, Any], fds: Sequence[int] = ()) -> Any:
    """One question, on a connection of its own; NotRunning where the keeper ends instead of answering."""
    to = connect(directory)
    try:
        return ask(to, question, fds)
    except ConnectionResetError:
        place_left(directory)
        raise not_running(directory) from None
    finally:
        to.close()


def place_left(directory: str, patience: float = 5.0) -> None:
    """Waits until the keeper has let go of its lock, which it does as it ends."""
    import time

    deadline = time.monotonic() + patience
    while place.is_kept(directory) and time.monotonic() < deadline:
        time.sleep(0.002)


# ---- errors


def told(error: BaseException) -> tuple[str, tuple[Any, ...]]:
    """``error`` as it goes over the line."""
    if isinstance(error, ModuleNotFoundError):
        error = errors.not_loaded(error)
    if isinstance(error, errors.LaunchError):
        return "LaunchError", (error.errno, error.stage, error.subject, error.hint)
    if isinstance(error, errors.SpecError):
        return "SpecError", (error.option, str(error).removeprefix(f"{error.option}: "))
    if isinstance(error, errors.ContainerEnded):
        return "ContainerEnded", (error.id, error.returncode, error.limit)
    if isinstance(error, errors.Error):
        return "Error", (str(error),)
    if isinstance(error, OSError):
        return "OSError", (error.errno, error.strerror, error.filename)
    return "Error", (f"unexpected {type(error).__name__}: {error}",)


def raise_again(about: tuple[str, tuple[Any, ...]]) -> NoReturn:
    """The error that :func:`told` has told of."""
    kind, arguments = about
    made: Any = OSError if kind == "OSError" else getattr(errors, kind)
    raise made(*arguments)
