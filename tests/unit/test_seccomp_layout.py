"""A filter that was laid out anew answers as before, to every number and argument, and is loaded sooner for it."""

from __future__ import annotations

import platform
import random
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyminicon import seccomp
from pyminicon.options import capabilities
from pyminicon.seccomp import layout as seccomp_layout
from pyminicon.seccomp import rules as seccomp_rules
from pyminicon.seccomp import walk as seccomp_walk
from pyminicon.seccomp.rules import ALLOW, ERRNO, KILL_PROCESS
from tests.support.filtered import I386, X86_64, answer, in_child, raw

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

Row = tuple[int, int, int, int]
EDGES = [0, 1, 2, 3, 8, 16, 38, 40, 0x5412, 0x541C, 0x20000, 0x20008, 0x10000000, 0x7FFFFFFF, 0xFFFFFFFF]
LOAD, EQUAL, RETURN = seccomp_walk.LOAD, seccomp_walk.EQUAL, seccomp_walk.RETURN


def packed(*rows: Row) -> bytes:
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def as_compiled(
    default: int,
    rules: list[seccomp_rules.Rule],
    absent: list[tuple[int, int]],
    more: list[seccomp_rules.Prepared] | None = None,
) -> bytes:
    """What libseccomp makes of the rules, before anything is laid out."""
    made = sorted(seccomp_rules.prepared(rules, default) + (more or []))
    return seccomp.loaded_library().compile(default, made, absent)


def assert_same(one: bytes, other: bytes, numbers: list[int], seed: int = 0) -> None:
    dice = random.Random(seed)
    for number in numbers:
        for arch in (X86_64, I386, 0):
            for _ in range(12 if arch == X86_64 else 1):
                words = [
                    dice.choice(EDGES) | dice.choice((0, 0, 1 << 32, 0xFFFFFFFF << 32)) for _ in range(6)
                ]
                got = answer(other, number, words, arch)
                assert got == answer(one, number, words, arch), (number, words)


@pytest.mark.parametrize(
    "caps", [0, capabilities.DEFAULT_MASK, capabilities.resolve(["ALL"])], ids=["none", "default", "all"]
)
def test_the_default_filter_is_half_as_long_and_the_same(caps: int) -> None:
    profile = seccomp.built_in_profile(caps, seccomp.loaded_library())
    before = as_compiled(profile.default, profile.rules, profile.absent, profile.prepared)
    made = seccomp.program("default", caps)
    assert made is not None
    assert len(made) <= len(before) * 0.6
    assert_same(before, made, [*range(700), 0x3FFFFFFF, 0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF])


def test_the_fewest_comparisons_lead_to_the_answers_that_the_kernel_asks_for() -> None:
    """It runs a filter for each number when it is loaded."""
    profile = seccomp.built_in_profile(capabilities.DEFAULT_MASK, seccomp.loaded_library())
    before = as_compiled(profile.default, profile.rules, profile.absent, profile.prepared)

    def steps(program: bytes) -> int:
        rows = list(struct.iter_unpack("=HBBI", program))
        return sum(_steps(rows, number, arch) for number in range(470) for arch in (X86_64, I386))

    assert steps(seccomp_layout.compact(before)) < steps(before) * 0.6


def _steps(rows: list[Row], number: int, arch: int) -> int:  # type: ignore[misc]
    at = count = loaded = 0
    while True:
        code, yes, no, word = rows[at]
        count += 1
        at += 1
        if code == RETURN or (code == LOAD and word > 4):
            return count
        if code == LOAD:
            loaded = arch if word == 4 else number
        elif code == seccomp_walk.GO:
            at += word
        else:
            at += yes if seccomp_walk._holds(code, loaded, word) else no


def test_answers_that_lie_too_far_for_one_jump_are_reached() -> None:
    rules = [
        seccomp_rules.Rule("read", number, ERRNO | (1 + number % 7), ((2, "EQ", 5, 0), (1, "GT", number, 0)))
        for number in range(0, 460, 2)
    ]
    before = as_compiled(ALLOW, rules, [(460, 0xFFFFFFFF)])
    rows = list(struct.iter_unpack("=HBBI", before))
    made = packed(*seccomp_layout._Layout(rows).whole())  # shorter or not
    assert any(row[0] == seccomp_walk.GO for row in struct.iter_unpack("=HBBI", made))
    for number in (*range(470), 0x40000000):
        for words in ([0, 1 << 40, 5], [0, number, 5], [0, number + 1, 5], [0, 1 << 40, 6]):
            assert answer(made, number, words) == answer(before, number, words), (number, words)


