"""The system calls a container may make: from a profile to the program that the kernel runs.

The default profile for the default capabilities is compiled when the package is built; this module is for all
others, and never imported on the launch path of a container that asks for none. Programs are kept in
memory, by content: not on disk, where whoever can write to the place weakens every later container.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from errno import EINVAL, ENOSYS

from pyminicon.errors import SpecError, insist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyminicon.seccomp.libseccomp import Library
    from pyminicon.seccomp.oci_profile import Profile
    from pyminicon.seccomp.rules import Prepared

_MOST_BYTES = 1 << 20  # of a profile; docker's has 14 kB
_MOST_KEPT = 64  # programs; the oldest goes

# What the child still has to call after a filter that is loaded before its privileges go, without
# no_new_privs.
LATE_CALLS = (
    *("setgroups", "setresgid", "setresuid", "capget", "capset"),
    *("prctl", "rt_sigprocmask", "execve"),
)

_KEY_CALLS = ("add_key", "keyctl", "request_key")

_programs: dict[tuple[str | None, int, bool], tuple[bytes, bool]] = {}  # and whether it opens the key rings
_lock = allocate_lock()
_library: Library | None = None


def _after_fork() -> None:
    # Another thread may have held the lock, and isn't there to let go of it.
    global _lock
    _lock = allocate_lock()


os.register_at_fork(after_in_child=_after_fork)


def program(
    profile: str | os.PathLike[str] | Mapping[str, Any], caps: int, *, no_new_privs: bool = True
) -> bytes | None:
    """The filter as packed ``struct sock_filter`` instructions, 8 bytes each; None for "unconfined".

    ``profile``: ``"default"``, ``"unconfined"``, the path of a profile in the OCI or docker format (JSON),
    or the same as a dict. ``caps`` (int): the container's capabilities as bits, which the default's rules
    and a profile's ``includes`` and ``excludes`` go by. ``no_new_privs`` (bool): False refuses a profile
    that lacks one of the calls in :data:`LATE_CALLS`, because the filter then has to be loaded before them,
    while CAP_SYS_ADMIN is still there (seccomp(2)). Safe in any thread.

    Raises SpecError("seccomp", …) for what is no profile, for a program beyond 4096 instructions, and where
    libseccomp is not installed.
    """
    return program_and_keys(profile, caps, no_new_privs=no_new_privs)[0]


def program_and_keys(
    profile: str | os.PathLike[str] | Mapping[str, Any],
    caps: int,
    *,
    no_new_privs: bool = True,
) -> tuple[bytes | None, bool]:
    """:func:`program`'s answer, and whether any of add_key, keyctl and request_key may be called under it:
    then the container needs a session key ring of its own."""
    if isinstance(profile, str) and profile == "unconfined":
        return None, True
    content = content_of(profile)
    key = (content, caps, no_new_privs)
    made = _programs.get(key)
    if made is None:
        with _lock:
            made = _programs.get(key) or _compile(content, caps, no_new_privs)
            while len(_programs) >= _MOST_KEPT:
                del _programs[next(iter(_programs))]
            _programs[key] = made
    return made


def content_of(profile: object) -> str | None:
    """The text that stands for the profile: the file's, or the dict's in one spelling. None is the default."""
    if isinstance(profile, dict):
        return _spelled(profile)
    if isinstance(profile, (str, os.PathLike)):
        path = os.fspath(profile)
        if path == "default":
            return None
        if isinstance(path, str) and ("/" in path or path.endswith(".json") or os.path.exists(path)):
            return _file(path)
    raise SpecError("seccomp", f"takes default, unconfined, a profile's path or a dict, not {profile!r:.80}")


def _spelled(profile: dict[Any, Any]) -> str:
    import json

    try:
        return json.dumps(profile, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError("seccomp", f"the profile can't be written as JSON: {error}") from None


def _file(path: str) -> str:
    from pyminicon import _core

    try:
        # A FIFO would wait for a writer, and a device has no end.
        with open(_core.open_plain(path, True), "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise SpecError("seccomp", f"{path} is larger than a profile can be ({_MOST_BYTES} bytes)")
        return data.decode()
    except OSError as error:
        insist(error, path)
        if error.errno == EINVAL:
            raise SpecError("seccomp", f"{path} isn't a file") from None
        raise SpecError("seccomp", f"{path}: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError("seccomp", f"{path!r}: {error}") from None


def _compile(content: str | None, caps: int, no_new_privs: bool) -> tuple[bytes, bool]:
    from pyminicon.seccomp import rules as seccomp_rules

    library = loaded_library()
    if content is None:
        return _default_program(caps, library), False
    profile = read(content, caps, library)
    rules = sorted(seccomp_rules.prepared(profile.rules, profile.default))
    if not no_new_privs:
        _check_late_calls(profile, rules, library)
    keys = any(_may_pass(name, profile, rules, library) for name in _KEY_CALLS)
    return library.compile(profile.default, rules, profile.absent), keys


def loaded_library() -> Library:
    """libseccomp, loaded once."""
    global _library
    if _library is None:
        from pyminicon.seccomp.libseccomp import Library

        _library = Library()
    return _library


def read(content: str, caps: int, library: Library) -> Profile:
    """The rules of a profile's text. Raises SpecError("seccomp", …)."""
    import json

    from pyminicon.seccomp import oci_profile as seccomp_profile

    try:
        parsed = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError("seccomp", f"the profile isn't JSON: {error}") from None
    return seccomp_profile.read(parsed, caps, library)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1)
        raise SpecError("seccomp", f"the profile has {twice!r:.80} twice in one object")
    return table


