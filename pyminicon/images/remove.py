"""How images go: names first, then the image that no name or container holds, then its layers.

The exclusive lock on an image's record is what a running container's shared one forbids. Layers
are collected under the store's lock, by what the records that are left name.
"""

from __future__ import annotations

import fcntl
import os

from . import locks, lookup, tree
from .errors import Busy, ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .locks import StoreLock
    from .store import Store


def remove(store: Store, name: str) -> list[str]:
    """Take a name away, and with its last one the image and the layers nobody else has.

    Returns what went, names and digests. Raises Busy while a container runs from the image,
    ImageError when there is none of that name. A digest takes the image with all its names.
    """
    with store.locked() as lock:
        digest = store.find(name)
        if digest is None:
            raise ImageError(f"{name!r} isn't in the store {store.path}")
        refs = [
            ref for ref in os.listdir(f"{store.path}/refs") if lock.read(f"refs/{ref}") == digest.encode()
        ]
        mine = [ref for ref in lookup.ref_names(name) if ref in refs][:1]
        if mine and len(refs) > 1:
            os.unlink(f"{store.path}/refs/{mine[0]}")
            return [mine[0].replace("%", "/")]
        _remove_record(store, digest)
        for ref in refs:
            os.unlink(f"{store.path}/refs/{ref}")
        _collect_layers(store)
        return [*(ref.replace("%", "/") for ref in refs), digest]


def prune(store: Store, everything: bool = False) -> list[tuple[str, str]]:
    """Remove images that have no name and whose archive is gone (``everything``: all that no
    container uses), those whose record is damaged, layers of no image, and leftovers. Returns the digests
    that went, each with where it came from."""
    gone = []
    with store.locked() as lock:
        kept = set() if everything else set(store.names()) | _archives(store, lock)
        for digest in store.digests():
            if digest in kept and _layers(store, digest) is not None:
                continue
            source = _source(store, digest)
            try:
                _remove_record(store, digest)
            except Busy:
                continue
            gone.append((digest, source))
        _forget(store, lock)
        _collect_layers(store)
        store.sweep()
    _sweep_scratch(store)
    return gone


def _source(store: Store, digest: str) -> str:
    try:
        told = store.about(digest).get("source")
    except ImageError:
        told = None
    return told if isinstance(told, str) and told.isprintable() else "an unknown source"


def _sweep_scratch(store: Store) -> None:
    """Remove writable layers on disk whose launcher was killed: whoever has one holds its lock, and that of
    scratch/ while it makes one."""
    scratch = f"{store.path}/scratch"
    fd = locks.lock(scratch, fcntl.LOCK_EX)
    if fd is None:
        return
    try:
        locks.sweep(scratch, tolerant=True)
    finally:
        os.close(fd)


def _archives(store: Store, lock: StoreLock) -> set[str]:
    """The digests of images whose archive still lies where it was."""
    kept = set()
    for key in os.listdir(f"{store.path}/files"):
        digest, _, path = (lock.read(f"files/{key}") or b"").partition(b"\n")
        try:
            status = os.stat(path)
            if os.path.isdir(path):
                status = os.stat(path + b"/index.json")
        except OSError:
            continue
        if key.startswith(lookup.file_key(status, None)):
            kept.add(digest.decode())
    return kept


def _forget(store: Store, lock: StoreLock) -> None:
    """Drop the names and archive entries of images that are gone."""
    there = {digest.encode() for digest in store.digests()}
    for kind in ("refs", "files"):
        for name in os.listdir(f"{store.path}/{kind}"):
            if (lock.read(f"{kind}/{name}") or b"").split(b"\n")[0] not in there:
                os.unlink(f"{store.path}/{kind}/{name}")
    for name in os.listdir(f"{store.path}/images"):
        if name.endswith(".json") and f"sha256:{name[:-5]}".encode() not in there:
            os.unlink(f"{store.path}/images/{name}")


def _remove_record(store: Store, digest: str) -> None:
    path = f"{store.path}/images/{digest.partition(':')[2]}"
    fd = locks.lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if fd is None:
        if not os.path.exists(path):
            return
        raise Busy(f"{digest} is in use by a running container")
    try:
        os.unlink(path)
        tree.remove(f"{path}.json")
    finally:
        os.close(fd)


def _layers(store: Store, digest: str) -> list[str] | None:
    """The layers that an image's record names; None for a damaged one."""
    data = lookup.read_small(f"{store.path}/images/{digest.partition(':')[2]}")
    if data is None:
        return []
    try:
        return lookup.decode_record(data)[2]
    except ValueError:
        return None


def _collect_layers(store: Store) -> None:
    used = set()
    for digest in store.digests():
        named = _layers(store, digest)
        if named is None:
            # A container may run from it, on layers that nobody else names any more.
            return
        used.update(named)
    for name in os.listdir(f"{store.path}/layers"):
        path = f"{store.path}/layers/{name}"
        # A pull that found this layer holds it until its image's record names it.
        fd = None if name in used else locks.lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fd is None:
            continue
        try:
            dead = f"{store.path}/tmp/dead-{name}"
            tree.remove(dead)
            os.rename(path, dead)
            tree.remove(dead)
        finally:
            os.close(fd)
