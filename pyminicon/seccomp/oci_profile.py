"""A seccomp profile in the format of docker and the OCI runtime specification, read into rules.

What the format leaves open is read so that a rule which was written holds, or the profile is refused:
a key that isn't the format's, a condition that can never hold, a name denied that nobody knows.
"""

from __future__ import annotations

import errno as errno_names
import os

from pyminicon.errors import SpecError
from pyminicon.options import capabilities
from pyminicon.seccomp import default_profile as seccomp_table
from pyminicon.seccomp import rules as seccomp_rules
from pyminicon.seccomp.libseccomp import ARCHITECTURES
from pyminicon.seccomp.rules import ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, TRACE, TRAP, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.seccomp.libseccomp import Library

_ACTIONS = {
    "ALLOW": ALLOW,
    "ERRNO": ERRNO,
    "KILL": KILL_THREAD,
    "KILL_THREAD": KILL_THREAD,
    "KILL_PROCESS": KILL_PROCESS,
    "TRAP": TRAP,
    "LOG": LOG,
    "TRACE": TRACE,
}
_LIBRARY_ARCHES = frozenset(
    "SCMP_ARCH_" + name
    for name in "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
    "PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB".split()
)
_TOP_KEYS = frozenset(
    "defaultAction defaultErrnoRet defaultErrno archMap architectures syscalls flags comment".split()
)
_SYSCALL_KEYS = frozenset("names name action errnoRet errno args comment includes excludes".split())
_ARG_KEYS = frozenset("index value valueTwo op".split())
_FILTER_KEYS = frozenset("caps arches minKernel".split())
_NO_NOTIFY = "SCMP_ACT_NOTIFY needs a supervisor to answer the calls, and there is none here"

# Every architecture's calls below this number are older than Linux 5.1. What a libc tries with a way back
# is newer.
_FIRST_OF_5_1 = 424
_X32_BIT = 0x40000000
_LAST_NUMBER = 0xFFFFFFFF


class Profile:
    """``default`` (int): the answer to what no ``rules`` match; ``absent``: ranges that answer ENOSYS."""

    __slots__ = ("absent", "default", "rules")

    def __init__(
        self,
        default: int,
        rules: list[Rule],
        absent: list[tuple[int, int]],
    ) -> None:
        self.default: int = default
        self.rules: list[Rule] = rules
        self.absent: list[tuple[int, int]] = absent


def read(profile: dict[str, Any], caps: int, library: Library) -> Profile:
    """The rules of ``profile`` (parsed JSON) that hold here for a container with the capabilities ``caps``.

    Raises SpecError("seccomp", …) for whatever isn't the format.
    """
    _keys(profile, _TOP_KEYS, "the profile")
    if "defaultAction" not in profile:
        raise SpecError("seccomp", "the profile has no defaultAction")
    default = _answer(profile, "defaultAction", "defaultErrnoRet", "defaultErrno", "the profile")
    _check_arches(profile, library)
    for flag in _strings(profile, "flags", "the profile"):
        # TSYNC: there is one thread when the filter is loaded. SPEC_ALLOW gives mitigations up: they are
        # kept.
        if flag not in ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"):
            raise SpecError("seccomp", f"flags: {flag!r} isn't supported")
    rules: list[Rule] = []
    largest = _FIRST_OF_5_1 - 1
    for position, entry in enumerate(_list(profile, "syscalls", "the profile")):
        where = f"syscalls[{position}]"
        _keys(entry, _SYSCALL_KEYS, where)
        numbers, unknown = _numbers(entry, where, library)
        largest = max(largest, *numbers.values(), 0)
        answer = _answer(entry, "action", "errnoRet", "errno", where)
        alternatives = _conditions(entry, where)
        if not _applies(entry, caps, library, where):
            continue
        if unknown and default in (ALLOW, LOG) and answer not in (ALLOW, LOG):
            raise SpecError("seccomp", f"{where}: no call is named {unknown[0]!r}: it would stay allowed")
        for name, number in numbers.items():
            rules += [Rule(name, number, answer, conditions) for conditions in alternatives]
    # A libc tries calls newer than the profile and does without them at ENOSYS, at no other answer. Where
    # all is allowed but what is named, new numbers are the kernel's business, and only those of x32 are
    # closed.
    first_absent = _X32_BIT if default in (ALLOW, LOG) else largest + 1
    return Profile(default, rules, [(first_absent, _LAST_NUMBER)])


