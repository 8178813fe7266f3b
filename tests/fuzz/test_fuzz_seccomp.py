"""Any profile is refused or compiled, and a compiled one answers as its rules say."""

from __future__ import annotations

import platform
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyminicon import seccomp
from pyminicon.errors import SpecError
from pyminicon.options import capabilities
from pyminicon.seccomp import arg_widths as seccomp_args
from pyminicon.seccomp import rules as seccomp_rules
from tests.support.filtered import ALLOW, ERRNO, answer

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

# Calls with arguments of 64, 32 and 16 bits.
CALLS = {"mmap": 9, "socket": 41, "chmod": 90, "fchmodat": 268, "prlimit64": 302, "clone": 56}
ACTIONS = {"ALLOW": ALLOW, "ERRNO": ERRNO | 1, "KILL_PROCESS": 1 << 31, "KILL_THREAD": 0, "TRAP": 3 << 16}
ACTIONS |= {"LOG": 0x7FFC0000, "TRACE": 0x7FF00001}
EDGES = sorted(
    {
        (base + step) & (1 << 64) - 1
        for base in (0, 8, 40, 1 << 15, 1 << 16, 1 << 31, 1 << 32, (1 << 32) + 40, 1 << 63, 0xFFFFFFFF << 32)
        for step in (-2, -1, 0, 1, 2)
    }
)

words = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1) | st.integers(0, 64)
operators = st.sampled_from(seccomp_rules.OPERATORS)


@st.composite
def conditions(draw: st.DrawFn, most: int = 3) -> list[tuple[int, str, int, int]]:
    indexes = draw(st.lists(st.integers(0, 2), max_size=most, unique=True))
    made = []
    for index in indexes:
        operator, value = draw(operators), draw(words)
        made.append((index, operator, value, draw(words) & value if operator == "MASKED_EQ" else 0))
    return made


entries = st.tuples(st.sampled_from(sorted(CALLS)), st.sampled_from(sorted(ACTIONS)), conditions(2))


def _profile(default: str, rules: list[tuple[str, str, list[tuple[int, str, int, int]]]]) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_" + default,
        "syscalls": [
            {
                "names": [call],
                "action": "SCMP_ACT_" + action,
                "args": [
                    {"index": index, "op": "SCMP_CMP_" + operator, "value": value, "valueTwo": second}
                    for index, operator, value, second in wanted
                ],
            }
            for call, action, wanted in rules
        ],
    }


def _holds(call: str, condition: tuple[int, str, int, int], arguments: list[int]) -> bool:
    """The condition on what the kernel takes, written down a second time, without any masks of masks."""
    index, operator, value, second = condition
    bits = seccomp_args.width(call, index) or 64
    limit = 1 << bits
    word = arguments[index] % limit
    if operator == "MASKED_EQ":
        # Of a negative number only the bits that the kernel takes count; other high bits are never set.
        negative = value >> bits == second >> bits and second % limit >> (bits - 1)
        return word & value == (second % limit if negative else second)
    if value >= (1 << 64) - limit // 2:
        value %= limit
    return {
        "EQ": word == value,
        "NE": word != value,
        "LT": word < value,
        "LE": word <= value,
        "GT": word > value,
        "GE": word >= value,
    }[operator]


def _expected(
    default: str,
    rules: list[tuple[str, str, list[tuple[int, str, int, int]]]],
    call: str,
    arguments: list[int],
) -> int:
    order = ("KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW")
    met = [
        action
        for name, action, wanted in rules
        if name == call and all(_holds(call, one, arguments) for one in wanted)
    ]
    return ACTIONS[min(met, key=order.index)] if met else ACTIONS[default]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.sampled_from(sorted(ACTIONS)), st.lists(entries, max_size=6), st.lists(words, min_size=24))
