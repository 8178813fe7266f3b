"""run and start on asyncio's running loop.

    r = await pyminicon.aio.run(["sh", "-c", "echo hi"], capture_output=True, timeout=5)

    async with await pyminicon.aio.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as box:
        box.stdin.write(b"hello\\n")
        box.stdin.close()
        async for line in box.stdout: ...

The loop waits for the container's pidfd and its pipes: no child watcher, nothing polls. A container that
is the only one of its loop is launched in the loop's thread. While others are going on, the core launches
in a few threads of its own, which never touch Python, and the loop isn't held up. What may hang or last is
done in a thread to itself: the set-up of a container with volumes (a FUSE or network file system may never
answer) and looking an image up (it may have to be unpacked).
"""

from __future__ import annotations

import asyncio
import os

from pyminicon import errors, result
from pyminicon.aio.container import PRIVATE, AsyncContainer, AsyncProcess
from pyminicon.aio.job import Job
from pyminicon.aio.launching import Limits, launch, planned, sooner
from pyminicon.aio.loop import enter
from pyminicon.aio.template import Template
from pyminicon.calls import describe, expired, too_late, without_args
from pyminicon.options import parse as specs
from pyminicon.request import NOT_RUN, announce, begun_with, input_bytes, serve, take_flag, wants_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, Unpack, overload

    from pyminicon.options import Spec
    from pyminicon.options.types import Args, Buffer, LivingOptions, RunOptions, StartOptions
    from pyminicon.plan import Plan
    from pyminicon.result import Result
    from pyminicon.terminal import Terminal

__all__ = ["AsyncContainer", "AsyncProcess", "Template", "attach", "run", "start"]


if TYPE_CHECKING:

    @overload
    async def run(
        args: Args,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        input: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def run(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        input: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def run(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str,
        universal_newlines: bool | None = None,
        input: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def run(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: Literal[True],
        input: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def run(
        args: Args,
        *,
        text: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        universal_newlines: Literal[False] | None = None,
        input: Buffer | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[bytes]: ...
    @overload
    async def run(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        input: str | Buffer | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[Any]: ...


async def run(args: Any, **options: Any) -> Result[Any]:
    """:func:`pyminicon.run` on the running loop: the same options, the same Result, the same errors.

    Cancelling kills the container, waits until it is gone and leaves nothing.
    """
    loop = asyncio.get_running_loop()
    announce(args, options.get("image", "host"))
    begun = loop.time()
    trace = take_flag(options, "trace")
    try:
        spec, plan = await planned(loop, args, options, NOT_RUN)
    except errors.Expired:
        return expired(args, options)
    watch = enter(loop)
    serving = None
    try:
        data = input_bytes(spec)
        serving = serve(spec, watch.loop) if spec.serves else None
        deadline = None if spec.timeout is None else begun + spec.timeout
        try:
            handle = await launch(
                watch, spec, plan, Limits(None, trace), sooner(begun, spec), serving=serving
            )
        except TimeoutError:  # in the set-up; the core's own errors are LaunchErrors
            return result.make_result(spec, args, result.ended_in_setup(spec))
        job = Job(watch, handle, spec, data or b"", deadline, "disk_parent" in plan.fields)
        await job.finished()
        return await job.result(args, refused=None if serving is None else serving.ended())
    finally:
        if serving is not None:
            serving.end()
        watch.leave()
        for fd in plan.rootfs.lock_fds:
            os.close(fd)


if TYPE_CHECKING:

    @overload
    async def start(args: None = None, **options: Unpack[LivingOptions]) -> AsyncContainer[bytes]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[str]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[str]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str,
        universal_newlines: bool | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[str]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: Literal[True],
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[str]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        universal_newlines: Literal[False] | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[bytes]: ...
    @overload
    async def start(
        args: Args,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncContainer[Any]: ...


async def start(args: Any = None, **options: Any) -> AsyncContainer[Any]:
    """:func:`pyminicon.start` on the running loop; takes the same options, gives an AsyncContainer."""
    announce(args, options.get("image", "host"))
    if take_flag(options, "detach"):
        from pyminicon.aio import attached

        return await attached.begun(args, options)
    if wants_terminal(options) and args is not None:
        return await _start_in_terminal(args, options)
    trace = take_flag(options, "trace")
    return await _start(args, *await _planned_start(args, options), trace, None)


async def attach(name: str) -> AsyncContainer[bytes]:
    """:func:`pyminicon.attach` on the running loop: ``aclose`` lets go of the container and doesn't end it."""
    from pyminicon.aio import attached

    return await attached.by_name(name)


async def _planned_start(args: Any, options: dict[str, Any]) -> tuple[Spec, Plan]:
    if args is None:
        args, options = without_args(options)
    try:
        return await planned(asyncio.get_running_loop(), args, options, specs.ONLY_RUN)
    except errors.Expired:
        raise too_late(options) from None


async def _start_in_terminal(args: Any, options: dict[str, Any]) -> AsyncContainer[Any]:
    from pyminicon.terminal import Terminal

    trace = take_flag(options, "trace")
    terminal = Terminal()
    try:
        os.set_blocking(terminal.fileno(), False)
        inner = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inner)
        spec, plan = await _planned_start(args, {**options, **inner})
        box = await _start(args, spec, plan, trace, terminal)
    except BaseException:
        terminal.close()
        raise
    terminal.close_inner()
    box.terminal = terminal
    return box


async def _start(
    args: Any, spec: Spec, plan: Plan, trace: bool, terminal: Terminal | None
) -> AsyncContainer[Any]:
    watch = enter(asyncio.get_running_loop())
    serving = None
    try:
        if terminal is not None:
            terminal.give_to(plan.outer_uid())
        serving = serve(spec, watch.loop) if spec.serves else None
        handle = await launch(watch, spec, plan, Limits(spec, trace), None, serving=serving)
        begun_with(spec, handle)
        return AsyncContainer(PRIVATE, watch, handle, spec, plan, args, serving)
    except BaseException:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)
        if serving is not None:
            serving.end()
        raise
    finally:
        watch.leave()


describe(run, "run")
describe(start, "start")
