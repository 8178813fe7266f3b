"""The filter of an init whose commands load one of the caller's own.

A filter can't be taken back, and what init has its commands inherit. So it refuses what both refuse, our own profile
and the caller's: to a command the caller's profile is what counts, and init can still do what it lives on.
"""

from __future__ import annotations

import os

from pyminicon import seccomp
from pyminicon.seccomp.rules import ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, TRACE, TRAP, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyminicon.seccomp.oci_profile import Profile

_ENDS_THE_CALL = (ERRNO, KILL_PROCESS, KILL_THREAD, TRAP)  # TRACE may let it through
_ACTION = 0xFFFF0000


def program(profile: str | os.PathLike[str] | Mapping[str, Any], caps: int) -> bytes:
    """As packed ``struct sock_filter`` instructions. Raises SpecError("seccomp", …) as for the profile itself."""
    content = seccomp.content_of(profile)
    assert content is not None
    made = _programs.get((content, caps))
    if made is None:
        made = _compile(content, caps)
        _programs.clear()
        _programs[content, caps] = made
    return made


_programs: dict[tuple[str, int], bytes] = {}


def _compile(content: str, caps: int) -> bytes:
    from pyminicon.seccomp import rules as seccomp_rules

    library = seccomp.loaded_library()
    ours, theirs = seccomp.built_in_profile(caps, library), seccomp.read(content, caps, library)
    passing = _passing(theirs)
    refused = [rule for rule in ours.rules if not _may_pass(rule, theirs, passing)]
    absent = theirs.absent
    if theirs.default & _ACTION not in (ALLOW, LOG, TRACE):
        absent = [each for each in ours.absent if not any(each[0] <= number <= each[1] for number in passing)]
    rules = sorted(seccomp_rules.prepared(refused, ALLOW))
    return library.compile(ALLOW, rules, absent)


def _passing(profile: Profile) -> set[int]:
    """The numbers that some rule of it lets through."""
    return {rule.number for rule in profile.rules if rule.answer & _ACTION not in _ENDS_THE_CALL}


def _may_pass(rule: Rule, profile: Profile, passing: set[int]) -> bool:
    if rule.number in passing:
        return True
    always = any(one.number == rule.number and not one.conditions for one in profile.rules)
    return profile.default & _ACTION not in _ENDS_THE_CALL and not always