@example(
    "ALLOW",
    [
        ("mmap", "ERRNO", [(0, "GE", 1, 0), (1, "EQ", 1, 0)]),
        ("mmap", "ERRNO", [(0, "LE", 5, 0), (1, "EQ", 2, 0)]),
    ],
    [0, 1] * 12,
)
def test_a_program_answers_as_the_rules_say(
    default: str, rules: list[tuple[str, str, list[tuple[int, str, int, int]]]], values: list[int]
) -> None:
    try:
        program = seccomp.program(_profile(default, rules), 0)
    except SpecError:
        return
    assert program is not None
    # Random words hardly ever meet a condition: those near its value, and with the high half set, do.
    near = [
        (value + step) & (1 << 64) - 1
        for _, _, wanted in rules
        for _, _, value, _ in wanted
        for step in (-1, 0, 1)
    ]
    near += [
        second | high
        for _, _, wanted in rules
        for _, _, _, second in wanted
        for high in (0, 1 << 32, 1 << 48)
    ]
    pool = near + [word ^ 1 << 32 for word in near] + values
    for call in {name for name, _, _ in rules} | {"socket"}:
        number = CALLS[call]
        for at in range(min(len(pool), 60)):
            arguments = [pool[at], pool[(at * 7 + 1) % len(pool)], pool[(at * 13 + 5) % len(pool)]]
            got = answer(program, number, arguments)
            assert got == _expected(default, rules, call, arguments), (
                call,
                [hex(word) for word in arguments],
            )


@settings(deadline=None)
@given(operators, words, words, st.sampled_from((16, 32, 64)), words)
def test_cubes_hold_exactly_where_the_comparison_does(
    operator: str, first: int, second: int, bits: int, word: int
) -> None:
    call, index = {16: ("chmod", 1), 32: ("socket", 0), 64: ("mmap", 0)}[bits]
    second = second & first if operator == "MASKED_EQ" else 0
    cubes = seccomp_rules.cubes_of(operator, first, second, bits)
    for near in (word, first, first + 1, first - 1, second):
        arguments = [near % (1 << 64)] * 6
        held = [mask for mask, value in cubes if near & mask == value]
        assert len(held) == _holds(call, (index, operator, first, second), arguments)  # and never two at once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
action_names = st.sampled_from([*("SCMP_ACT_" + name for name in ACTIONS), "SCMP_ACT_NOTIFY"])
names = st.sampled_from([*CALLS, "read", "socketcall", "mseal", "no_such_call", ""])
shaped_entries = st.fixed_dictionaries(
    {"names": st.lists(names, min_size=1, max_size=3) | json_values, "action": action_names | json_values},
    optional={
        "name": json_values,
        "errnoRet": st.integers(-1, 5000) | json_values,
        "args": st.lists(
            st.fixed_dictionaries(
                {
                    "index": st.integers(-1, 6),
                    "value": words,
                    "op": st.sampled_from(["SCMP_CMP_EQ", "SCMP_CMP_GT", "EQ", "x"]),
                },
                optional={"valueTwo": words | json_values},
            ),
            max_size=3,
        )
        | json_values,
        "includes": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "caps": st.lists(st.sampled_from(["CAP_BPF", "CAP_X", ""])),
                "minKernel": st.text(max_size=4),
            },
        ),
        "excludes": json_values,
    },
)
profiles = st.fixed_dictionaries(
    {"defaultAction": action_names},
    optional={
        "defaultErrnoRet": st.integers(-1, 5000) | json_values,
        "architectures": st.lists(st.sampled_from(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])) | json_values,
        "archMap": json_values,
        "flags": json_values,
        "syscalls": st.lists(shaped_entries, max_size=3) | json_values,
    },
)
misspelt = st.tuples(profiles, st.text(max_size=8) | st.just("defaultAction"), json_values).map(
    lambda parts: {**parts[0], parts[1]: parts[2]}
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles | misspelt | json_values)
def test_any_profile_is_compiled_or_refused(profile: Any) -> None:
    try:
        program = seccomp.program(profile, capabilities.DEFAULT_MASK)
    except SpecError as error:
        assert error.option == "seccomp"
        return
    assert program is None or (len(program) % 8 == 0 and 0 < len(program) // 8 <= 4096)


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | json_values.map(lambda v: repr(v).encode())
)
def test_any_file_is_compiled_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(data)
    with pytest.raises(SpecError):
        seccomp.program(str(path), 0)


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=12) | st.sampled_from([*capabilities.NAMES, "ALL", "CAP_41"])),
    st.lists(st.text()),
)
def test_any_capabilities_are_resolved_or_refused(add: list[str], drop: list[str]) -> None:
    try:
        mask = capabilities.resolve(add, drop)
    except SpecError as error:
        assert error.option in ("cap_add", "cap_drop")
        return
    assert 0 <= mask < 1 << capabilities.last_cap() + 1
