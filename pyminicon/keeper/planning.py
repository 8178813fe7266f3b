"""A keeper's plan, made in a process of its own: what planning loads would stay in the keeper's memory for as long as
its container lives."""

from __future__ import annotations

import _socket
import os

from pyminicon import _core
from pyminicon.detached import asking, line
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: What is served of the container's network is served by the process that has planned it.
_SERVED = frozenset(("publish", "egress", "egress_headers"))


class Planned:
    """``fields``: of the plan. ``request``: the words of what the core is asked. ``about``: what the keeper keeps.
    ``locks``: descriptors that hold the image. ``spec``: where planning was done in this process."""

    def __init__(self, told: dict[str, Any], locks: list[int], spec: Any = None) -> None:
        self.fields: Any = told["fields"]
        self.request: dict[str, Any] = told["request"]
        self.terminal: bool = told["terminal"]
        self.about: dict[str, Any] = told["about"]
        self.outer_uid: int = told["outer_uid"]
        self.locks: list[int] = locks
        self.spec: Any = spec


def planned(args: Any, options: dict[str, Any], aside: list[int]) -> Planned:
    """The plan of a container in start's words; ``aside``: descriptors that only the keeper may hold. Raises as start."""
    if _SERVED & options.keys():
        return _here(args, options)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _plan(args, options, aside, line.Line(theirs))
    theirs.close()
    to = line.Line(ours)
    try:
        told = asking.answer(to)
        locks = to.take_fds()
    except ConnectionResetError:
        raise Error("the process that made the container's plan was killed") from None
    finally:
        to.close()
        os.waitpid(pid, 0)
    return _here(args, options) if told is None else Planned(told, locks)


def _plan(args: Any, options: dict[str, Any], aside: list[int], to: line.Line) -> NoReturn:
    """The life of the process that plans."""
    try:
        for fd in aside:
            os.close(fd)
        try:
            from pyminicon.cgroups import tree

            tree.plan_for(os.getppid())
            made = _here(args, options)
            fields = made.fields
            if fields.get("cgroup") and fields["cgroup"][-1]:
                told = None  # its launcher must be the keeper's child
            else:
                told = {
                    "fields": fields,
                    "request": made.request,
                    "terminal": made.terminal,
                    "about": made.about,
                    "outer_uid": made.outer_uid,
                }
            to.send({"ok": told}, made.locks if told else ())
        except Exception as error:
            to.send({"error": asking.told(error)})
    except BaseException:
        pass
    finally:
        os._exit(0)


def _here(args: Any, options: dict[str, Any]) -> Planned:
    from pyminicon import calls
    from pyminicon.keeper import layer
    from pyminicon.request import request_of

    spec, plan = calls.planned_start(args, dict(options))
    asked = request_of(spec, plan.exec_spec, False)
    fields: dict[str, Any] = {name: value for name, value in plan.fields.items() if name != "fingerprints"}
    told = {
        "fields": fields,
        "request": {
            "exec_spec": plan.exec_spec,
            "stdio": tuple(asked.stdio),
            "pass_fds": tuple(asked.pass_fds),
            "trace": False,
            "wall_time": asked.wall_time,
            "cpu_time": asked.cpu_time,
            "max_output": asked.max_output,
        },
        "terminal": asked.terminal,
        "about": {
            "environment": {**plan.environment, **(spec.env or {})},
            "cwd": os.fsdecode(spec.cwd or plan.exec_spec[3]),
            "argv": [os.fsdecode(word) for word in plan.exec_spec[1]],
            "stop_signal": plan.stop_signal,
            "has_limits": spec.limits is not None,
            "placeholder": plan.id,
            "trees": layer.trees(plan),
            "owner": (plan.outer_uid(), _outer_gid(fields)),
            "fields": {
                name: fields[name]
                for name in ("capabilities", "layers", "mounts", "disk_parent")
                if name in fields
            },
        },
        "outer_uid": plan.outer_uid(),
    }
    return Planned(told, list(plan.rootfs.lock_fds), spec if spec.serves else None)


def _outer_gid(fields: dict[str, Any]) -> int:
    gid: int = fields.get("gid", 0)
    for row in fields.get("gid_map", "").splitlines():
        inside, outside, count = (int(word) for word in row.split())
        if inside <= gid < inside + count:
            return gid + outside - inside
    return gid


def launched(made: Planned) -> tuple[_core.Handle, Any]:
    """The container, and what is served of its network or None. Closes the plan's locks if it fails."""
    serving = None
    try:
        request = _core.Request(**made.request)
        request.terminal = made.terminal
        if made.spec is not None:
            from pyminicon.request import serve

            serving = serve(made.spec)
            serving.asked(request)
        handle = _core.start(_core.Plan(made.fields), request)
    except BaseException:
        while made.locks:
            os.close(made.locks.pop())
        if serving is not None:
            serving.end()
        raise
    return handle, serving
