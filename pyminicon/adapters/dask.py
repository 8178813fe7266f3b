"""Jobs in containers on the workers of a Dask cluster.

    from pyminicon.adapters import dask
    for r in dask.map(client, [["prog", name] for name in names], image="debian", memory="256M"):
        print(r.job, r.returncode, r.stdout)

pyminicon is installed on the workers. Containers end with their future: cancelled, released, or its client gone.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import functools
import pickle
import queue
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, Status, Worker, WorkerPlugin, get_worker
from distributed.scheduler import KilledWorker

from pyminicon import Cancel, Cancelled, SpecError, sizes
from pyminicon.adapters import job_images
from pyminicon.adapters import jobs as spreading
from pyminicon.adapters.jobs import JobResult, WorkerLost

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["JobResult", "WorkerLost", "map"]

#: Where workers tell which batches they begin: the scheduler doesn't know what only waits in a worker's queue.
_TOPIC = "pyminicon"
#: What each client heard there of its own batches.
_begun: weakref.WeakKeyDictionary[Client, set[str]] = weakref.WeakKeyDictionary()


def map(
    client: Client,
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
    """Runs ``jobs`` in containers on the cluster; their results as they come, each once.

    A job is args, or ``(args, options)``; ``options`` are of all jobs: :func:`pyminicon.run`'s. Each result has its
    job's number as ``job``. ``ordered``: in the jobs' order. ``retries``: how often a job is given out again whose
    worker was lost (never one whose program failed), then WorkerLost. ``progress``: True, or a callable that is told
    (done, total). ``cancel``: its ``cancel()`` ends all containers, and Cancelled is raised. ``return_exceptions``: an
    error takes its result's place, and isn't raised. ``stock``: of each worker process's template.
    """
    spread = spreading.Spread(
        _Dask(client, options), jobs, options, ordered=ordered, retries=retries, progress=progress,
        cancel=cancel, return_exceptions=return_exceptions, stock=stock,
    )  # fmt: skip
    return spread.results()


class _Dask:
    """See :class:`spreading.Cluster`; a ticket is a Future's key."""

    def __init__(self, client: Client, options: dict[str, Any]) -> None:
        self._client = client
        self._futures: dict[str, Future] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._workers = client.scheduler_info(n_workers=-1)["workers"]
        workers = self._workers.values()
        self.slots: int = max(1, sum(worker["nthreads"] for worker in workers))
        declared = {name for worker in workers for name in worker["resources"]}
        self._resources = {name: much for name, much in _needs(options).items() if name in declared}
        if client not in _begun:
            _begun[client] = set()
            client.subscribe_topic(_TOPIC, functools.partial(_heard, weakref.ref(client)))
        self._begun = _begun[client]
        if _EndsWithItsFuture.name not in client.run_on_scheduler(_plugins):
            client.register_plugin(_EndsWithItsFuture())

    def send(self, path: str) -> str:
        """Each node's first worker unpacks it."""
        nodes = {worker["host"]: address for address, worker in self._workers.items()}
        (sent,) = self._client.scatter([Path(path).read_bytes()])
        unpacked = [
            self._client.submit(job_images.unpacked, sent, workers=[address], pure=False)
            for address in nodes.values()
        ]
        self._client.gather(unpacked)
        return path

    def submit(self, batch: list[spreading.Entry]) -> str:
        key = f"pyminicon-{uuid.uuid4().hex}"
        # As bytes: Dask looks through whatever else it is given.
        future = self._client.submit(
            _work, pickle.dumps(batch), key, key=key, pure=False, resources=self._resources or None
        )
        self._futures[key] = future
        future.add_done_callback(lambda ended: self._ended.put(ended.key))
        return key

    def ended(self, seconds: float) -> builtins.list[str]:
        try:
            return [self._ended.get(timeout=seconds)]
        except queue.Empty:
            return []

    def answer(self, ticket: str) -> Any:
        future = self._futures.pop(ticket)
        try:
            return future.result()
        except KilledWorker as error:
            why = f"Dask: KilledWorker {error.last_worker.address}"
            raise spreading.Lost(why, ticket in self._begun) from None
        except (asyncio.CancelledError, concurrent.futures.CancelledError, Cancelled) as error:
            raise spreading.Lost(f"Dask: {type(error).__name__}") from None
        finally:
            self._begun.discard(ticket)

    def drop(self, tickets: builtins.list[str]) -> None:
        futures = [self._futures.pop(ticket) for ticket in tickets]
        self._begun.difference_update(tickets)
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


def _needs(options: dict[str, Any]) -> dict[str, float]:
    """What a job takes of a worker, in the words that the documentation of workers' resources has."""
    needs: dict[str, float] = {}
    if options.get("memory") is not None:
        needs["memory"] = needs["MEMORY"] = sizes.check("memory", options["memory"])
    if options.get("cpus") is not None:
        needs["cpus"] = needs["CPU"] = float(options["cpus"])
    return needs


def _heard(client: weakref.ref[Client], event: tuple[float, Any]) -> None:
    """A batch has begun, this client's or another's; told before its loss is, both come the same way."""
    here, (_, key) = client(), event
    if here is not None and key in here.futures:
        _begun[here].add(key)


def _plugins(dask_scheduler: Any) -> builtins.list[str]:
    return [*dask_scheduler.worker_plugins]


# ---- on the workers ---------------------------------------------------------------------------------------

_going: dict[str, Cancel] = {}
#: Batches that nobody wants any more, which may not have come to their first line yet.
_unwanted: collections.deque[str] = collections.deque(maxlen=1000)


class _EndsWithItsFuture(WorkerPlugin):
    """Ends a batch's containers when nobody wants its result any more: Dask itself lets a running task run on."""

    name = "pyminicon"

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        if start in ("executing", "long-running") and finish == "released":
            _unwanted.append(key)
            if key in _going:
                _going[key].cancel()

    def teardown(self, worker: Worker) -> None:
        if worker.status != Status.running:  # else the plugin is only replaced by another client's
            spreading.close_idle()


def _work(packed: bytes, key: str) -> Any:
    cancel = _going[key] = Cancel()
    get_worker().log_event(_TOPIC, key)
    try:
        if key in _unwanted:
            cancel.cancel()
        return spreading.work(pickle.loads(packed), cancel, _fetch)
    finally:
        del _going[key]


def _fetch(path: str) -> bytes:
    raise SpecError("image", f"{path} was sent before this node joined the cluster: begin the map anew")
