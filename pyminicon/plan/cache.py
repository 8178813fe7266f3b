"""Plans that were made before, for whoever asks for the like again; docs/design.md says why that is safe."""

from __future__ import annotations

import os

from pyminicon import _core
from pyminicon.options import parse as specs
from pyminicon.plan import Plan
from pyminicon.plan import build as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any

    from pyminicon.options import Spec

_known = _core.PlanCache(specs.ASIDE, specs.LIMITS)

#: Options of a plan that can be used again: what else it depends on has been seen in the image's directory.
#: The others name files, or have values that can change.
_LASTING = frozenset(
    "image read_only storage hostname ipc cgroupns time seccomp no_new_privileges init network pid uts".split()
)

#: Options that name something on a file system, wherever that may be.
_ELSEWHERE = frozenset(("files", "volumes", "seccomp", "cgroup_parent", "storage"))


def planned(args: Any, options: dict[str, Any], refused: frozenset[str]) -> tuple[Spec, Plan]:
    """What was asked for, checked, and its plan. Raises SpecError."""
    if not {"timeout", "wall_time"} & options.keys() or _is_quick(options):
        return afresh(args, options, refused)
    from pyminicon import patience

    seconds = patience.given(options)
    if seconds is None:
        return afresh(args, options, refused)
    known = at_once(args, options, refused)
    if known is not None:
        return known
    return patience.within(seconds, lambda: afresh(args, options, refused), forget)


def _is_quick(options: dict[str, Any]) -> bool:
    """Whether nothing is looked at but what this machine itself lives on."""
    return options.get("image", "host") in ("host", "python") and not _ELSEWHERE & options.keys()


def forget(made: tuple[Spec, Plan]) -> None:
    """For a plan that nobody waits for any more."""
    for fd in made[1].rootfs.lock_fds:
        os.close(fd)


def at_once(args: Any, options: dict[str, Any], refused: frozenset[str]) -> tuple[Spec, Plan] | None:
    """What was asked for, checked, and the plan of an earlier container if it would be made again, as far as that
    can be told without waiting for a file system."""
    return _recalled(_known.find(options, True), args, refused)


def _recalled(found: Any, args: Any, refused: frozenset[str]) -> tuple[Spec, Plan] | None:
    if not isinstance(found, tuple):
        return None
    kept, rest = found
    spec = specs.parse(args, rest, refused)
    plan = _again(kept, spec)
    return None if plan is None else (spec, plan)


def afresh(args: Any, options: dict[str, Any], refused: frozenset[str]) -> tuple[Spec, Plan]:
    """The same, whatever has to be looked at for it, for as long as that takes."""
    found = _known.find(options, False)
    known = _recalled(found, args, refused)
    if known is not None:
        return known
    spec = specs.parse(args, options, refused)
    plan = plans.build(spec)
    try:
        if not isinstance(found, tuple):
            _keep(found, plan, spec, options)
        if plan.core is None:
            plan.core = _core.Plan(plan.fields)  # it looks at file systems, too
    except BaseException:
        forget((spec, plan))
        raise
    return spec, plan


def _again(kept: Plan, spec: Spec) -> Plan | None:
    """A kept plan for the run ``spec``, with its limits; None where those make another plan of it."""
    core = kept.core
    limited = kept.fields["cgroup"] is not None
    if core is None or limited is not (spec.limits is not None):
        return None
    if spec.serves and not kept.fields["loopback"]:
        return None  # it may not be had with such a network, which the parser says
    if spec.limits is not None:
        from pyminicon import cgroups

        spec.limits.apart = spec.seccomp != "default"  # no plan that lasts has SYS_ADMIN
        cgroup = cgroups.plan(spec.limits)
        if cgroup is None:
            return None
        core = core.limited(cgroup, spec.limits.memory or 0)
    plan = Plan(kept.rootfs, kept.id)
    plan.core = core
    plan.environment = kept.environment
    plan.exec_spec = plans.exec_spec_of(plan, spec)
    return plan


def _keep(key: bytes | None, plan: Plan, spec: Spec, options: dict[str, Any]) -> None:
    """Keeps a new plan for the next who asks for the like."""
    if key is not None:
        kept = _to_keep(plan, spec, options.keys() - specs.ASIDE - specs.LIMITS)
        if kept is not None:
            _known.keep(key, kept)


def _to_keep(plan: Plan, spec: Spec, options: AbstractSet[str]) -> Plan | None:
    """What is kept of ``plan``, made with ``options``, if it would be made again as long as its image looks the
    same: nothing of the run. Has the core's plan made."""
    here = spec.network in ("host", "pasta") or spec.pid == "host" or spec.uts == "host"
    if here or not options <= _LASTING:
        return None
    if spec.seccomp not in ("default", "unconfined") or "disk_parent" in plan.fields:
        return None
    seen = plan.rootfs.fingerprints()
    if seen is None:
        return None
    plan.fields["fingerprints"] = seen
    kept = Plan(plan.rootfs, plan.id)
    kept.core = plan.core = _core.Plan(plan.fields)
    kept.fields["cgroup"] = plan.fields.get("cgroup")
    kept.fields["loopback"] = plan.fields["loopback"]
    kept.environment = plan.environment
    return kept
