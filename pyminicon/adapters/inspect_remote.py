"""Commands that run beside a sample, for :mod:`pyminicon.adapters.inspect_ai`: ``exec_remote``."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from typing import TYPE_CHECKING, Any

from inspect_ai.util._sandbox.environment import SandboxUnavailableError
from inspect_ai.util._sandbox.exec_remote import (
    ExecCompleted,
    ExecOutput,
    ExecRemoteCommonOptions,
    ExecRemoteProcess,
    ExecRemoteStreamingOptions,
    ExecStderr,
    ExecStdout,
)

import pyminicon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyminicon import aio


@contextlib.contextmanager
def unavailable_once_ended() -> Iterator[None]:
    """A container that has ended is said in the framework's way: a tool's call fails by it, and its sample goes on."""
    try:
        yield
    except pyminicon.ContainerEnded as error:
        raise SandboxUnavailableError(str(error)) from error


def shell_status(returncode: int) -> int:
    """As a shell tells it."""
    return 128 - returncode if returncode < 0 else returncode


class Running(ExecRemoteProcess):
    """``exec_remote``'s handle: events as they come, by the loop, nothing is asked for."""

    def __init__(self, process: aio.AsyncProcess[bytes], stdin_open: bool) -> None:
        # The base class's own would speak to a server inside, which there isn't.
        self._process = process
        self._stdin_open = stdin_open
        self._killed = self._completed = False
        self._iterated = False
        self._events: asyncio.Queue[ExecOutput | None] = asyncio.Queue(maxsize=64)
        self._work = asyncio.get_running_loop().create_task(self._follow())

    @classmethod
    async def begin(
        cls,
        box: aio.AsyncContainer[Any],
        cmd: list[str],
        asked: ExecRemoteCommonOptions,
        options: dict[str, Any],
    ) -> Running:
        """``options``: where, in which environment and as whom it runs."""
        open_after = isinstance(asked, ExecRemoteStreamingOptions) and asked.stdin_open
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), pyminicon.PIPE)
        given = asked.input is not None or open_after
        streams["stdin"] = pyminicon.PIPE if given else pyminicon.DEVNULL
        with unavailable_once_ended():
            process = await box.start(cmd, **streams, **options)
        self = cls(process, open_after)
        if given:
            await self._write(asked.input or b"", not open_after)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _follow(self) -> None:
        """Both streams to their ends, then how it ended. A queue that nobody empties holds the program up."""
        process = self._process
        try:
            await asyncio.gather(
                self._read(process.stdout, ExecStdout), self._read(process.stderr, ExecStderr)
            )
            status = await process.wait()
            self._completed = True
            await self._events.put(None if self._killed else ExecCompleted(shell_status(status)))
        finally:
            await process.aclose()

    async def _read(self, stream: Any, kind: type[ExecStdout] | type[ExecStderr]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while data := await stream.read(1 << 16):
            if text := decoder.decode(data):
                await self._events.put(kind(text))
        if text := decoder.decode(b"", True):
            await self._events.put(kind(text))

    def __aiter__(self) -> Running:
        if self._iterated:
            raise RuntimeError("ExecRemoteProcess can only be iterated once")
        self._iterated = True
        return self

    async def __anext__(self) -> ExecOutput:
        if self._completed and self._events.empty():
            raise StopAsyncIteration
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            await asyncio.shield(self.kill())
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    async def _write(self, data: str | bytes, then_close: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data.encode() if isinstance(data, str) else data)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it doesn't read, as subprocess.communicate takes it
        if then_close:
            stdin.close()

    async def write_stdin(self, data: str | bytes) -> None:
        if not self._stdin_open:
            raise RuntimeError("write_stdin() requires stdin_open=True in ExecRemoteStreamingOptions")
        if self._completed or self._killed:
            raise RuntimeError("Cannot write to stdin: process has terminated")
        await self._write(data, False)

    async def close_stdin(self) -> None:
        if not self._stdin_open:
            raise RuntimeError("close_stdin() requires stdin_open=True in ExecRemoteStreamingOptions")
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def kill(self) -> None:
        """Ends it with all that has come of it."""
        if self._completed or self._killed:
            return
        self._killed = True
        self._process.kill()
        await self._process.wait()
