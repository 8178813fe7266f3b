"""Images: root file systems from archives, OCI layouts and registries, each kept once.

The launch path needs only :func:`resolve`; everything else (unpacking, registries, the commands)
lives in modules that are imported when they are asked for.
"""

from __future__ import annotations

import os

from . import lookup
from .lookup import ImageConfig, Resolved

__all__ = ["ImageConfig", "Resolved", "resolve"]


def resolve(image: str, *, platform: str | None = None, pull: str = "never", dry: bool = False) -> Resolved:
    """The layers and configuration of ``image``, locked against removal.

    ``image``: a path to an archive or OCI layout (anything with a slash that exists, or that begins with
    ``.`` or ``/``), or a name in the store, ``name[:tag]``, a digest or the beginning of one. An archive is imported at its
    first use and found by its identity (device, inode, size, times) afterwards.
    ``platform``: ``"os/arch[/variant]"``, default this machine's.
    ``pull``: ``"never"``, or ``"missing"`` to fetch an unknown name from its registry. ``dry``: an archive that
    isn't in the store is an error.

    Raises SpecError (``image``) when there is no such image or it can't be read.
    """
    root = lookup.own_store()
    if "/" in image:
        try:
            status = os.stat(image)
        except (OSError, ValueError):
            status = None
        if status is not None:
            return _resolve_path(root, image, status, platform, dry)
    digest = lookup.find_digest(root, image)
    found = lookup.open_image(root, digest) if digest else None
    if found is not None:
        if platform is None or found.platform == platform:
            return found
        found.close()
    from .missing import by_name

    return by_name(root, image, platform, pull, found)


def _resolve_path(root: str, path: str, status: os.stat_result, platform: str | None, dry: bool) -> Resolved:
    if status.st_mode & 0o170000 == 0o040000:
        # A layout is what its index says; the index is replaced, not edited, by those who write it.
        try:
            status = os.stat(f"{path}/index.json")
        except OSError:
            status = None  # type: ignore[assignment]
    if status is not None:
        data = lookup.read_small(f"{root}/files/{lookup.file_key(status, platform)}")
        found = lookup.open_image(root, data.split(b"\n", 1)[0].decode()) if data else None
        if found is not None:
            return found
    if dry:
        from .errors import ImageError

        raise ImageError(
            f"{path} isn't in the store, and a dry run imports nothing: pyminicon image import {path}"
        )
    from .missing import by_path

    return by_path(root, path, platform)
