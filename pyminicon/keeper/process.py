"""The keeper's life: it is told what to start, starts it, serves whoever asks, and ends with it."""

from __future__ import annotations

import _socket
import os
import sys

from pyminicon.detached import asking, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def main(fd: int) -> NoReturn:
    """Run in an interpreter of its own (:mod:`pyminicon.detached.beginning`), ``fd``: a line to whoever has started it."""
    if os.fork():  # while there is next to nothing in memory: so the keeper is nobody's child
        os._exit(0)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_inheritable(fd, False)
    to = line.Line(_socket.socket(fileno=fd))
    _call_ourselves()
    status = 1
    try:
        request = to.receive()
        if request is not None:
            keeper = _begun(request, to)
            keeper.serve()
            status = 0
    except BaseException as error:
        try:
            to.send({"error": asking.told(error)})
        except OSError:  # nobody is there to hear of it
            pass
    os._exit(status)


def _call_ourselves() -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write("pyminicon-keep")
    except OSError:
        pass


def _begun(request: dict[str, Any], to: line.Line) -> Any:
    sys.path[:] = [*sys.path, *(path for path in request["path"] if path not in sys.path)]
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    os.umask(0o077)
    from pyminicon.keeper.keeping import Keeper

    keeper = Keeper(request, to.fileno())
    os.chdir("/")  # nobody's file system is held by us
    try:
        keeper.greet(to)
    except OSError:  # whoever has asked for it has gone before he knew of it, and nobody else does
        keeper.abandon()
    return keeper
