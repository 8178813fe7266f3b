"""One run on a loop: fed, read and waited for by callbacks, then a Result."""

from __future__ import annotations

import asyncio

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
    """What subprocess calls communicate(), for run."""

    def __init__(
        self, watch: Watch, handle: _core.Handle, spec: Spec, data: bytes, deadline: float | None, lasts: bool
    ) -> None:
        self.spec = spec
        self.deadline = deadline
        supervisor = _core.Supervisor(
            handle,
            (handle.take_stream(0), handle.take_stream(1), handle.take_stream(2)),
            input=data,
            max_output=spec.max_output,
            trim=spec.overflow == "trim",
            timeout=None if deadline is None else deadline - watch.loop.time(),
            wall_time=spec.wall_time,
            cancel_fd=-1 if spec.cancel is None else spec.cancel.fileno(),
        )
        super().__init__(watch, handle, lasts, supervisor)

    async def finished(self) -> None:
        """Waits for the end; cancelled, it ends the container and removes what is left of it first."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await self.undo()
            raise
        finally:
            if self.handle.owned:  # else in a forked worker that drops our coroutine
                self.forget()

    async def _collected(self) -> Any:
        """Before the burial, which removes what is on disk."""
        handle, spec = self.handle, self.spec
        if spec.collect is None or not self.gone or self.supervisor.timed_out:
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
        outcome = result.outcome_of(self.supervisor, handle, limit)
        if outcome.limit == "memory":
            handle.insist_on_room((spec.args or [""])[0])
        outcome.trace, outcome.files = handle.trace, files
        return result.make_result(spec, args, outcome, refused)
