"""Who speaks with a keeper, and what each may ask: one question after the other, or one command, on each line."""

from __future__ import annotations

import _socket
import os

from pyminicon import _core, errors
from pyminicon.detached import asking, line
from pyminicon.keeper import questions
from pyminicon.keeper.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyminicon.keeper.command import Command
    from pyminicon.keeper.kinds import Keeper

_WAITING = 64  # so many may stand before the door
_PAUSE = 0.05  # seconds until it is opened again, where there was no descriptor for whoever came
_MOST_UNSENT = 4 << 20  # whoever reads no faster is let go, so that nobody else waits for him
_HELD = 0.05
_PATIENCE = 1.0  # seconds for the last words


class Client:
    """One line, and what of the answers hasn't gone yet."""

    def __init__(self, server: Server, to: line.Line) -> None:
        self.server = server
        self.line = to
        self.unsent: bytes = b""
        self.attached = False
        self.waits = False
        self.follows = False
        self.speaks_on = False
        self.command: Command | None = None
        self.worker: _core.Handle | None = None
        to.sock.setblocking(False)
        server.keeper.loop.watch(to.fileno(), self._act)

    def _act(self, events: int) -> None:
        if events & WRITE and self.unsent:
            self._flush()
        if events & ~WRITE and not self.line.sock.fileno() < 0:
            try:
                messages = self.line.arrived()
            except (errors.Error, ValueError, EOFError, TypeError):
                messages = None
            if messages is None:
                self.gone()
                return
            for message in messages:
                self._asked(message)

    def _asked(self, message: Any) -> None:
        try:
            answer = self.server.answer(self, message, self.line.take_fds())
        except Exception as error:
            self.say({"error": asking.told(error)})
            return
        if answer is not None:
            self.say({"ok": answer[0]})

    def say(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Sends a message, or keeps what doesn't go yet."""
        data = line.packed(message)
        if not self.unsent and self.line.fileno() >= 0:
            try:
                data = data[self.line.sock.sendmsg([data], line.rights(fds)) :]
            except BlockingIOError:
                pass
            except OSError:
                return
        self.unsent += data
        if len(self.unsent) > _MOST_UNSENT:
            self.gone()
        elif self.unsent:
            self.server.keeper.loop.forget(self.line.fileno())
            self.server.keeper.loop.watch(self.line.fileno(), self._act, READ | WRITE)

    def _flush(self) -> None:
        try:
            self.unsent = self.unsent[self.line.sock.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.unsent = b""
        if not self.unsent:
            self.server.keeper.loop.forget(self.line.fileno())
            self.server.keeper.loop.watch(self.line.fileno(), self._act)

    def hold(self) -> None:
        """Doesn't listen for a moment: what it has said can't be passed on as fast."""
        loop, fd = self.server.keeper.loop, self.line.fileno()
        loop.forget(fd)
        loop.after(_HELD, lambda: None if self.line.fileno() < 0 else loop.watch(fd, self._act))

    def gone(self) -> None:
        """What runs on its behalf ends with it."""
        if self.line.fileno() < 0:
            return
        self.server.clients.discard(self)
        self.server.keeper.loop.forget(self.line.fileno())
        self.line.close()
        self.unsent = b""
        if self.command is not None:
            self.command.abandoned()
        if self.worker is not None:
            self.worker.kill()
            self.server.bury(self.worker)

    def last_words(self) -> None:
        """Sends what is left, for a moment."""
        try:
            self.line.sock.settimeout(_PATIENCE)
            self.line.sock.sendall(self.unsent)
        except OSError:
            pass


class Server:
    """The socket of one container. ``commands``: those that run in it for others."""

    def __init__(self, keeper: Keeper, directory: str) -> None:
        self.keeper = keeper
        self.clients: set[Client] = set()
        self.commands: set[Command] = set()
        self._questions: dict[str, Callable[..., Any]] = questions.ALL
        self._dead: list[_core.Handle] = []
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.bind(line.address(self._directory))
        self._socket.listen(_WAITING)
        self._socket.setblocking(False)
        keeper.loop.watch(self._socket.fileno(), self._came)

    def _rest(self) -> None:
        self.keeper.loop.forget(self._socket.fileno())
        self.keeper.loop.after(_PAUSE, self._open_again)

    def _open_again(self) -> None:
        if self._socket.fileno() >= 0:
            self.keeper.loop.watch(self._socket.fileno(), self._came)

    def _came(self, _: int) -> None:
        try:
            fd, _address = self._socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError:  # no descriptor: whoever has come waits there, and would wake us without end
            self._rest()
            return
        came = _socket.socket(fileno=fd)
        if line.peer_uid(came) not in (os.geteuid(), 0):
            came.close()
            return
        self.add(line.Line(came))

    def add(self, to: line.Line, speaks_on: bool = False) -> None:
        """``speaks_on``: a Container of another process, which is told the end as well."""
        client = Client(self, to)
        client.speaks_on = speaks_on
        self.clients.add(client)

    def answer(self, client: Client, message: dict[str, Any], fds: list[int]) -> tuple[Any] | None:
        """One question's answer, or None where it comes later."""
        try:
            question = self._questions.get(message.get("do", ""))
            if question is None:
                raise errors.Error(
                    "the keeper is another version's of pyminicon, and doesn't know that question"
                )
            return question(self.keeper, client, message, fds)  # type: ignore[no-any-return]
        finally:
            for fd in fds:  # whoever needs one longer has taken it off the list
                os.close(fd)

    def shown(self, which: int, data: bytes) -> None:
        """To whoever is attached, or reads the log."""
        for client in list(self.clients):
            if client.follows:
                client.follows = client.waits = False
                client.say({"ok": self.keeper.log.total})
            if client.attached:
                client.say({"out": (which, data)})

    def bury(self, handle: _core.Handle) -> None:
        """Lets go of what was killed, once it is dead."""
        self._dead.append(handle)
        self._dead = [one for one in self._dead if one.poll() is None]

    def commands_end(self) -> None:
        """With their container."""
        for command in list(self.commands):
            command.ended(last=True)

    def close(self, end: dict[str, Any]) -> None:
        """The last words to whoever waits, and nobody is let in any more."""
        self.keeper.loop.forget(self._socket.fileno())
        self._socket.close()
        try:
            os.unlink(f"{self.keeper.room.path}/socket")
        except OSError:
            pass
        for client in list(self.clients):
            if client.attached or client.waits:
                client.say({"end": end, "ok": end})
            elif client.speaks_on:
                client.say({"end": end})
        for client in list(self.clients):
            if client.unsent:
                client.last_words()
