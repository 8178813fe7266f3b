"""Templates: everything about a container that can be made ahead, made ahead, once."""

from __future__ import annotations

import os
import time

from pyminicon import _core, errors, patience
from pyminicon import plan as ops
from pyminicon.calls import describe, expired, run_plan, too_late, without_args
from pyminicon.container import Container, made_container, start_plan
from pyminicon.options import parse as specs
from pyminicon.plan import build as plans
from pyminicon.plan.cache import forget
from pyminicon.request import announce, ask, begun_with, request_of, run_request, take_flag
from pyminicon.result import make_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, Unpack, overload

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

#: A program that is never run: a template's plan is made before anybody says what to run.
_NOTHING = ("/",)

_NO_TERMINAL = "a template's containers have none: pyminicon.start(tty=True) makes one"


def _refuse_served(options: Mapping[str, Any]) -> None:
    for name in specs.SERVED & options.keys():
        raise errors.SpecError(
            name, "isn't a template's, whose containers wait unserved: give it to run or start"
        )


class Template:
    """A kind of container, with a warm pool of single-use ones that wait for their command.

    Takes what describes the container: run's options but those of each run. ``stock`` (int, default 4):
    how many containers are kept ready at most; each is a sleeping process of a few pages with
    namespaces of its own, used by one run and never again. A volume is the directory or file that its
    source names when the template is made, also when that is moved afterwards.

    A context manager; :meth:`close` ends the warm pool. Raises SpecError, and LaunchError where a container
    of this kind can't be started here. In a forked process a template is empty and refuses to run.
    """

    def __init__(self, *, stock: int = 4, **options: Unpack[ContainerOptions]) -> None:
        if isinstance(stock, bool) or not isinstance(stock, int) or not 1 <= stock <= 1024:
            raise errors.SpecError("stock", "takes 1 to 1024 containers")
        self._options: dict[str, Any] = {**options}
        self._stock = stock
        if self._options.get("tty"):
            raise errors.SpecError("tty", _NO_TERMINAL)
        _refuse_served(self._options)
        spec = specs.parse(_NOTHING, self._options, specs.EACH_RUN)
        self._held: dict[str, int] = {}  # volume sources, open
        self._plan = plans.build(spec)
        self._hold(spec)
        fields = self._plan.fields
        fields["hand_out"] = True
        # The run can't change what the built-in filter lets a parked container do; another filter might
        # forbid the few calls between waking and exec.
        fields["can_park_ready"] = fields["seccomp"] is True or fields["seccomp"] is None
        self._uid = (0, 0) if "own_uid_map" in fields else (fields.get("uid", 0), fields.get("gid", 0))
        # Files are put into a waiting container from outside, where its ids and its root can be written.
        self._files_go_cold = spec.read_only or "uid_map" in fields
        # A private clock begins when the container is made, not when its run comes.
        self._parks = spec.time == "host" and spec.pid == "private"
        self._core: _core.Template | None = None
        self._core_plan: _core.Plan | None = None
        try:
            if self._parks:
                self._core_plan = _core.Plan(fields)
                self._core = _core.Template(self._core_plan, stock)
        except BaseException:
            self._release()
            raise
        self._closed = False

    def _hold(self, spec: Spec) -> None:
        for source, _, _ in spec.volumes:
            if source not in self._held:
                try:
                    self._held[source] = os.open(source, os.O_PATH)
                except OSError:  # the launch of the first container says what is wrong with it
                    continue
        self._bind_held(self._plan.fields)

    def _bind_held(self, fields: _core.PlanFields) -> None:
        """Has the plan's volumes be what they were when the template was made."""
        if self._held:
            fields["mounts"] = [
                ops.hold(row, self._held[row[2]]) if row[0] == ops.BIND and row[2] in self._held else row
                for row in fields["mounts"]
            ]

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
            **options: Unpack[RunOfTemplate],
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
            **options: Unpack[RunOfTemplate],
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
            **options: Unpack[RunOfTemplate],
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
            **options: Unpack[RunOfTemplate],
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
            **options: Unpack[RunOfTemplate],
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
            **options: Unpack[RunOfTemplate],
        ) -> Result[Any]: ...

    def run(self, args: Any, **options: Any) -> Result[Any]:
        """Runs ``args`` in a container of this kind: :func:`pyminicon.run` with the options of a run.

        ``args env cwd stdin stdout stderr input capture_output text encoding errors timeout check wall_time
        cpu_time max_output files collect collect_max pass_fds``; a SpecError for any other.
        """
        trace = take_flag(options, "trace")
        announce(args, self._options.get("image", "host"))
        begun = time.monotonic() if "timeout" in options else None
        try:
            spec = self._parse_in_time(args, options)
            if self._core is None or (spec.files and self._files_go_cold):
                merged, plan = self._cold_plan(args, options)
                return run_plan(plan, merged, args, trace, begun)
        except errors.Expired:
            return expired(args, options)
        request = self._own(run_request(spec, plans.exec_spec_of(self._plan, spec), trace, begun), spec)
        return make_result(spec, args, ask(self._core.run, spec, request))

    if TYPE_CHECKING:

        @overload
        def start(self, args: None = None, **options: Unpack[StartLivingOfTemplate]) -> Container[bytes]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: Literal[True],
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> Container[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> Container[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> Container[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: Literal[True],
            **options: Unpack[StartOfTemplate],
        ) -> Container[str]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: Literal[False] | None = None,
            encoding: None = None,
            errors: None = None,
            universal_newlines: Literal[False] | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> Container[bytes]: ...
        @overload
        def start(
            self,
            args: Args,
            *,
            text: bool | None = None,
            encoding: str | None = None,
            errors: str | None = None,
            universal_newlines: bool | None = None,
            **options: Unpack[StartOfTemplate],
        ) -> Container[Any]: ...

    def start(self, args: Any = None, **options: Any) -> Container[Any]:
        """Starts ``args`` in a container of this kind: :func:`pyminicon.start` with the options of a run
        but ``input timeout check capture_output collect``. Without ``args`` it is one for commands; those wait in
        the warm pool where the template has ``init=True``."""
        announce(args, self._options.get("image", "host"))
        told = args
        try:
            if args is None:
                args, living = without_args(options)
                if not self._plan.fields.get("init"):
                    return self._start_cold(args, living)
            spec = self._parse_in_time(args, options, specs.ONLY_RUN)
            if self._core is None or (spec.files and self._files_go_cold):
                merged, plan = self._cold_plan(args, options, specs.ONLY_RUN)
                return start_plan(merged, plan, told)
        except errors.Expired:
            raise too_late(self._options) from None
        request = request_of(spec, plans.exec_spec_of(self._plan, spec), False)
        handle = self._core.start(self._own(request, spec))
        begun_with(spec, handle)
        return made_container(handle, spec, self._plan, told)

    def _start_cold(self, args: Any, options: dict[str, Any]) -> Container[Any]:
        self._parse(args, {name: value for name, value in options.items() if name != "init"}, specs.ONLY_RUN)
        merged, plan = self._cold_plan(args, options, specs.ONLY_RUN)
        return start_plan(merged, plan, None)

    def _cold_plan(
        self, args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()
    ) -> tuple[Spec, Plan]:
        """For a run that no waiting container can serve: the template's options and its own together."""

        def build() -> tuple[Spec, Plan]:
            return self._cold_plan_now(args, options, refused)

        seconds = patience.given(options)
        return build() if seconds is None else patience.within(seconds, build, forget)

    def _cold_plan_now(
        self, args: Any, options: dict[str, Any], refused: frozenset[str]
    ) -> tuple[Spec, Plan]:
        merged = specs.parse(args, {**self._options, **options}, refused)
        plan = plans.build(merged)
        try:
            self._bind_held(plan.fields)
            plan.core = _core.Plan(plan.fields)
        except BaseException:
            forget((merged, plan))
            raise
        return merged, plan

    def _parse_in_time(
        self, args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()
    ) -> Spec:
        seconds = patience.given(options) if "files" in options else None
        if seconds is None:
            return self._parse(args, options, refused)
        return patience.within(seconds, lambda: self._parse(args, options, refused), lambda _: None)

    def _parse(self, args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()) -> Spec:
        if self._closed:
            raise errors.Error("the template is closed")
        if self._core is not None and not self._core.owned:
            raise errors.Error("the template belongs to the process that made it; a forked one makes its own")
        _refuse_served(options)
        for name in options:
            if name == "tty":
                raise errors.SpecError(name, _NO_TERMINAL)
            if name in ("detach", "name", "labels", "trace"):
                raise errors.SpecError(name, "not an option of this call")
            if name not in specs.EACH_RUN:
                raise errors.SpecError(name, "is the template's: give it to Template, not to each run")
        spec = specs.parse(args, options, refused)
        if spec.cpu_time is not None and self._plan.fields.get("cgroup") is None:
            raise errors.SpecError(
                "cpu_time", "needs a template with a limit or usage=True, whose cgroup counts"
            )
        return spec

    def _own(self, request: _core.Request, spec: Spec) -> _core.Request:
        """With the files of this one run."""
        if spec.files:
            request.files, request.files_owner = spec.files, self._uid
        return request

    @property
    def ready(self) -> int:
        """How many containers wait in the warm pool at this moment."""
        return self._core.ready if self._core is not None else 0

    def _release(self) -> None:
        while self._plan.rootfs.lock_fds:
            os.close(self._plan.rootfs.lock_fds.pop())
        while self._held:
            os.close(self._held.popitem()[1])

    def close(self) -> None:
        """Ends the warm pool; containers that run are not touched."""
        if not self._closed:
            self._closed = True
            if self._core is not None:
                self._core.close()
            self._release()

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # Its recipe: whoever unpickles it gets a warm pool of his own, made there.
        return _made_again, (self._stock, self._options)

    def __repr__(self) -> str:
        return f"<Template {self._options.get('image', 'host')!r} ready={self.ready}>"


def _made_again(stock: int, options: dict[str, Any]) -> Template:
    return Template(stock=stock, **options)


_calls: dict[str, Any] = {
    "Template": Template.__init__,
    "Template.run": Template.run,
    "Template.start": Template.start,
}
for _call, _function in _calls.items():
    describe(_function, _call)
