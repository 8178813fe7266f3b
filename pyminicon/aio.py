"""run and start on asyncio's running loop.

    r = await pyminicon.aio.run(["sh", "-c", "echo hi"], capture_output=True, timeout=5)

    async with await pyminicon.aio.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as box:
        box.stdin.write(b"hello\\n")
        box.stdin.close()
        async for line in box.stdout: ...

The loop waits for the container's pidfd and its pipes: no thread, no child watcher, nothing polls. The
launch itself happens in the loop's thread, because handing it to another costs as much as it takes
(half a millisecond). Only what may hang or last is done in a thread: the set-up of a container with
volumes (a FUSE or network file system may never answer) and looking an image up (it may have to be
unpacked).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select

from pyminicon import _core, container, errors
from pyminicon import plan as plans
from pyminicon import spec as specs
from pyminicon.aio_streams import LINE_LIMIT, PIECE, InputStream, OutputPipe, TextReader
from pyminicon.container import check_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from pyminicon.plan import Plan
    from pyminicon.result import Result, Usage
    from pyminicon.spec import Spec

    T = TypeVar("T")

_NO_LIMIT = (1 << 64) - 1
_SMALLEST_MEMORY = 1 << 20  # bytes; below it nothing may start

# A killed process that waits for a FUSE server's answer stays until that server has gone (the kernel's
# request_wait_answer isn't killable once the server has read the request). Nobody can wait for that.
_PATIENCE = 5.0
_PATIENCE_IN_D = 1.0


async def run(args: Any, **options: Any) -> Result:
    """:func:`pyminicon.run` on the running loop: the same options, the same Result, the same errors.

    Cancelling kills the container, waits until it is gone and leaves nothing.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    trace = bool(options.pop("trace", False)) if "trace" in options else False
    spec = specs.parse(args, options)
    data = container.input_bytes(spec)
    plan = await _plan(loop, spec)
    try:
        deadline = None if spec.timeout is None else begun + spec.timeout
        try:
            handle = await _launch(loop, spec, plan, _Limits(None, trace), _sooner(begun, spec))
        except TimeoutError:  # in the set-up; the core's own errors are LaunchErrors
            return container.make_result(spec, args, _ended_in_setup(spec))
        job = _Job(loop, handle, spec, data or b"", deadline)
        await job.finished()
        return await job.result(plan, args)
    finally:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)


async def start(args: Any, **options: Any) -> AsyncContainer:
    """:func:`pyminicon.start` on the running loop; takes the same options, gives an AsyncContainer."""
    loop = asyncio.get_running_loop()
    spec = specs.parse(args, options, specs.ONLY_RUN)
    plan = await _plan(loop, spec)
    try:
        handle = await _launch(loop, spec, plan, _Limits(spec, False), None)
    except BaseException:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)
        raise
    return AsyncContainer(_PRIVATE, loop, handle, spec, plan, args)


# ---- planning and launching -------------------------------------------------------------------------

_plain_images: set[str] = set()  # directories that have been looked up before


async def _plan(loop: asyncio.AbstractEventLoop, spec: Spec) -> Plan:
    hangs = spec.read_only and bool(spec.volumes)  # the plan looks at the volumes then
    if (spec.image in ("host", "python") or spec.image in _plain_images) and not hangs:
        return plans.build(spec)
    plan = await _in_thread(loop, lambda: plans.build(spec), _close_locks)
    if plan.rootfs.layers and not plan.rootfs.lock_fds and plan.rootfs.config is None:
        _plain_images.add(spec.image)
    return plan


def _close_locks(plan: Plan) -> None:
    for fd in plan.rootfs.lock_fds:
        os.close(fd)


def _sooner(begun: float, spec: Spec) -> float | None:
    """When the set-up is given up: at the timeout or the wall_time, as in the core's run."""
    given = [seconds for seconds in (spec.timeout, spec.wall_time) if seconds is not None]
    return begun + min(given) if given else None


def _ended_in_setup(spec: Spec) -> tuple[Any, ...]:
    by_limit = spec.wall_time is not None and (spec.timeout is None or spec.wall_time < spec.timeout)
    return -9, None, None, "wall_time" if by_limit else None, not by_limit, None, 0.0, None, None


