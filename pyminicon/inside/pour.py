"""The bytes of files, from one descriptor to another, at the kernel's speed."""

from __future__ import annotations

import errno
import os
import select

from pyminicon.inside import wire, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from pyminicon.inside.home import Hold

    Read: TypeAlias = Callable[[int], bytes]
    Write: TypeAlias = Callable[[memoryview], int]

_PIECE = 8 << 20  # between two looks at whether it is still wanted
_OTHER_WAYS = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def pour(hold: Hold, source: int, target: int, size: int) -> None:
    """The first ``size`` bytes of the regular file ``source`` to where ``target`` is, which ends there. Holes stay
    holes: a file of a terabyte that holds nothing takes nothing."""
    start = os.lseek(target, 0, os.SEEK_CUR)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
            end = min(os.lseek(source, at, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                break
            end = size
        at = _segment(hold, source, target, start, at, end)
        if at < end:  # it has become shorter
            size = at
    os.ftruncate(target, start + size)
    os.lseek(target, start + size, os.SEEK_SET)


def _segment(hold: Hold, source: int, target: int, start: int, at: int, end: int) -> int:
    by_range = True
    while at < end and not hold.aborted:
        count = min(end - at, _PIECE)
        if by_range:
            try:
                got = os.copy_file_range(source, target, count, at, start + at)
            except OSError as error:
                if error.errno not in _OTHER_WAYS:
                    raise
                by_range = False
                continue
        else:
            os.lseek(target, start + at, os.SEEK_SET)
            got = os.sendfile(target, source, at, count)
        if not got:
            break
        at += got
    return at


def through_pipe(hold: Hold, request: wire.Request, read: Read | None, write: Write | None) -> None:
    """Has the worker of ``hold`` read the file that it has opened but not handed out, which goes to ``write``; or write
    it, with what ``read`` gives."""
    ends = os.pipe2(os.O_CLOEXEC)
    ours, theirs = ends if write else ends[::-1]
    worker = hold.take()
    try:
        try:
            request.fd = theirs
            worker.send(request)
        finally:
            os.close(theirs)
        try:
            os.set_blocking(ours, False)
            if write:
                _relay(lambda size: os.read(ours, size), write, ours, request.told)
            elif read:
                _relay(read, lambda data: os.write(ours, data), ours, request.told)
        finally:
            os.close(ours)
        worker.socket.settimeout(workers.PATIENCE)
        reply = worker.receive(request.told)
    except TimeoutError:
        hold.drop()
        raise workers.timeout(request.told) from None
    except BaseException:  # it may still be at it
        hold.drop()
        raise
    reply.checked(request.told)


def _relay(read: Read, write: Write, pipe: int, told: str | None) -> None:
    watch = select.poll()
    watch.register(pipe)
    waiting = memoryview(b"")
    while True:
        if not watch.poll(workers.PATIENCE * 1000):
            raise workers.timeout(told)
        try:
            waiting = waiting or memoryview(read(64 << 10))
            if not waiting:
                return
            waiting = waiting[write(waiting) :]
        except BrokenPipeError:
            return  # the worker will say why
        except BlockingIOError:
            continue
