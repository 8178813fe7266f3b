"""``run --pull``: the image from its registry, before anything is started."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError


def pull(image: str, when: str) -> None:
    """Fetches ``image`` when it is ``"missing"``, ``"always"`` or ``"never"``. Raises SpecError."""
    if when not in ("never", "missing", "always"):
        raise SpecError("--pull", f"takes never, missing or always, not {when!r}")
    if when == "never":
        return
    if image in ("host", "python") or image[:1] in ("", ".", "/") or ("/" in image and os.path.exists(image)):
        if when == "always":
            raise SpecError("--pull", f"takes a name in a registry with always, and {image!r} is none")
        return
    if when == "always":
        from pyminicon.images import missing

        missing.fetch(image)
    else:
        from pyminicon.images import resolve

        resolve(image, pull="missing").close()
