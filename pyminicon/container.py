"""Running containers: the :class:`Container` that ``start`` returns, and the :class:`Process` of a command in one."""

from __future__ import annotations

import _thread
import _weakref
import os
import time

from pyminicon import _core, errors
from pyminicon.options import parse as specs
from pyminicon.request import (
    NOT_RUN,
    among_greenlets,
    announce,
    ask,
    begun_with,
    insist_on_wish,
    request_of,
    run_request,
    serve,
    take_flag,
    wants_terminal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Hashable
    from typing import IO, Any, AnyStr, Generic, Literal, NoReturn, TypeVar, Unpack, overload

    from pyminicon.communicate import Talk
    from pyminicon.detached.remote import Served
    from pyminicon.inside.home import Home
    from pyminicon.inside.lexical import PathWords
    from pyminicon.inside.path import ContainerPath
    from pyminicon.living.asked import Command, Settled
    from pyminicon.living.processes import ProcessInfo
    from pyminicon.network.serving import Serving
    from pyminicon.options import Spec
    from pyminicon.options.types import Args, Buffer, LimitOptions, ProcessOptions, RunOfCommand
    from pyminicon.plan import Plan
    from pyminicon.result import Refusal, Result, Stats, Usage
    from pyminicon.terminal import Terminal

    T = TypeVar("T")

_CHANGEABLE = frozenset(("memory", "memory_swap", "cpus", "cpu_weight", "cpuset", "pids", "io_weight"))
_PATIENCE = 5.0  # seconds for a killed container to be gone
_LOOK_AGAIN = 0.005  # seconds


def start_plan(spec: Spec, plan: Plan, args: Any, trace: bool = False) -> Container[Any]:
    """A Container for one start of a plan; closes the plan's locks if it fails."""
    _bury()
    serving = None
    try:
        if spec.serves:
            serving = serve(spec)
        request = request_of(spec, plan.exec_spec, trace, serving)
        handle = _core.start(plan.core or _core.Plan(plan.fields), request)
        begun_with(spec, handle)
    except BaseException as error:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)
        if serving is not None:
            serving.end()
        insist_on_wish(spec, error)
        raise
    box: Container[Any] = Container(PRIVATE, handle, spec, plan.rootfs.lock_fds, args, plan)
    if serving is not None:
        box._serve(serving)
    return box


def made_container(handle: _core.Handle, spec: Spec, plan: Plan, args: Any) -> Container[Any]:
    """The Container for a template's handle; the image's locks are the template's."""
    return Container(PRIVATE, handle, spec, [], args, plan)


PRIVATE = object()


class _Kept:
    """What is kept of a running container until its end, also when nobody has its Container any more."""

    def __init__(self, box: _Attended[Any], locks: list[int]) -> None:
        self.box = _weakref.ref(box)
        self.handle = box._handle
        self.locks = locks
        self.streams: tuple[Any, ...] = ()
        self.serving: Serving | None = None
        self.started_by = os.getpid()

    def let_go(self) -> None:
        _running.pop(id(self), None)
        if self.serving is not None:
            self.serving.end()
        while self.locks:
            os.close(self.locks.pop())

    def close_streams(self, mine: bool) -> None:
        for stream in self.streams:
            if stream is not None:
                _close_stream(stream, mine)

    def end(self) -> None:
        box = self.box()
        if box is not None:
            return box.close()
        if self.handle.end():
            self.handle.poll()
        else:
            self.handle.give_up()
        self.close_streams(True)
        self.handle.release()
        return self.let_go()


# What still runs when the interpreter shuts down is ended then, cgroups and all; the reaper would only
# kill it. Looked at only by the process that made it.
_running: dict[int, _Kept] = {}


def _close_stream(stream: Any, mine: bool) -> None:
    """Whatever somebody else does with the other end, which he may have inherited: nothing is waited for. In a
    forked process what is buffered is the parent's to write, and so is how the pipe is used."""
    try:
        if mine:
            os.set_blocking(stream.fileno(), False)
            stream.close()
        else:
            below = getattr(stream, "buffer", stream)  # of a text stream
            getattr(below, "raw", below).close()
    except (OSError, ValueError):  # what was still buffered; or it is closed
        pass


