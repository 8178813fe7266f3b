"""What the adapters for clusters share: jobs in, results out, each exactly once. It knows no framework.

A job is args, or ``(args, options)`` with the options of ``Template.run``. On the caller's side jobs are put into
batches of a fraction of a second (:class:`Spread`); on a worker's side (:func:`work`) each is a run of a template that
the worker process keeps for its recipe.
"""

from __future__ import annotations

import collections
import os
import pickle
import threading
import time
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pyminicon import cancelling, errors
from pyminicon.adapters import job_images
from pyminicon.options import parse as specs
from pyminicon.result import Result
from pyminicon.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NOTHING = ("/",)  # args that are never run
_STREAMS = ("stdin", "stdout", "stderr")
_BATCH = 0.2  # seconds of work; a batch is asked for and answered in some milliseconds
_MOST_IN_A_BATCH = 200
_LOOK = 0.1  # seconds from one look at `cancel` to the next
#: Losses of a job that never began; a program that kills its worker at once looks like that.
_MOST_UNBEGUN = 100
_MOST_TEMPLATES = 8  # a process keeps; each has a warm pool


class WorkerLost(errors.Error):
    """A job whose worker was lost, again and again: ``job`` (int) is its number."""

    def __init__(self, job: int, times: int, why: str) -> None:
        super().__init__(f"job {job}: its worker was lost {times} times ({why})")
        self.job = job
        self.told: tuple[int, str] = (times, why)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job, *self.told)


class Lost(Exception):
    """Raised by a :class:`Cluster`: the worker that had a batch is gone. ``begun``: it may have worked on it; else the
    batch only waited there for its turn, as far as anybody heard."""

    def __init__(self, why: str, begun: bool = True) -> None:
        super().__init__(why)
        self.begun: bool = begun


class JobResult(Result[Any]):
    """The Result of a job; ``job`` (int): its number, from 0."""

    __slots__ = ("job",)
    job: int


class Recipe(NamedTuple):
    """What a job's containers are made by."""

    key: str
    options: dict[str, Any]
    stock: int
    image: job_images.Meant


class Entry(NamedTuple):
    job: int
    recipe: Recipe
    args: Any
    options: dict[str, Any]


class Cluster(Protocol):
    """What a framework is asked for. A ticket stands for a batch that was given to it."""

    slots: int

    def send(self, path: str) -> Any:
        """Makes a file's content known to the workers; what their ``fetch`` is given for it."""

    def submit(self, batch: list[Entry]) -> Any: ...

    def ended(self, seconds: float) -> list[Any]:
        """The tickets that have ended; waits for the first of them as long as that."""

    def answer(self, ticket: Any) -> tuple[list[tuple[int, Any]], float]:
        """What :func:`work` answered. Raises :class:`Lost`."""

    def drop(self, tickets: list[Any]) -> None:
        """Ends what is going on of them."""


# ---- the caller's side ------------------------------------------------------------------------------------


