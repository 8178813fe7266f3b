"""Protocols by which the parts of a keeper name each other's types without importing each other."""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyminicon import _core
    from pyminicon.keeper.box import Box
    from pyminicon.keeper.loop import Loop
    from pyminicon.keeper.record import Log
    from pyminicon.keeper.room import Room


class Server(Protocol):
    """:class:`pyminicon.keeper.serving.Server`."""

    commands: set[Any]


class Keeper(Protocol):
    """:class:`pyminicon.keeper.keeping.Keeper`."""

    box: Box
    fields: dict[str, Any]
    log: Log
    loop: Loop
    room: Room
    wish: dict[str, Any]

    @property
    def server(self) -> Server: ...
    @property
    def takes_input(self) -> bool: ...
    def box_end(self) -> tuple[str, int, str | None]: ...
    def feed(self, data: bytes) -> bool: ...
    def kill(self) -> None: ...
    def pause(self, paused: bool) -> None: ...
    def stop(self, timeout: float | None = None, number: int | None = None) -> None: ...


class Client(Protocol):
    """:class:`pyminicon.keeper.serving.Client`."""

    attached: bool
    command: Any
    follows: bool
    speaks_on: bool
    waits: bool
    worker: _core.Handle | None

    def hold(self) -> None: ...
    def say(self, message: Any, fds: Sequence[int] = ()) -> None: ...
