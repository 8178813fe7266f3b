"""A command in a kept container, on behalf of somebody at the other end of a line or of nobody."""

from __future__ import annotations

import errno
import os

from pyminicon import _core, errors
from pyminicon.keeper.loop import read_some

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.keeper.box import Box
    from pyminicon.keeper.kinds import Client, Keeper
    from pyminicon.options.users import Identity

_PIECE = 1 << 16
_FULL = 0.001  # seconds until a full socket is tried again


class Command:
    """``request``: what the core is asked; ``fds``: what it has for streams, closed once it has begun. ``detached``:
    once it runs nobody waits for it."""

    def __init__(
        self,
        keeper: Keeper,
        client: Client,
        request: _core.Request,
        fds: list[int],
        detached: bool = False,
    ) -> None:
        self.keeper = keeper
        self.client: Client | None = client
        self._detached = detached
        self._request = request
        self._fds = fds
        self._begun: _core.Begun | None = None
        self.handle: _core.Handle | None = None
        keeper.server.commands.add(self)
        client.command = self  # before it can have begun: a detached one is nobody's from then on
        self._try()

    def _try(self) -> None:
        if self not in self.keeper.server.commands:
            return
        try:
            self._begun = _core.Begun(self.keeper.box._handle, self._request)
        except errors.LaunchError as error:
            self._failed(error)
            return
        self._look()

    def _look(self) -> None:
        assert self._begun is not None
        try:
            handle = self._begun.result()
        except errors.LaunchError as error:
            self._failed(error)
            return
        if handle is None:
            self.keeper.loop.watch(self._begun.fd, self._heard)
        else:
            self._runs(handle)

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def _heard(self, _: int) -> None:
        assert self._begun is not None
        self.keeper.loop.forget(self._begun.fd)  # once it is known the descriptor may be gone
        self._look()

    def _failed(self, error: errors.LaunchError) -> None:
        self._begun = None
        if error.errno == errno.ERESTART:  # it hasn't begun, and is to be begun again
            self.keeper.loop.after(_FULL, self._try)
            return
        self._close_fds()
        self.keeper.server.commands.discard(self)
        if self.client is not None:
            self.client.command = None
            self.client.say({"error": asking_told(error, self.keeper)})

    def _runs(self, handle: _core.Handle) -> None:
        self._close_fds()
        self._begun, self.handle = None, handle
        self.keeper.loop.watch(handle.pidfd, lambda _: self.ended())
        if self.client is None:
            return
        if self._detached:
            self.client.command = None
            self.client.say({"ok": {"pid": handle.pid}})
            self.client = None
            return
        streams = [handle.take_stream(which) for which in range(3)]
        about: dict[str, Any] = {"pid": handle.pid, "host_pid": handle.host_pid, "startup": handle.startup}
        about["streams"] = [fd >= 0 for fd in streams]
        about["id"] = handle.id
        ours = [fd for fd in streams if fd >= 0]
        self.client.say({"ok": about}, ours)
        for fd in ours:
            os.close(fd)

    def ended(self, last: bool = False) -> None:
        """One that was killed tells of its end, and then that the last of what has come of it is gone. ``last``: its
        container has ended."""
        if self.handle is None:  # it hadn't begun
            self._close_fds()
            self.keeper.server.commands.discard(self)
            if self.client is not None:
                self.client.say({"error": ("ContainerEnded", self.keeper.box_end())})
            return
        result = self.handle.poll()
        if result is None:
            if not last:
                return
            result = -9, None
        if result == (-9, None) and self.keeper.box._handle.ending:
            result = -9, self.keeper.box.ended_by()
        self.keeper.loop.forget(self.handle.pidfd)
        self.keeper.server.commands.discard(self)
        if self.client is not None:
            self.client.command = None
            self.client.say(
                {"end": {"returncode": result[0], "limit": result[1], "usage": self.handle.usage()}}
            )
        self.handle.release()

    def left(self, fds: list[int]) -> None:
        """Whoever has asked for it goes, and it doesn't end; ``fds``: the outer side of its terminal, which nobody would
        read any more."""
        if self.client is not None:
            self.client.command = None
            self.client = None
        for fd in fds:
            os.set_blocking(fd, False)
            self.keeper.loop.watch(fd, lambda _, fd=fd: self._drain(fd))  # type: ignore[misc]

    def _drain(self, fd: int) -> None:
        if read_some(fd, _PIECE) == b"":
            self.keeper.loop.forget(fd)
            os.close(fd)

    def abandoned(self) -> None:
        """Whoever has asked for it has gone: all that has come of it ends."""
        self.client = None
        if self.handle is not None:
            self.handle.kill()
        elif self._begun is not None:
            self._close_fds()
            self.keeper.loop.forget(self._begun.fd)
            self.handle, self._begun = self._begun.given_up(), None
            self.handle.kill()
            self.keeper.loop.watch(self.handle.pidfd, lambda _: self.ended())
        else:
            self._close_fds()
            self.keeper.server.commands.discard(self)


