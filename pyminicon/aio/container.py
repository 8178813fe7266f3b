"""A started container on a loop: the AsyncContainer that pyminicon.aio.start gives."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import AnyStr, Generic, TypeVar

from pyminicon import errors
from pyminicon.aio.commands import begin
from pyminicon.aio.ending import Ending
from pyminicon.aio.job import Job
from pyminicon.aio.launching import Limits, sooner
from pyminicon.aio.loop import enter
from pyminicon.aio.streams import LINE_LIMIT, InputStream, OutputPipe, TextReader
from pyminicon.aio.thread import PATIENCE, despite_cancelling, in_thread
from pyminicon.container import Held, Running, warn_running
from pyminicon.errors import ContainerEnded, Error, LaunchError
from pyminicon.living.asked import command, without_init
from pyminicon.options import ONLY_RUN
from pyminicon.request import NOT_RUN, announce, begun_with, input_bytes, take_flag, wants_terminal
from pyminicon.result import ended_in_setup, make_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from typing import IO, Any

    from pyminicon import _core
    from pyminicon.aio.loop import Watch
    from pyminicon.aio.path import AsyncContainerPath
    from pyminicon.detached.remote import Served
    from pyminicon.inside.home import Home
    from pyminicon.inside.lexical import PathWords
    from pyminicon.living.asked import Command
    from pyminicon.living.processes import ProcessInfo
    from pyminicon.network.serving import Serving
    from pyminicon.options import Spec
    from pyminicon.plan import Plan
    from pyminicon.result import Result

PRIVATE = object()
_LOOK_AGAIN = 0.005  # seconds


T = TypeVar("T")


class _Attended(Held, Generic[AnyStr]):
    """What a loop waits for, talks with and ends: a container, or a command in one."""

    returncode: int | None
    limit: str | None

    def __init__(
        self, watch: Watch, handle: _core.Handle, spec: Spec, args: Any, lasts: bool = False
    ) -> None:
        super().__init__(handle, spec, args)
        self._loop: asyncio.AbstractEventLoop = watch.loop
        self._outputs: dict[int, OutputPipe] = {}
        self._settled: bool = False
        self._conversation: asyncio.Future[tuple[AnyStr, AnyStr]] | None = None  # that timed out
        self.stdin: InputStream | None = self._input()
        self.stdout: Any = self._output(1)
        self.stderr: Any = self._output(2)
        self._ending: Ending = Ending(watch, handle, lasts)
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
        """Readable when it has ended; -1 once it is closed. Of a container the pidfd (pidfd_open(2))."""
        return self._handle.pidfd

    def poll(self) -> int | None:
        """The returncode if it has ended, else None; doesn't wait."""
        if not self._settled and self._handle.owned:
            self._settle(self._handle.poll())
        return errors.check_status(self.returncode) if self._settled else None

    def _settle(self, ended: tuple[int | None, str | None] | None) -> None:
        if ended is None or self._settled:
            return
        self._settled = True
        self.returncode, self.limit = self._status_of(ended[0]), self._limit_of(ended)
        self._let_go()

    def _limit_of(self, ended: tuple[int | None, str | None]) -> str | None:
        return ended[1]

    def _end_by(self, limit: str | None) -> None:
        self.limit = limit

    def _let_go(self) -> None:
        """Of what was kept for it until its end."""

    async def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended, ``timeout`` seconds at most (default: for ever); the returncode. Raises
        TimeoutExpired, and it runs on."""
        return await self._within(timeout, self._waited())

    async def _within(self, timeout: float | None, work: Coroutine[Any, Any, T]) -> T:
        if timeout is None:
            return await work
        task = asyncio.ensure_future(work)
        try:
            if (await asyncio.wait([task], timeout=timeout))[0]:
                return task.result()
        finally:
            task.cancel()
        raise errors.TimeoutExpired(self._called(), timeout)

    async def _waited(self) -> int:
        await self._ending.wait()
        if not self._settled and self._handle.owned:
            if self._ending.gone:
                self._settle(await in_thread(self._loop, self._handle.poll, None))
            else:
                self._settle((-9, None))  # it was killed, and hangs in the kernel
        return errors.check_status(self.returncode)

    async def communicate(
        self, input: AnyStr | None = None, timeout: float | None = None
    ) -> tuple[AnyStr, AnyStr]:
        """Feeds stdin, reads stdout and stderr to their end and waits; (stdout, stderr).

        ``input``: bytes, or str with ``text=True``. A container that stops reading is no error. ``timeout``: seconds,
        for ever by default; after TimeoutExpired it runs on, and the next communicate goes on where this one was, with
        all its output.
        """
        if self._conversation is None:
            conversation = self._converse(input)
            if timeout is None:
                return await conversation
            self._conversation = asyncio.ensure_future(conversation)
        try:
            if (await asyncio.wait([self._conversation], timeout=timeout))[0]:
                return self._conversation.result()
        except asyncio.CancelledError:
            self._conversation.cancel()
            raise
        raise errors.TimeoutExpired(self._called(), timeout or 0.0)

    async def _converse(self, input: AnyStr | None) -> tuple[AnyStr, AnyStr]:
        told: Any
        out = asyncio.ensure_future(self.stdout.read()) if self.stdout is not None else None
        err = asyncio.ensure_future(self.stderr.read()) if self.stderr is not None else None
        try:
            await self._feed(input)
            await self._waited()
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
        """Ends it with all that is in it, or has come of it, at once; :meth:`wait` tells when it is gone."""
        self._ending.kill()

    async def aclose(self) -> None:
        """Ends it if it still runs and waits until it is gone, also when cancelled."""
        if not self._handle.owned:
            return
        cancelled = await self._ending.kill_and_wait(self._close)
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
        if cancelled is not None:
            raise cancelled

    def _close(self) -> bool:
        """Has it end in its own way; False: it has none, and is killed."""
        return False

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_settled", True) and self._handle.owned:
            warn_running(self)

    def _state(self) -> str:
        return "running" if not self._settled else f"returncode={self.returncode}"


class AsyncContainer(_Attended[AnyStr], Running):
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
        serving: Serving | Served | None = None,
    ) -> None:
        if private is not PRIVATE:
            raise TypeError("an AsyncContainer is made by pyminicon.aio.start()")
        super().__init__(watch, handle, spec, args, "disk_parent" in plan.fields)
        self._plan = plan
        self._serving = serving
        self._lives = args is None
        self._takes_commands: bool = handle.takes_commands
        self.stop_signal: int = plan.stop_signal
        self.pidfd: int = handle.pidfd
        self._files: Home | None = None

    def _let_go(self) -> None:
        if self._serving is not None:
            self._serving.end()
        locks = self._plan.rootfs.lock_fds
        while locks:
            os.close(locks.pop())

    def _close(self) -> bool:
        return self._handle.close_living()

    async def aclose(self) -> None:
        await super().aclose()
        if self._handle.owned:
            self.pidfd = -1
        if self._files is not None:
            self._files.close()

    aclose.__doc__ = _Attended.aclose.__doc__

    async def run(self, args: Any, **options: Any) -> Result[Any]:
        """:meth:`pyminicon.Container.run` on the loop: the same options, the same Result, the same errors.

        Cancelling ends all that has come of the command, waits until it is gone and leaves nothing.
        """
        begun = self._loop.time()
        trace = take_flag(options, "trace")
        asked = await self._asked(args, options, NOT_RUN)
        spec = asked.spec
        data = input_bytes(spec)
        watch = enter(self._loop)
        try:
            handle = await begin(watch, self._handle, asked, Limits(None, trace), sooner(begun, spec))
            deadline = None if spec.timeout is None else begun + spec.timeout
            job = Job(watch, handle, spec, data or b"", deadline, False)
            await job.finished()
            limit = await self._limit_on(handle)
            return await job.result(args, limit)
        except TimeoutError:  # in the set-up; the core's own errors are LaunchErrors
            return make_result(spec, args, ended_in_setup(spec))
        except LaunchError as error:
            await self._insist_on_life(error)
            raise
        finally:
            watch.leave()

    async def start(self, args: Any, **options: Any) -> AsyncProcess[Any]:
        """:meth:`pyminicon.Container.start` on the loop; gives an AsyncProcess."""
        trace = take_flag(options, "trace")
        terminal = None
        if wants_terminal(options):
            from pyminicon.terminal import Terminal

            terminal = Terminal(self._handle.open_terminal())
            os.set_blocking(terminal.fileno(), False)
            options = {**options, **dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inner)}
        watch = enter(self._loop)
        try:
            asked = await self._asked(args, options, ONLY_RUN)
            if terminal is not None:
                from pyminicon.living.processes import outer_uid

                terminal.give_to(outer_uid(self.pid, asked.who[0] if asked.who else self._handle.uid))
            handle = await begin(watch, self._handle, asked, Limits(asked.spec, trace), None)
            begun_with(asked.spec, handle)
            made: AsyncProcess[Any] = AsyncProcess(PRIVATE, self, watch, handle, asked.spec, args)
        except BaseException as error:
            if terminal is not None:
                terminal.close()
            if isinstance(error, LaunchError):
                await self._insist_on_life(error)
            raise
        finally:
            watch.leave()
        if terminal is not None:
            terminal.close_inner()
            made.terminal = terminal
        return made

    def path(self, p: PathWords, user: str | None = None, strict: bool = False) -> AsyncContainerPath:
        """A path inside, as :meth:`pyminicon.Container.path` gives it; its methods are awaited."""
        from pyminicon.aio.path import AsyncContainerPath
        from pyminicon.inside.home import Rights

        return AsyncContainerPath(Rights(self._home(), user, strict), p)

    async def copy_in(self, src: str | os.PathLike[str], dst: PathWords, user: str | None = None) -> None:
        """See Container.copy_in. Cancelled, it ends at once, and what was copied so far stays."""
        from pyminicon.aio import files

        await files.copy_in(self._home(), src, dst, user)

    async def copy_out(self, src: PathWords, dst: str | os.PathLike[str]) -> None:
        """See Container.copy_out."""
        from pyminicon.aio import files

        await files.copy_out(self._home(), src, dst)

    async def put_archive(self, dst: PathWords, tar: bytes | IO[bytes]) -> None:
        """See Container.put_archive; the file is read in a thread."""
        from pyminicon.aio import files

        await files.put_archive(self._home(), dst, tar)

    async def get_archive(self, src: PathWords) -> IO[bytes]:
        """See Container.get_archive: an ordinary binary file."""
        from pyminicon.aio import files

        return await files.get_archive(self._home(), src)

    async def connect(
        self,
        port_or_unix_path: int | str | bytes | os.PathLike[str],
        host: str = "127.0.0.1",
        timeout: float | None = None,
    ) -> socket.socket:
        """:meth:`pyminicon.Container.connect`; the socket doesn't block: for ``asyncio.open_connection(sock=…)``."""
        from pyminicon.aio import sockets

        return await self._there(sockets.connect(self, self._loop, port_or_unix_path, host, timeout))

    async def listen(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """:meth:`pyminicon.Container.listen`; the socket doesn't block: for ``asyncio.start_server(sock=…)``."""
        from pyminicon.aio import sockets

        return await self._there(sockets.listen(self, port, host))

    async def wait_port(self, port: int, timeout: float) -> None:
        """:meth:`pyminicon.Container.wait_port`."""
        from pyminicon.network import sockets

        sockets.port_number(port)
        deadline = self._loop.time() + sockets.timeout_of(timeout)
        while not sockets.somebody_listens(self, port):
            self._insist_on_running()
            if self._loop.time() >= deadline:
                raise sockets.not_there(port, timeout)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _there(self, made: Coroutine[Any, Any, socket.socket]) -> socket.socket:
        if self._settled:
            made.close()
            raise ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        try:
            return await made
        except LaunchError as error:
            await self._insist_on_life(error)
            raise

    def _home(self) -> Home:
        if self._settled:
            raise ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        if self._files is None:
            from pyminicon.living.files import home_of

            self._files = home_of(self)
        return self._files

    def _insist_on_life_here(self, error: LaunchError) -> None:
        """As _insist_on_life, in a thread that may wait."""
        if error.errno != errno.ESHUTDOWN or not self._handle.owned:
            return
        self._handle.wait(PATIENCE)
        ended = self._handle.poll()
        if ended is not None:
            code = errors.check_status(self._status_of(ended[0]))
            raise ContainerEnded(self.id, code, self._limit_of(ended)) from None

    async def processes(self) -> list[ProcessInfo]:
        """:meth:`pyminicon.Container.processes`."""
        if self.poll() is not None:
            raise ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        return await in_thread(self._loop, self._processes, None)

    async def _asked(self, args: Any, options: dict[str, Any], refused: frozenset[str]) -> Command:
        announce(args, self._spec.image)
        if self._settled:
            raise ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        if not self._takes_commands:
            raise without_init()
        counted = options.get("cpu_time") is None or self._handle.counts_cpu_time
        if options.get("user") is None and counted:
            return command(self, args, options, refused)
        # Users are looked up in files inside, which may lie wherever their owner has put them; and what counts
        # processor time may have to be asked of systemd.
        return await in_thread(self._loop, lambda: command(self, args, options, refused), None)

    async def _insist_on_life(self, error: LaunchError) -> None:
        if error.errno != errno.ESHUTDOWN:
            return
        if not self._handle.owned:
            raise Error("another process has started this container, and speaks with it") from None
        raise ContainerEnded(self.id, await self.wait(), self.limit) from None

    async def _limit_on(self, handle: _core.Handle) -> str | None:
        """The container's limit, where a command has ended with it."""
        if handle.poll() == (-9, None) and self._handle.ending:
            await self.wait()
            return self.limit
        return None

    async def __aenter__(self) -> AsyncContainer[AnyStr]:
        return self

    def __repr__(self) -> str:
        return f"<AsyncContainer {self.id} pid={self.pid} {self._state()}>"


class AsyncProcess(_Attended[AnyStr]):
    """A command that runs in a container, made by :meth:`AsyncContainer.start`: :class:`pyminicon.Process` with
    ``wait``, ``communicate`` and ``aclose`` to be awaited, and an AsyncContainer's streams."""

    def __init__(
        self,
        private: object,
        container: AsyncContainer[Any],
        watch: Watch,
        handle: _core.Handle,
        spec: Spec,
        args: Any,
    ) -> None:
        if private is not PRIVATE:
            raise TypeError("an AsyncProcess is made by AsyncContainer.start()")
        self._container = container
        self.host_pid: int | None = handle.host_pid
        super().__init__(watch, handle, spec, args)

    def terminate(self) -> None:
        """SIGTERM to its first process."""
        self.send_signal(15)

    async def _waited(self) -> int:
        await super()._waited()
        if self.limit is None and self.returncode == -9 and self._handle.owned:
            self._end_by(await self._container._limit_on(self._handle))
        return errors.check_status(self.returncode)

    async def __aenter__(self) -> AsyncProcess[AnyStr]:
        return self

    def __repr__(self) -> str:
        return f"<AsyncProcess {self.args!r:.80} pid={self.pid} in {self.id} {self._state()}>"
