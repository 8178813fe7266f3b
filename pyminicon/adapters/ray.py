"""Jobs in containers on the nodes of a Ray cluster.

    from pyminicon.adapters import ray as boxes
    for r in boxes.map([["prog", name] for name in names], image="debian", memory="256M"):
        print(r.job, r.returncode, r.stdout)

    @ray.remote
    @boxes.job(image="debian", memory="256M")
    def judge(name):
        return ["prog", name]           # the task's result is the Result of these args

pyminicon is installed on the nodes. ``ray.cancel`` ends a task's containers, and so does its driver's end.
"""

from __future__ import annotations

import functools
import inspect
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions

from pyminicon import Cancel, sizes
from pyminicon.adapters import job_images
from pyminicon.adapters import jobs as spreading
from pyminicon.adapters.jobs import JobResult, WorkerLost

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator

    from pyminicon import Result

__all__ = ["JobResult", "WorkerLost", "job", "map"]

#: What Ray says where a worker, its node or what it had answered is gone.
_GONE = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)
_LOOK = 0.05  # seconds from one look at ray.cancel's interrupt to the next


def map(
    jobs: Iterable[Any],
    *,
    ordered: bool = False,
    retries: int = 3,
    progress: bool | Callable[[int, int | None], None] = False,
    cancel: Cancel | None = None,
    return_exceptions: bool = False,
    stock: int = 2,
    **options: Any,
) -> Iterator[JobResult]:
    """Runs ``jobs`` in containers on the cluster of ``ray.init``; their results as they come, each once.

    Takes what :func:`pyminicon.adapters.dask.map` does. Ray is asked for ``cpus`` (1) and ``memory`` of each job's
    container.
    """
    spread = spreading.Spread(
        _Ray(options), jobs, options, ordered=ordered, retries=retries, progress=progress,
        cancel=cancel, return_exceptions=return_exceptions, stock=stock,
    )  # fmt: skip
    return spread.results()


class _Ray:
    """See :class:`spreading.Cluster`; a ticket is an ObjectRef."""

    def __init__(self, options: dict[str, Any]) -> None:
        if not ray.is_initialized():
            ray.init()
        needs: dict[str, Any] = {"num_cpus": options.get("cpus") or 1}
        if options.get("memory") is not None:
            needs["memory"] = sizes.check("memory", options["memory"])
        # Ray's own retries would give a whole batch out again, with the job that took the worker along.
        self._task = ray.remote(max_retries=0, **needs)(_work)
        self.slots: int = max(1, int(ray.cluster_resources().get("CPU", 1) / needs["num_cpus"]))
        self._going: builtins.list[Any] = []

    def send(self, path: str) -> Any:
        return ray.put(Path(path).read_bytes())

    def submit(self, batch: builtins.list[spreading.Entry]) -> Any:
        ticket = self._task.remote(batch)
        self._going.append(ticket)
        return ticket

    def ended(self, seconds: float) -> builtins.list[Any]:
        ended, self._going = ray.wait(self._going, timeout=seconds)
        return list(ended)

    def answer(self, ticket: Any) -> Any:
        try:
            return ray.get(ticket)
        except _GONE as error:
            raise spreading.Lost(f"Ray: {type(error).__name__}") from None

    def drop(self, tickets: builtins.list[Any]) -> None:
        for ticket in tickets:
            ray.cancel(ticket, force=False)


# ---- on the nodes -----------------------------------------------------------------------------------------


def _work(batch: builtins.list[spreading.Entry]) -> Any:
    return _interruptible(lambda cancel: spreading.work(batch, cancel, ray.get))


def _interruptible(work: Callable[[Cancel], Any]) -> Any:
    """What ``work`` returns. ``ray.cancel`` marks the main thread as interrupted, which is noticed between two of its
    steps and not in one that waits; so another thread waits for the container."""
    cancel = Cancel()
    if threading.current_thread() is not threading.main_thread():
        return work(cancel)
    outcome: dict[str, Any] = {}
    ended = threading.Event()

    def beside() -> None:
        try:
            outcome["value"] = work(cancel)
        except BaseException as error:
            outcome["error"] = error
        ended.set()

    thread = threading.Thread(target=beside, name="pyminicon-job", daemon=True)
    try:
        thread.start()  # in here: it waits for the thread, which may have its container by then
        while not ended.wait(_LOOK):
            pass
    except BaseException:
        cancel.cancel()
        if thread.is_alive():
            thread.join()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def job(*, stock: int = 2, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Result[Any]]]:
    """For a function that becomes a Ray task, or a method of an actor: what it returns is a job, args or ``(args,
    options)``, and what its caller gets is the Result. ``options``: of its containers.

    Each worker process keeps one template for them. An image that a node's store lacks is pulled there, at the digest
    that the decorating program's store has for it, if any; an archive is to be on each node.
    """
    own, each = spreading.divided(options)
    spreading.check(own)
    recipe = spreading.recipe(own, stock, job_images.known(own))

    def contained(function: Callable[..., Any]) -> Callable[..., Result[Any]]:
        if inspect.iscoroutinefunction(function):
            raise TypeError("takes a plain function: pyminicon.aio has what an async one awaits")

        @functools.wraps(function)
        def run(*args: Any, **named: Any) -> Result[Any]:
            said, more = spreading.as_job(function(*args, **named))
            given = spreading.divided({**each, **more})[1]
            result: Result[Any] = _interruptible(
                lambda cancel: spreading.run(recipe, said, given, cancel, ray.get)
            )
            return result

        return run

    return contained
