"""Operations on the files of a container, driven by an event loop: nothing of it waits anywhere but on the loop."""

from __future__ import annotations

import asyncio

from pyminicon.aio.thread import in_thread
from pyminicon.inside import calls, home, wire, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from typing import IO, Any, TypeVar

    from pyminicon.inside.home import Hold, Home, Op, Rights
    from pyminicon.inside.lexical import PathWords

    T = TypeVar("T")


async def run(rights: Rights, op: Op[T]) -> T:
    """Carries out ``op``."""
    hold = home.Hold(rights)
    try:
        asked = next(op)
        while True:
            asked = home.go_on(op, await _answer(hold, asked))
    except StopIteration as over:
        hold.over()
        result: T = over.value
        return result
    except BaseException as error:
        op.close()
        hold.failed(error)
        raise


async def iterate(rights: Rights, op: Op[None]) -> AsyncIterator[Any]:
    """The items of an iteration, as they come. Left early, it gives its worker back."""
    hold = home.Hold(rights)
    try:
        asked = next(op)
        while True:
            if isinstance(asked, wire.Request):
                asked = home.go_on(op, await _answer(hold, asked))
            else:
                yield asked
                asked = op.send(None)
    except StopIteration:
        hold.over()
    except GeneratorExit:
        op.close()
        hold.over()
        raise
    except BaseException as error:
        op.close()
        hold.failed(error)
        raise


async def _answer(hold: Hold, request: wire.Request) -> wire.Reply | TimeoutError:
    try:
        return await _exchange(hold, request)
    except TimeoutError as error:
        hold.drop()
        return error


async def _exchange(hold: Hold, request: wire.Request) -> wire.Reply:
    """As Hold.exchange."""
    first = hold.worker is None
    for fresh in (False, True):
        try:
            worker = await _taken(hold, fresh)
        except TimeoutError:
            raise workers.timeout(request.told) from None
        try:
            worker.socket.setblocking(False)
            worker.send(request)
            await _readable(worker.socket.fileno(), request.told)
            return worker.receive(request.told)
        except workers.Gone as gone:
            hold.drop()
            if not first or fresh or not home.may_be_repeated(gone, request):
                raise
    raise AssertionError


async def _taken(hold: Hold, fresh: bool) -> workers.Worker:
    if hold.worker is None:
        pool, key = hold.rights.home.workers, hold.key
        hold.worker = None if fresh else pool.waiting(key)
        if hold.worker is None:
            loop = asyncio.get_running_loop()
            hold.worker = await in_thread(loop, lambda: pool.start(key), workers.Worker.discard)
    return hold.worker


async def _readable(fd: int, told: str | None) -> None:
    loop = asyncio.get_running_loop()
    there = loop.create_future()

    def wake() -> None:
        if not there.done():
            there.set_result(None)

    def expire() -> None:
        if not there.done():
            there.set_exception(workers.timeout(told))

    loop.add_reader(fd, wake)
    timer = loop.call_later(workers.PATIENCE, expire)
    try:
        await there
    finally:
        timer.cancel()
        loop.remove_reader(fd)


async def in_a_thread(work: Callable[[], T], dispose: Callable[[T], object] | None = None) -> T:
    """``work()``, which reads or writes files: what hangs holds a thread of its own."""

    def drop(value: T) -> None:
        if dispose is not None:
            dispose(value)

    return await in_thread(asyncio.get_running_loop(), work, drop)


async def _held(rights: Rights, work: Callable[[Hold], T], dispose: Callable[[T], object] | None = None) -> T:
    """``work``, which asks a worker as it likes, in a thread; cancelled, it ends at once."""
    hold = home.Hold(rights)

    def drop(value: T) -> None:
        if dispose is not None:
            dispose(value)

    return await in_thread(asyncio.get_running_loop(), lambda: work(hold), drop, hold.abort)


async def copy_in(of: Home, src: str | os.PathLike[str], dst: PathWords, user: str | None) -> None:
    """See AsyncContainer."""
    await _held(home.Rights(of, user, False), lambda hold: calls.copy_in(of, src, dst, user, hold))


async def copy_out(of: Home, src: PathWords, dst: str | os.PathLike[str]) -> None:
    """See AsyncContainer."""
    await _held(home.Rights(of, None, False), lambda hold: calls.copy_out(of, src, dst, hold))


async def put_archive(of: Home, dst: PathWords, tar: bytes | IO[bytes]) -> None:
    """See AsyncContainer."""
    await _held(home.Rights(of, None, False), lambda hold: calls.put_archive(of, dst, tar, hold))


async def get_archive(of: Home, src: PathWords) -> IO[bytes]:
    """See AsyncContainer."""
    rights = home.Rights(of, None, False)
    return await _held(rights, lambda hold: calls.get_archive(of, src, hold), lambda file: file.close())
