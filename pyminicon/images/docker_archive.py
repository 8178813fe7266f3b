"""What `docker save` and `podman save` write: a tar with a manifest.json that lists its images.

Docker's image specification, v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json

from . import config as configs
from . import layers
from .assemble import Job, keep
from .errors import ImageError
from .layout import SMALL
from .reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .tar_index import TarBlobs


def take(job: Job, archive: TarBlobs, path: str, ref: str | None) -> str:
    """Bring one image of the archive into the store; its digest (that of its configuration).

    ``ref`` chooses by tag when there are several. Raises ImageError.
    """
    entry = _choose(_entries(archive.whole("manifest.json", SMALL)), ref)
    data = archive.whole(entry["Config"], SMALL)
    parsed = configs.parse(data)
    names: list[str] = entry["Layers"]
    if len(names) != len(parsed.diff_ids):
        raise ImageError(f"manifest.json lists {len(names)} layers, the configuration {len(parsed.diff_ids)}")
    digest = configs.digest_of(data)
    locks: list[int] = []
    try:
        for diff_id, name in zip(parsed.diff_ids, names, strict=False):
            locks.append(_layer(job, archive, diff_id, name))
        tags = entry["RepoTags"] if job.names is None else job.names
        keep(job, digest, parsed, about={"source": path, "config": parsed.raw}, names=tags)
    finally:
        layers.release(locks)
    return digest


def _layer(job: Job, archive: TarBlobs, diff_id: str, name: str) -> int:
    with job.progress.task(diff_id[7:19]) as task:

        def pieces() -> Iterator[bytes]:
            for piece in archive.pieces(name):
                job.check()
                task.add(len(piece))
                yield piece

        return layers.ensure(job.store, diff_id, pieces, job.budget, job.check)


def _entries(data: bytes) -> list[dict[str, Any]]:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"manifest.json isn't JSON: {error}") from None
    if not isinstance(raw, list) or not raw:
        raise ImageError("manifest.json lists no image")
    found = []
    for entry in raw:
        if not isinstance(entry, dict):
            raise ImageError("manifest.json has an entry that isn't an object")
        tags, names = entry.get("RepoTags") or [], entry.get("Layers")
        strings = isinstance(tags, list) and isinstance(names, list) and [entry.get("Config"), *tags, *names]
        if not strings or not all(isinstance(text, str) for text in strings):
            raise ImageError("manifest.json has an entry without Config, Layers or RepoTags")
        full = [str(parse(tag)) for tag in tags]
        found.append({"Config": entry["Config"], "Layers": entry["Layers"], "RepoTags": full})
    return found


def _choose(entries: list[dict[str, Any]], ref: str | None) -> dict[str, Any]:
    if ref is not None:
        wanted = str(parse(ref))
        entries = [entry for entry in entries if wanted in entry["RepoTags"]]
        if not entries:
            raise ImageError(f"no image {wanted} in the archive")
    if len(entries) > 1:
        tags = ", ".join(tag for entry in entries for tag in entry["RepoTags"][:1])
        raise ImageError(
            f"the archive holds {len(entries)} images ({tags}); `pyminicon image import --ref NAME` takes one"
        )
    return entries[0]
