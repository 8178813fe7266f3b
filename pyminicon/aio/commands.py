"""Commands in a container, begun on a loop: sent at once, heard of when they run."""

from __future__ import annotations

import asyncio
import errno

from pyminicon import _core, errors
from pyminicon.aio.ending import Ending
from pyminicon.aio.launching import Limits
from pyminicon.aio.thread import despite_cancelling, in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.aio.loop import Watch
    from pyminicon.living.asked import Command

_FULL = 0.001  # seconds until a full socket is tried again
_MOMENT = 0.2  # seconds for a word of a command that is given up


async def begin(
    watch: Watch, box: _core.Handle, asked: Command, limits: Limits, deadline: float | None
) -> _core.Handle:
    """A command that runs. ``deadline``: when it is given up, by the loop's clock; TimeoutError then."""
    loop = watch.loop
    request = limits.request(asked.spec, asked.exec_spec)
    asked.asked(request)
    while True:
        try:
            begun = await _begun(watch, box, request, deadline)
            return begun.result() or await _heard_of(watch, begun, deadline)
        except errors.LaunchError as error:
            if error.errno != errno.ERESTART:  # else it hasn't begun, and is to be begun again
                raise
            if deadline is not None and loop.time() >= deadline:
                raise TimeoutError from None
            await asyncio.sleep(_FULL)


async def _begun(watch: Watch, box: _core.Handle, request: _core.Request, deadline: float | None) -> Any:
    begin = getattr(box, "begin", None)
    if begin is None:
        return _core.Begun(box, request)
    # Another process keeps it, and may be slow to answer.
    from pyminicon.detached.asking import PATIENCE, Silent

    within = None if deadline is None else min(max(deadline - watch.loop.time(), 0.001), PATIENCE)
    try:
        return await in_thread(watch.loop, lambda: begin(request, within), lambda begun: begun.let_go())
    except Silent:
        if deadline is None or watch.loop.time() < deadline:
            raise
        raise TimeoutError from None


async def _given_up(watch: Watch, begun: Any) -> _core.Handle | None:
    """It, to be ended; None where nothing is heard of it."""
    if not hasattr(begun, "let_go"):
        made: _core.Handle = begun.given_up()
        return made
    found: list[Any] = []
    await despite_cancelling(in_thread(watch.loop, lambda: found.append(begun.given_up(_MOMENT)), None))
    return found[0] if found else None


async def _heard_of(watch: Watch, begun: Any, deadline: float | None) -> _core.Handle:
    heard: asyncio.Future[_core.Handle] = watch.loop.create_future()

    def look(fd: int) -> None:
        watch.remove(fd)  # once it is known the descriptor may be gone
        try:
            made = begun.result()
        except BaseException as error:
            if not heard.done():
                heard.set_exception(error)
            return
        if made is None:
            watch.add(begun.fd, look)
        else:  # from now on others look
            heard.set_result(made)

    watch.add(begun.fd, look)
    try:
        left = None if deadline is None else max(deadline - watch.loop.time(), 0.0)
        async with asyncio.timeout(left):
            return await asyncio.shield(heard)
    except (asyncio.CancelledError, TimeoutError):
        if not heard.done():
            watch.remove(begun.fd)
            gone = await _given_up(watch, begun)
            if gone is None:
                raise
            made = gone
        elif heard.exception() is not None:
            raise
        else:
            made = heard.result()
        made.kill()
        await Ending(watch, made, False).undo()
        raise