class _Limits:
    """What the core holds by itself, because nobody may be waiting. run holds these on its loop."""

    __slots__ = ("max_output", "trace", "wall_time")

    def __init__(self, spec: Spec | None, trace: bool) -> None:
        self.trace = trace
        self.wall_time = spec.wall_time if spec is not None else None
        most = spec.max_output if spec is not None else None
        self.max_output = _NO_LIMIT if most is None else most


async def _launch(
    loop: asyncio.AbstractEventLoop, spec: Spec, plan: Plan, limits: _Limits, deadline: float | None
) -> _core.Handle:
    core_plan = _core.Plan(plan.fields)
    stdio = container.stdio_choices(spec)

    def launch(cancel: int = -1) -> _core.Handle:
        return _core.start(
            core_plan,
            stdio,
            spec.pass_fds,
            spec.tty,
            limits.trace,
            limits.wall_time,
            spec.cpu_time or 0.0,
            limits.max_output,
            cancel,
        )

    if not spec.volumes:
        return launch()
    give_up = _GiveUp()
    timer = None if deadline is None else loop.call_at(deadline, give_up.now)
    try:
        work = lambda: give_up.guard(launch)  # noqa: E731
        return await _in_thread(
            loop, work, None, give_up.now, lambda made: _Ending(loop, made, made.pidfd).undo()
        )
    except errors.LaunchError as error:
        if error.errno == errno.ETIMEDOUT and deadline is not None and loop.time() >= deadline:
            raise TimeoutError from error
        raise
    finally:
        if timer is not None:
            timer.cancel()


class _GiveUp:
    """An eventfd that tells a launch in another thread to end; closed when that launch has returned."""

    def __init__(self) -> None:
        import threading

        self._lock = threading.Lock()
        self._fd = os.eventfd(0)

    def now(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def guard(self, launch: Callable[[int], T]) -> T:
        try:
            return launch(self._fd)
        finally:
            with self._lock:
                os.close(self._fd)
                self._fd = -1


async def _in_thread(
    loop: asyncio.AbstractEventLoop,
    work: Callable[[], T],
    dispose: Callable[[T], None] | None,
    give_up: Callable[[], None] | None = None,
    undo: Callable[[T], Coroutine[Any, Any, Any]] | None = None,
) -> T:
    """``work()`` in a thread of its own: the loop's executor has few, and this one may wait for long.

    Cancelled, it calls ``give_up`` and waits until the work has ended; what it made nevertheless is
    undone. Without a ``give_up`` it goes at once and the result is disposed of when it comes.
    """
    from threading import Thread

    outcome: asyncio.Future[T] = loop.create_future()
    abandoned = False

    def deliver(value: T | None, error: BaseException | None) -> None:
        if abandoned or outcome.done():
            if value is not None and dispose is not None:
                dispose(value)
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(value)  # type: ignore[arg-type]

    def act() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, value, error)
        except RuntimeError:  # the loop was closed meanwhile
            if value is not None and dispose is not None:
                dispose(value)

    Thread(target=act, name="pyminicon-launch", daemon=True).start()
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        if give_up is None:
            abandoned = True
            outcome.cancel()
            raise
        give_up()
        await _despite_cancelling(asyncio.wait([outcome], timeout=_PATIENCE))
        abandoned = True
        if outcome.done() and outcome.exception() is None and undo is not None:
            await _despite_cancelling(undo(outcome.result()))
        raise


