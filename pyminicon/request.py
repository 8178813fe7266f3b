"""What the core is asked for a call: a Request, from the options that were checked; and what goes on around it."""

from __future__ import annotations

import sys
import time

from pyminicon import _core, errors
from pyminicon.options import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from pyminicon.network.serving import Serving
    from pyminicon.options import Spec
    from pyminicon.plan import ExecSpec

NOT_RUN = frozenset(("tty", "detach", "name", "labels"))  # a terminal needs somebody at it


def among_greenlets() -> Any:
    """The room for a program of gevent's, where a call that waits would hold up all other greenlets; else None."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("select"):
        return None
    from pyminicon import greenlets

    return greenlets


def announce(args: Any, image: Any) -> None:
    """For who watches: an audit event, at which a hook may raise (sys.addaudithook), and a word in the log of a
    program that has one."""
    sys.audit("pyminicon.run", args, image)
    log = getattr(sys.modules.get("logging"), "getLogger", None)
    if log is not None:
        log("pyminicon").debug("run %r in %r", args, image)


def serve(spec: Spec, home: asyncio.AbstractEventLoop | None = None) -> Serving:
    """What is served of a container's network, before it is launched; ``home``: the caller's loop."""
    from pyminicon.network.serving import Serving

    return Serving(spec, home)


def ask(run: Callable[..., _core.Outcome], spec: Spec, *asked: Any) -> _core.Outcome:
    """What the core answers to a run; ``asked``: what its ``run`` takes, a request at last."""
    greenlets = among_greenlets()
    return run(*asked) if greenlets is None else greenlets.call(run, spec.cancel, *asked)


def begun_with(spec: Spec, handle: _core.Handle) -> None:
    """From now on the call's ``cancel`` ends what it has begun."""
    if spec.cancel is not None:
        spec.cancel._attach(handle)


def insist_on_wish(spec: Spec, error: BaseException) -> None:
    """Raises Cancelled where that is why a set-up was given up."""
    if spec.cancel is not None and spec.cancel.cancelled and isinstance(error, errors.LaunchError):
        raise errors.Cancelled("it was cancelled") from None


def request_of(spec: Spec, exec_spec: ExecSpec, trace: bool, serving: Serving | None = None) -> _core.Request:
    """What the core is asked alike of a start and of a run. ``serving``: of its network."""
    request = _core.Request(
        exec_spec=exec_spec,
        stdio=(_choice(spec.stdin, 0), _choice(spec.stdout, 1), _choice(spec.stderr, 2)),
        pass_fds=spec.pass_fds,
        trace=trace,
        wall_time=spec.wall_time,
        cpu_time=spec.cpu_time or 0.0,
        max_output=spec.max_output,
    )
    if spec.tty:
        request.terminal = True
    if spec.cancel is not None:
        request.cancel_fd = spec.cancel.fileno()
    if serving is not None:
        serving.asked(request)
    return request


def run_request(
    spec: Spec,
    exec_spec: ExecSpec,
    trace: bool,
    begun: float | None = None,
    serving: Serving | None = None,
) -> _core.Request:
    """What the core is asked of a run. ``begun``: when the timeout has, if not just now."""
    request = request_of(spec, exec_spec, trace, serving)
    if spec.input is not None:
        request.input = input_bytes(spec)
    if spec.timeout is not None:
        spent = 0.0 if begun is None else time.monotonic() - begun
        request.timeout = max(spec.timeout - spent, 0.0)
    if spec.collect is not None:
        request.collect, request.collect_max = spec.collect, spec.collect_max
    if spec.overflow == "trim":
        request.trim = True
    return request


def _choice(wanted: Any, inherited: int) -> int:
    if wanted is None:
        return inherited
    fd: int = wanted if isinstance(wanted, int) else wanted.fileno()
    return fd


def input_bytes(spec: Spec) -> bytes | None:
    if isinstance(spec.input, str):
        if not spec.text:
            raise errors.SpecError("input", "takes bytes; with text=True it takes a str")
        return spec.input.encode(spec.encoding or "utf-8", spec.errors or "strict")
    if spec.input is not None and spec.text:
        raise errors.SpecError("input", "takes a str with text=True")
    return spec.input


def take_flag(options: dict[str, Any], name: str) -> bool:
    """An option that is this call's own and no part of the container; off where it isn't given. Raises SpecError."""
    return flag(name, options.pop(name)) if name in options else False


def wants_terminal(options: dict[str, Any]) -> bool:
    """Whether a terminal is to be made; whoever gives the streams has made one."""
    return options.get("tty") is True and not {"stdin", "stdout", "stderr"} & options.keys()