_burial = 32  # so many may be running or forgotten before somebody looks which have ended


def _bury() -> None:
    """Lets go of forgotten containers that have ended, as subprocess does with forgotten children; only
    each time their number has doubled, so that a start doesn't look at all that run."""
    global _burial
    if len(_running) < _burial:
        return
    for kept in list(_running.values()):
        if kept.started_by == os.getpid() and kept.handle.poll() is not None:
            kept.let_go()
    _burial = max(32, 2 * len(_running))


def _end_all() -> None:
    for kept in list(_running.values()):
        if kept.started_by == os.getpid():
            kept.end()


class Held:
    """What a container or a command tells of itself, and takes while it runs, for a thread and for a loop alike."""

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(type(list[int]))

    def __init__(self, handle: _core.Handle, spec: Spec, args: Any) -> None:
        self._handle: _core.Handle = handle
        self._spec: Spec = spec
        self.args: Any = args
        self.id: str = handle.id
        self.pid: int = handle.pid
        self.startup: float = handle.startup
        self.returncode: int | None = None
        self.limit: str | None = None
        self.terminal: Terminal | None = None

    @property
    def trace(self) -> list[tuple[str, int]] | None:
        """With ``trace=True``: (stage, nanoseconds since the call) of each step of the start."""
        stamps = self._handle.trace
        if stamps is None:
            return None
        from pyminicon.result import as_trace

        return as_trace(stamps)

    def _called(self) -> Any:
        """What a TimeoutExpired has for its ``cmd``."""
        return f"container {self.id}" if self.args is None else self.args

    @property
    def usage(self) -> Usage:
        """What it has used so far, or in all once it has ended."""
        from pyminicon.result import Usage

        return Usage(self._handle.usage())

    def kill(self) -> None:
        raise NotImplementedError

    def send_signal(self, number: int) -> None:
        """Sends a signal to the first process, by pidfd; nothing if it has ended. Raises SpecError."""
        most = 64
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
            raise errors.SpecError("send_signal", f"takes a signal's number, 1 to {most}")
        if self._mine():
            self._handle.send_signal(int(number))

    def _mine(self) -> bool:
        return bool(self._handle.owned)

    def _status_of(self, code: int | None) -> int | None:
        return code

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be pickled: it belongs to the process that started it"
        )