async def _despite_cancelling(work: Any) -> None:
    """Awaits ``work`` to its end, also when this task is cancelled again and again."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                return


# ---- one run ----------------------------------------------------------------------------------------


class _Ending:
    """Waits for the pidfd of one container; kills it; gives up on what can't die."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: _core.Handle, pidfd: int) -> None:
        self.loop = loop
        self.handle = handle
        self.pidfd = pidfd
        self.gone = False
        self.given_up = False
        self.killed_at = 0.0
        self.on_end: Callable[[], None] | None = None
        self.waiters: list[asyncio.Future[None]] = []
        loop.add_reader(pidfd, self.ready)

    def ready(self) -> None:
        """What is watched is readable."""
        self.ended()

    def ended(self) -> None:
        """The pidfd is readable: the kernel has ended everything in the container."""
        self.loop.remove_reader(self.pidfd)
        self.gone = True
        if self.on_end is not None:
            self.on_end()
        self.wake()

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Returns when it is gone, or given up."""
        while not self.gone and not self.given_up:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter

    def kill(self) -> None:
        if self.gone or not self.handle.owned:
            return
        self.handle.kill()
        if not self.killed_at:
            self.killed_at = self.loop.time()
            self.loop.call_later(_PATIENCE_IN_D, self._look)

    def _look(self) -> None:
        """Long after the kill: is it only slow, or can't it die?"""
        if self.gone:
            return
        if self.loop.time() - self.killed_at >= _PATIENCE or _sleeps_for_ever(self.handle.pid):
            self.given_up = True
            self.handle.give_up()
            self.wake()
        else:
            self.loop.call_later(_PATIENCE_IN_D, self._look)

    async def kill_and_wait(self) -> asyncio.CancelledError | None:
        """Kills and waits, however often this task is cancelled meanwhile; the last such cancellation."""
        self.kill()
        cancelled = None
        while not self.gone and not self.given_up:
            try:
                await self.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    async def undo(self) -> None:
        """Ends what nobody has got yet."""
        await self.kill_and_wait()
        self.forget()
        if self.gone:
            self.handle.poll()

    def forget(self) -> None:
        """Looks at the pidfd no more."""
        self.loop.remove_reader(self.pidfd)


def _sleeps_for_ever(pid: int) -> bool:
    """pid 1 itself, or a process that it has to wait for before it may end."""
    return _state(pid) == b"D" or any(_state(int(child)) == b"D" for child in _children(pid))


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""


