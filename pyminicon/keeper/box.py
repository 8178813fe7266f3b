"""The container as its keeper has it: the core's handle, and what else is asked of it for as long as it runs.

Not container.Container: that one's module and those that it loads would be a tenth of all that a keeper has in memory.
"""

from __future__ import annotations

import marshal
import os

from pyminicon import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyminicon import _core
    from pyminicon.terminal import Terminal

_PATIENCE = 5.0  # seconds to wait for the status of a container that is ending


class Box:
    """One container. ``about``: what the process that planned it said of it, with the plan's fields that others need
    (:meth:`plan_fields`). ``serving``: what is served of its network, or None."""

    def __init__(self, handle: _core.Handle, args: Any, about: dict[str, Any], serving: Any) -> None:
        self._handle: _core.Handle = handle
        self.args: Any = args
        self.about: dict[str, Any] = about
        self.serving: Any = serving
        self.id: str = handle.id
        self.pid: int = handle.pid
        self.pidfd: int = handle.pidfd
        self.startup: float = handle.startup
        self.environment: dict[str, str] = about["environment"]
        if self.environment.get("HOSTNAME") == about["placeholder"]:
            self.environment["HOSTNAME"] = self.id
        self.cwd: str = about["cwd"]
        self.has_limits: bool = about["has_limits"]
        self.stop_signal: int = about["stop_signal"]
        #: Descriptors of ours: its streams where they are pipes, -1 otherwise.
        self.stdin: int = handle.take_stream(0)
        self.stdout: int = handle.take_stream(1)
        self.stderr: int = handle.take_stream(2)
        self.terminal: Terminal | None = None
        self.returncode: int | None = None
        self.limit: str | None = None
        #: Called when it has ended and its layer is still there, which goes as its status is taken.
        self.before_burial: Callable[[], None] = lambda: None
        self._fields: bytes = marshal.dumps(about.pop("fields"))

    def plan_fields(self) -> dict[str, Any]:
        """The fields of its plan. They are kept packed, which takes a tenth of the memory of the objects."""
        fields: dict[str, Any] = marshal.loads(self._fields)
        return fields

    @property
    def ports(self) -> dict[int, tuple[str, int]]:
        """What is published, by the port inside."""
        return {} if self.serving is None else dict(self.serving.ports)

    @property
    def refused(self) -> list[Any]:
        """The connections outward that weren't let through."""
        found: list[Any] = [] if self.serving is None else self.serving.refused
        return found

    def terminate(self) -> None:
        """Asks its program to end, or all commands where it has none."""
        if self.args is None:
            self._handle.terminate(self.stop_signal)
        else:
            self._handle.send_signal(self.stop_signal)

    def poll(self) -> int | None:
        """The returncode once it has ended."""
        if self.returncode is None and self._handle.wait(0):
            self.before_burial()
            ended = self._handle.poll()
            if ended is not None:
                self.limit = ended[1]
                self.returncode = errors.check_status(ended[0])
                if self.serving is not None:
                    self.serving.end()
        return self.returncode

    def wait(self) -> int:
        """Waits a moment for its end and returns the returncode; -9 if nothing more is known."""
        try:
            self._handle.wait(_PATIENCE)
            code = self.poll()
        except errors.Error:  # somebody has taken its status
            code = None
        return -9 if code is None else code

    def ended_by(self) -> str | None:
        """The limit that ended it, if any. Called when its init has hung up."""
        if self._handle.ending:
            self._handle.wait(_PATIENCE)
        self.poll()
        return self.limit

    def close(self) -> None:
        """Ends it, if it still runs, and lets go of it."""
        if self.returncode is None:
            if self._handle.end():
                self.poll()
            else:
                self.returncode = -9
                self._handle.give_up()
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        if self.terminal is not None:
            self.terminal.close()
        self._handle.release()