class Spread:
    """One ``map``: iterate over it for the results."""

    def __init__(
        self,
        cluster: Cluster,
        jobs: Iterable[Any],
        options: dict[str, Any],
        *,
        ordered: bool,
        retries: int,
        progress: bool | Callable[[int, int | None], None],
        cancel: cancelling.Cancel | None,
        return_exceptions: bool,
        stock: int,
    ) -> None:
        self._cluster = cluster
        self._options, self._stock = options, stock
        self._recipes: dict[str, Recipe] = {}
        own, _ = divided(options)
        self._recipe(own)  # what is wrong with it is said at once
        self._jobs = enumerate(jobs)
        self._total = len(jobs) if isinstance(jobs, Sized) else None
        self._given_out = 0
        self._ordered, self._retries = ordered, retries
        self._cancel, self._return = cancel, return_exceptions
        self._bar = Bar() if progress is True else None
        self._told: Callable[[int, int | None], None]
        if progress is True or not progress:
            self._told = self._bar or (lambda done, total: None)
        else:
            self._told = progress
        self._going: dict[Any, list[Entry]] = {}
        self._again: collections.deque[Entry] = collections.deque()
        self._losses: collections.Counter[int] = collections.Counter()
        self._unbegun: collections.Counter[int] = collections.Counter()
        self._seconds: float | None = None  # of one job

    def _recipe(self, own: dict[str, Any]) -> Recipe:
        key = repr(sorted(own.items()))
        if key not in self._recipes:
            check(own)
            self._recipes[key] = recipe(own, self._stock, job_images.meant(own, self._cluster.send))
        return self._recipes[key]

    def _entry(self, number: int, job: Any) -> Entry:
        args, more = as_job(job)
        own, each = divided({**self._options, **more})
        return Entry(number, self._recipe(own), args, each)

    def results(self) -> Iterator[Any]:
        """The results as they come, or in the jobs' order. What has begun ends with the iterator."""
        done = turn = 0
        waiting: dict[int, Any] = {}
        try:
            for number, outcome in self._outcomes():
                done += 1
                self._told(done, self._total)
                if not self._ordered:
                    yield self._given(number, outcome)
                    continue
                waiting[number] = outcome
                while turn in waiting:
                    yield self._given(turn, waiting.pop(turn))
                    turn += 1
        finally:
            if self._bar is not None:
                self._bar.end()
            self._cluster.drop([*self._going])

    def _given(self, number: int, outcome: Any) -> Any:
        if isinstance(outcome, Result):
            made = JobResult()
            for name in Result.__slots__:
                setattr(made, name, getattr(outcome, name))
            made.job = number
            return made
        outcome.job = number
        if self._return:
            return outcome
        raise outcome

    def _outcomes(self) -> Iterator[tuple[int, Any]]:
        self._fill()
        while self._going:
            if self._cancel is not None and self._cancel.cancelled:
                raise errors.Cancelled("it was cancelled")
            for ticket in self._cluster.ended(_LOOK):
                batch = self._going.pop(ticket)
                try:
                    outcomes, seconds = self._cluster.answer(ticket)
                except Lost as error:
                    yield from self._lost(batch, error)
                    continue
                mean = seconds / len(batch)
                self._seconds = mean if self._seconds is None else (self._seconds * 3 + mean) / 4
                self._fill()  # the workers go on while the caller looks at these
                yield from outcomes
            self._fill()

    def _lost(self, batch: list[Entry], error: Lost) -> Iterator[tuple[int, Any]]:
        for entry in batch:
            # Whoever wants no second try wants none of what may have begun unheard either.
            count = self._losses if error.begun or not self._retries else self._unbegun
            count[entry.job] += 1
            times = self._losses[entry.job]
            if times > self._retries or self._unbegun[entry.job] > _MOST_UNBEGUN:
                yield (
                    entry.job,
                    WorkerLost(entry.job, times + self._unbegun[entry.job], str(error)),
                )
            else:
                self._again.append(entry)

    def _fill(self) -> None:
        """A batch for each slot to work on, and one to go on with."""
        while len(self._going) < 2 * self._cluster.slots and (batch := self._batch()):
            self._going[self._cluster.submit(batch)] = batch

    def _batch(self) -> list[Entry]:
        if self._again:
            return [self._again.popleft()]  # alone: if it takes its worker with it, it does so alone
        size = 1
        if self._seconds is not None:
            size = max(1, min(_MOST_IN_A_BATCH, int(_BATCH / max(self._seconds, 1e-6))))
        # Towards the end smaller ones: or one worker has the last, and the others none.
        if self._total is not None:
            size = max(1, min(size, (self._total - self._given_out) // (2 * self._cluster.slots)))
        batch = []
        for number, job in self._jobs:
            batch.append(self._entry(number, job))
            self._given_out = number + 1
            if len(batch) == size:
                break
        return batch


def as_job(job: Any) -> tuple[Any, dict[str, Any]]:
    """Args and options of what was given as a job."""
    pair = isinstance(job, tuple) and len(job) == 2 and isinstance(job[1], dict)
    return job if pair else (job, {})


def check(own: dict[str, Any]) -> None:
    """Raises SpecError for what no template takes."""
    # What a limit may be is for the machine to say that has the container.
    here = {name: value for name, value in own.items() if name not in specs.LIMITS}
    specs.parse(_NOTHING, here, specs.EACH_RUN | {"tty"})


def recipe(own: dict[str, Any], stock: int, image: job_images.Meant) -> Recipe:
    """What a template is made by, and known by: a name may mean another image tomorrow."""
    return Recipe(repr((stock, sorted(own.items()), image.digest)), own, stock, image)


def divided(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A template's options and those of each run. Output is captured and nothing is read where nothing else is said:
    a worker's streams are nobody's. Raises SpecError for what belongs to one process."""
    own = {name: value for name, value in options.items() if name not in specs.EACH_RUN}
    each = {name: value for name, value in options.items() if name in specs.EACH_RUN}
    for name in ("pass_fds", "cancel"):
        if each.get(name):
            raise errors.SpecError(name, "belongs to one process, and a job runs in another")
    for name in _STREAMS:
        if each.get(name) not in (None, specs.PIPE, specs.STDOUT, specs.DEVNULL):
            raise errors.SpecError(name, "takes PIPE, STDOUT or DEVNULL here: a job runs in another process")
    if not {"stdout", "stderr", "capture_output"} & each.keys():
        each["capture_output"] = True
    if each.get("stdin") is None and each.get("input") is None:
        each["stdin"] = specs.DEVNULL
    return own, each


class Bar:
    """A line on stderr that shows how far it is; on a terminal alone."""

    def __init__(self) -> None:
        self._shown: tuple[int, int | None] = (0, None)
        self._seen: tuple[int, int | None] = (0, None)

    def __call__(self, done: int, total: int | None) -> None:
        self._seen = (done, total)
        every = max(1, (total or 10_000) // 200)
        if done % every == 0 or done == 1:
            self._show()

    def end(self) -> None:
        """How far it came stays there, and what follows has a line of its own."""
        if self._seen != self._shown:
            self._show()
        if self._shown[0]:
            self._write("\n")

    def _show(self) -> None:
        self._shown = done, total = self._seen
        shown = "#" * (30 * done // total) if total else ""
        self._write(f"\r[{shown:30}] {done}/{total}" if total else f"\r{done} done")

    def _write(self, text: str) -> None:
        import sys

        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(text)
            sys.stderr.flush()


# ---- a worker's side --------------------------------------------------------------------------------------


class _Kept:
    """A recipe's template in this process, made by whoever comes first."""

    def __init__(self) -> None:
        self.lock: threading.Lock = threading.Lock()
        self.template: Template | None = None
        self.users: int = 0

    def made(self, recipe: Recipe, fetch: Callable[[Any], bytes]) -> Template:
        with self.lock:
            if self.template is None:
                options = job_images.settled(recipe.options, recipe.image, fetch)
                self.template = Template(stock=recipe.stock, **options)
            return self.template


_kept: collections.OrderedDict[str, _Kept] = collections.OrderedDict()
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _kept.clear()  # the parent's, and refused here


os.register_at_fork(after_in_child=_after_fork)


def _borrowed(key: str) -> _Kept:
    with _lock:
        kept = _kept.setdefault(key, _Kept())
        kept.users += 1
        _kept.move_to_end(key)
    close_idle(_MOST_TEMPLATES)
    return kept


def close_idle(most: int = 0) -> None:
    """Closes templates that nobody is using, the longest unused first, until there are so many."""
    with _lock:
        idle = [key for key, kept in _kept.items() if not kept.users]
        gone = [_kept.pop(key) for key in idle[: max(0, len(_kept) - most)]]
    for kept in gone:
        if kept.template is not None:
            kept.template.close()


def run(
    recipe: Recipe,
    args: Any,
    options: dict[str, Any],
    cancel: cancelling.Cancel | None,
    fetch: Callable[[Any], bytes],
) -> Result[Any]:
    """One job, here."""
    kept = _borrowed(recipe.key)
    try:
        return kept.made(recipe, fetch).run(args, **options, cancel=cancel)
    finally:
        with _lock:
            kept.users -= 1


def work(
    batch: list[Entry], cancel: cancelling.Cancel | None, fetch: Callable[[Any], bytes]
) -> tuple[list[tuple[int, Any]], float]:
    """Each job's Result, or the error that it is its caller's to raise; and the seconds that took."""
    begun = time.monotonic()
    outcomes: list[tuple[int, Any]] = []
    for job, recipe, args, options in batch:
        outcome: Any
        try:
            outcome = run(recipe, args, options, cancel, fetch)
        except errors.Cancelled:
            raise
        except Exception as error:
            outcome = _carried(error)
        outcomes.append((job, outcome))
    return outcomes, time.monotonic() - begun


def _carried(error: Exception) -> Exception:
    """The error as it can go to another process."""
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return errors.Error(f"{type(error).__name__}: {error}")
