"""A cluster's images: each node has a store of its own, and the same image is in them all or the job fails.

The caller says which digest is meant. A node that doesn't have it pulls the name at that digest, or unpacks the archive
that the caller sent, once: the store's own locks keep its processes from doing it twice.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from pyminicon import errors, images
from pyminicon.images import archive, lookup, reference, store

if TYPE_CHECKING:
    from collections.abc import Callable


class Meant(NamedTuple):
    """An image as its caller knows it; no digest where it is no image of a store."""

    name: str
    digest: str | None = None
    sent: Any = None


def meant(options: dict[str, Any], send: Callable[[str], Any]) -> Meant:
    """The image that ``options`` name. Raises SpecError."""
    image = os.fsdecode(options.get("image", "host"))
    if image in ("host", "python"):
        return Meant(image)
    if "/" in image and os.path.exists(image):
        layout = os.path.exists(f"{image}/index.json")
        if os.path.isdir(image) and not layout:
            return Meant(image)  # a root directory, which all nodes are to have
        if layout:
            raise errors.SpecError("image", f"{image}: a layout isn't sent; tar -C {image} -cf app.tar . is")
        found = images.resolve(image)
        found.close()
        return Meant(image, found.digest, send(image))
    digest = lookup.find_digest(lookup.own_store(), image)
    if digest is None:
        from pyminicon.images.pulling import pull

        digest = pull(image)
    return Meant(image, digest)


def known(options: dict[str, Any]) -> Meant:
    """The same for whoever sends and pulls nothing: by its digest where this store has it, else a name for each node."""
    image = os.fsdecode(options.get("image", "host"))
    return Meant(image, lookup.find_digest(lookup.own_store(), image) if _is_name(image) else None)


def _is_name(image: str) -> bool:
    if image in ("host", "python") or image.startswith((".", "/")):
        return False
    return "/" not in image or not os.path.exists(image)


def settled(options: dict[str, Any], image: Meant, fetch: Callable[[Any], bytes]) -> dict[str, Any]:
    """``options`` with the very image that was meant, which is in this node's store afterwards. Raises SpecError."""
    if image.digest is None:
        if not _is_name(image.name) or lookup.find_digest(lookup.own_store(), image.name) is not None:
            return options
        from pyminicon.images.pulling import pull

        return {**options, "image": pull(image.name)}
    if not store.Store().has(image.digest):
        found = unpacked(fetch(image.sent)) if image.sent is not None else _pulled(image)
        if found != image.digest:
            raise errors.SpecError(
                "image", f"{image.name} is {found[:19]} on this node, not {image.digest[:19]}"
            )
    return {**options, "image": image.digest}


def _pulled(image: Meant) -> str:
    from pyminicon.images.pulling import pull

    asked = reference.parse(image.name)
    try:
        return pull(f"{asked.registry}/{asked.repository}@{image.digest}")
    except errors.SpecError as error:
        raise errors.SpecError(
            "image",
            f"{image.name} isn't on this node ({error}); an archive's path is sent: image='./app.tar'",
        ) from None


def unpacked(data: bytes) -> str:
    """Puts an archive's image into this node's store; its digest."""
    from pyminicon.images import progress
    from pyminicon.images.assemble import Job
    from pyminicon.images.limits import Limits

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return archive.import_path(Job(store.Store(), Limits(), progress.Progress(), names=[]), file.name)