class Running(Held):
    """A container, for a thread and for a loop alike. What is sent to its first process goes on to its program, or
    where it has none to all processes in it."""

    stop_signal: int
    _plan: Plan
    _takes_commands: bool
    _lives: bool  # it has no program: only commands run in it
    _ended_for: int = 0  # the signal that terminate() ended it in the place of
    _serving: Serving | Served | None = None

    @property
    def ports(self) -> dict[int, tuple[str, int]]:
        """What is published: the port inside, and the (address, port) that leads there."""
        return {} if self._serving is None else dict(self._serving.ports)

    @property
    def refused(self) -> list[Refusal]:
        """The last 1,000 connections outward that weren't let through (:class:`pyminicon.result.Refusal`)."""
        return [] if self._serving is None else self._serving.refused

    def _repr_html_(self) -> str:
        from pyminicon import pictures

        return pictures.container(self)

    def poll(self) -> int | None:
        raise NotImplementedError

    def _insist_on_running(self) -> None:
        """Raises ContainerEnded once it has ended."""
        if self.poll() is not None:
            raise errors.ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)

    def _while_it_runs(self, ask: Callable[[], T]) -> T:
        """``ask()``; ContainerEnded where it has ended, or ends meanwhile. In a forked process nothing is asked."""
        self._insist_on_running()
        try:
            return ask()
        except errors.LaunchError:
            self._insist_on_running()
            raise

    def _processes(self) -> list[ProcessInfo]:
        from pyminicon.living.processes import inside

        return inside(self, self._takes_commands)

    def stats(self) -> Stats:
        """What it is using at this moment, and has used so far (:class:`Stats`). Raises ContainerEnded once it has
        ended; ``usage`` says what it has used in all."""
        from pyminicon.result import Stats

        return Stats(self._while_it_runs(self._handle.usage))

    def update(self, **limits: Unpack[LimitOptions]) -> None:
        """Changes limits while it runs: ``memory memory_swap cpus cpu_weight cpuset pids io_weight``.

        The container must have been started with a limit of the same kind, or there is no cgroup to
        change. Raises SpecError for a bad value, LaunchError (stage cgroup) when the kernel refuses,
        ContainerEnded once it has ended.
        """
        from pyminicon import cgroups
        from pyminicon.cgroups.limits import check

        for name in limits:
            if name not in _CHANGEABLE:
                raise errors.SpecError(name, f"can't be changed: takes {', '.join(sorted(_CHANGEABLE))}")
        changed = check(**limits)
        changes = [] if changed is None else cgroups.plan_update(changed)

        def write() -> None:
            if changes and self._mine():
                self._handle.update(changes)

        self._while_it_runs(write)

    def freeze(self) -> None:
        """Stops every process of the container until :meth:`thaw` (cgroup freezer). Raises ContainerEnded once it has
        ended."""
        self._freeze(True)

    def thaw(self) -> None:
        """Lets a frozen container go on. Raises ContainerEnded once it has ended."""
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        def write() -> None:
            if self._mine():
                self._handle.freeze(frozen)

        self._while_it_runs(write)

    def terminate(self) -> None:
        """``stop_signal``: SIGTERM, or the image's own. A program that has no handler for it ends of it, as under
        subprocess, though without ``init=True`` it is pid 1, which the kernel sends no such signal. A container
        without a program sends it to every process inside, and ends with the last, or after a second."""
        if self._lives:
            if self._mine():
                self._handle.terminate(self.stop_signal)
            return
        is_first = not self._spec.init and self._spec.pid == "private"
        if is_first and self._mine() and not hears(self.pid, self.stop_signal):
            self._ended_for = self.stop_signal
            self.kill()
        else:
            self.send_signal(self.stop_signal)

    def _status_of(self, code: int | None) -> int | None:
        """The program's end, in the words of the signal that was sent for it."""
        return -self._ended_for if code == -9 and self._ended_for else code


