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

_PATIENCE = 6.0  # seconds: longer than the core's own for what can't die


def call(work: Callable[..., Any], *args: Any) -> Any:
    """``work(*args, cancel_fd=…)`` in a thread of the hub's pool. Whose greenlet is killed has its container ended."""
    fd = os.eventfd(0)

    def act() -> tuple[Any, BaseException | None]:
        try:
            return work(*args, cancel_fd=fd), None
        except BaseException as error:  # the hub would print it
            return None, error

    outcome = get_hub().threadpool.spawn(act)
    try:
        value, error = outcome.get()
    except BaseException:
        os.eventfd_write(fd, 1)
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