conditions = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(seccomp_rules.OPERATORS),
        st.sampled_from(EDGES),
        st.sampled_from(EDGES),
    ),
    max_size=2,
    unique_by=lambda row: row[0],
)
calls = st.sampled_from([("mmap", 9), ("socket", 41), ("clone", 56), ("chmod", 90), ("getpid", 39)])
rule_lists = st.lists(
    st.tuples(calls, st.sampled_from([ALLOW, ERRNO | 1, ERRNO | 38, KILL_PROCESS]), conditions), max_size=8
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([ALLOW, ERRNO | 1]), rule_lists, st.integers(0, 1 << 30))
def test_any_filter_answers_as_before(
    default: int,
    wanted: list[tuple[tuple[str, int], int, list[tuple[int, str, int, int]]]],
    seed: int,
) -> None:
    rules = [
        seccomp_rules.Rule(
            name,
            number,
            action,
            tuple((i, op, first, second & first if op == "MASKED_EQ" else second) for i, op, first, second in rows),
        )
        for (name, number), action, rows in wanted
    ]  # fmt: skip
    try:
        before = as_compiled(default, rules, [(400, 0xFFFFFFFF)])
    except ValueError:  # a condition that can't hold
        return
    assert_same(before, seccomp_layout.compact(before), [9, 39, 41, 56, 90, 91, 399, 400, 0x40000027], seed)


@pytest.mark.parametrize(
    "rows",
    [
        [(RETURN, 0, 0, ALLOW)],
        [(LOAD, 0, 0, 0), (0x45, 0, 1, 0x40000000), (RETURN, 0, 0, 0), (RETURN, 0, 0, ALLOW)],  # jset
        [
            (LOAD, 0, 0, 16),
            (LOAD, 0, 0, 0),
            (EQUAL, 0, 1, 9),
            (RETURN, 0, 0, 0),
            (RETURN, 0, 0, ALLOW),
        ],  # an argument first
        [(0x04, 0, 0, 1), (RETURN, 0, 0, ALLOW)],  # add
    ],
)
def test_what_libseccomp_does_not_make_is_left_as_it_is(rows: list[Row]) -> None:
    assert seccomp_layout.compact(packed(*rows)) == packed(*rows)


def test_what_is_loaded_once_is_left_as_libseccomp_makes_it() -> None:
    profile = seccomp.built_in_profile(0, seccomp.loaded_library())
    made, _ = seccomp.program_and_keys("default", 0, once=True)
    assert made == as_compiled(profile.default, profile.rules, profile.absent, profile.prepared)
    assert seccomp.program("default", 0) == seccomp_layout.compact(made)


def test_masks_that_part_the_values_into_millions_are_soon_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at = 0
    real = seccomp_walk._verdict

    def count(*words: int) -> tuple[bool, bool]:
        nonlocal looked_at
        looked_at += 1
        return real(*words)

    monkeypatch.setattr(seccomp_walk, "_verdict", count)
    dice = random.Random(4)
    rules = []
    for number in (41, 49, 53, 56):
        for _ in range(200):
            mask = sum(1 << bit for bit in dice.sample(range(12), 3))
            condition = (0, "MASKED_EQ", mask, dice.getrandbits(12) & mask)
            rules.append(seccomp_rules.Rule("socket", number, ERRNO | 1, (condition,)))
    before = as_compiled(ALLOW, rules, [])
    assert_same(before, seccomp_layout.compact(before), [40, 41, 49, 53, 56])
    assert looked_at < 1_000_000


def test_rules_that_overlap_in_too_many_ways_are_soon_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = 0
    real = seccomp_rules._without

    def count(*boxes: seccomp_rules.Box) -> list[seccomp_rules.Box]:
        nonlocal cuts
        cuts += 1
        return real(*boxes)

    monkeypatch.setattr(seccomp_rules, "_without", count)
    rules = [
        seccomp_rules.Rule("mmap", 9, ERRNO | 1 + n, tuple((i, "NE", 11 * n + i, 0) for i in range(3)))
        for n in range(9)
    ]
    with pytest.raises(ValueError, match=r"overlap in too many ways|come to more"):
        seccomp_rules.prepared(rules, ALLOW)
    assert cuts < 1_000_000


def test_the_kernel_takes_it() -> None:
    made = seccomp.program({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
             "args": [{"index": 0, "op": "SCMP_CMP_NE", "value": 0xFFFFFFFF}]},
            {"names": ["getpriority", "getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 96},
        ],
    }, 0)  # fmt: skip

    def tried() -> list[int]:
        return [raw(135, 0), raw(135, 0xFFFFFFFF) >= 0, raw(140, 0, 0), raw(102), raw(39) > 0]

    assert in_child(tried, made) == [-95, True, -96, -96, True]
