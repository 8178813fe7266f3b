"""The default filter's program: a tree over ranges of numbers, and what is asked of arguments.

The kernel compiles a program at each load, and runs it in its mind for every number, to note which calls are
always allowed. So it costs each launch what it is long, and how many steps an answer takes. A compiler of rules
gives each number a comparison of its own and each flag three instructions; here a comparison tells two ranges apart,
and the ranges with the most numbers come first.
"""

from __future__ import annotations

import struct

from pyminicon.seccomp.rules import KILL_PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Target = int | str | tuple[object, int]
    Code = list[tuple[int, int, Target, Target]]

# linux/bpf_common.h: instructions that load a word of struct seccomp_data, compare it, answer
_LOAD, _ANSWER = 0x20, 0x06
IS, HAS, _AT_LEAST = 0x15, 0x45, 0x35
_ARCH, _NUMBER, _ARGUMENTS = 4, 0, 16

#: Of an argument's two words on a machine whose words begin with the low one.
LOW, HIGH = 0, 1
#: In the place of an answer: the next line, the one after it.
NEXT, AFTER_NEXT = 1, 2

#: A word of an argument (2 * its index, + HIGH), IS or HAS (one of the bits at least), the value, and what is answered
#: where that holds and where it doesn't.
Line = tuple[int, int, int, int, int]


def among(word: int, values: Iterable[int], there: int, otherwise: int) -> list[Line]:
    """Whether the word is one of the values, of which there is one at least."""
    lines = [(word, IS, value, there, NEXT) for value in values]
    return [*lines[:-1], (*lines[-1][:4], otherwise)]


def program(arch: int, answers: list[int | str], checks: dict[str, list[Line]]) -> bytes:
    """struct sock_filter[], 8 bytes an instruction. ``answers``: of each number, or a name in ``checks``; the last one is
    that of all numbers from there on. Calls of another architecture than ``arch`` end the process."""
    runs: list[tuple[int, int | str]] = []  # where each begins
    for number, answer in enumerate(answers):
        if not runs or runs[-1][1] != answer:
            runs.append((number, answer))
    code: Code = [(_LOAD, _ARCH, NEXT, NEXT), (IS, arch, NEXT, KILL_PROCESS), (_LOAD, _NUMBER, NEXT, NEXT)]
    at: dict[Target, int] = {}
    _tree(runs, 0, [*(first for first, _ in runs), len(answers)], code, at)
    for name in sorted({answer for _, answer in runs if isinstance(answer, str)}):
        _check(name, checks[name], code, at)
    for target in sorted({target for _, _, *targets in code for target in targets}, key=str):
        if isinstance(target, int) and target not in (NEXT, AFTER_NEXT):
            at[target] = len(code)
            code.append((_ANSWER, target, NEXT, NEXT))
    return b"".join(_instruction(here, line, at) for here, line in enumerate(code))


def _tree(
    runs: list[tuple[int, int | str]], begin: int, bounds: list[int], code: Code, at: dict[Target, int]
) -> None:
    """The comparisons that tell apart the runs from ``begin`` on, whose bounds these are."""
    count = len(bounds) - 1
    if count == 1:
        return
    middle = (bounds[0] + bounds[-1]) / 2
    cut = min(range(1, count), key=lambda at: abs(bounds[at] - middle))

    def target(first: int, last: int) -> Target:
        return runs[begin + first][1] if last - first == 1 else ((begin + first, begin + last), 0)

    at[(begin, begin + count), 0] = len(code)
    code.append((_AT_LEAST, bounds[cut], target(cut, count), target(0, cut)))
    _tree(runs, begin, bounds[: cut + 1], code, at)
    _tree(runs, begin + cut, bounds[cut:], code, at)


def _check(name: str, lines: list[Line], code: Code, at: dict[Target, int]) -> None:
    at[name] = len(code)
    loaded = -1
    for index, (word, test, value, *targets) in enumerate(lines):
        at[name, index] = len(code)
        jumped_to = any(AFTER_NEXT in line[3:] for line in lines[max(index - 2, 0) : max(index - 1, 0)])
        if word != loaded or jumped_to:
            code.append((_LOAD, _ARGUMENTS + 4 * word, NEXT, NEXT))
        loaded = word
        yes, no = ((name, index + to) if to in (NEXT, AFTER_NEXT) else to for to in targets)
        code.append((test, value, yes, no))


def _instruction(here: int, line: tuple[int, int, Target, Target], at: dict[Target, int]) -> bytes:
    code, value, *targets = line
    yes, no = ((NEXT if to == NEXT else at[to] - here) - 1 for to in targets)
    return struct.pack("=HBBI", code, yes, no, value)  # refused beyond 255
