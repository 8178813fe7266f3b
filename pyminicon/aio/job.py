"""One run on a loop: fed, read and waited for by callbacks, then a Result."""

from __future__ import annotations

import asyncio
import os
import select

from pyminicon import _core, result
from pyminicon.aio.ending import Ending
from pyminicon.aio.thread import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.aio.loop import Watch
    from pyminicon.options import Spec
    from pyminicon.result import Result


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
        self.exchange: _core.Exchange = _core.Exchange(data, spec.max_output, spec.overflow == "trim")
        self.piped: set[int] = set()
        self.open: dict[int, int] = {}  # descriptor: 1 or 2
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
                self.piped.add(which)
                self.open[fd] = which
                watch.add(fd, self._read)
        self.cancel: int = -1 if spec.cancel is None else os.dup(spec.cancel.fileno())
        if self.cancel >= 0:
            watch.add(self.cancel, self._cancelled)
        if self.input >= 0:
            os.set_blocking(self.input, False)
            if self.exchange.feed(self.input):
                watch.add(self.input, self._feed, select.EPOLLOUT)
            else:
                self._close_input()

    def _feed(self, fd: int) -> None:
        if not self.exchange.feed(fd):
            self._close_input()

    def _close_input(self) -> None:
        if self.input >= 0:
            self.watch.remove(self.input)
            os.close(self.input)
            self.input = -1

    def _read(self, fd: int) -> None:
        if not self.exchange.read(self.open[fd], fd):
            self._close_output(fd)
        self._stop_if_full()

    def _stop_if_full(self) -> None:
        if self.exchange.full:
            self.limit = self.limit or "output"
            self.kill()
            for one in list(self.open):  # nothing more is read: what still comes would only wake us
                self._close_output(one)

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
        for fd, which in self.open.items():
            self.exchange.drain(which, fd)
        self._stop_if_full()
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
        return self.exchange.output(which) if which in self.piped else None

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
        if limit == "memory":
            handle.insist_on_room((spec.args or [""])[0])
        outcome = _core.Outcome(
            returncode=returncode,
            stdout=self.output(1),
            stderr=self.output(2),
            limit=limit,
            timed_out=self.timed_out,
            usage=handle.usage(),
            startup=handle.startup,
            dropped=(self.exchange.dropped(1), self.exchange.dropped(2)),
        )
        outcome.trace, outcome.files = handle.trace, files
        return result.make_result(spec, args, outcome, refused)