def asking_told(error: errors.LaunchError, keeper: Keeper) -> tuple[str, tuple[Any, ...]]:
    """What has really happened where a command couldn't be sent or begun."""
    from pyminicon.detached.asking import told

    if error.errno == errno.ESHUTDOWN:
        return "ContainerEnded", keeper.box_end()
    return told(error)


def request_of(keeper: Keeper, args: Any, options: dict[str, Any], streams: list[Any]) -> _core.Request:
    """What the core is asked for a command: ``env cwd user tty`` in Container.start's words. Raises SpecError,
    LaunchError."""
    if not _is_plain(args, options):
        from pyminicon.options import parse

        parse.parse(
            args, {name: value for name, value in options.items() if name != "tty"}
        )  # says what is wrong
    if not args:
        raise errors.SpecError("args", "is empty: there is no program to run")
    if not args[0]:
        raise errors.LaunchError(errno.ENOENT, "exec", "", "the program's name is empty")
    box = keeper.box
    own = options.get("env") or {}
    environment = {**box.environment, **own}
    who = None
    if options.get("user") is not None:
        found = _identity(box, options["user"])
        who = found.uid, found.gid, [found.gid, *found.groups]
        if "HOME" not in own:
            environment["HOME"] = found.home
    tty = bool(options.get("tty"))
    if tty and os.geteuid() == 0:
        from pyminicon.living.processes import outer_uid

        os.fchown(streams[0], outer_uid(box.pid, who[0] if who else box._handle.uid), -1)
    program = os.fsdecode(args[0])
    path = environment.get("PATH", "").split(":")
    candidates = [program] if "/" in program else [f"{directory or '.'}/{program}" for directory in path]
    variables = [f"{key}={value}" for key, value in environment.items()]
    exec_spec = candidates, list(args), variables, options.get("cwd") or box.cwd
    return asked(box, exec_spec, streams, who, tty, None, 0.0, None)


def asked(
    box: Box,
    exec_spec: _core.ExecSpec,
    streams: list[int],
    who: _core.Who | None,
    terminal: bool,
    wall_time: float | None,
    cpu_time: float,
    max_output: int | None,
) -> _core.Request:
    """What the core is asked for a command: the words that come over a line."""
    request = _core.Request(
        exec_spec=exec_spec,
        stdio=(streams[0], streams[1], streams[2]),
        pass_fds=(),
        trace=False,
        wall_time=wall_time,
        cpu_time=cpu_time,
        max_output=max_output,
    )
    request.who, request.terminal = who, terminal
    if cpu_time and not box._handle.counts_cpu_time:
        from pyminicon import cgroups

        request.clock = cgroups.plan_clock()
    return request


def _is_plain(args: Any, options: dict[str, Any]) -> bool:
    """Whether nothing can be wrong with it but what the kernel says: the checkers of options aren't loaded for that."""
    cwd, env = options.get("cwd"), options.get("env") or {}
    if cwd is not None and (not cwd.startswith("/") or "/fd" in cwd):
        return False
    words = [*args, *env, *env.values(), cwd or ""]
    return all(isinstance(word, str) and word.isascii() and "\0" not in word for word in words) and not any(
        not key or "=" in key for key in env
    )


def _identity(box: Box, user: str) -> Identity:
    """By the container's own passwd as it is now."""
    from pyminicon.living.asked import identity

    return identity(box._handle, user, None)
