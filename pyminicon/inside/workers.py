"""File workers: processes inside a container that do what is asked of its files, with the rights of one user.

An operation has one worker to itself until it is over. Whatever a file system does not answer holds that worker and
no one else: after :data:`PATIENCE` it is killed, the caller gets a TimeoutError, and the next call another worker.
"""

from __future__ import annotations

import _thread
import array
import errno
import os
import socket
import stat

from pyminicon.inside import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeAlias

    class Ender(Protocol):
        """What ends a worker's process."""

        def kill(self) -> object:
            """At once, and without waiting for it."""

    Key: TypeAlias = tuple[str | None, bool]  # the user, and whether modes hold for root
    Start: TypeAlias = Callable[[str | None, bool, int], Ender]

#: Seconds without any news after which what is asked of a file is given up.
PATIENCE: float = 10.0

_MOST_IDLE = 4  # of one user; they are a few pages each
_MOST_USERS = 8
_ONE_FD = socket.CMSG_SPACE(array.array("i", [0]).itemsize)


class Gone(ConnectionResetError):
    """The worker has died, of itself or because somebody inside killed it; ``taken``: it may have begun."""

    def __init__(self, told: str | None, taken: bool) -> None:
        super().__init__(errno.ECONNRESET, "the file worker has ended", *([told] if told else []))
        self.taken: bool = taken


class Worker:
    """The caller's end of one."""

    def __init__(self, key: Key, ours: socket.socket, ender: Ender) -> None:
        self.key: Key = key
        self.socket: socket.socket = ours
        self._ender: Ender = ender

    def send(self, request: wire.Request) -> None:
        """Raises Gone where nobody is there any more."""
        rights = []
        if request.fd >= 0:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [request.fd]))]
        try:
            self.socket.sendmsg([request.packed()], rights)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone(request.told, taken=False) from None

    def receive(self, told: str | None) -> wire.Reply:
        """The answer. As the socket says: waits (and raises TimeoutError), or raises BlockingIOError."""
        try:
            message, rights, _, _ = self.socket.recvmsg(wire.MOST_REPLY, _ONE_FD, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            message, rights = b"", []
        fds = array.array("i")
        for level, kind, data in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        for fd in fds[1:]:
            os.close(fd)
        if len(message) < 8:
            for fd in fds[:1]:
                os.close(fd)
            raise Gone(told, taken=True)
        reply = wire.Reply(message, fds[0] if fds else -1)
        if reply.fd >= 0 and (reply.error or not stat.S_ISREG(os.fstat(reply.fd).st_mode)):
            os.close(reply.fd)
            raise wire.failure(errno.EPROTO, told)
        return reply

    def exchange(self, request: wire.Request) -> wire.Reply:
        """One request and its answer, within PATIENCE."""
        self.socket.settimeout(PATIENCE)
        self.send(request)
        try:
            return self.receive(request.told)
        except TimeoutError:
            raise timeout(request.told) from None

    def hang_up(self) -> None:
        """Whoever waits for it, in any thread, is told that it has gone."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def discard(self) -> None:
        """It is of no use any more: it may hang, or be in the midst of something."""
        self.socket.close()
        self._ender.kill()


def timeout(told: str | None) -> OSError:
    """What is raised where a file system doesn't answer."""
    return wire.failure(errno.ETIMEDOUT, told)


class Workers:
    """The workers of one container that wait for something to do."""

    def __init__(self, start: Start) -> None:
        self._start: Start = start
        self._lock = _thread.RLock()  # an iteration that is forgotten gives its worker back at any moment
        self._pid = os.getpid()
        self._idle: dict[Key, list[Worker]] = {}

    def waiting(self, key: Key) -> Worker | None:
        """One that waits, now the asker's alone, until it is given back or discarded."""
        with self._lock:
            if self._pid != os.getpid():  # those are our parent's: two would talk with one
                self._pid = os.getpid()
                for worker in self._all():
                    worker.socket.close()
            idle = self._idle.get(key)
            return idle.pop() if idle else None

    def start(self, key: Key) -> Worker:
        """A new one, likewise."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            with theirs:
                return Worker(key, ours, self._start(*key, theirs.fileno()))
        except BaseException:
            ours.close()
            raise

    def insist(self, key: Key) -> None:
        """Called where a worker has died: raises what there is to say if all of its container has."""
        self.give(self.start(key))

    def give(self, worker: Worker) -> None:
        """It has answered all that it was asked."""
        with self._lock:
            if self._pid == os.getpid() and len(self._idle) <= _MOST_USERS:
                waiting = self._idle.setdefault(worker.key, [])
                if len(waiting) < _MOST_IDLE:
                    waiting.append(worker)
                    return
        worker.socket.close()  # it ends of that

    def _all(self) -> list[Worker]:
        found = [worker for waiting in self._idle.values() for worker in waiting]
        self._idle.clear()
        return found

    def close(self) -> None:
        """All that wait end; those at work end with their container."""
        with self._lock:
            for worker in self._all():
                worker.socket.close()
