"""asyncio's child processes over :func:`pyminicon.aio.start`: what CPython's own tests of them are run with."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pyminicon import aio
from tests.foreign.popen import PLACES

_TEXT = ("universal_newlines", "text", "encoding", "errors")


class Process:
    """asyncio.subprocess.Process's words for a container. What asyncio tells by None it tells so here."""

    def __init__(self, box: Any, piped: dict[str, bool]) -> None:
        self._box, self._piped = box, piped
        self.pid: int = box.pid
        self.stdin, self.stdout, self.stderr = box.stdin, box.stdout, box.stderr

    @property
    def returncode(self) -> int | None:
        code: int | None = self._box.returncode
        return code

    async def wait(self) -> int:
        code: int = await self._box.wait()
        return code

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        out, err = await self._box.communicate(input)
        return (out if self._piped["stdout"] else None), (err if self._piped["stderr"] else None)

    def _act(self, name: str, *args: int) -> None:
        if self._box.poll() is not None:
            raise ProcessLookupError
        getattr(self._box, name)(*args)

    def send_signal(self, number: int) -> None:
        self._act("send_signal", number)

    def terminate(self) -> None:
        self._act("terminate")

    def kill(self) -> None:
        self._act("kill")


async def create_subprocess_exec(program: Any, *args: Any, **options: Any) -> Process:
    for name in _TEXT:
        if options.get(name):
            raise ValueError(f"{name} must be False or None")
    assert not options.get("creationflags")  # are for Windows
    # What goes in is what pass_fds names; a stream's limit is asyncio's default.
    for name in (*_TEXT, "bufsize", "shell", "limit", "close_fds", "creationflags"):
        options.pop(name, None)
    piped = {name: options.get(name) == asyncio.subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    for name in list(options):
        if options[name] is None:
            del options[name]
    options.setdefault("env", dict(os.environb))
    start_new_session = options.pop("start_new_session", True)  # a container is one of its own, always
    assert start_new_session
    places = [(place, place) for place in {*PLACES, os.getcwd()}]
    words = [program, *args]
    box = await aio.start(
        words, image="python", init=True, network="host", cwd=os.getcwd(), volumes=places, **options
    )
    return Process(box, piped)


async def create_subprocess_shell(cmd: Any, **options: Any) -> Process:
    if not isinstance(cmd, (bytes, str)):
        raise ValueError("cmd must be a string")
    return await create_subprocess_exec("/bin/sh", "-c", cmd, **options)


def install() -> None:
    asyncio.create_subprocess_exec = create_subprocess_exec  # type: ignore[assignment]
    asyncio.create_subprocess_shell = create_subprocess_shell  # type: ignore[assignment]
