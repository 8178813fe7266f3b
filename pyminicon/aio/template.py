"""Templates on a loop: :class:`pyminicon.aio.Template`."""

from __future__ import annotations

import asyncio
import errno
import os

from pyminicon import errors, result, template
from pyminicon.aio.container import PRIVATE, AsyncContainer
from pyminicon.aio.ending import Ending
from pyminicon.aio.job import Job
from pyminicon.aio.launching import Limits, launch, launch_in_thread, sooner
from pyminicon.aio.loop import enter
from pyminicon.aio.thread import despite_cancelling, in_thread
from pyminicon.calls import describe, expired, too_late, without_args
from pyminicon.options import parse as specs
from pyminicon.plan import build as plans
from pyminicon.plan import cache
from pyminicon.request import announce, begun_with, input_bytes, take_flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Literal, TypeVar, Unpack, overload

    from pyminicon import _core
    from pyminicon.aio.loop import Watch
    from pyminicon.options import Spec
    from pyminicon.options.types import (
        Args,
        Buffer,
        ContainerOptions,
        RunOfTemplate,
        StartLivingOfTemplate,
        StartOfTemplate,
    )
    from pyminicon.plan import Plan
    from pyminicon.result import Result

    T = TypeVar("T")


class Template:
    """:class:`pyminicon.Template` on the running loop: the same options, the same methods, awaited.

    ``async with Template(…) as t``, or ``t = await Template(…)`` and ``await t.close()``. Its first container is made
    in another thread when it is entered or awaited; what is wrong with the options is said then.
    """

    def __init__(self, *, stock: int = 4, **options: Unpack[ContainerOptions]) -> None:
        self._recipe: dict[str, Any] = {"stock": stock, **options}
        self._made: template.Template | None = None
        self._opening: asyncio.Task[template.Template] | None = None
        self._closed = False

    async def _opened(self) -> template.Template:
        if self._made is not None or self._closed:
            return self._insist_on_open()
        if self._opening is None:
            loop = asyncio.get_running_loop()
            make: Callable[[], template.Template] = lambda: template.Template(**self._recipe)  # noqa: E731
            self._opening = loop.create_task(in_thread(loop, make, template.Template.close))
        opening = self._opening
        try:
            self._made = await asyncio.shield(opening)
        finally:
            if opening.done():
                self._opening = None
        return self._insist_on_open()

    def _insist_on_open(self) -> template.Template:
        if self._closed or self._made is None:
            raise errors.Error("the template is closed")
        return self._made

    if TYPE_CHECKING:

        @overload
        async def run(
            self,
            args: Args,
            *,
            text: Literal[True],
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[str]: ...
        @overload
        async def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[str]: ...
        @overload
        async def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str,
            universal_newlines: bool | None = None,
            input: str | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[str]: ...
        @overload
        async def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: Literal[True],
            input: str | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[str]: ...
        @overload
        async def run(
            self,
            args: Args,
            *,
            text: Literal[False] | None = None,
            encoding: None = None,
            errors: None = None,
            universal_newlines: Literal[False] | None = None,
            input: Buffer | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[bytes]: ...
        @overload
        async def run(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            input: str | Buffer | None = None,
            **options: Unpack[RunOfTemplate],
        ) -> Result[Any]: ...

    async def run(self, args: Any, **options: Any) -> Result[Any]:
        """:meth:`pyminicon.Template.run` on the running loop. Cancelling kills the container, waits until it is gone
        and leaves nothing."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        trace = take_flag(options, "trace")
        made = await self._opened()
        announce(args, self._recipe.get("image", "host"))
        try:
            spec, cold = await _asked(made, loop, args, options)
        except errors.Expired:
            return expired(args, options)
        watch = enter(loop)
        plan = cold or made._plan
        try:
            data = input_bytes(spec)
            try:
                handle = await _launched(made, watch, spec, cold, Limits(None, trace), sooner(begun, spec))
            except TimeoutError:
                return result.make_result(spec, args, result.ended_in_setup(spec))
            deadline = None if spec.timeout is None else begun + spec.timeout
            job = Job(watch, handle, spec, data or b"", deadline, "disk_parent" in plan.fields)
            await job.finished()
            return await job.result(args)
        finally:
            watch.leave()
            _unlock(cold)

    if TYPE_CHECKING:

        @overload
        async def start(
            self, args: None = None, **options: Unpack[StartLivingOfTemplate]
        ) -> AsyncContainer[bytes]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: Literal[True],
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[str]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[str]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[str]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: Literal[True],
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[str]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: Literal[False] | None = None,
            encoding: None = None,
            errors: None = None,
            universal_newlines: Literal[False] | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[bytes]: ...
        @overload
        async def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> AsyncContainer[Any]: ...

    async def start(self, args: Any = None, **options: Any) -> AsyncContainer[Any]:
        """:meth:`pyminicon.Template.start` on the running loop; gives an AsyncContainer."""
        loop = asyncio.get_running_loop()
        told = args
        made = await self._opened()
        announce(args, self._recipe.get("image", "host"))
        if args is None:
            args, options = without_args(options)
            if made._plan.fields.get("init"):
                del options["init"]
        try:
            spec, cold = await _asked(made, loop, args, options, specs.ONLY_RUN)
        except errors.Expired:
            raise too_late(self._recipe) from None
        watch = enter(loop)
        try:
            handle = await _launched(made, watch, spec, cold, Limits(spec, False), None)
            begun_with(spec, handle)
            return AsyncContainer(PRIVATE, watch, handle, spec, cold or _without_locks(made._plan), told)
        except BaseException:
            _unlock(cold)
            raise
        finally:
            watch.leave()

    @property
    def ready(self) -> int:
        """How many containers wait in the warm pool at this moment."""
        return self._made.ready if self._made is not None else 0

    async def close(self) -> None:
        """Ends the warm pool; containers that run are not touched."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        made, self._made = self._made, None
        if made is not None:
            cancelled = await despite_cancelling(in_thread(asyncio.get_running_loop(), made.close, None))
            if cancelled is not None:
                raise cancelled

    aclose = close

    def __await__(self) -> Generator[Any, None, Template]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Template:
        await self._opened()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<aio.Template {self._recipe.get('image', 'host')!r} ready={self.ready}>"


async def _asked(
    made: template.Template,
    loop: asyncio.AbstractEventLoop,
    args: Any,
    options: dict[str, Any],
    refused: frozenset[str] = frozenset(),
) -> tuple[Spec, Plan | None]:
    """What is asked of a container; with a plan of its own where none that waits can serve it."""
    own = {name: value for name, value in options.items() if name != "init"}
    parse: Callable[[], Spec] = lambda: made._parse(args, own, refused)  # noqa: E731
    spec = await _in_time(loop, options, parse, lambda _: None) if "files" in options else parse()
    if made._core is not None and not (spec.files and made._files_go_cold) and "init" not in options:
        return spec, None
    cold: Callable[[], tuple[Spec, Plan]] = lambda: made._cold_plan_now(args, options, refused)  # noqa: E731
    return await _in_time(loop, options, cold, cache.forget)


async def _in_time(
    loop: asyncio.AbstractEventLoop,
    options: dict[str, Any],
    work: Callable[[], T],
    dispose: Callable[[T], None],
) -> T:
    """In a thread: a file system that is asked may never answer."""
    from pyminicon import patience

    seconds = patience.given(options)
    try:
        async with asyncio.timeout(seconds):
            return await in_thread(loop, work, dispose)
    except TimeoutError:
        if seconds is None:
            raise
        raise errors.Expired from None


async def _launched(
    made: template.Template,
    watch: Watch,
    spec: Spec,
    cold: Plan | None,
    limits: Limits,
    deadline: float | None,
) -> _core.Handle:
    if cold is not None:
        return await launch(watch, spec, cold, limits, deadline)
    core, plan = made._core, made._core_plan
    assert core is not None and plan is not None
    loop, exec_spec = watch.loop, plans.exec_spec_of(made._plan, spec)
    lives = not spec.args
    if not core.ready and watch.going > 1 and not (spec.files or lives or plan.may_hang):
        # Nobody waits there for it, and others are going on: as any other container.
        return await launch(watch, spec, made._plan, limits, deadline, plan, exec_spec)
    request = made._own(limits.request(spec, exec_spec), spec)
    try:
        if not plan.may_hang:
            request.patience = None if deadline is None else deadline - loop.time()
            return core.start(request)
        undo = lambda handle: Ending(watch, handle, "disk_parent" in made._plan.fields).undo()  # noqa: E731
        return await launch_in_thread(loop, lambda: core.start(request), request, deadline, undo)
    except errors.LaunchError as error:
        if error.errno == errno.ETIMEDOUT and deadline is not None and loop.time() >= deadline:
            raise TimeoutError from error
        raise


def _without_locks(plan: Plan) -> Plan:
    """The image's locks are the template's."""
    from copy import copy

    mine = copy(plan)
    mine.rootfs = copy(plan.rootfs)
    mine.rootfs.lock_fds = []
    return mine


def _unlock(cold: Plan | None) -> None:
    while cold is not None and cold.rootfs.lock_fds:
        os.close(cold.rootfs.lock_fds.pop())


describe(Template.__init__, "Template")
describe(Template.run, "Template.run")
describe(Template.start, "Template.start")
