"""How a container ended: what subprocess.CompletedProcess tells, and what only a container can."""

from __future__ import annotations

from pyminicon import _core, errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr, Generic

    from pyminicon.options import Spec


class Usage:
    """What a container has used. A figure that the kernel can't give is None, never 0.

    ``wall`` ``user`` ``system`` (float, seconds; user and system of the whole container where it has a
    cgroup, else of the program and the children it waited for), ``memory_peak`` (int, bytes),
    ``pids_peak`` (int), ``io_read`` ``io_written`` (int, bytes of block devices).
    """

    __slots__ = ("io_read", "io_written", "memory_peak", "pids_peak", "system", "user", "wall")

    wall: float
    user: float | None
    system: float | None
    memory_peak: int | None
    pids_peak: int | None
    io_read: int | None
    io_written: int | None

    def __init__(self, figures: tuple[Any, ...]) -> None:
        self.wall, self.user, self.system = figures[:3]
        self.memory_peak, self.pids_peak, self.io_read, self.io_written = figures[3:7]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Usage({inside})"

    def _repr_html_(self) -> str:
        from pyminicon import pictures

        return pictures.usage(self)


class Stats(Usage):
    """:class:`Usage` so far, and what is in use now: ``memory`` (bytes) and ``pids``, None if unknown or ended."""

    __slots__ = ("memory", "pids")

    def __init__(self, figures: tuple[Any, ...]) -> None:
        super().__init__(figures)
        self.memory: int | None = figures[7]
        self.pids: int | None = figures[8]


class Refusal(tuple[str, int, str]):
    """A connection outward that wasn't let through: (``host``, ``port``, ``reason``)."""

    __slots__ = ()

    def __new__(cls, host: str, port: int, reason: str) -> Refusal:
        return super().__new__(cls, (host, port, reason))

    def __getnewargs__(self) -> tuple[str, int, str]:
        return self.host, self.port, self.reason

    @property
    def host(self) -> str:
        return self[0]

    @property
    def port(self) -> int:
        return self[1]

    @property
    def reason(self) -> str:
        return self[2]

    def __repr__(self) -> str:
        return f"Refusal(host={self[0]!r}, port={self[1]!r}, reason={self[2]!r})"


if TYPE_CHECKING:

    class _Generic(Generic[AnyStr]):
        pass

else:  # without typing, whose import costs more than a container
    AnyStr = str

    class _Generic:
        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))


class Result(_Generic[AnyStr]):
    """A container that has ended.

    ``args``, ``returncode`` (-N: killed by signal N), ``stdout``, ``stderr`` as
    subprocess.CompletedProcess has them. ``usage`` (:class:`Usage`), ``limit`` (None, or the limit that
    ended it: "memory", "wall_time", "cpu_time", "output"), ``startup`` (float, seconds from the call to
    execve), ``files`` ({path: bytes} of what ``collect`` asked for and could be taken),
    ``collect_errors`` ({path: OSError} of what couldn't), ``dropped`` (with ``overflow="trim"``: bytes of stdout
    and of stderr that weren't kept, else (0, 0)), ``refused`` (the last 1,000 :class:`Refusal` of its
    proxy), ``trace`` (with ``trace=True``: a list of (stage,
    nanoseconds since the call)).
    """

    __slots__ = (
        "args",
        "collect_errors",
        "dropped",
        "files",
        "limit",
        "refused",
        "returncode",
        "startup",
        "stderr",
        "stdout",
        "trace",
        "usage",
    )

    args: Any
    dropped: tuple[int, int]
    returncode: int
    stdout: AnyStr
    stderr: AnyStr
    usage: Usage
    limit: str | None
    startup: float
    files: dict[str, bytes]
    collect_errors: dict[str, OSError]
    trace: list[tuple[str, int]] | None
    refused: list[Refusal]

    def check_returncode(self) -> None:
        """Raises CalledProcessError if ``returncode`` isn't 0."""
        if self.returncode:
            raise errors.CalledProcessError(
                self.returncode, self.args, self.stdout, self.stderr, limit=self.limit
            )

    def __repr__(self) -> str:
        parts = [f"args={self.args!r}", f"returncode={self.returncode!r}"]
        for name in ("stdout", "stderr", "limit"):
            if getattr(self, name) is not None:
                parts.append(f"{name}={getattr(self, name)!r}")
        return f"Result({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from pyminicon import pictures

        return pictures.result(self)


