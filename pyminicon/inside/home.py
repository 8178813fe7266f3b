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
    """``cwd``: where relative paths begin. ``trusted``: whether what lies on the container's overlay can't hang, because
    its image lies on a disk and nobody inside can mount another; asked once, when the first file is opened."""

    def __init__(self, start: Start, cwd: str, trusted: Callable[[], bool]) -> None:
        self.workers: Workers = Workers(start)
        self.cwd: str = cwd
        self._trusted: Callable[[], bool] = trusted
        self._open_flags: int | None = None

    def open_flags(self) -> int:
        """What is told to a worker of each file that is opened. May wait for a moment, once."""
        if self._open_flags is None:
            self._open_flags = 0 if self._trusted() else wire.DISTRUST_OVERLAY
        return self._open_flags

    def close(self) -> None:
        """The container has ended."""
        self.workers.close()


class Rights:
    """Whose rights an operation has."""

    __slots__ = ("home", "strict", "user")

    def __init__(self, home: Home, user: str | None, strict: bool) -> None:
        self.home: Home = home
        self.user: str | None = user
        self.strict: bool = strict

    def run(self, op: Op[T]) -> T:
        """Carries out ``op``; the thread waits."""
        hold = Hold(self)
        result = self.held(op, hold)
        hold.over()
        return result

    def held(self, op: Op[T], hold: Hold) -> T:
        """Likewise, with a worker that is still held then."""
        steps = steps_of(op, hold)
        try:
            next(steps)
        except StopIteration as over:
            result: T = over.value
            return result
        raise AssertionError("an operation has no items")

    def work(self, work: Callable[[Hold], T], hold: Hold | None = None) -> T:
        """``work``, which asks one worker as it likes."""
        hold = hold or Hold(self)
        try:
            result = work(hold)
        except BaseException as error:
            hold.failed(error)
            raise
        hold.over()
        return result

    def iterate(self, op: Op[None]) -> Iterator[Any]:
        """The items of an iteration, as they come. Left early, it gives its worker back."""
        hold = Hold(self)
        yield from steps_of(op, hold)
        hold.over()


def steps_of(op: Op[T], hold: Hold) -> Generator[Any, None, T]:
    """Does what ``op`` asks for; its items are yielded."""
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
    """What the operation asks for next. Raises StopIteration at its end, and its own errors."""
    return op.throw(answer) if isinstance(answer, TimeoutError) else op.send(answer)


class Hold:
    """The worker of one operation: taken when it is needed, given back when all is well."""

    def __init__(self, rights: Rights) -> None:
        self.rights: Rights = rights
        self.worker: Worker | None = None
        self.key: tuple[str | None, bool] = (rights.user, rights.strict)
        self.aborted: bool = False

    def abort(self) -> None:
        """Called in another thread: whoever waits for this worker finds that it has ended."""
        self.aborted = True
        worker = self.worker
        if worker is not None:
            worker.hang_up()

    def take(self, fresh: bool = False) -> Worker:
        """The one that is held."""
        if self.worker is None:
            workers = self.rights.home.workers
            self.worker = (None if fresh else workers.waiting(self.key)) or workers.start(self.key)
            if self.aborted:
                self.worker.hang_up()
        return self.worker

    def exchange(self, request: wire.Request) -> wire.Reply:
        """A worker that has died while nobody needed it is replaced, once by another that waited and then by a
        new one; so is one that dies of a question."""
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
        """The worker isn't to be had any more."""
        if self.worker is not None:
            self.worker.discard()
            self.worker = None

    def over(self) -> None:
        """The operation is."""
        if self.worker is not None:
            self.rights.home.workers.give(self.worker)
            self.worker = None

    def failed(self, error: BaseException) -> None:
        """Where the worker answered it is as good as before."""
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, (TimeoutError, Gone)):
            self.over()
        else:
            self.drop()

    def release(self) -> Worker:
        """The worker stays with whoever asks: a file is read or written through it."""
        worker = self.take()
        self.worker = None
        return worker


def may_be_repeated(gone: Gone, request: wire.Request) -> bool:
    """Whether a request that got no answer can be sent once more: it wasn't taken, or it changes nothing."""
    return not gone.taken or request.op in wire.ASKS_ONLY
