"""Plans that were made before, for who asks for the like again; docs/design.md says why that is safe."""

from __future__ import annotations

from pyminicon import _core
from pyminicon.options import parse as specs
from pyminicon.plan import Plan
from pyminicon.plan import build as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any

    from pyminicon.options import Spec

_known = _core.KnownPlans(specs.ASIDE, specs.LIMITS)

#: Options of a plan that can be used again: what else it depends on has been seen in the image's directory.
#: The others name files, or have values that can change.
_LASTING = frozenset(
    "image read_only storage hostname ipc cgroupns time seccomp no_new_privileges init network pid uts".split()
)


def planned(args: Any, options: dict[str, Any], refused: frozenset[str]) -> tuple[Spec, Plan]:
    """What was asked for, checked, and its plan. Raises SpecError."""
    spec, plan, key = recall(args, options, refused)
    if plan is None:
        plan = plans.build(spec)
        keep(key, plan, spec, options)
    return spec, plan


def recall(
    args: Any, options: dict[str, Any], refused: frozenset[str]
) -> tuple[Spec, Plan | None, bytes | None]:
    """What was asked for, checked, and the plan of an earlier container if it would be made again; else the
    key to keep a new one by."""
    found = _known.find(options)
    if isinstance(found, tuple):
        kept, rest = found
        spec = specs.parse(args, rest, refused)
        plan = _again(kept, spec)
        if plan is not None:
            return spec, plan, None
        found = None
    return specs.parse(args, options, refused), None, found


def _again(kept: Plan, spec: Spec) -> Plan | None:
    """A kept plan for the run ``spec``, with its limits; None where those make another plan of it."""
    core = kept.core
    limited = kept.fields["cgroup"] is not None
    if core is None or limited is not (spec.limits is not None):
        return None
    if spec.limits is not None:
        from pyminicon import cgroups

        cgroup = cgroups.plan(spec.limits)
        if cgroup is None:
            return None
        core = core.limited(cgroup, spec.limits.memory or 0)
    plan = Plan(kept.rootfs, kept.id)
    plan.core = core
    plan.environment = kept.environment
    plan.told = plans.tell(plan, spec)
    return plan


def keep(key: bytes | None, plan: Plan, spec: Spec, options: dict[str, Any]) -> None:
    """Keeps a new plan for the next who asks for the like."""
    if key is not None:
        kept = _to_keep(plan, spec, options.keys() - specs.ASIDE - specs.LIMITS)
        if kept is not None:
            _known.keep(key, kept)


def _to_keep(plan: Plan, spec: Spec, options: AbstractSet[str]) -> Plan | None:
    """What is kept of ``plan``, made with ``options``, if it would be made again as long as its image looks the
    same: nothing of the run. Has the core's plan made."""
    here = spec.network == "host" or spec.pid == "host" or spec.uts == "host"
    if here or not options <= _LASTING:
        return None
    if spec.seccomp not in ("default", "unconfined") or "disk_parent" in plan.fields:
        return None
    seen = plan.rootfs.witnesses()
    if seen is None:
        return None
    plan.fields["witnesses"] = seen
    kept = Plan(plan.rootfs, plan.id)
    kept.core = plan.core = _core.Plan(plan.fields)
    kept.fields["cgroup"] = plan.fields.get("cgroup")
    kept.environment = plan.environment
    return kept
