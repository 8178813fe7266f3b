"""A detached container as its callers' objects know one: what the core's Handle offers, asked of the keeper."""

from __future__ import annotations

import os
import select
import time

from pyminicon import _core, errors, patience
from pyminicon.detached import asking, line, place, state
from pyminicon.detached.remote_command import NO_USAGE, Begun, Command, Far, Worker, shut_down
from pyminicon.options import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyminicon.result import Refusal


class Container(Far):
    """The container whose state lies in ``directory``. ``about``: what its keeper has told on the line ``to``; it may
    have ended since. Raises NotRunning where it has to be asked and has ended."""

    def __init__(
        self, directory: str, to: line.Line | None = None, about: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._directory = directory
        self._line: line.Line = to or asking.connect(directory)
        self.about: dict[str, Any] = self._asked_about() if about is None else about
        self.pidfd: int
        (self.pidfd,) = self._line.take_fds()
        self.id: str = self.about["id"]
        self.pid: int = self.about["pid"]
        self.startup: float = self.about["startup"]
        self.uid: int = self.about["uid"]
        self.counts_cpu_time: bool = self.about["counts_cpu_time"]
        self._end: tuple[int, str | None] | None = None

    def _asked_about(self) -> dict[str, Any]:
        try:
            about: dict[str, Any] = asking.ask(self._line, {"do": "about"})
            return about
        except ConnectionResetError:
            self._line.close()
            asking.place_left(self._directory)
            raise asking.not_running(self._directory) from None
        except BaseException:
            self._line.close()
            raise

    host_pid = None
    takes_commands = True

    @property
    def ending(self) -> bool:
        return not self.let_go and self._over(0.0)

    def take_stream(self, which: int) -> int:
        """Its output is in the log."""
        return -1

    # ---- what is asked of the keeper

    def _ask(self, do: str, **words: Any) -> Any:
        self._insist_on_hold()
        try:
            if self._line.fileno() < 0:
                self._line = self._new_line()
            line.set_patience(self._line.sock, asking.PATIENCE)
            return asking.ask(self._line, {"do": do, **words})
        except BlockingIOError:
            self._line.close()  # its late answer would be taken for the next one's
            raise asking.Silent(self._directory, asking.keeper_of(self._directory)) from None
        except OSError as error:
            if isinstance(error, errors.LaunchError) or not self._over(5.0):
                raise
            raise shut_down() from None

    def _insist_on_hold(self) -> None:
        if self.let_go and self.poll() is None:
            raise not_held(self.id)
        if self.let_go:
            raise shut_down()

    def _new_line(self, within: float | None = None) -> line.Line:
        self._insist_on_hold()
        try:
            return asking.connect(self._directory, within)
        except errors.Error:
            if self._over(0.0):
                raise shut_down() from None
            raise

    def begin(self, request: _core.Request, within: float | None = None) -> Begun:
        """Asks for a command, and doesn't wait for it. Raises Silent after ``within`` seconds."""
        if request.pass_fds:
            raise errors.SpecError("pass_fds", "can't be given to a container that another process keeps")
        if request.clock is not None:
            raise errors.SpecError(
                "cpu_time", "of one command takes a container that this version has started"
            )
        words = {
            "exec_spec": request.exec_spec,
            "who": request.who,
            "terminal": request.terminal,
            "wall_time": request.wall_time,
            "cpu_time": request.cpu_time,
            "max_output": request.max_output,
        }
        stdio = request.stdio
        streams = [None if fd >= 0 else fd for fd in stdio]
        to = self._new_line(within)
        try:
            fds = [fd for fd in stdio if fd >= 0]
            to.send({"do": "command", "request": words, "streams": streams}, fds)
        except BaseException:
            to.close()
            raise
        return Begun(self, to)

    def start_command(self, request: _core.Request, deadline: float | None = None) -> Command:
        """Raises _Late where there is no answer at the deadline."""
        within = None if deadline is None else min(max(deadline - time.monotonic(), 1e-3), asking.PATIENCE)
        try:
            begun = self.begin(request, within)
        except asking.Silent:
            if deadline is None or time.monotonic() < deadline:
                raise
            raise _Late from None
        cancel_fd = request.cancel_fd
        try:
            if not _comes_before(begun.fd, cancel_fd, deadline):
                raise errors.LaunchError(110, "prepare")
            return begun.wait()
        except BaseException:
            begun.line.close()
            raise

    def run_command(self, request: _core.Request) -> _core.Outcome:
        from pyminicon.result import outcome_of

        deadline = None if request.timeout is None else time.monotonic() + request.timeout
        trimmed = request.max_output if request.trim else None
        if request.trim:
            request.max_output = None
        try:
            made: Any = self.start_command(request, deadline)
        except _Late:
            return _core.Outcome(
                returncode=None,
                stdout=None,
                stderr=None,
                limit=None,
                timed_out=True,
                usage=NO_USAGE,
                startup=0.0,
            )
        try:
            supervisor = _core.Supervisor(
                made,
                (made.take_stream(0), made.take_stream(1), made.take_stream(2)),
                input=request.input or b"",
                max_output=trimmed,
                trim=request.trim,
                timeout=None if deadline is None else deadline - time.monotonic(),
                cancel_fd=request.cancel_fd,
                relayed=request.max_output is not None,
            )
            supervisor.go_on(None)
            return outcome_of(supervisor, made)
        except BaseException:
            made.end()
            raise
        finally:
            made.release()

    def serve_files(self, who: Any, strict: bool, socket: int) -> Worker:
        to = self._new_line()
        try:
            asking.ask(to, {"do": "files", "who": who, "strict": strict}, [socket])
        except ConnectionResetError:
            to.close()
            raise shut_down() from None
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

    def refused(self) -> list[tuple[str, int, str]]:
        """Of connections outward: host, port, reason."""
        try:
            found: list[tuple[str, int, str]] = self._ask("refused")
        except errors.LaunchError:
            return []
        return found

    def usage(self) -> tuple[Any, ...]:
        try:
            return tuple(self._ask("stats"))
        except errors.LaunchError:
            return NO_USAGE

    # ---- its end

    def _over(self, seconds: float) -> bool:
        if self.pidfd < 0:
            return True
        return patience.is_readable(self.pidfd, seconds)

    def poll(self) -> tuple[int | None, str | None] | None:
        """From its state, which the keeper writes as it leaves."""
        if self.let_go:
            over = not place.is_kept(self._directory)
        else:
            over = self._end is None and self._over(0.0)
        if self._end is None and over:
            asking.place_left(self._directory)
            self._end = self._how()
        return self._end

    def _how(self) -> tuple[int, str | None]:
        """Its end. Of one that was removed meanwhile its keeper has told it, unless that was killed, too."""
        fields = state.read(self._directory) or self._last_word() or {"returncode": -9, "limit": None}
        if fields.get("status") in ("running", "paused"):  # its keeper was stopped
            raise asking.Silent(self._directory, fields["keeper"])
        return fields["returncode"], fields["limit"]

    def _last_word(self) -> dict[str, Any] | None:
        while self._line.end is None and self._line.fileno() >= 0:
            message = self._line.receive()
            if message is None:
                break
            self._line.end = message.get("end")
        return self._line.end

    def wait(self, timeout: float | None) -> bool:
        if self.pidfd >= 0:
            return patience.is_readable(self.pidfd, timeout)
        if self.poll() is None:  # it goes on, and nobody here sees its end
            self._insist_on_hold()
        return True

    def over(self) -> bool:
        """Its pidfd says so."""
        return True

    def end(self) -> bool:
        """Whoever lets go of it doesn't end it."""
        return True

    def close_living(self) -> bool:
        """Likewise."""
        return True

    def hopeless(self, killed_for: float) -> bool:
        return False

    def give_up(self) -> None:
        pass

    @property
    def has_commands(self) -> bool:
        """Whether something goes on that was begun through it."""
        return any(command.poll() is None for command in self._all_commands())

    def _all_commands(self) -> list[Command]:
        return [command for ref in list(self.commands.values()) if (command := ref()) is not None]

    def release(self) -> None:
        """What was begun through it ends first."""
        self.let_go = True
        if self.owned:
            going = [command for command in self._all_commands() if command.poll() is None]
            for command in going:
                command.kill()
            while going and going[-1].end():
                going.pop()
            for command in going:  # its keeper doesn't answer
                command.give_up()
        self._line.close()
        pidfd, self.pidfd = self.pidfd, -1  # before it is closed: another thread may come by
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        if getattr(self, "pidfd", -1) >= 0 and self.owned:
            self.release()


def not_held(container: str) -> errors.Error:
    """What there is to say of one that was closed and goes on."""
    return errors.Error(f"container {container} was let go of by close(): pyminicon.attach gives it again")


class _Late(Exception):
    """The deadline has come before the keeper's word."""


def _comes_before(fd: int, other: int, deadline: float | None) -> bool:
    """Whether ``fd`` is readable before ``other`` (or -1) is. Raises _Late."""
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    if other >= 0:
        waiting.register(other, select.POLLIN)
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise _Late
        if ready := waiting.poll(patience.poll_ms(left)):
            return fd in dict(ready)


class Served:
    """What the keeper serves of the container's network."""

    def __init__(self, of: Container) -> None:
        self._of = of
        self.ports: dict[int, tuple[str, int]] = of.about["ports"]

    @property
    def refused(self) -> list[Refusal]:
        """The last connections outward that weren't let through."""
        from pyminicon.result import Refusal

        return [Refusal(*one) for one in self._of.refused()]

    def end(self) -> None:
        """It goes on as long as the container does."""


class _NoImage:
    """Whose locks its keeper has."""

    lock_fds: tuple[int, ...] = ()


class Plan:
    """What is known here of the plan of a container that was made elsewhere."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.id: str = about["id"]
        self.environment: dict[str, str] = about["environment"]
        self.stop_signal: int = about["stop_signal"]
        self.exec_spec: tuple[Any, ...] = ([], [], [], about["cwd"])
        self.fields: dict[str, Any] = {"mounts": [], "disk_parent": "", **about["plan"]}
        self.rootfs: _NoImage = _NoImage()


def spec_of(about: dict[str, Any]) -> Spec:
    """What was asked for, as far as commands in it depend on that."""
    spec = Spec()
    spec.image, spec.cwd, spec.init = about["image"], about["cwd"], True
    return spec