def _keys(table: Any, known: frozenset[str], where: str) -> None:
    if not isinstance(table, dict):
        raise SpecError("seccomp", f"{where} has to be an object, not {_short(table)}")
    for key in table:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key[:99], known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SpecError("seccomp", f"{where} has the key {_short(key)}, which the format doesn't{hint}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


def _list(table: dict[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise SpecError("seccomp", f"{where}: {key} has to be a list, not {_short(value)}")
    return value


def _strings(table: dict[str, Any], key: str, where: str) -> list[str]:
    words = _list(table, key, where)
    for word in words:
        if not isinstance(word, str):
            raise SpecError("seccomp", f"{where}: {key} takes strings, not {_short(word)}")
    return words


def _integer(table: dict[str, Any], key: str, highest: int, where: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise SpecError(
            "seccomp", f"{where}: {key} takes an integer from 0 to {highest}, not {_short(value)}"
        )
    return value


def _answer(table: dict[str, Any], key: str, number_key: str, name_key: str, where: str) -> int:
    action = table.get(key)
    if action == "SCMP_ACT_NOTIFY":
        raise SpecError("seccomp", f"{where}: {_NO_NOTIFY}")
    if not isinstance(action, str) or action[:9] != "SCMP_ACT_" or action[9:] not in _ACTIONS:
        takes = ", ".join("SCMP_ACT_" + name for name in _ACTIONS)
        raise SpecError("seccomp", f"{where}: {key} takes one of {takes}, not {_short(action)}")
    code = _integer(table, number_key, 4095, where)
    name = table.get(name_key)
    if code is None and name is not None:
        code = getattr(errno_names, name, None) if isinstance(name, str) and name[:1] == "E" else None
        if code is None:
            raise SpecError("seccomp", f"{where}: {name_key} takes the name of an error, not {_short(name)}")
    answer = _ACTIONS[action[9:]]
    return answer | (errno_names.EPERM if code is None else code) if answer in (ERRNO, TRACE) else answer


def _check_arches(profile: dict[str, Any], library: Library) -> None:
    """Only the native architecture's entry points stay open: a profile for others isn't for here."""
    named = _strings(profile, "architectures", "the profile")
    mapped = _list(profile, "archMap", "the profile")
    for position, entry in enumerate(mapped):
        where = f"archMap[{position}]"
        _keys(entry, frozenset(("architecture", "subArchitectures")), where)
        _strings(entry, "subArchitectures", where)
        if not isinstance(entry.get("architecture"), str):
            raise SpecError("seccomp", f"{where} has no architecture")
    if named and mapped:
        raise SpecError("seccomp", "the profile has architectures and archMap: use one of them")
    for name in named + [entry["architecture"] for entry in mapped]:
        if name not in _LIBRARY_ARCHES:
            raise SpecError("seccomp", f"no architecture is named {_short(name)}")
    native = ARCHITECTURES.get(library.arch, ("this machine's", ""))[0]
    if named and native not in named:
        raise SpecError("seccomp", f"the profile is for {', '.join(named)}, not for {native}")


def _numbers(entry: dict[str, Any], where: str, library: Library) -> tuple[dict[str, int], list[str]]:
    """The numbers of the calls that the entry names, as far as they exist here; the names nobody knows."""
    names = _strings(entry, "names", where)
    one = entry.get("name")
    if one is not None:
        if names or not isinstance(one, str):
            raise SpecError("seccomp", f"{where} takes either names, a list, or name, a string")
        names = [one]
    if not names or "" in names:
        raise SpecError("seccomp", f"{where} names no system call")
    numbers: dict[str, int] = {}
    unknown = []
    for name in names:
        number = library.number(name)
        if number is None or number < 0:
            extra = number_in_table(name, library)
            if extra is None and number is None:
                unknown.append(name)
            number = extra
        if number is not None:
            numbers[name] = number
    return numbers, unknown


def number_in_table(name: str, library: Library) -> int | None:
    """The number of a call newer than the library, from our own table."""
    if library.arch == 0xC000003E and name in seccomp_table.NUMBERS_X86_64:
        return seccomp_table.NUMBERS_X86_64[name]
    return seccomp_table.NUMBERS.get(name)


def _conditions(entry: dict[str, Any], where: str) -> list[tuple[tuple[int, str, int, int], ...]]:
    """The entry's conditions: all in a tuple must hold; several tuples are alternatives."""
    conditions = []
    for position, arg in enumerate(_list(entry, "args", where)):
        place = f"{where}.args[{position}]"
        _keys(arg, _ARG_KEYS, place)
        operator = arg.get("op")
        if not isinstance(operator, str) or operator.removeprefix("SCMP_CMP_") not in seccomp_rules.OPERATORS:
            takes = ", ".join("SCMP_CMP_" + name for name in seccomp_rules.OPERATORS)
            raise SpecError("seccomp", f"{place}: op takes one of {takes}, not {_short(operator)}")
        index = _integer(arg, "index", 5, place)
        value = _integer(arg, "value", (1 << 64) - 1, place)
        if index is None or value is None:
            raise SpecError("seccomp", f"{place} has no {'index' if index is None else 'value'}")
        second = _integer(arg, "valueTwo", (1 << 64) - 1, place) or 0
        conditions.append((index, operator.removeprefix("SCMP_CMP_"), value, second))
    indexes = [index for index, _, _, _ in conditions]
    if len(set(indexes)) == len(indexes):
        return [tuple(conditions)]
    # runc takes conditions on one argument for alternatives, which fits a list of values. Of bounds it
    # would make a rule that holds for every value.
    if len(set(indexes)) == 1 and all(operator in ("EQ", "MASKED_EQ") for _, operator, _, _ in conditions):
        return [(condition,) for condition in conditions]
    raise SpecError("seccomp", f"{where}: several conditions on one argument: make each an entry of its own")


def _applies(entry: dict[str, Any], caps: int, library: Library, where: str) -> bool:
    """Whether includes and excludes let the entry hold here."""
    goarch = ARCHITECTURES.get(library.arch, ("", ""))[1]
    met = {}
    for key in ("includes", "excludes"):
        table = entry.get(key)
        _keys({} if table is None else table, _FILTER_KEYS, f"{where}.{key}")
        met[key] = _criteria(table or {}, caps, goarch, f"{where}.{key}")
    return all(all(group) for group in met["includes"]) and not any(any(group) for group in met["excludes"])


def _criteria(table: dict[str, Any], caps: int, goarch: str, where: str) -> tuple[list[bool], ...]:
    wanted = [capabilities.number_of(name, "seccomp") for name in _strings(table, "caps", where)]
    arches = _strings(table, "arches", where)
    kernel = table.get("minKernel")
    return (
        [bool(caps >> number & 1) for number in wanted],
        [goarch in arches] if arches else [],
        [_running_kernel() >= _version(kernel, where)] if kernel not in (None, "") else [],
    )


def _version(text: Any, where: str) -> tuple[int, int]:
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts[:2]):
        raise SpecError("seccomp", f"{where}: minKernel has to be like 4.8, not {_short(text)}")
    return int(parts[0]), int(parts[1])


def _running_kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    return int(major), int(digits or 0)
