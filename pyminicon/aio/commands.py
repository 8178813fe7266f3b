"""Commands in a container, begun on a loop: sent at once, heard of when they run."""

from __future__ import annotations

import asyncio
import errno

from pyminicon import _core, errors
from pyminicon.aio.ending import Ending
from pyminicon.aio.launching import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.aio.loop import Watch
    from pyminicon.living.asked import Command

_FULL = 0.001  # seconds until a full socket is tried again


async def begin(
    watch: Watch, box: _core.Handle, asked: Command, limits: Limits, deadline: float | None
) -> _core.Handle:
    """A command that runs. ``deadline``: when it is given up, by the loop's clock; TimeoutError then."""
    loop = watch.loop
    request = limits.request(asked.spec, asked.exec_spec)
    request.who = asked.who
    while True:
        try:
            begin = getattr(box, "begin", None)  # of a container that another process keeps
            begun: _core.Begun = _core.Begun(box, request) if begin is None else begin(request)
            break
        except errors.LaunchError as error:  # its init has more to do than its socket holds
            if error.errno != errno.EAGAIN:
                raise
            if deadline is not None and loop.time() >= deadline:
                raise TimeoutError from None
            await asyncio.sleep(_FULL)
    return begun.result() or await _heard_of(watch, begun, deadline)


async def _heard_of(watch: Watch, begun: _core.Begun, deadline: float | None) -> _core.Handle:
    heard: asyncio.Future[_core.Handle] = watch.loop.create_future()

    def look(fd: int) -> None:
        try:
            made = begun.result()
        except BaseException as error:
            watch.remove(fd)
            if not heard.done():
                heard.set_exception(error)
            return
        if made is not None:  # from now on others look
            watch.remove(fd)
            heard.set_result(made)

    watch.add(begun.fd, look)
    try:
        left = None if deadline is None else max(deadline - watch.loop.time(), 0.0)
        async with asyncio.timeout(left):
            return await asyncio.shield(heard)
    except (asyncio.CancelledError, TimeoutError):
        if not heard.done():
            watch.remove(begun.fd)
            made = begun.given_up()
        elif heard.exception() is not None:
            raise
        else:
            made = heard.result()
        made.kill()
        await Ending(watch, made, False).undo()
        raise
