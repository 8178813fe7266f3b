"""``run --pull``: the image from its registry, before anything is started."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError


def pull(image: str, when: str, quiet: bool = False) -> None:
    """Fetches ``image`` when it is ``"missing"``, ``"always"`` or ``"never"``. Raises SpecError."""
    if when not in ("never", "missing", "always"):
        raise SpecError("--pull", f"takes never, missing or always, not {when!r}")
    if when == "never":
        return
    if image in ("host", "python") or image[:1] in ("", ".", "/") or ("/" in image and os.path.exists(image)):
        if when == "always":
            raise SpecError("--pull", f"takes a name in a registry with always, and {image!r} is none")
        return
    from pyminicon.images import missing, resolve

    if when == "always" or (quiet and not _is_there(image)):
        missing.fetch(image, quiet=quiet)
    else:
        resolve(image, pull="missing").close()


def _is_there(image: str) -> bool:
    from pyminicon.images import resolve

    try:
        resolve(image).close()
        return True
    except SpecError:
        return False
