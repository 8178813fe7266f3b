"""One container and all that is known of it: started, watched, logged, ended."""

from __future__ import annotations

import os
import time

from pyminicon import errors
from pyminicon.detached import line, log, state
from pyminicon.keeper import layer, questions
from pyminicon.keeper.box import Box
from pyminicon.keeper.loop import Loop, read_some
from pyminicon.keeper.record import Log
from pyminicon.keeper.room import Room
from pyminicon.keeper.serving import Server
from pyminicon.keeper.starting import fields_of, options_of, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STOP_PATIENCE = 10  # seconds, docker's
_KILL_PATIENCE = 5.0
_MOST_UNFED = 1 << 20
_UNREAD = 0.02  # seconds until somebody looks again whether there is room for more input


class Keeper:
    """``box``: the container. ``fields``: its state. ``line_fd``: the line to whoever has asked for it."""

    def __init__(self, request: dict[str, Any], line_fd: int) -> None:
        self.line: int = line_fd
        self.loop: Loop = Loop()
        self.wish: dict[str, Any] = request["wish"]
        log.check_size("log_max_size", self.wish["log_max_size"])
        self.room: Room = Room(self.wish["name"])
        self.fields: dict[str, Any] = {}
        try:
            self._start(request)
        except BaseException as error:
            self.room.drop(self.fields)
            if isinstance(error, OSError) and not isinstance(error, errors.Error):
                raise errors.Error(f"state of containers: {self.room.where}: {error.strerror}") from None
            raise

    def _start(self, request: dict[str, Any]) -> None:
        created = time.time()
        self.log: Log = Log(self.room.path, self.wish["log_max_size"])
        args, options = request["args"], options_of(request, self.wish)
        # The process that plans may hang on a file system; what is told by a lock or an end must not hang with it.
        self.box: Box = started(args, options, self.wish, [self.line, *self.room.fds()])
        try:
            self._settle(args, options, created)
        except BaseException:
            self.box.close()
            raise

    def _settle(self, args: Any, options: dict[str, Any], created: float) -> None:
        box = self.box
        disk_parent = box.plan_fields().get("disk_parent")
        self.layer: str | None = layer.own_directory(disk_parent)
        layer.sweep(disk_parent)
        box.before_burial = self._keep_layer
        self.fields = fields_of(box, args, options, self.wish, created)
        self.server: Server = Server(self, self.room.path)
        state.reserve(self.room.path, self.fields)
        state.write(self.room.path, self.fields)
        self.room.publish(box.id)
        self.outputs: dict[int, int] = {}
        out = box.stdout if box.terminal is None else box.terminal.fileno()
        for which, fd in ((1, out), (2, box.stderr)):
            if fd >= 0:
                os.set_blocking(fd, False)
                self.outputs[fd] = which
                self.loop.watch(fd, self._shower(fd))
        self.loop.watch(box.pidfd, lambda _: self.ended())
        self._unfed = b""
        self._feeding = False

    def greet(self, to: line.Line) -> None:
        """Whoever has asked for the container may go on asking on the same line."""
        if self.wish["speaks_on"]:
            to.send({"ok": questions.about(self)}, [self.box.pidfd])
        else:
            to.send({"ok": self.fields})
        self.server.add(to, self.wish["speaks_on"])

    def abandon(self) -> None:
        """Nobody wants it any more: nothing of it stays."""
        self.wish["remove"] = True
        self.kill()

    def serve(self) -> None:
        """Until it has ended."""
        self._mind_signals()
        self.loop.run()

    def _mind_signals(self) -> None:
        """Whoever ends us, a system that shuts down say, means the container."""
        import _signal  # type: ignore[import-not-found]

        self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._woken[1])
        for number in (2, 15):
            _signal.signal(number, lambda *_: None)
        _signal.signal(1, _signal.SIG_IGN)
        self.loop.watch(self._woken[0], self._signalled)

    def _signalled(self, _: int) -> None:
        if read_some(self._woken[0], 64):
            self.stop()

    # ---- what it writes

    def _shower(self, fd: int) -> Callable[[int], None]:
        def show(_: int) -> None:
            self._output(fd)

        return show

    def _output(self, fd: int) -> bool:
        data = read_some(fd, self.log.piece)
        if data:
            which = self.outputs[fd]
            self.log.add(which, data)
            self.server.shown(which, data)
        elif data is not None:
            self.loop.forget(fd)
            del self.outputs[fd]
        return bool(data)

    # ---- what is asked of it

    def change(self, **fields: Any) -> None:
        """A new state, for all to see."""
        state.write(self.room.path, {**self.fields, **fields})
        self.fields |= fields

    def pause(self, paused: bool) -> None:
        """Raises Error where it is so already, or can't be."""
        now = self.fields["status"] == "paused"
        if now == paused:
            raise errors.Error(f"container {self.fields['name']} is {'' if now else 'not '}paused")
        if not self.box.has_limits:
            raise errors.Error("pause needs a cgroup of the container's: start it with --usage, see doctor")
        self.box._handle.freeze(paused)
        self.change(status="paused" if paused else "running")

    def stop(self, timeout: float | None = None, number: int | None = None) -> None:
        """The stop signal, and after a while the end."""
        if timeout is None:
            wished = self.wish["stop_timeout"]
            timeout = STOP_PATIENCE if wished is None else wished
        if number is None:
            self.box.terminate()
        else:
            self.box._handle.send_signal(number)
        if self.fields["status"] == "paused":
            self.box._handle.freeze(False)
        if timeout >= 0:
            self.loop.after(timeout, self.kill)

    def kill(self) -> None:
        """At once."""
        self.box._handle.kill()
        self.loop.after(_KILL_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if not self.loop.over and self.box._handle.hopeless(_KILL_PATIENCE):
            self.fields["error"] = "it hangs in the kernel, on a file system that doesn't answer"
            self.box._handle.give_up()
            self.box.returncode = -9
            self.ended()

    # ---- what is typed for it

    @property
    def takes_input(self) -> bool:
        """Whether anybody reads what an attached caller types."""
        return self.box.terminal is not None or self.box.stdin >= 0

    def feed(self, data: bytes) -> bool:
        """Passes it on, as far as it is read; False where too much waits for that."""
        self._unfed += data
        to = self.box.stdin if self.box.terminal is None else self.box.terminal.fileno()
        if to < 0:
            self._unfed = b""
        elif not self._feeding:
            self._feed(to)
        return len(self._unfed) < _MOST_UNFED

    def _feed(self, fd: int) -> None:
        self._feeding = False
        try:
            os.set_blocking(fd, False)
            while self._unfed:
                self._unfed = self._unfed[os.write(fd, self._unfed) :]
        except BlockingIOError:
            self._feeding = True
            self.loop.after(_UNREAD, lambda: self._feed(fd))
        except OSError:  # nobody reads any more
            self._unfed = b""

    # ---- its end

    def box_end(self) -> tuple[str, int, str | None]:
        """What ContainerEnded is made of."""
        code = self.box.returncode
        return self.box.id, -9 if code is None else code, self.box.limit

    def ended(self) -> None:
        """The kernel has ended all that was in it: the last words are written, then whoever waits hears of it."""
        for fd in list(self.outputs):
            while self._output(fd):
                pass
        remove = self.wish["remove"]
        self._keep_layer()
        code = self.box.wait()
        self.server.commands_end()
        self.fields |= {"status": "exited", "returncode": code, "limit": self.box.limit}
        self.fields |= {"finished": time.time(), "lost_output": self.log.lost}
        self._last(lambda: self.room.drop(self.fields) if remove else self._write_last())
        self.server.close({"returncode": code, "limit": self.box.limit})
        self._last(self.box.close)
        self.loop.over = True

    def _keep_layer(self) -> None:
        """Whoever is first to learn of the end, a command that was killed with it say, calls it."""
        directory, self.layer = self.layer, None
        if directory is None or self.wish["remove"]:
            return
        try:
            self.fields["kept"] = layer.keep(directory, self.box.id)
        except OSError as error:
            self.fields["layer_lost"] = f"{error.filename2 or directory}: {error.strerror}"

    def _write_last(self) -> None:
        state.write(self.room.path, self.fields, last=True)

    def _last(self, act: Callable[[], object]) -> None:
        """Nothing keeps it from ending: whoever finds its state finds no lock, and knows."""
        try:
            act()
        except (OSError, errors.Error):
            pass
