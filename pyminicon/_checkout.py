"""A checkout as the working directory: `python -m` finds its sources before the package that was installed.

Nothing is ever built into a checkout by an installation, so its sources alone can't start anything.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hand_over(package: dict[str, Any], library: str) -> None:
    """Makes the package, whose globals are given, the installed one if ``library`` isn't here. Raises ImportError."""
    if any(os.path.exists(os.path.join(path, library)) for path in package["__path__"]):
        return  # in pieces, as of an editable installation
    above = os.path.dirname(os.path.dirname(os.path.realpath(package["__file__"])))
    others = [path for path in sys.path if os.path.realpath(path) != above]
    # importlib.machinery's, without its import: it would cost what a container does.
    finder: Any = next(one for one in sys.meta_path if getattr(one, "__name__", "") == "PathFinder")
    spec = finder.find_spec("pyminicon", others)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        raise ImportError(
            "these are pyminicon's sources, and it isn't installed for this Python: pip install ."
        )
    package["__spec__"], package["__loader__"], package["__file__"] = spec, spec.loader, spec.origin
    package["__path__"] = spec.submodule_search_locations
    code: Any = spec.loader.get_code("pyminicon")
    exec(code, package)
