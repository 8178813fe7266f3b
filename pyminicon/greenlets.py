"""Inside gevent: what waits in the core lets other greenlets run. Loaded where gevent.monkey has patched select."""

from __future__ import annotations

import os
import select
import time
from typing import Any

from gevent import get_hub, monkey  # type: ignore[import-not-found,import-untyped,unused-ignore]

from pyminicon import patience

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


def go_on(supervisor: _core.Supervisor, most: float | None) -> bool:
    """As the supervisor's own, of one that has no limits."""
    deadline = None if most is None else time.monotonic() + most
    poll = select.poll()  # gevent's
    with monkey.get_original("select", "epoll")() as together:
        poll.register(together.fileno(), select.POLLIN)
        supervisor.wait_by(together.fileno())
        try:
            while not supervisor.gone:
                left = None if deadline is None else deadline - time.monotonic()
                if not poll.poll(patience.poll_ms(left)) and left is not None and left <= 0:
                    return False
                supervisor.step()
        finally:
            supervisor.wait_by(-1)
    return True