def _children(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return file.read(4096).split()
    except OSError:
        return []


class _Job(_Ending):
    """What subprocess calls communicate(), for run: callbacks that feed and read until the end.

    The pipes and the pidfd are watched by an epoll of their own, and only that by the loop: a loop's
    bookkeeping costs ten times what the kernel's does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: _core.Handle,
        spec: Spec,
        data: bytes,
        deadline: float | None,
    ) -> None:
        self.epoll = select.epoll()
        super().__init__(loop, handle, self.epoll.fileno())
        self.epoll.register(handle.pidfd, select.EPOLLIN)
        self.spec = spec
        self.timed_out = False
        self.limit: str | None = None
        self.room = _NO_LIMIT if spec.max_output is None else spec.max_output
        self.pieces: dict[int, list[bytes]] = {}
        self.open: dict[int, int] = {}  # descriptor: 1 or 2
        self.unsent = memoryview(data)
        self.input = handle.take_stream(0)
        self.timers: list[asyncio.TimerHandle] = []
        if deadline is not None:
            self.timers.append(loop.call_at(deadline, self._timeout))
        if spec.wall_time is not None:
            self.timers.append(loop.call_later(spec.wall_time, self._wall_time))
        for which in (1, 2):
            fd = handle.take_stream(which)
            if fd >= 0:
                os.set_blocking(fd, False)
                self.pieces[which] = []
                self.open[fd] = which
                self.epoll.register(fd, select.EPOLLIN)
        if self.input >= 0:
            os.set_blocking(self.input, False)
            self._feed(False)

    def _feed(self, watched: bool = True) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[os.write(self.input, self.unsent[:PIECE]) :]
        except (BlockingIOError, InterruptedError):
            if not watched:
                self.epoll.register(self.input, select.EPOLLOUT)
            return
        except OSError:  # nobody reads any more: as in subprocess, no error
            pass
        self._close_input(watched)

    def _close_input(self, watched: bool = True) -> None:
        if self.input >= 0:
            if watched:
                self.epoll.unregister(self.input)
            os.close(self.input)
            self.input = -1

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, PIECE)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:
            self._close_output(fd)
            return False
        if len(data) > self.room:
            data = data[: self.room]
            self.limit = self.limit or "output"
            self.kill()
        self.room -= len(data)
        self.pieces[self.open[fd]].append(data)
        return self.limit != "output"

    def _close_output(self, fd: int) -> None:
        self.epoll.unregister(fd)  # a copy of it elsewhere would keep it there
        del self.open[fd]
        os.close(fd)

    def _timeout(self) -> None:
        if not self.gone:
            self.timed_out = not self.killed_at  # else a limit was first
            self.kill()

    def _wall_time(self) -> None:
        if not self.gone and not self.killed_at:
            self.limit = "wall_time"
            self.kill()

    def ready(self) -> None:
        over = False
        for fd, _ in self.epoll.poll(0):
            if fd in self.open:
                self._read(fd)
            elif fd == self.input:
                self._feed()
            else:
                over = True
        if over:
            self.ended()

    def ended(self) -> None:
        # Every writer is dead: what the pipes still hold is all there will be. Their end need not come,
        # a worker forked meanwhile may hold a write end.
        for fd in list(self.open):
            while fd in self.open and self._read(fd):
                pass
        super().ended()

    def release(self) -> None:
        """Nothing of this run stays with the loop."""
        if not self.handle.owned:
            return  # a forked worker that drops our coroutine shares the loop's epoll with us: hands off
        for timer in self.timers:
            timer.cancel()
        self.loop.remove_reader(self.pidfd)
        self._close_input()
        for fd in list(self.open):
            self._close_output(fd)
        self.epoll.close()

    async def finished(self) -> None:
        """Waits for the end; cancelled, or closed with the loop, it ends the container first."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await self.kill_and_wait()
            raise
        finally:
            self.release()

    def output(self, which: int) -> bytes | None:
        pieces = self.pieces.get(which)
        if pieces is None:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def result(self, plan: Plan, args: Any) -> Result:
        handle, spec = self.handle, self.spec
        files = None
        if spec.collect is not None and self.gone:  # before poll, which removes what was left on disk
            files = await self._maybe_in_thread(
                bool(spec.volumes), lambda: handle.collect(spec.collect, spec.collect_max)
            )
        ended = await self._maybe_in_thread("disk_parent" in plan.fields, handle.poll)
        returncode, limit = ended or (-9, None)
        limit = self.limit or limit
        if limit == "memory" and spec.limits and (spec.limits.memory or _SMALLEST_MEMORY) < _SMALLEST_MEMORY:
            program = os.fsdecode((spec.args or [""])[0])
            raise errors.LaunchError(
                errno.ENOMEM, "exec", program, "killed for memory: below 1M nothing may start"
            )
        streams = self.output(1), self.output(2)
        facts = handle.usage(), handle.startup, handle.trace, files
        return container.make_result(spec, args, (returncode, *streams, limit, self.timed_out, *facts))

    async def _maybe_in_thread(self, lasts: bool, work: Callable[[], T]) -> T:
        if lasts and self.gone:  # a large layer to remove, a volume that may hang
            return await _in_thread(self.loop, work, None)
        return work()


# ---- a started container ----------------------------------------------------------------------------

_PRIVATE = object()


class AsyncContainer:
    """A running container on an event loop, made by :func:`start`; ``async with`` leaves nothing behind.

    ``pid`` ``pidfd`` ``id`` ``args`` ``returncode`` ``limit`` ``startup`` as :class:`pyminicon.Container`
    has them. ``stdout`` ``stderr``: asyncio.StreamReader (with ``text=True`` a reader of str with the
    same read, readline and ``async for``). ``stdin``: ``write`` and ``await drain()``, ``close()`` for its
    end of file. Each is None where no PIPE was asked for.

    It belongs to the loop that started it; in a process that didn't make it (after os.fork) every
    method does nothing to the container.
    """

    _watched = -1

    def __init__(
        self,
        private: object,
        loop: asyncio.AbstractEventLoop,
        handle: _core.Handle,
        spec: Spec,
        plan: Plan,
        args: Any,
    ) -> None:
        if private is not _PRIVATE:
            raise TypeError("an AsyncContainer is made by pyminicon.aio.start()")
        self._loop = loop
        self._handle = handle
        self._spec = spec
        self._plan = plan
        self._outputs: dict[int, OutputPipe] = {}
        self._readers: dict[int, asyncio.StreamReader] = {}
        self.args = args
        self.id = plan.id
        self.pid: int = handle.pid
        self.pidfd: int = handle.pidfd
        self.startup: float = handle.startup
        self.returncode: int | None = None
        self.limit: str | None = None
        self._settled = False
        self.stdin: InputStream | None = self._input()
        self.stdout: Any = self._output(1)
        self.stderr: Any = self._output(2)
        # A loop has one callback a descriptor, and pidfd is the user's.
        self._watched = os.dup(handle.pidfd)
        self._ending = _Ending(loop, handle, self._watched)
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
        self._close_pidfd()
        if self._spec.max_output is None:  # else the core's relay brings the rest, and the end
            for output in self._outputs.values():
                output.finish()
        if self.stdin is not None:
            self.stdin.abort()
        if "disk_parent" not in self._plan.fields:  # whose removal may take long
            self._settle(self._handle.poll())

    def _close_pidfd(self) -> None:
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1

    def __del__(self) -> None:
        self._close_pidfd()  # if it is still there, the loop was closed

    def fileno(self) -> int:
        """The pidfd: readable when the container has ended (pidfd_open(2))."""
        return self.pidfd

    def poll(self) -> int | None:
        """The returncode if the container has ended, else None; doesn't wait."""
        if not self._settled and self._handle.owned:
            self._settle(self._handle.poll())
        return check_status(self.returncode) if self._settled else None

    def _settle(self, ended: tuple[int | None, str | None] | None) -> None:
        if ended is None or self._settled:
            return
        self._settled = True
        self.returncode, self.limit = ended
        locks = self._plan.rootfs.lock_fds
        while locks:
            os.close(locks.pop())

    async def wait(self) -> int:
        """Waits until the container has ended; the returncode. For a timeout: asyncio.wait_for."""
        await self._ending.wait()
        if not self._settled and self._handle.owned:
            if self._ending.gone:
                self._settle(await _in_thread(self._loop, self._handle.poll, None))
            else:
                self._settle((-9, None))  # it was killed, and hangs in the kernel
        return check_status(self.returncode)

    async def communicate(self, input: Any = None) -> tuple[Any, Any]:
        """Feeds stdin, reads stdout and stderr to their end and waits; (stdout, stderr).

        ``input``: bytes, or str with ``text=True``. A container that stops reading is no error.
        """
        out = asyncio.ensure_future(self.stdout.read()) if self.stdout is not None else None
        err = asyncio.ensure_future(self.stderr.read()) if self.stderr is not None else None
        try:
            await self._feed(input)
            await self.wait()
            return (await out if out is not None else None, await err if err is not None else None)
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

    def send_signal(self, number: int) -> None:
        """Sends a signal to the container's pid 1, by pidfd; nothing if it has ended."""
        if self.returncode is None and self._handle.owned:
            self._handle.send_signal(int(number))

    def terminate(self) -> None:
        """SIGTERM, or the image's own. Without ``init=True`` the program is pid 1 and must have a handler
        for it."""
        self.send_signal(self._plan.stop_signal)

    def kill(self) -> None:
        """Ends the container with all that is in it, at once; :meth:`wait` tells when it is gone."""
        self._ending.kill()

    @property
    def usage(self) -> Usage:
        """What it has used so far, or in all once it has ended."""
        from pyminicon.result import Usage

        return Usage(self._handle.usage())

    async def aclose(self) -> None:
        """Kills the container if it still runs and waits until it is gone, also when cancelled."""
        if not self._handle.owned:
            return
        cancelled = await self._ending.kill_and_wait()
        for output in self._outputs.values():
            output.close()
        if self.stdin is not None:
            self.stdin.abort()
        if not self._settled:
            await _despite_cancelling(self.wait())
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> AsyncContainer:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "running" if not self._settled else f"returncode={self.returncode}"
        return f"<AsyncContainer {self.id} pid={self.pid} {state}>"
