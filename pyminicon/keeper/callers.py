"""Detached containers for Python: :func:`attach` and :func:`containers`."""

from __future__ import annotations

from pyminicon.calls import attached
from pyminicon.container import Container
from pyminicon.detached import asking, place, state
from pyminicon.errors import ContainerEnded
from pyminicon.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def attach(name: str) -> Container[Any]:
    """The detached container ``name`` (its name, its id or the beginning of that), to run commands in it and the like.

    To close it, or to leave its ``with`` block, lets go of it and doesn't end it: :meth:`Container.terminate` and
    :meth:`Container.kill` do. What was started in it through this object ends with that. Raises ContainerEnded where it
    has ended, Error where there is none.
    """
    directory = place.find(text("name", name))
    try:
        return attached(directory)
    except asking.NotRunning as error:
        fields = error.fields
        raise ContainerEnded(fields["id"], fields["returncode"], fields["limit"]) from None


class ContainerInfo:
    """What is known of one detached container, as it was when it was looked at.

    ``id`` ``name`` ``labels`` ``image`` ``command`` (a list; empty without a program), ``status`` ("running", "paused",
    "exited", or "dead": its keeper was killed), ``created`` ``started`` ``finished`` (seconds since the epoch),
    ``returncode`` (-N for signal N, None while it runs), ``limit`` (that ended it, or None), ``pid`` (of its pid 1),
    ``ports`` ({inner: (host, outer)}).
    """

    __slots__ = (
        "command",
        "created",
        "finished",
        "id",
        "image",
        "labels",
        "limit",
        "name",
        "pid",
        "ports",
        "returncode",
        "started",
        "status",
    )

    def __init__(self, fields: dict[str, Any]) -> None:
        self.id: str = fields["id"]
        self.name: str = fields["name"]
        self.labels: dict[str, str] = fields["labels"]
        self.image: str = fields["image"]
        self.command: list[str] = fields["command"]
        self.status: str = fields["status"]
        self.created: float = fields["created"]
        self.started: float = fields["started"]
        self.finished: float | None = fields["finished"]
        self.returncode: int | None = fields["returncode"]
        self.limit: str | None = fields["limit"]
        self.pid: int = fields["pid"]
        self.ports: dict[int, tuple[str, int]] = {
            int(inner): (host, outer) for inner, (host, outer) in fields["ports"].items()
        }

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"ContainerInfo({inside})"


def containers() -> list[ContainerInfo]:
    """All detached containers of this user, those that have ended as well, the oldest first."""
    return [ContainerInfo(fields) for _, fields in state.every()]