def _default_answers(caps: int, library: Library) -> list[tuple[str | None, int]]:
    """Of each number up to the table's last its name, if it has one, and its answer whatever the arguments are, under
    our own table for a container with the capabilities ``caps``. Those without a name are absent."""
    from pyminicon.seccomp import default_profile as seccomp_table
    from pyminicon.seccomp import oci_profile as seccomp_profile
    from pyminicon.seccomp.rules import ALLOW, ERRNO

    _check_arch(library)
    may = seccomp_table.allowed(caps)
    extra = {
        seccomp_profile.number_in_table(name, library): name
        for name in (*seccomp_table.NUMBERS, *seccomp_table.NUMBERS_X86_64)
    }
    answers: list[tuple[str | None, int]] = []
    for number in range(seccomp_table.LAST + 1):
        name = extra.get(number) or library.name(number)
        errno = ENOSYS if name is None else seccomp_table.answer(name, may)
        answers.append((name, ALLOW if errno is None else ERRNO | errno))
    return answers


def _default_program(caps: int, library: Library) -> bytes:
    from pyminicon.seccomp import default_profile as seccomp_table
    from pyminicon.seccomp import layout
    from pyminicon.seccomp.rules import ALLOW, ERRNO

    checks = seccomp_table.checks(caps)
    answers = [
        name if name in checks and answer == ALLOW else answer
        for name, answer in _default_answers(caps, library)
    ]
    return layout.program(library.arch, [*answers, ERRNO | ENOSYS], checks)


def built_in_profile(caps: int, library: Library) -> Profile:
    """Of our own table what is refused whatever the arguments are."""
    from pyminicon.seccomp import oci_profile as seccomp_profile
    from pyminicon.seccomp.rules import ALLOW, Rule

    rules, absent = [], []
    answers = _default_answers(caps, library)
    for number, (name, answer) in enumerate(answers):
        if name is None:
            absent.append(number)
        elif answer != ALLOW:
            rules.append(Rule(name, number, answer))
    return seccomp_profile.Profile(ALLOW, rules, _ranges(absent, len(answers)))


def _check_arch(library: Library) -> None:
    # The order of clone's arguments and the terminal's requests differ on others, and nobody has tried them.
    from pyminicon.seccomp.libseccomp import ARCHITECTURES

    name = ARCHITECTURES.get(library.arch, (f"{library.arch:#x}", ""))[0]
    if name not in ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64"):
        raise SpecError("seccomp", f"there is no default profile for {name}: give one, or unconfined")


def _ranges(numbers: list[int], end: int) -> list[tuple[int, int]]:
    """``numbers`` (in order) as ranges (first, last), and one from ``end`` upwards."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return [*ranges, (end, 0xFFFFFFFF)]


def _may_pass(name: str, profile: Profile, rules: list[Prepared], library: Library) -> bool:
    """Whether some call of ``name`` gets through."""
    from pyminicon.seccomp.rules import ALLOW, LOG

    number = library.number(name)
    answers = [(answer, comparisons) for at, answer, comparisons in rules if at == number]
    if any(answer in (ALLOW, LOG) for answer, _ in answers):
        return True
    always_refused = any(not comparisons for _, comparisons in answers)
    return profile.default in (ALLOW, LOG) and not always_refused


def _check_late_calls(profile: Profile, rules: list[Prepared], library: Library) -> None:
    from pyminicon.seccomp.rules import ALLOW, LOG

    for name in LATE_CALLS:
        number = library.number(name)
        answers = [(answer, comparisons) for at, answer, comparisons in rules if at == number]
        passes = all(answer in (ALLOW, LOG) for answer, _ in answers)
        always = profile.default in (ALLOW, LOG) or any(not comparisons for _, comparisons in answers)
        if not (passes and always):
            raise SpecError(
                "seccomp",
                "without no_new_privileges the filter is loaded before the last steps of the launch, and "
                f"this one doesn't allow {name}",
            )
