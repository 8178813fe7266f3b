"""A detached container on an event loop: nothing here ends it but what says so."""

from __future__ import annotations

import asyncio

from pyminicon import errors
from pyminicon.aio.container import PRIVATE, AsyncContainer
from pyminicon.aio.loop import enter
from pyminicon.aio.thread import despite_cancelling, in_thread
from pyminicon.detached import asking, beginning, place, remote, removing
from pyminicon.errors import ContainerEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyminicon.detached.line import Line


class Attached(AsyncContainer[bytes]):
    """Its keeper has it; ``aclose`` lets go of it."""

    async def aclose(self) -> None:
        """Lets go of it, and doesn't end it, but what was started in it through this object."""
        if not self._handle.owned:
            return
        self._ending.forget()
        self._ending.given_up = True
        self._ending.wake()  # whoever waits is told, as there will be no end to see
        far: Any = self._handle
        cancelled = None
        if far.has_commands:
            cancelled = await despite_cancelling(in_thread(self._loop, far.release, None))
        else:
            far.release()
        self.pidfd = -1
        if self._files is not None:
            self._files.close()
        if cancelled is not None:
            raise cancelled

    async def _waited(self) -> int:
        await self._ending.wait()
        if not self._settled and self._handle.owned:
            self._settle(await in_thread(self._loop, self._handle.poll, None))
            if not self._settled:  # it goes on, and nobody here sees its end
                raise remote.not_held(self.id)
        return errors.check_status(self.returncode)

    def __del__(self) -> None:
        """Nobody is warned that it runs."""


async def by_name(name: str) -> Attached:
    """See :func:`pyminicon.attach`."""
    try:
        return await _made(lambda: remote.Container(place.find(name)))
    except asking.NotRunning as error:
        fields = error.fields
        raise ContainerEnded(fields["id"], fields["returncode"], fields["limit"]) from None


async def begun(args: Any, options: dict[str, Any]) -> Attached:
    """A new one. Cancelled, it ends what it has begun."""
    loop = asyncio.get_running_loop()

    def undo(made: tuple[str, Line, dict[str, Any]]) -> None:
        directory, to, _ = made
        try:
            asking.ask(to, {"do": "remove"})
        except ConnectionResetError:  # it has ended by itself
            removing.remove(directory)
        finally:
            to.close()

    made = await in_thread(loop, lambda: beginning.begin_for_good(args, options), undo)
    return _entered(loop, remote.Container(*made))


async def _made(make: Callable[[], remote.Container]) -> Attached:
    loop = asyncio.get_running_loop()
    return _entered(loop, await in_thread(loop, make, remote.Container.release))


def _entered(loop: asyncio.AbstractEventLoop, far: remote.Container) -> Attached:
    watch = enter(loop)
    handle: Any = far
    plan: Any = remote.Plan(far.about)
    try:
        return Attached(
            PRIVATE, watch, handle, remote.spec_of(far.about), plan, far.about["args"], remote.Served(far)
        )
    finally:
        watch.leave()
