"""Layers on their way into the store: each one fetched once, whoever asks at the same time."""

from __future__ import annotations

import os

from .config import algorithm_of
from .errors import ImageError
from .unpack import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .limits import Budget
    from .locks import Staging
    from .store import Store


def ensure(
    store: Store,
    diff_id: str,
    chunks: Callable[[], Iterator[bytes]],
    budget: Budget,
    check: Callable[[], None] | None = None,
) -> int:
    """A lock on the layer ``diff_id``, made from ``chunks()`` when the store lacks it.

    Whoever comes second waits for the first one and finds the layer made. Raises ImageError when
    the content isn't what ``diff_id`` says.
    """
    while True:
        fd = store.hold_layer(diff_id)
        if fd is not None:
            return fd
        with store.staging(f"layer-{diff_id.partition(':')[2]}", check) as staging:
            fd = store.hold_layer(diff_id)
            if fd is not None:
                return fd
            made = unpack(chunks(), staging.fs, budget, check, algorithm_of(diff_id))
            if made.diff_id != diff_id:
                raise ImageError(
                    f"wrong digest: the layer's content is {made.diff_id}, the image says {diff_id}"
                )
            fd = store.publish_layer(staging, diff_id, made)
            if fd is not None:
                return fd


def take(
    store: Store,
    staging: Staging,
    chunks: Iterator[bytes],
    budget: Budget,
    check: Callable[[], None] | None = None,
) -> tuple[str, int]:
    """Unpack a layer that nothing is known of; its diff id and a lock on it."""
    made = unpack(chunks, staging.fs, budget, check)
    if not made.complete:
        raise ImageError("the archive ends early: its last block isn't one of zeros")
    if not made.entries:
        raise ImageError("the archive is empty")
    fd = store.hold_layer(made.diff_id)
    if fd is None:
        fd = store.publish_layer(staging, made.diff_id, made)
    if fd is None:
        raise ImageError("the layer was removed while it was being imported; try again")
    return made.diff_id, fd


def release(fds: list[int]) -> None:
    """Close locks."""
    while fds:
        os.close(fds.pop())
