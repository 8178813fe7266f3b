"""The private layer of a container, kept when it has ended: whoever copies files out of it finds them there."""

from __future__ import annotations

import os

from pyminicon.detached import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.plan import Plan

_KEPT = "kept-"


def own_directory(above: str | None) -> str | None:
    """The directory of the layer, where it lies on disk, below ``above``: this process holds its lock."""
    if above is None:
        return None
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if path.startswith(f"{os.path.realpath(above)}/layer-"):
            return path
    return None


def keep(directory: str, container: str) -> str:
    """Takes the layer out of reach of whoever removes those of the ended; where it is then. Raises OSError."""
    above = os.path.dirname(directory)
    kept = f"{above}/{_KEPT}{state.boot()}-{container}"
    os.rename(directory, kept)
    return kept


def sweep(above: str | None) -> None:
    """Removes what was kept before the machine was started again."""
    if above is None:
        return
    from pyminicon.images import tree

    now = f"{_KEPT}{state.boot()}-"
    for name in os.listdir(above):
        if name.startswith(_KEPT) and not name.startswith(now):
            tree.remove(f"{above}/{name}")


def trees(plan: Plan) -> list[dict[str, Any]]:
    """What is found where, from the root on: ``at``, ``upper`` (of the layer), ``lowers`` (from the top down)."""
    from pyminicon import plan as ops

    fields = plan.fields
    # Where an ordinary user mounts it, overlayfs has its marks under names that he may write.
    opaque = (
        "user" if "userxattr" in (fields.get("overlay_options") or "") else "trusted"
    ) + ".overlay.opaque"
    writable = fields.get("root") in (ops.ROOT_SCRATCH, ops.ROOT_OVERLAY, None)
    found = [{"at": "/", "upper": "root" if writable else None, "lowers": list(fields.get("layers", ()))}]
    found[0]["opaque"] = opaque
    for kind, flags, source, target, data, *_ in fields["mounts"]:
        at = "/" + os.fsdecode(target or b"").strip("/")
        if kind == ops.OVERLAY:
            name = f"root{at}" if flags & ops.SKELETON else f"{os.fsdecode(data or b'')}u"
            upper = None if flags & ops.RO else name
            found.append({"at": at, "upper": upper, "lowers": [os.fsdecode(source or b"")]})
        elif kind == ops.BIND:
            found.append({"at": at, "upper": None, "lowers": [os.fsdecode(source or b"")]})
        elif kind in (ops.TMPFS, ops.PROC, ops.SYSFS, ops.DEV):
            found.append({"at": at, "upper": None, "lowers": []})
    return found
