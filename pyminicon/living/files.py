"""The files of a container that takes commands: who works on them inside."""

from __future__ import annotations

import os
import weakref

from pyminicon import _core, errors, patience
from pyminicon.inside.home import Home
from pyminicon.living import asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from pyminicon.living.asked import Box

    class Lively(Box, Protocol):
        """One that can say how it has ended."""

        _takes_commands: bool

        def _insist_on_life_here(self, error: errors.LaunchError) -> None: ...


_CAP_SYS_ADMIN = 21
_OVERLAY = 6  # the kind of a mount's row in a plan
_PATIENCE = 1.0  # seconds for the image's file system to say what it is


class _Of:
    """What is needed of the container, and not itself: it would live on in its own files."""

    def __init__(self, box: Box) -> None:
        self.id = box.id
        self.pid = box.pid
        self._handle = box._handle
        self._spec = box._spec
        self._plan = box._plan


def _who(box: Box, user: object) -> tuple[int, int, list[int]] | None:
    if user is not None and not isinstance(user, str):
        raise errors.SpecError("user", 'takes a name or "uid[:gid]"')
    return asked.user_inside(box, user)


def home_of(box: Lively) -> Home:
    """The files of ``box``. Raises SpecError where it takes no commands."""
    if not box._takes_commands:
        raise asked.without_init()
    of, itself = _Of(box), weakref.ref(box)

    def start(user: str | None, strict: bool, socket: int) -> _core.Handle:
        who = _who(of, user)
        try:
            return of._handle.serve_files(who, strict, socket)
        except errors.LaunchError as error:
            container = itself()
            if container is not None:
                container._insist_on_life_here(error)
            raise

    return Home(start, os.fsdecode(box._spec.cwd or box._plan.exec_spec[3]), lambda: _is_trusted(of))


def _is_trusted(box: Box) -> bool:
    """Whether all that an overlay inside shows lies where a read can't hang."""
    if box._plan.fields["capabilities"] >> _CAP_SYS_ADMIN & 1:
        return False  # whoever mounts may mount one of his own
    sources = list(_below(box))

    def ask() -> bool:
        return all(_core.Handle.is_local(source) for source in sources)

    try:
        return patience.within(_PATIENCE, ask, lambda _: None)
    except errors.Expired:
        return False


def _below(box: Box) -> Iterator[str]:
    fields = box._plan.fields
    yield from fields.get("layers", ())
    for row in fields["mounts"]:
        if row[0] == _OVERLAY:
            yield row[2]
    if fields.get("disk_parent"):
        yield fields["disk_parent"]
