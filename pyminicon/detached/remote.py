"""A detached container as its callers' objects know one: what the core's Handle offers, asked of the keeper."""

from __future__ import annotations

import os
import select
import time

from pyminicon import errors
from pyminicon.detached import asking, line, state
from pyminicon.options import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_NO_LIMIT = (1 << 64) - 1
_NO_USAGE = (0.0, None, None, None, None, None, None, None, None)


class _Far:
    """What a handle of a container and of a command have in common."""

    trace: list[tuple[str, int]] | None = None

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def owned(self) -> bool:
        """False in a process that was forked from the one that made it."""
        return self._pid == os.getpid()


class Command(_Far):
    """A command that runs at the other end of ``to``; ``pidfd`` is readable when it has ended."""

    def __init__(self, container: Container, to: line.Line, about: dict[str, Any]) -> None:
        super().__init__()
        self._container = container
        self._line = to
        fds = iter(to.take_fds())
        self._streams = [next(fds) if ours else -1 for ours in about["streams"]]
        self.id: str = about["id"]
        self.pid: int = about["pid"]
        self.host_pid: int | None = about["host_pid"]
        self.startup: float = about["startup"]
        self._begun = time.monotonic()
        self._end: dict[str, Any] | None = None

    @property
    def pidfd(self) -> int:
        return self._line.fileno()

    @property
    def takes_commands(self) -> bool:
        return False

    def take_stream(self, which: int) -> int:
        fd, self._streams[which] = self._streams[which], -1
        return fd

    def _say(self, **words: Any) -> bool:
        try:
            self._line.send({"do": "of command", **words})
        except OSError:
            return False
        return True

    def send_signal(self, number: int) -> bool:
        return self._end is None and self._say(signal=number)

    def kill(self) -> bool:
        return self._end is None and self._say(kill=True)

    def _hear(self) -> dict[str, Any] | None:
        """The next message; its end where the keeper has gone."""
        message: dict[str, Any] | None = self._line.receive()
        if message is None:
            message = {"end": {"returncode": -9, "limit": None, "usage": None}}
        if "end" in message:
            self._end = message["end"]
        return message

    def poll(self) -> tuple[int | None, str | None] | None:
        if self._end is None and select.select([self._line.fileno()], [], [], 0)[0]:
            self._hear()
        return None if self._end is None else (self._end["returncode"], self._end["limit"])

    def wait(self, timeout: float | None) -> bool:
        if self._end is not None:
            return True
        waiting = select.poll()
        waiting.register(self._line.fileno(), select.POLLIN)
        return bool(waiting.poll(None if timeout is None else max(timeout, 0.0) * 1000))

    def usage(self) -> tuple[Any, ...]:
        if self._end is None and self._say(usage=True):
            while self._end is None:
                message = self._hear()
                if message is not None and "usage" in message:
                    return tuple(message["usage"])
        assert self._end is not None
        return self._end["usage"] or (time.monotonic() - self._begun, *_NO_USAGE[1:])

    def end(self) -> bool:
        """Kills it, and waits until all that has come of it is gone."""
        self.kill()
        while self._end is None:
            self._hear()
        return True

    def give_up(self) -> None:
        pass

    def hopeless(self, killed_for: float) -> bool:
        return False

    def release(self) -> None:
        for which in range(3):
            fd = self.take_stream(which)
            if fd >= 0:
                os.close(fd)
        if self._end is not None:
            self._line.close()

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is not None and self.owned:
            line.close()


class Begun:
    """A command that was asked for: ``fd`` is readable when there is news."""

    def __init__(self, container: Container, to: line.Line) -> None:
        self._container = container
        self.line: line.Line = to
        self._handed_over = False

    @property
    def fd(self) -> int:
        return self.line.fileno()

    def result(self) -> Command | None:
        """It, once it runs."""
        if not select.select([self.line.fileno()], [], [], 0)[0]:
            return None
        return self.wait()

    def wait(self) -> Command:
        """Likewise, however long that takes."""
        try:
            about = asking.answer(self.line)
        except ConnectionResetError:
            raise _shut_down() from None
        self._handed_over = True
        return Command(self._container, self.line, about)

    def __del__(self) -> None:
        if not self._handed_over and self._container.owned:  # whoever polls it has stopped by now
            self.line.close()

    def given_up(self) -> Command:
        """It, which is being ended, whatever has become of it."""
        about: Any = {"streams": [], "id": self._container.id, "pid": 0, "host_pid": None, "startup": 0.0}
        try:
            about = asking.answer(self.line)
        except (errors.Error, OSError):
            pass
        self._handed_over = True
        return Command(self._container, self.line, about)


