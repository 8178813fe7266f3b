"""A container that this process has and goes on having, within reach of ``pyminicon exec ID``.

One thread serves all that are lent, as a keeper serves its one. Each has a room beneath ``lent/``, locked as long as
this process lives; ``ps`` doesn't show it, and nobody ends the container this way.
"""

from __future__ import annotations

import os
import threading

from pyminicon import errors
from pyminicon.detached import place
from pyminicon.keeper import questions
from pyminicon.keeper.loop import Loop, read_some
from pyminicon.keeper.serving import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PATIENCE = 5.0  # seconds for the thread to let go of a container; it has no longer work
_SERVED = ("exec", "of command", "terminal")


class _Box:
    """The container as far as commands depend on it, for what a keeper calls its box."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._handle: Any = box._handle
        self.id: str = box.id
        self.pid: int = box.pid
        self.environment: dict[str, str] = {**box._plan.environment, **(box._spec.env or {})}
        if self.environment.get("HOSTNAME") == box._plan.id:
            self.environment["HOSTNAME"] = box.id
        self.cwd: str = os.fsdecode(box._spec.cwd or box._plan.exec_spec[3])

    def end(self) -> tuple[str, int, str | None]:
        code = self._box.returncode
        return self.id, -9 if code is None else code, self.ended_by()

    def ended_by(self) -> str | None:
        limit: str | None = self._box.limit
        return limit


class _Room:
    """Where its socket lies."""

    def __init__(self, path: str) -> None:
        self.path: str = path


class Lent:
    """One container; ``end`` before it is closed. Raises OSError or Error where there is no place for its socket."""

    def __init__(self, box: Any) -> None:
        self.box: _Box = _Box(box)
        self.fields: dict[str, Any] = {"status": "running", "name": box.id}
        where = place.top(make=True)
        assert where is not None
        lent = f"{where}/{place.LENT}"
        _sweep(lent)
        self.room: _Room = _Room(f"{lent}/{box.id}")
        os.mkdir(self.room.path, 0o700)
        try:
            self._lock: int = place.take(self.room.path)
            self.loop: Loop = _enter(self)
            try:
                self.server: Any = None
                _do(self._open)
            except BaseException:
                _leave(self)
                os.close(self._lock)
                raise
        except BaseException:
            os.rmdir(self.room.path)
            raise

    def _open(self) -> None:
        self.server = Server(self, self.room.path)  # type: ignore[arg-type]
        self.server._questions = {name: questions.ALL[name] for name in _SERVED} | dict.fromkeys(
            questions.ALL.keys() - set(_SERVED), self._refused
        )

    def _refused(self, *_: object) -> NoReturn:
        raise errors.Error(f"container {self.box.id} is process {os.getpid()}'s: that is for it to do")

    def box_end(self) -> tuple[str, int, str | None]:
        """What ContainerEnded is made of."""
        return self.box.end()

    def end(self) -> None:
        """Nobody reaches it any more, and what was begun this way ends. Waits for that."""
        if self.loop.over or self not in _all:
            return
        try:
            _do(self._close)
        finally:
            _leave(self)
            os.close(self._lock)
            try:
                os.rmdir(self.room.path)
            except OSError:
                pass

    def _close(self) -> None:
        for command in list(self.server.commands):
            command.abandoned()
        self.server.commands_end()
        self.server.close({"returncode": None, "limit": None})
        for client in list(self.server.clients):
            client.gone()
        os.close(self.server._directory)


# ---- the thread --------------------------------------------------------------------------------------------

_all: set[Lent] = set()
_lock = threading.Lock()
_turn: _Turn | None = None


class _Turn:
    """The loop of the thread, and how others have something done in it."""

    def __init__(self) -> None:
        self.loop: Loop = Loop()
        self.wishes: list[Callable[[], None]] = []
        self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.loop.watch(self._woken[0], self._wake)
        threading.Thread(target=self._run, name="pyminicon-lending", daemon=True).start()

    def _run(self) -> None:
        try:
            self.loop.run()
        finally:
            self.close()

    def _wake(self, _: int) -> None:
        read_some(self._woken[0], 4096)
        while self.wishes:
            self.wishes.pop(0)()

    def wish(self, act: Callable[[], None]) -> None:
        self.wishes.append(act)
        os.write(self._woken[1], b"x")

    def close(self) -> None:
        for fd in self._woken:
            os.close(fd)


def _enter(lent: Lent) -> Loop:
    global _turn
    with _lock:
        if _turn is None:
            _turn = _Turn()
        _all.add(lent)
        return _turn.loop


def _leave(lent: Lent) -> None:
    """The thread ends with the last."""
    global _turn
    with _lock:
        _all.discard(lent)
        if not _all and _turn is not None:
            loop = _turn.loop
            _turn.wish(lambda: setattr(loop, "over", True))
            _turn = None


def _do(act: Callable[[], None]) -> None:
    """In the thread; what it raises is raised here."""
    done = threading.Event()
    raised: list[BaseException] = []

    def perform() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)
        done.set()

    assert _turn is not None
    _turn.wish(perform)
    if not done.wait(_PATIENCE):
        raise errors.Error("the thread that lends containers hangs")
    if raised:
        raise raised[0]


def _after_fork() -> None:
    """A child has neither the thread nor the containers: it lets go of the sockets and locks, so that nobody knocks
    in vain when the parent has ended."""
    global _turn, _lock
    _lock = threading.Lock()
    for lent in _all:
        if lent.server is not None:
            lent.server._socket.close()
            os.close(lent.server._directory)
        os.close(lent._lock)
    _all.clear()
    if _turn is not None:
        _turn.close()
        _turn = None


os.register_at_fork(after_in_child=_after_fork)


def _sweep(lent: str) -> None:
    """What processes left that were killed."""
    os.makedirs(lent, 0o700, exist_ok=True)
    for name in os.listdir(lent):
        path = f"{lent}/{name}"
        # One that is just being made isn't locked yet: it has no socket, and nothing can be told by its age alone.
        if os.path.exists(f"{path}/socket") and not place.is_kept(path):
            try:
                os.unlink(f"{path}/socket")
                os.rmdir(path)
            except OSError:  # somebody else does the same
                pass
