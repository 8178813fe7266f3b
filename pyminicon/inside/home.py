"""The files of one container, as its paths know them: who works on them, and how an operation is carried out.

An operation is a generator that yields each :class:`wire.Request` to a worker and is sent the answer. So it is written
once, and whoever drives it decides how to wait.
"""

from __future__ import annotations

from pyminicon.inside import wire
from pyminicon.inside.workers import Gone, Worker, Workers, timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any, TypeVar

    from pyminicon.inside.workers import Start

    T = TypeVar("T")
    Op = Generator[Any, Any, T]  # of Requests; of an iteration, of its items as well


class Home:
    """The workers of one container, and what all its paths share.

    ``cwd``: where relative paths begin. ``trusted``: answers whether a file on the container's overlay can't hang,
    because its image lies on a disk and nobody inside can mount another. It is called once, when the first file is
    opened.
    """

    def __init__(self, start: Start, cwd: str, trusted: Callable[[], bool]) -> None:
        self.workers: Workers = Workers(start)
        self.cwd: str = cwd
        self._trusted: Callable[[], bool] = trusted
        self._open_flags: int | None = None

    def open_flags(self) -> int:
        """The flags with which a worker opens each file. The first call may wait for a moment."""
        if self._open_flags is None:
            self._open_flags = 0 if self._trusted() else wire.DISTRUST_OVERLAY
        return self._open_flags

    def close(self) -> None:
        """Ends all workers; called when the container has ended."""
        self.workers.close()


class Rights:
    """The user whose rights an operation has, and whether file modes hold for root as well (``strict``)."""

    __slots__ = ("home", "strict", "user")

    def __init__(self, home: Home, user: str | None, strict: bool) -> None:
        self.home: Home = home
        self.user: str | None = user
        self.strict: bool = strict

    def run(self, op: Op[T]) -> T:
        """Carries out ``op`` and returns its result; the calling thread waits."""
        hold = Hold(self)
        result = self.held(op, hold)
        hold.over()
        return result

    def held(self, op: Op[T], hold: Hold) -> T:
        """The same, but ``hold`` keeps its worker afterwards."""
        steps = steps_of(op, hold)
        try:
            next(steps)
        except StopIteration as over:
            result: T = over.value
            return result
        raise AssertionError("an operation has no items")

    def work(self, work: Callable[[Hold], T], hold: Hold | None = None) -> T:
        """Calls ``work`` with a hold, by which it may send one worker several requests; returns its result."""
        hold = hold or Hold(self)
        try:
            result = work(hold)
        except BaseException as error:
            hold.failed(error)
            raise
        hold.over()
        return result

    def iterate(self, op: Op[None]) -> Iterator[Any]:
        """Yields the items of an iteration as they come. If the caller stops early, the worker is given back."""
        hold = Hold(self)
        yield from steps_of(op, hold)
        hold.over()


def steps_of(op: Op[T], hold: Hold) -> Generator[Any, None, T]:
    """Sends each request of ``op`` to a worker, and yields whatever else ``op`` yields."""
    try:
        asked = next(op)
        while True:
            if isinstance(asked, wire.Request):
                asked = go_on(op, _answer(hold, asked))
            else:
                yield asked
                asked = op.send(None)
    except StopIteration as over:
        result: T = over.value
        return result
    except GeneratorExit:
        op.close()
        hold.over()
        raise
    except BaseException as error:
        op.close()
        hold.failed(error)
        raise


def _answer(hold: Hold, request: wire.Request) -> wire.Reply | TimeoutError:
    try:
        return hold.exchange(request)
    except TimeoutError as error:
        hold.drop()
        return error


def go_on(op: Op[Any], answer: wire.Reply | TimeoutError) -> Any:
    """Hands ``answer`` to the operation and returns what it asks for next. Raises StopIteration at its end."""
    return op.throw(answer) if isinstance(answer, TimeoutError) else op.send(answer)


class Hold:
    """Holds the worker of one operation: takes one when it is needed, and gives it back when all went well."""

    def __init__(self, rights: Rights) -> None:
        self.rights: Rights = rights
        self.worker: Worker | None = None
        self.key: tuple[str | None, bool] = (rights.user, rights.strict)
        self.aborted: bool = False

    def abort(self) -> None:
        """Called from another thread: a call that waits for this worker's answer fails at once."""
        self.aborted = True
        worker = self.worker
        if worker is not None:
            worker.hang_up()

    def take(self, fresh: bool = False) -> Worker:
        """The worker that is held; if there is none, one that waits or, with ``fresh``, a new one."""
        if self.worker is None:
            workers = self.rights.home.workers
            self.worker = (None if fresh else workers.waiting(self.key)) or workers.start(self.key)
            if self.aborted:
                self.worker.hang_up()
        return self.worker

    def exchange(self, request: wire.Request) -> wire.Reply:
        """Sends the request and returns the answer. A worker that died while it waited, or dies of this request, is
        replaced: first by another that waits, then by a new one."""
        first = self.worker is None
        for fresh in (False, True):
            try:
                worker = self.take(fresh)
            except TimeoutError:  # the container is stopped, or has no processor
                raise timeout(request.told) from None
            try:
                return worker.exchange(request)
            except Gone as gone:
                self.drop()
                if self.aborted:
                    raise
                if not first or fresh or not may_be_repeated(gone, request):
                    self.rights.home.workers.insist(self.key)
                    raise
        raise AssertionError

    def drop(self) -> None:
        """Lets go of a worker that can't be used again."""
        if self.worker is not None:
            self.worker.discard()
            self.worker = None

    def over(self) -> None:
        """Gives the worker back: the operation is over."""
        if self.worker is not None:
            self.rights.home.workers.give(self.worker)
            self.worker = None

    def failed(self, error: BaseException) -> None:
        """The operation has failed. If the worker answered with the error it can be used again, else it is dropped."""
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, (TimeoutError, Gone)):
            self.over()
        else:
            self.drop()

    def release(self) -> Worker:
        """Hands the worker to the caller for good, which reads or writes a file through it."""
        worker = self.take()
        self.worker = None
        return worker


def may_be_repeated(gone: Gone, request: wire.Request) -> bool:
    """Whether a request without an answer can be sent again: no worker took it, or it changes nothing."""
    return not gone.taken or request.op in wire.ASKS_ONLY
