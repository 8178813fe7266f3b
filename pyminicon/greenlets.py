"""Inside gevent: what waits in the core lets other greenlets run. Loaded where gevent.monkey has patched select."""

from __future__ import annotations

import os
import select
from typing import Any

from gevent import get_hub  # type: ignore[import-not-found,import-untyped,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyminicon import _core
    from pyminicon.cancelling import Cancel

_PATIENCE = 6.0  # seconds: longer than the core's own for what can't die


class _Asked:
    """What a Cancel ends while the container has no handle yet."""

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def kill(self) -> None:
        os.eventfd_write(self._fd, 1)

    def __del__(self) -> None:
        os.close(self._fd)


def call(work: Callable[..., Any], cancel: Cancel | None, *asked: Any) -> Any:
    """``work(*asked)``, a request at last, in a thread of the hub's pool. Whose greenlet is killed has its container
    ended."""
    fd = asked[-1].cancel_fd = os.eventfd(0)
    mine = _Asked(fd)
    if cancel is not None:
        cancel._attach(mine)

    def act() -> tuple[Any, BaseException | None]:
        try:
            return work(*asked), None
        except BaseException as error:  # the hub would print it
            return None, error

    outcome = get_hub().threadpool.spawn(act)
    try:
        value, error = outcome.get()
    except BaseException:
        mine.kill()
        outcome.wait(_PATIENCE)
        raise
    finally:
        if outcome.ready():
            os.close(fd)
        else:
            outcome.rawlink(lambda _: os.close(fd))
    if error is not None:
        raise error
    return value


def wait(handle: _core.Handle, timeout: float | None) -> bool:
    """As the handle's own."""
    poll = select.poll()  # gevent's
    poll.register(handle.pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))
