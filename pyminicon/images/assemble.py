"""From a manifest to an image in the store; where the bytes come from is the caller's business."""

from __future__ import annotations

import threading
import time
from functools import partial

from . import config as configs
from . import layers
from .config import algorithm_of, digest_of
from .errors import ImageError
from .limits import Budget
from .manifest import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from .config import Parsed
    from .limits import Limits
    from .manifest import Descriptor, Manifest
    from .progress import Progress
    from .store import Store

    class Source(Protocol):
        """Where content comes from."""

        def manifest(self, descriptor: Descriptor) -> bytes:
            """A manifest or index, whole."""

        def small(self, descriptor: Descriptor) -> bytes:
            """A configuration, whole."""

        def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
            """A layer, in pieces, checked against its digest at the end."""


class Stopped(Exception):
    """Another thread failed or the user interrupted: leave without a word."""


class Job:
    """What every step of one import or pull needs to know.

    ``names`` are given to the image (None: those that its archive knows);
    ``file_entry`` is the identity and path of its archive.
    """

    __slots__ = ("budget", "file_entry", "names", "platform", "progress", "stop", "store")

    def __init__(
        self,
        store: Store,
        limits: Limits,
        progress: Progress,
        *,
        platform: str | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.store: Store = store
        self.budget: Budget = Budget(limits)
        self.progress: Progress = progress
        self.platform: str | None = platform
        self.names: list[str] | None = names
        self.file_entry: tuple[str, str] | None = None
        self.stop: threading.Event = threading.Event()

    def check(self) -> None:
        """Raises Stopped when the work is no longer wanted."""
        if self.stop.is_set():
            raise Stopped


def assemble(
    job: Job,
    source: Source,
    data: bytes,
    *,
    origin: str,
    expect: str | None = None,
    ref: str | None = None,
    workers: int = 1,
) -> str:
    """Put the image whose manifest or index is ``data`` into the store; its digest.

    ``origin``: where it came from, for people. ``expect`` and ``ref``: see :func:`manifest.find`.
    ``workers``: layers fetched at once.
    """
    manifest = find(data, job.platform, source.manifest, expect, ref)
    config_data = source.small(manifest.config)
    if len(config_data) != manifest.config.size:
        raise ImageError(
            f"wrong size: the configuration has {len(config_data)} bytes, not the {manifest.config.size} announced"
        )
    if digest_of(config_data, algorithm_of(manifest.config.digest)) != manifest.config.digest:
        raise ImageError(f"wrong digest: the configuration isn't {manifest.config.digest}")
    parsed = configs.parse(config_data)
    if len(parsed.diff_ids) != len(manifest.layers):
        raise ImageError(
            f"the manifest has {len(manifest.layers)} layers, the configuration {len(parsed.diff_ids)}"
        )
    locks = _all_layers(job, source, manifest, parsed.diff_ids, workers)
    try:
        about = {"source": origin, "manifest": manifest.raw, "config": parsed.raw}
        keep(job, manifest.digest, parsed, about=about, names=job.names or [])
    finally:
        layers.release(locks)
    return manifest.digest


def keep(job: Job, digest: str, parsed: Parsed, *, about: dict[str, Any], names: list[str]) -> None:
    """Write the record of an image whose layers are in the store and held by the caller."""
    about["size"] = sum(job.store.layer_size(layer) for layer in set(parsed.diff_ids))
    job.budget.insist(about["size"])  # those that the store had count as well
    about["notes"] = [note for layer in parsed.diff_ids for note in job.store.layer_notes(layer)]
    job.store.add_image(
        digest,
        parsed.platform,
        topmost(parsed.diff_ids),
        parsed.config if parsed.raw.get("config") else None,
        about=about,
        names=names,
        file_entry=job.file_entry,
    )


def topmost(diff_ids: list[str]) -> list[str]:
    """``diff_ids`` with only the topmost of equal layers: overlayfs refuses a directory twice, and
    whatever the lower one shows the upper one shows too."""
    return list(reversed(list(dict.fromkeys(reversed(diff_ids)))))


def _all_layers(job: Job, source: Source, manifest: Manifest, diff_ids: list[str], workers: int) -> list[int]:
    """Locks on all layers, fetched by up to ``workers`` threads where the store lacks them."""
    wanted: dict[str, Descriptor] = {}
    for diff_id, layer in zip(diff_ids, manifest.layers, strict=False):
        wanted.setdefault(diff_id, layer)
    locks: list[int] = []

    def one(diff_id: str, layer: Descriptor) -> None:
        with job.progress.task(layer.digest[7:19], layer.size) as task:

            def chunks() -> Iterator[bytes]:
                for chunk in source.blob(layer):
                    job.check()
                    task.add(len(chunk))
                    yield chunk

            locks.append(layers.ensure(job.store, diff_id, chunks, job.budget, job.check))

    try:
        if workers < 2 or len(wanted) < 2:
            for diff_id, layer in wanted.items():
                one(diff_id, layer)
        else:
            in_parallel(job, [partial(one, *pair) for pair in wanted.items()], workers)
    except BaseException:
        layers.release(locks)
        raise
    return locks


def in_parallel(job: Job, tasks: list[Callable[[], None]], workers: int) -> None:
    """Run ``tasks`` in threads; the first exception stops the others and is raised here.

    Daemon threads, waited for in small steps: a Ctrl-C gets through at once, and what they leave in
    the store is work in progress that counts for nothing.
    """
    failures: list[BaseException] = []

    def work() -> None:
        while not job.stop.is_set():
            try:
                task = tasks.pop(0)
            except IndexError:
                return
            try:
                task()
            except Stopped:
                return
            except BaseException as error:
                failures.append(error)
                job.stop.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        # One that waits for the network doesn't hear: it is left behind, to stop at its next step.
        job.stop.set()
        deadline = time.monotonic() + 1.0
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if failures:
        raise failures[0]
