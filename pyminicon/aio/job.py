"""One run on a loop: fed, read and waited for by callbacks, then a Result."""

from __future__ import annotations

import asyncio
import errno
import os
import select

from pyminicon import _core, errors, result
from pyminicon.aio.ending import Ending
from pyminicon.aio.launching import NO_LIMIT
from pyminicon.aio.streams import PIECE
from pyminicon.aio.thread import in_thread
from pyminicon.communicate import waiting_in
from pyminicon.trimmed import Trimmed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.aio.loop import Watch
    from pyminicon.options import Spec
    from pyminicon.result import Result

_SMALLEST_MEMORY = 1 << 20  # bytes; below it nothing may start


class Job(Ending):
    """What subprocess calls communicate(), for run: callbacks that feed and read until the end."""

    def __init__(
        self,
        watch: Watch,
        handle: _core.Handle,
        spec: Spec,
        data: bytes,
        deadline: float | None,
        lasts: bool,
        command: bool = False,
    ) -> None:
        super().__init__(watch, handle, lasts, command)
        loop = watch.loop
        self.spec = spec
        self.deadline = deadline
        self.timed_out: bool = False
        self.limit: str | None = None
        self.room: int = NO_LIMIT if spec.max_output is None else spec.max_output
        self.pieces: dict[int, list[bytes]] = {}
        self.trimmed: dict[int, Trimmed] = {}  # instead, where no more than so much is kept
        self.open: dict[int, int] = {}  # descriptor: 1 or 2
        self.unsent: memoryview[int] = memoryview(data)
        self.input: int = handle.take_stream(0)
        self.timers: list[asyncio.TimerHandle] = []
        if deadline is not None:
            self.timers.append(loop.call_at(deadline, self._timeout))
        if spec.wall_time is not None:
            self.timers.append(loop.call_later(spec.wall_time, self._wall_time))
        for which in (1, 2):
            fd = handle.take_stream(which)
            if fd >= 0:
                os.set_blocking(fd, False)
                self.pieces[which] = []
                if spec.overflow == "trim":
                    self.trimmed[which] = Trimmed(self.room)
                self.open[fd] = which
                watch.add(fd, self._read)
        self.cancel: int = -1 if spec.cancel is None else os.dup(spec.cancel.fileno())
        if self.cancel >= 0:
            watch.add(self.cancel, self._cancelled)
        if self.input >= 0:
            os.set_blocking(self.input, False)
            self._feed()

    def _feed(self, watched: int = -1) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[os.write(self.input, self.unsent[:PIECE]) :]
        except (BlockingIOError, InterruptedError):
            if watched < 0:
                self.watch.add(self.input, self._feed, select.EPOLLOUT)
            return
        except OSError:  # nobody reads any more: as in subprocess, no error
            pass
        self._close_input()

    def _close_input(self) -> None:
        if self.input >= 0:
            self.watch.remove(self.input)
            os.close(self.input)
            self.input = -1

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, PIECE)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:
            self._close_output(fd)
            return False
        if self.trimmed:
            self.trimmed[self.open[fd]].add(data)
            return len(data) == PIECE
        full = len(data) > self.room
        kept = data[: self.room] if full else data
        self.room -= len(kept)
        self.pieces[self.open[fd]].append(kept)
        if full:
            self.limit = self.limit or "output"
            self.kill()
            for one in list(self.open):  # nothing more is read: what still comes would only wake us
                self._close_output(one)
        return len(data) == PIECE and not full

    def _close_output(self, fd: int) -> None:
        self.watch.remove(fd)
        del self.open[fd]
        os.close(fd)

    def _cancelled(self, fd: int) -> None:
        self.watch.remove(fd)  # it stays readable
        self._timeout()

    def _timeout(self) -> None:
        if not self.gone:
            self.timed_out = not self.killed_at  # else a limit was first
            self.kill()

    def _wall_time(self) -> None:
        if not self.gone and not self.killed_at:
            self.limit = "wall_time"
            self.kill()

    def ended(self, _: int = -1) -> None:
        # Every writer is dead: what the pipes still hold is all there will be. Their end need not come,
        # a worker forked meanwhile may hold a write end, and may even write.
        if not self.is_over():
            return
        for fd in list(self.open):
            left = waiting_in(fd)
            while left > 0 and fd in self.open:
                self._read(fd)
                left -= PIECE
        super().ended()

    def release(self) -> None:
        """Nothing of this run stays with the loop."""
        if not self.handle.owned:
            return  # in a forked worker that drops our coroutine
        for timer in self.timers:
            timer.cancel()
        self.forget()
        if self.cancel >= 0:
            self.watch.remove(self.cancel)
            os.close(self.cancel)
            self.cancel = -1
        self._close_input()
        for fd in list(self.open):
            self._close_output(fd)

    async def finished(self) -> None:
        """Waits for the end; cancelled, it ends the container and removes what is left of it first."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await self.undo()
            raise
        finally:
            self.release()

    def output(self, which: int) -> bytes | None:
        pieces = self.pieces.get(which)
        if which in self.trimmed:
            return self.trimmed[which].value()
        if pieces is None:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _dropped(self, which: int) -> int:
        return self.trimmed[which].dropped if which in self.trimmed else 0

    async def _collected(self) -> Any:
        """Before the burial, which removes what is on disk."""
        handle, spec = self.handle, self.spec
        if spec.collect is None or not self.gone or self.timed_out:
            return None
        left = None if self.deadline is None else max(self.deadline - self.loop.time(), 0.0)
        try:
            return await in_thread(
                self.loop, lambda: handle.collect(spec.collect, spec.collect_max, left), None
            )
        except asyncio.CancelledError:  # the thread may hang in a volume, and keeps the handle
            await self.bury()
            raise

    async def result(
        self, args: Any, limit: str | None = None, refused: list[result.Refusal] | None = None
    ) -> Result[Any]:
        handle, spec = self.handle, self.spec
        files = await self._collected()
        cancelled = await self.bury() if self.gone else None
        # An exception that is kept holds this frame and the handle, but no descriptor.
        handle.release()
        if cancelled is not None:
            raise cancelled
        returncode, own = handle.poll() or (-9, None)
        limit = self.limit or own or limit
        if limit == "memory" and spec.limits and (spec.limits.memory or _SMALLEST_MEMORY) < _SMALLEST_MEMORY:
            program = os.fsdecode((spec.args or [""])[0])
            raise errors.LaunchError(
                errno.ENOMEM, "exec", program, "killed for memory: below 1M nothing may start"
            )
        outcome = _core.Outcome(
            returncode=returncode,
            stdout=self.output(1),
            stderr=self.output(2),
            limit=limit,
            timed_out=self.timed_out,
            usage=handle.usage(),
            startup=handle.startup,
            dropped=(self._dropped(1), self._dropped(2)),
        )
        outcome.trace, outcome.files = handle.trace, files
        return result.make_result(spec, args, outcome, refused)
