"""A started container on a loop: the AsyncContainer that pyminicon.aio.start gives."""

from __future__ import annotations

import asyncio
import os
from typing import AnyStr, Generic

from pyminicon import errors
from pyminicon.aio.ending import Ending
from pyminicon.aio.streams import LINE_LIMIT, InputStream, OutputPipe, TextReader
from pyminicon.aio.thread import despite_cancelling, in_thread
from pyminicon.container import Running, warn_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon import _core
    from pyminicon.aio.loop import Watch
    from pyminicon.options import Spec
    from pyminicon.plan import Plan
    from pyminicon.terminal import Terminal

PRIVATE = object()


class AsyncContainer(Running, Generic[AnyStr]):
    """A running container on an event loop, made by :func:`start`; ``async with`` leaves nothing behind.

    ``pid`` ``pidfd`` ``id`` ``args`` ``returncode`` ``limit`` ``startup`` as :class:`pyminicon.Container`
    has them. ``stdout`` ``stderr``: asyncio.StreamReader (with ``text=True`` a reader of str with the
    same read, readline and ``async for``). ``stdin``: ``write`` and ``await drain()``, ``close()`` for its
    end of file. Each is None where no PIPE was asked for. ``terminal``, with ``tty=True``: a Terminal that
    doesn't block: watch its ``fileno()`` with the loop's add_reader.

    It belongs to the loop that started it; in a process that didn't make it (after os.fork) every
    method does nothing to the container.
    """

    def __init__(
        self,
        private: object,
        watch: Watch,
        handle: _core.Handle,
        spec: Spec,
        plan: Plan,
        args: Any,
    ) -> None:
        if private is not PRIVATE:
            raise TypeError("an AsyncContainer is made by pyminicon.aio.start()")
        self._loop = watch.loop
        self._handle = handle
        self._spec = spec
        self._plan = plan
        self.stop_signal: int = plan.stop_signal
        self._outputs: dict[int, OutputPipe] = {}
        self._readers: dict[int, asyncio.StreamReader] = {}
        self.args = args
        self.id: str = handle.id
        self.pid: int = handle.pid
        self.pidfd: int = handle.pidfd
        self.startup: float = handle.startup
        self.returncode: int | None = None
        self.limit: str | None = None
        self.terminal: Terminal | None = None
        self._settled = False
        self.stdin: InputStream | None = self._input()
        self.stdout: Any = self._output(1)
        self.stderr: Any = self._output(2)
        self._ending = Ending(watch, handle, "disk_parent" in plan.fields)
        self._ending.on_end = self._ended

    def _input(self) -> InputStream | None:
        fd = self._handle.take_stream(0)
        if fd < 0:
            return None
        encoding = (self._spec.encoding or "utf-8") if self._spec.text else None
        return InputStream(self._loop, fd, encoding, self._spec.errors)

    def _output(self, which: int) -> asyncio.StreamReader | TextReader | None:
        fd = self._handle.take_stream(which)
        if fd < 0:
            return None
        reader = asyncio.StreamReader(limit=LINE_LIMIT, loop=self._loop)
        self._readers[which] = reader
        self._outputs[which] = OutputPipe(self._loop, fd, reader)
        if not self._spec.text:
            return reader
        return TextReader(reader, self._spec.encoding or "utf-8", self._spec.errors or "strict")

    def _ended(self) -> None:
        if self._spec.max_output is None:  # else the core's relay brings the rest, and the end
            for output in self._outputs.values():
                output.finish()
        if self.stdin is not None:
            self.stdin.abort()
        if not self._ending.lasts:
            self._settle(self._handle.poll())

    def fileno(self) -> int:
        """The pidfd: readable when the container has ended (pidfd_open(2)); -1 once it is closed."""
        return self.pidfd

    def poll(self) -> int | None:
        """The returncode if the container has ended, else None; doesn't wait."""
        if not self._settled and self._handle.owned:
            self._settle(self._handle.poll())
        return errors.check_status(self.returncode) if self._settled else None

    def _settle(self, ended: tuple[int | None, str | None] | None) -> None:
        if ended is None or self._settled:
            return
        self._settled = True
        self.returncode, self.limit = self._status_of(ended[0]), ended[1]
        locks = self._plan.rootfs.lock_fds
        while locks:
            os.close(locks.pop())

    async def wait(self) -> int:
        """Waits until the container has ended; the returncode. For a timeout: asyncio.wait_for."""
        await self._ending.wait()
        if not self._settled and self._handle.owned:
            if self._ending.gone:
                self._settle(await in_thread(self._loop, self._handle.poll, None))
            else:
                self._settle((-9, None))  # it was killed, and hangs in the kernel
        return errors.check_status(self.returncode)

    async def communicate(self, input: AnyStr | None = None) -> tuple[AnyStr, AnyStr]:
        """Feeds stdin, reads stdout and stderr to their end and waits; (stdout, stderr).

        ``input``: bytes, or str with ``text=True``. A container that stops reading is no error.
        """
        told: Any
        out = asyncio.ensure_future(self.stdout.read()) if self.stdout is not None else None
        err = asyncio.ensure_future(self.stderr.read()) if self.stderr is not None else None
        try:
            await self._feed(input)
            await self.wait()
            told = (await out if out is not None else None, await err if err is not None else None)
            return told  # type: ignore[no-any-return]
        finally:
            for task in (out, err):
                if task is not None:
                    task.cancel()

    async def _feed(self, data: Any) -> None:
        if self.stdin is None:
            return
        try:
            if data and not self.stdin.is_closing():
                self.stdin.write(data)
                await self.stdin.drain()
        except BrokenPipeError:  # as subprocess.communicate does
            pass
        self.stdin.close()

    def kill(self) -> None:
        """Ends the container with all that is in it, at once; :meth:`wait` tells when it is gone."""
        self._ending.kill()

    async def aclose(self) -> None:
        """Kills the container if it still runs and waits until it is gone, also when cancelled."""
        if not self._handle.owned:
            return
        cancelled = await self._ending.kill_and_wait()
        for output in self._outputs.values():
            output.close()
        if self.stdin is not None:
            self.stdin.abort()
        if self.terminal is not None:
            self.terminal.close()
        if not self._settled:
            await despite_cancelling(self.wait())
        self._ending.forget()
        self._handle.release()
        self.pidfd = -1
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> AsyncContainer[AnyStr]:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_settled", True) and self._handle.owned:
            warn_running(self)

    def __repr__(self) -> str:
        state = "running" if not self._settled else f"returncode={self.returncode}"
        return f"<AsyncContainer {self.id} pid={self.pid} {state}>"
