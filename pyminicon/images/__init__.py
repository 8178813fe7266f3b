"""Images: root file systems from archives, OCI layouts and registries, each kept once.

The launch path needs only :func:`resolve`; everything else (unpacking, registries, the commands)
lives in modules that are imported when they are asked for.
"""

from .lookup import ImageConfig, Resolved, resolve

__all__ = ["ImageConfig", "Resolved", "resolve"]
