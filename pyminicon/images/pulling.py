"""Images by name from Python: :func:`pull`."""

from __future__ import annotations

from pyminicon.images import progress as progresses
from pyminicon.images.assemble import Job
from pyminicon.images.limits import Limits
from pyminicon.images.store import Store
from pyminicon.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def pull(name: str, progress: Callable[[str, int, int], None] | None = None) -> str:
    """Fetches the image ``name`` from its registry into the store, as ``pyminicon image pull`` does; its digest.

    What is in the store already isn't fetched again. ``progress(label, done, total)``: called from any thread as
    bytes come, a label for each layer, ``total`` 0 where it isn't known. Raises SpecError, with the reason.
    """
    from pyminicon.images import puller

    name = text("name", name)
    says = progresses.Progress() if progress is None else _Told(progress)
    return puller.pull(Job(Store(), Limits(), says), name)


class _Told(progresses.Progress):
    def __init__(self, told: Callable[[str, int, int], None]) -> None:
        self._told = told

    def moved(self, task: progresses.Task) -> None:
        self._told(task.label, task.done, task.total)

    def ended(self, task: progresses.Task) -> None:
        self._told(task.label, task.done, task.total)