class Worker:
    """A process inside that works on files; it ends with its line."""

    def __init__(self, to: line.Line) -> None:
        self._line = to

    def kill(self) -> None:
        self._line.close()


class Container(_Far):
    """The container whose state lies in ``directory``."""

    def __init__(self, directory: str, to: line.Line | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._line = to or asking.connect(directory)
        self.about: dict[str, Any] = asking.ask(self._line, {"do": "about"})
        self.pidfd: int
        (self.pidfd,) = self._line.take_fds()
        self.id: str = self.about["id"]
        self.pid: int = self.about["pid"]
        self.startup: float = self.about["startup"]
        self.uid: int = self.about["uid"]
        self.counts_cpu_time: bool = self.about["counts_cpu_time"]
        self._end: tuple[int, str | None] | None = None

    host_pid = None
    takes_commands = True

    @property
    def ending(self) -> bool:
        return self._over(0.0)

    def take_stream(self, which: int) -> int:
        """Its output is in the log."""
        return -1

    # ---- what is asked of the keeper

    def _ask(self, do: str, **words: Any) -> Any:
        try:
            return asking.ask(self._line, {"do": do, **words})
        except OSError as error:
            if isinstance(error, errors.LaunchError) or not self._over(5.0):
                raise
            raise _shut_down() from None

    def _new_line(self) -> line.Line:
        try:
            return asking.connect(self._directory)
        except errors.Error:
            if self._over(0.0):
                raise _shut_down() from None
            raise

    def begin(
        self,
        told: Any,
        who: Any,
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        terminal: bool,
        trace: bool,
        wall_time: float | None,
        cpu_time: float,
        max_output: int,
    ) -> Begun:
        """Asks for a command, and doesn't wait for it."""
        if pass_fds:
            raise errors.SpecError("pass_fds", "can't be given to a container that another process keeps")
        request = (tuple(told), who, terminal, wall_time, cpu_time, max_output)
        streams = [None if fd >= 0 else fd for fd in stdio]
        to = self._new_line()
        try:
            fds = [fd for fd in stdio if fd >= 0]
            to.send({"do": "command", "request": request, "streams": streams}, fds)
        except BaseException:
            to.close()
            raise
        return Begun(self, to)

    def start_command(
        self,
        told: Any,
        who: Any,
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        terminal: bool,
        trace: bool,
        wall_time: float | None,
        cpu_time: float,
        max_output: int,
        cancel_fd: int = -1,
    ) -> Command:
        begun = self.begin(told, who, stdio, pass_fds, terminal, trace, wall_time, cpu_time, max_output)
        try:
            if cancel_fd >= 0 and not _comes_before(begun.fd, cancel_fd):
                raise errors.LaunchError(110, "prepare")
            return begun.wait()
        except BaseException:
            begun.line.close()
            raise

    def run_command(
        self,
        told: Any,
        who: Any,
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        trace: bool,
        input: bytes | None,
        timeout: float | None,
        wall_time: float | None,
        cpu_time: float,
        max_output: int,
        collect: None,
        collect_max: int,
        cancel_fd: int = -1,
        trim: bool = False,
    ) -> tuple[Any, ...]:
        from pyminicon.detached.conversation import Conversation

        deadline = None if timeout is None else time.monotonic() + timeout
        most = _NO_LIMIT if trim else max_output
        made = self.start_command(
            told, who, stdio, pass_fds, False, trace, wall_time, cpu_time, most, cancel_fd
        )
        talk = Conversation(made, input, max_output if trim else None, most != _NO_LIMIT)
        try:
            code, limit = talk.go_on(deadline, cancel_fd)
            kept = [talk.captured[which].value() if which in talk.captured else None for which in (1, 2)]
            dropped = tuple(talk.captured[which].dropped if which in talk.captured else 0 for which in (1, 2))
            usage = made.usage()[:7]
        except BaseException:
            made.end()
            raise
        finally:
            made.release()
        return code, *kept, limit, talk.timed_out, usage, made.startup, None, None, dropped

    def serve_files(self, who: Any, strict: bool, socket: int) -> Worker:
        to = self._new_line()
        try:
            asking.ask(to, {"do": "files", "who": who, "strict": strict}, [socket])
        except ConnectionResetError:
            to.close()
            raise _shut_down() from None
        except BaseException:
            to.close()
            raise
        return Worker(to)

    def read_inside(self, path: str, most: int, timeout: float | None) -> bytes | None:
        found: bytes | None = self._ask("read", path=path, most=most, patience=timeout)
        return found

    def open_terminal(self) -> tuple[int, int] | None:
        if not self._ask("terminal"):
            return None
        outer, inner = self._line.take_fds()
        return outer, inner

    def socket_inside(
        self, family: int, host: bytes, port: int, listens: bool, timeout: float | None
    ) -> tuple[int, bool]:
        pending: bool = self._ask("socket", request=(int(family), host, port, listens, timeout))
        (fd,) = self._line.take_fds()
        return fd, pending

    def send_signal(self, number: int) -> bool:
        return self._told(lambda: self._ask("signal", signal=number))

    def terminate(self, number: int) -> None:
        self._told(lambda: self._ask("terminate"))

    def kill(self) -> bool:
        return self._told(lambda: self._ask("signal", signal=9))

    def _told(self, act: Any) -> bool:
        """False where it has ended: nothing needs to be said then."""
        if self._over(0.0):
            return False
        try:
            act()
        except errors.LaunchError:
            return False
        return True

    def freeze(self, frozen: bool) -> bool:
        return self._told(lambda: self._ask("pause", paused=frozen))

    def update(self, changes: Iterable[tuple[int, bytes, bytes]]) -> bool:
        return self._told(lambda: self._ask("update", changes=[tuple(one) for one in changes]))

    def usage(self) -> tuple[Any, ...]:
        try:
            return tuple(self._ask("stats"))
        except errors.LaunchError:
            return _NO_USAGE

    # ---- its end

    def _over(self, patience: float) -> bool:
        if self.pidfd < 0:
            return True
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(patience * 1000))

    def poll(self) -> tuple[int | None, str | None] | None:
        """From its state, which the keeper writes as it leaves."""
        if self._end is None and self._over(0.0):
            asking.place_left(self._directory)
            fields = state.read(self._directory) or {"returncode": None, "limit": None}
            self._end = fields["returncode"], fields["limit"]
        return self._end

    def wait(self, timeout: float | None) -> bool:
        waiting = select.poll()
        if self.pidfd >= 0:
            waiting.register(self.pidfd, select.POLLIN)
            return bool(waiting.poll(None if timeout is None else max(timeout, 0.0) * 1000))
        return True

    def end(self) -> bool:
        """Who lets go of it doesn't end it."""
        return True

    def close_living(self) -> bool:
        """Likewise."""
        return True

    def hopeless(self, killed_for: float) -> bool:
        return False

    def give_up(self) -> None:
        pass

    def release(self) -> None:
        self._line.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def __del__(self) -> None:
        if getattr(self, "pidfd", -1) >= 0 and self.owned:
            self.release()


def _shut_down() -> errors.LaunchError:
    import errno

    return errors.LaunchError(errno.ESHUTDOWN, "command")


def _comes_before(fd: int, other: int) -> bool:
    """Whether ``fd`` is readable before ``other`` is."""
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    waiting.register(other, select.POLLIN)
    return fd in dict(waiting.poll())


class _NoImage:
    """Whose locks its keeper has."""

    lock_fds: tuple[int, ...] = ()


class Plan:
    """What is known here of the plan of a container that was made elsewhere."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.id: str = about["id"]
        self.environment: dict[str, str] = about["environment"]
        self.stop_signal: int = about["stop_signal"]
        self.told: tuple[Any, ...] = ([], [], [], about["cwd"])
        self.fields: dict[str, Any] = {"mounts": [], "disk_parent": "", **about["plan"]}
        self.rootfs: _NoImage = _NoImage()


def spec_of(about: dict[str, Any]) -> Spec:
    """What was asked for, as far as commands in it depend on that."""
    spec = Spec()
    spec.image, spec.cwd, spec.init = about["image"], about["cwd"], True
    return spec