def make_result(
    spec: Spec, args: Any, outcome: _core.Outcome, refused: list[Refusal] | None = None
) -> Result[Any]:
    """The Result of what the core's run answers; raises what the caller asked to be raised."""
    returncode, stdout, stderr, limit, timed_out, usage, startup, dropped, stamps, files = outcome.told()
    if timed_out and spec.cancel is not None and spec.cancel.cancelled:
        raise errors.Cancelled("it was cancelled")
    if timed_out:
        raise errors.TimeoutExpired(args, spec.timeout or 0.0, output=stdout, stderr=stderr)
    result: Result[Any] = Result()
    result.args = args
    result.returncode = returncode = errors.check_status(returncode)
    result.dropped = dropped
    if dropped == (0, 0) or not spec.text:
        result.stdout, result.stderr = _decode(spec, stdout), _decode(spec, stderr)
    else:
        result.stdout = None if dropped[0] else _decode(spec, stdout)
        result.stderr = None if dropped[1] else _decode(spec, stderr)
        _decode_halves(spec, result, stdout, stderr)
    result.limit = limit
    result.refused = [] if refused is None else refused
    result.usage = Usage(usage or (0.0, 0.0, 0.0, None, None, None, None))
    result.startup = startup
    result.trace = stamps if stamps is None else as_trace(stamps)
    result.files, missed = files or ({}, {})
    result.collect_errors = _collect_errors(spec, result.files, missed) if spec.collect else {}
    if returncode and spec.check:
        result.check_returncode()
    return result


def as_trace(stamps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The same list, which a notebook shows as a timeline."""
    from pyminicon.pictures import Trace

    return Trace(stamps)


def outcome_of(supervisor: _core.Supervisor, handle: _core.Handle, limit: str | None = None) -> _core.Outcome:
    """The outcome of a run that was supervised by steps; ``limit``: that which has ended it if nobody knows another."""
    returncode, own = handle.poll() or (-9, None)
    return _core.Outcome(
        returncode=returncode,
        stdout=supervisor.output(1),
        stderr=supervisor.output(2),
        limit=supervisor.limit or own or limit,
        timed_out=supervisor.timed_out,
        usage=handle.usage(),
        startup=handle.startup,
        dropped=supervisor.dropped,
    )


def ended_in_setup(spec: Spec) -> _core.Outcome:
    """The outcome of a run whose time was over before its program ran."""
    by_limit = spec.wall_time is not None and (spec.timeout is None or spec.wall_time < spec.timeout)
    return _core.Outcome(
        returncode=-9,
        stdout=None,
        stderr=None,
        limit="wall_time" if by_limit else None,
        timed_out=not by_limit,
        usage=None,
        startup=0.0,
    )


def _collect_errors(
    spec: Spec, files: dict[str, bytes], refused: dict[str, tuple[int, str]]
) -> dict[str, OSError]:
    """Why each path that isn't in ``files`` isn't, as open(2) would say it."""
    import errno
    import os

    never = (errno.ECANCELED, "the container never started, or couldn't be ended")
    errors: dict[str, OSError] = {}
    for path in spec.collect or ():
        if path not in files:
            number, hint = refused.get(path, never)
            reason = os.strerror(number)
            errors[path] = OSError(number, f"{reason} ({hint})" if hint else reason, path)
    return errors


def _decode_halves(spec: Spec, result: Result[Any], stdout: bytes | None, stderr: bytes | None) -> None:
    """What was trimmed in its middle, cut at whole characters."""
    from pyminicon.trimmed import as_text, first_half

    first = first_half(spec.max_output or 0)
    dropped = list(result.dropped)
    for which, data in enumerate((stdout, stderr)):
        if data is not None and dropped[which]:
            text, more = as_text(
                data,
                dropped[which],
                first,
                spec.encoding,
                lambda half, encoding: _text(half, encoding, spec.errors),
            )
            dropped[which] += more
            setattr(result, ("stdout", "stderr")[which], text)
    result.dropped = dropped[0], dropped[1]


def _decode(spec: Spec, data: bytes | None) -> Any:
    """What was captured, as text where text was asked for (universal newlines, as in subprocess)."""
    return data if data is None or not spec.text else _text(data, spec.encoding, spec.errors)


def _text(data: bytes, encoding: str | None, errors: str | None) -> str:
    import io

    return io.TextIOWrapper(io.BytesIO(data), encoding, errors).read()
