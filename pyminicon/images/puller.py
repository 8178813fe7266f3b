"""Fetch an image from its registry."""

from __future__ import annotations

import sys

from .assemble import Job, assemble
from .reference import parse
from .registry import Registry
from .transport import Transport

#: Layers on their way at once, as docker has it.
WORKERS = 3


def pull(job: Job, text: str, ca: str | None = None, plain_http: bool = False, workers: int = WORKERS) -> str:
    """Bring the image that ``text`` names into the store, under that name; its digest.

    ``ca``: a file of certificates trusted besides the system's. ``plain_http``: no TLS.
    Raises RegistryError, and ImageError for content that isn't what it should be.
    """
    sys.audit("pyminicon.pull", text)
    reference = parse(text)
    job.store.sweep()
    registry = Registry(reference, Transport(ca, job.check), plain_http, ca)
    data = registry.top()
    if job.names is None:
        plain = f"{reference.registry}/{reference.repository}"
        marks = (
            f":{reference.tag}" if reference.tag else "",
            f"@{reference.digest}" if reference.digest else "",
        )
        job.names = [f"{plain}{mark}" for mark in marks if mark]
    return assemble(
        job, registry, data, origin=str(reference), expect=reference.digest or None, workers=workers
    )