def hears(pid: int, number: int) -> bool:
    """Whether ``pid`` catches, blocks (to wait for it) or ignores the signal: all are its own choice."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:  # it has just ended, or /proc is hidden: the kernel knows what to do
        return True
    sets = [int(line[7:], 16) for line in lines if line[:7] in (b"SigBlk:", b"SigIgn:", b"SigCgt:")]
    return any(mask >> (number - 1) & 1 for mask in sets)


if TYPE_CHECKING:

    class _Generic(Generic[AnyStr]):
        pass

else:  # without typing, whose import costs more than a container
    AnyStr = str

    class _Generic:
        __class_getitem__ = classmethod(type(list[int]))


def warn_running(box: Any) -> None:
    """As subprocess does of a Popen that nobody holds any more."""
    try:
        import warnings
    except ImportError:  # the interpreter is at its end, and ends the container as well
        return

    what = (
        f"command {box.args!r:.80} in container {box.id}"
        if isinstance(box, Process)
        else f"container {box.id}"
    )
    warnings.warn(f"{what} is still running", ResourceWarning, stacklevel=3, source=box)


class _Attended(Held, _Generic[AnyStr]):
    """What a thread waits for, talks with and ends: a container, or a command in one."""

    returncode: int | None
    limit: str | None

    def __init__(self, handle: _core.Handle, spec: Spec, locks: list[int], args: Any) -> None:
        super().__init__(handle, spec, args)
        self.stdin: IO[AnyStr] | None = self._stream(0, "wb")
        self.stdout: IO[AnyStr] | None = self._stream(1, "rb")
        self.stderr: IO[AnyStr] | None = self._stream(2, "rb")
        if not _running:
            import atexit

            atexit.unregister(_end_all)
            atexit.register(_end_all)
        self._kept: _Kept = _Kept(self, locks)
        self._kept.streams = (self.stdin, self.stdout, self.stderr)
        _running[id(self._kept)] = self._kept
        self._talk: Talk | None = None
        self._talking: Any = _thread.RLock()

    def _stream(self, which: int, mode: str) -> IO[Any] | None:
        fd = self._handle.take_stream(which)
        if fd < 0:
            return None
        stream: IO[Any] = open(fd, mode)  # noqa: SIM115
        if self._spec.text:
            import io

            return io.TextIOWrapper(stream, self._spec.encoding, self._spec.errors, write_through=which == 0)
        return stream

    def fileno(self) -> int:
        """Readable when it has ended; -1 once it is closed. Of a container the pidfd (pidfd_open(2))."""
        return self._handle.pidfd

    def poll(self) -> int | None:
        """The returncode if it has ended, else None; asks once and doesn't wait."""
        if self.returncode is None and self._mine():
            ended = self._handle.poll()
            if ended is not None:
                self._kept.let_go()
                self.limit = self._limit_of(ended)
                self.returncode = errors.check_status(self._status_of(ended[0]))
        return self.returncode

    def _limit_of(self, ended: tuple[int | None, str | None]) -> str | None:
        return ended[1]

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended; the returncode. Raises TimeoutExpired after ``timeout`` seconds; it runs on
        then, as under subprocess."""
        if self.returncode is None:
            if not self._mine():
                raise errors.Error("another process has started this container, and waits for it")
            if not self._wait(timeout):
                raise errors.TimeoutExpired(self._called(), timeout or 0.0)
            self.poll()
        return errors.check_status(self.returncode)

    def _wait(self, timeout: float | None) -> bool:
        greenlets = among_greenlets()
        if greenlets is None:
            return self._handle.wait(timeout)
        return bool(greenlets.go_on(_core.Supervisor(self._handle), timeout))

    def communicate(self, input: AnyStr | None = None, timeout: float | None = None) -> tuple[AnyStr, AnyStr]:
        """Feeds stdin, reads stdout and stderr to their end and waits; (stdout, stderr).

        After TimeoutExpired it can be called again and nothing is lost.
        """
        try:
            from pyminicon import communicate
        except ImportError as error:
            raise errors.not_loaded(error) from error
        return communicate.communicate(self, input, timeout, among_greenlets())

    def kill(self) -> None:
        """Ends it with all that is in it, or has come of it, at once."""
        if self._mine():
            self._handle.kill()

    def close(self) -> None:
        """Ends it if it still runs, waits for it, closes the streams; what was written to ``stdin`` and waits there
        for a reader is dropped."""
        if self._mine() and self.returncode is None:
            if self._handle.end():
                self.poll()
            else:  # it hangs in the kernel, on a FUSE server that doesn't answer; nobody can end that
                self.returncode = -9
                self._handle.give_up()
                self._kept.let_go()  # reaped by a later launch, once nobody holds the handle
        mine = self._mine()
        # A communicate() in another thread sees the end, too, and has its streams until then.
        talks = mine and self._talking.acquire(timeout=_PATIENCE)
        try:
            self._kept.close_streams(mine)
            if self.terminal is not None:
                self.terminal.close()
            self._handle.release()
        finally:
            if talks:
                self._talking.release()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        kept = getattr(self, "_kept", None)
        if kept is not None and id(kept) in _running and kept.started_by == os.getpid():
            if kept.handle.poll() is None:
                warn_running(self)
            else:
                kept.let_go()

    def _state(self) -> str:
        return "running" if self.returncode is None else f"returncode={self.returncode}"


class Container(_Attended[AnyStr], Running):
    """A running container, made by :func:`start`; as a context manager it leaves nothing behind.

    ``pid`` (of its pid 1, as this process's PID namespace numbers it), ``pidfd``, ``id`` (12 hex
    digits, the default host name), ``args``, ``stdin`` ``stdout`` ``stderr`` (file objects where PIPE
    was asked for), ``startup`` (seconds from the call to execve), ``returncode`` (None while it runs).

    In a process that didn't make it (after os.fork) every method does nothing to it.
    """

    def __init__(
        self, private: object, handle: _core.Handle, spec: Spec, locks: list[int], args: Any, plan: Plan
    ) -> None:
        if private is not PRIVATE:
            raise TypeError("a Container is made by pyminicon.start()")
        super().__init__(handle, spec, locks, args)
        self._plan = plan
        self._lives = args is None
        self._takes_commands: bool = handle.takes_commands
        self._settled: dict[Hashable, Settled] = {}
        self.stop_signal: int = plan.stop_signal
        self.pidfd: int = handle.pidfd
        self._files: Home | None = None

    def _serve(self, serving: Serving) -> None:
        self._serving = self._kept.serving = serving

    def close(self) -> None:
        super().close()
        self.pidfd = -1
        if self._files is not None:
            self._files.close()

    close.__doc__ = _Attended.close.__doc__

    if TYPE_CHECKING:

        @overload
        def run(
            self,
            args: Args,
            *,
            text: Literal[True],
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[str]: ...
        @overload
        def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[str]: ...
        @overload
        def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[str]: ...
        @overload
        def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: Literal[True],
            input: str | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[str]: ...
        @overload
        def run(
            self,
            args: Args,
            *,
            text: Literal[False] | None = None,
            encoding: None = None,
            errors: None = None,
            universal_newlines: Literal[False] | None = None,
            input: Buffer | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[bytes]: ...
        @overload
        def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | Buffer | None = None,
            **options: Unpack[RunOfCommand],
        ) -> Result[Any]: ...

    def run(self, args: Any, **options: Any) -> Result[Any]:
        """Runs ``args`` in this container and waits for it: :func:`pyminicon.run` with the options of a command.

        ``env cwd user stdin stdout stderr input capture_output text encoding errors timeout check wall_time
        cpu_time max_output overflow pass_fds trace``; what isn't given comes from the container. A ``timeout`` or
        limit ends every process that has come of it, and nothing else in the container. Takes a container that was
        started without args, or with ``init=True``. Raises ContainerEnded once it has ended.
        """
        trace: bool = take_flag(options, "trace")
        begun: float | None = time.monotonic() if "timeout" in options else None
        spec, request = self._run_asked(args, options, trace, begun)
        try:
            outcome = ask(self._handle.run_command, spec, request)
        except errors.LaunchError as error:
            self._insist_on_life(error)
            raise
        from pyminicon.result import make_result

        if outcome.returncode == -9 and outcome.limit is None and self._handle.ending:
            outcome.limit = self._ended_by()
        return make_result(spec, args, outcome)

    def _run_asked(
        self, args: Any, options: dict[str, Any], trace: bool, begun: float | None
    ) -> tuple[Spec, _core.Request]:
        """What is asked of the core; of options that were given before all but the command's words is known."""
        from pyminicon.living import asked

        self._insist_on_taking(args)
        name = None if trace else asked.key(options)
        found = None if name is None else self._settled.get(name)
        if found is None or found.request is None:
            made: Command = asked.command(self, args, options, NOT_RUN)
            request = run_request(made.spec, made.exec_spec, trace, begun)
            made.asked(request)
            if name is not None:
                asked.settle(self._settled, name, self, made).request = request
            return made.spec, request
        request = found.request.again(found.exec_spec(args))
        if found.spec.timeout is not None and begun is not None:
            request.timeout = max(found.spec.timeout - (time.monotonic() - begun), 0.0)
        return found.spec, request

    if TYPE_CHECKING:

        @overload
        def start(
            self,
            args: Args,
            *,
            text: Literal[True],
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[ProcessOptions],
        ) -> Process[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[ProcessOptions],
        ) -> Process[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str,
            universal_newlines: bool | None = None,
            **options: Unpack[ProcessOptions],
        ) -> Process[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: Literal[True],
            **options: Unpack[ProcessOptions],
        ) -> Process[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: Literal[False] | None = None,
            encoding: None = None,
            errors: None = None,
            universal_newlines: Literal[False] | None = None,
            **options: Unpack[ProcessOptions],
        ) -> Process[bytes]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[ProcessOptions],
        ) -> Process[Any]: ...

    def start(self, args: Any, **options: Any) -> Process[Any]:
        """Starts ``args`` in this container and returns at once: subprocess.Popen, inside.

        Takes :meth:`run`'s options but ``input timeout check capture_output``, and ``tty``.
        """
        trace = take_flag(options, "trace")
        terminal = None
        if wants_terminal(options):
            from pyminicon.terminal import Terminal

            terminal = Terminal(self._handle.open_terminal())
            options = {**options, **dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inner)}
        try:
            made = self._begun(args, self._asked(args, options, specs.ONLY_RUN), terminal, trace)
        except BaseException:
            if terminal is not None:
                terminal.close()
            raise
        if terminal is not None:
            terminal.close_inner()
            made.terminal = terminal
        return made

    def path(self, p: PathWords, user: str | None = None, strict: bool = False) -> ContainerPath:
        """A path inside, with pathlib's methods: ``c.path("/src/a.c").read_text()``.

        ``p``: a str or PurePosixPath; a relative one begins at the container's working directory. What is done with
        it has the rights of ``user`` (default: the container's); ``strict``: modes hold for root as well. A container
        that takes no commands has none (SpecError); once it has ended everything raises ContainerEnded.
        """
        from pyminicon.inside import calls

        return calls.path(self._home(), p, user, strict)

    def copy_in(self, src: str | os.PathLike[str], dst: PathWords, user: str | None = None) -> None:
        """Copies ``src``, a file or directory, to ``dst`` inside, or beneath it where that is a directory.

        Of ``"src/."`` what is in it, without itself, as with ``docker cp``. Links stay links; devices, pipes and
        sockets are refused; what is made is ``user``'s, without setuid bits.
        """
        from pyminicon.inside import calls

        calls.copy_in(self._home(), src, dst, user)

    def copy_out(self, src: PathWords, dst: str | os.PathLike[str]) -> None:
        """Copies ``src`` inside to ``dst``, or beneath it where that is a directory; never through a link, whoever made
        it. What is made is the caller's, without setuid bits. ``"src/."``: what is in it, as in :meth:`copy_in`."""
        from pyminicon.inside import calls

        calls.copy_out(self._home(), src, dst)

    def put_archive(self, dst: PathWords, tar: bytes | IO[bytes]) -> None:
        """Unpacks ``tar`` (bytes or a binary file; gzip, bzip2 and xz as well) into the directory ``dst`` inside.
        What would lead out of it is an OSError."""
        from pyminicon.inside import calls

        calls.put_archive(self._home(), dst, tar)

    def get_archive(self, src: PathWords) -> IO[bytes]:
        """``src`` inside as a tar archive: a binary file, which the caller closes."""
        from pyminicon.inside import calls

        return calls.get_archive(self._home(), src)

    def connect(
        self,
        port_or_unix_path: int | str | bytes | os.PathLike[str],
        host: str = "127.0.0.1",
        timeout: float | None = None,
    ) -> socket.socket:
        """A socket connected to a port inside, or to the socket at a path inside, made in the container's network.

        ConnectionRefusedError, FileNotFoundError and so on as connect(2) has them; TimeoutError after ``timeout``
        seconds; ContainerEnded once it has ended.
        """
        from pyminicon.network import sockets

        return self._there(lambda: sockets.connect(self, port_or_unix_path, host, timeout))

    def listen(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """A socket that listens inside, at a port of its loopback; what connects to it there, the caller accepts.
        0 picks a port."""
        from pyminicon.network import sockets

        made = self._there(lambda: sockets.listen(self, port, host))
        made.setblocking(True)
        return made

    def wait_port(self, port: int, timeout: float) -> None:
        """Waits until something listens at that port inside. Raises TimeoutError; ContainerEnded if it ends."""
        from pyminicon.network import sockets

        sockets.port_number(port)
        deadline = time.monotonic() + sockets.timeout_of(timeout)
        while not sockets.somebody_listens(self, port):
            self._insist_on_running()
            if time.monotonic() >= deadline:
                raise sockets.not_there(port, timeout)
            time.sleep(_LOOK_AGAIN)

    def _there(self, make: Callable[[], socket.socket]) -> socket.socket:
        """What is made in its network, while it runs."""
        if self.returncode is not None:
            raise errors.ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        try:
            return make()
        except errors.LaunchError as error:
            self._insist_on_life(error)
            raise

    def _home(self) -> Home:
        if self.returncode is not None:
            raise errors.ContainerEnded(self.id, self.returncode, self.limit)
        if self._files is None:
            from pyminicon.living.files import home_of

            self._files = home_of(self)
        return self._files

    def _insist_on_life_here(self, error: errors.LaunchError) -> None:
        self._insist_on_life(error)

    def _begun(self, args: Any, asked: Command, terminal: Terminal | None, trace: bool) -> Process[Any]:
        spec = asked.spec
        if terminal is not None:
            from pyminicon.living.processes import outer_uid

            terminal.give_to(outer_uid(self.pid, asked.who[0] if asked.who else self._handle.uid))
        _bury()
        try:
            request = request_of(spec, asked.exec_spec, trace)
            asked.asked(request)
            handle = self._handle.start_command(request)
            begun_with(spec, handle)
        except errors.LaunchError as error:
            insist_on_wish(spec, error)
            self._insist_on_life(error)
            raise
        return Process(PRIVATE, self, handle, spec, args)

    def processes(self) -> list[ProcessInfo]:
        """What runs inside (:class:`pyminicon.living.processes.ProcessInfo`), but for our init and its workers.
        Raises ContainerEnded once it has ended."""
        if self.poll() is not None:
            raise errors.ContainerEnded(self.id, errors.check_status(self.returncode), self.limit)
        return self._processes()

    def _asked(self, args: Any, options: dict[str, Any], refused: frozenset[str]) -> Command:
        from pyminicon.living import asked

        self._insist_on_taking(args)
        return asked.command(self, args, options, refused)

    def _insist_on_taking(self, args: Any) -> None:
        announce(args, self._spec.image)
        if self.returncode is not None:
            raise errors.ContainerEnded(self.id, self.returncode, self.limit)
        if not self._takes_commands:
            from pyminicon.living import asked

            raise asked.without_init()

    def _insist_on_life(self, error: errors.LaunchError) -> None:
        """Raises what has really happened where a command couldn't be sent or begun."""
        import errno

        if error.errno != errno.ESHUTDOWN:
            return
        if not self._mine():
            raise errors.Error("another process has started this container, and speaks with it") from None
        self._handle.wait(_PATIENCE)  # it has ended, or has been told to
        self.poll()
        raise errors.ContainerEnded(self.id, errors.check_status(self.returncode), self.limit) from None

    def _ended_by(self) -> str | None:
        """The limit that has ended the container, whose init has let go already."""
        self._handle.wait(_PATIENCE if self._handle.ending else 0.0)
        self.poll()
        return self.limit

    def __enter__(self) -> Container[AnyStr]:
        return self

    def __repr__(self) -> str:
        return f"<Container {self.id} pid={self.pid} {self._state()}>"


class Process(_Attended[AnyStr]):
    """A command that runs in a container, made by :meth:`Container.start`: subprocess.Popen's words.

    ``pid`` (as the container counts), ``host_pid`` (as this process does, or None), ``args``, ``stdin`` ``stdout``
    ``stderr`` ``terminal``, ``returncode``, ``limit``. It ends when its first process ends; what that has left
    in the background lives on in the container. :meth:`kill`, :meth:`close` and a limit end every process that
    has come of it. A context manager that does the same.
    """

    def __init__(
        self, private: object, container: Container[Any], handle: _core.Handle, spec: Spec, args: Any
    ) -> None:
        if private is not PRIVATE:
            raise TypeError("a Process is made by Container.start()")
        self._container = container
        self.host_pid: int | None = handle.host_pid
        super().__init__(handle, spec, [], args)

    def terminate(self) -> None:
        """SIGTERM to its first process."""
        self.send_signal(15)

    def _wait(self, timeout: float | None) -> bool:
        """One that was killed tells of its end, and then that the last of what has come of it is gone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if not super()._wait(None if deadline is None else max(deadline - time.monotonic(), 0.0)):
                return False
        return True

    def _limit_of(self, ended: tuple[int | None, str | None]) -> str | None:
        gone = ended == (-9, None) and self._container._handle.ending
        return self._container._ended_by() if gone else ended[1]

    def __enter__(self) -> Process[AnyStr]:
        return self

    def __repr__(self) -> str:
        return f"<Process {self.args!r:.80} pid={self.pid} in {self.id} {self._state()}>"
