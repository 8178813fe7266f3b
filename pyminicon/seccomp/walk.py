"""What a compiled filter does: walked for one architecture and number, or for all values of one argument."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    #: code, offset if it holds, offset if not, constant: struct sock_filter
    Instruction: TypeAlias = tuple[int, int, int, int]
    Program: TypeAlias = list[Instruction]
    #: an instruction by its index
    Place: TypeAlias = int
    #: where a program goes on for values from the first on, up to the next one's
    Table: TypeAlias = list[tuple[int, Place]]

LOAD, RETURN, GO, AND = 0x20, 0x06, 0x05, 0x54  # linux/bpf_common.h
EQUAL, ABOVE, AT_LEAST = 0x15, 0x25, 0x35
COMPARISONS = (EQUAL, ABOVE, AT_LEAST)
ANY_BIT = 0x45  # libseccomp doesn't use it
_KNOWN = frozenset((LOAD, RETURN, GO, AND, *COMPARISONS))
NUMBER, ARCH = 0, 4  # offsets in struct seccomp_data
END = 1 << 32


class Unknown(Exception):
    """A program that isn't made as libseccomp makes them."""


def by_number(program: Program) -> dict[int | None, Table]:
    """Where ``program`` comes to, an answer or the first load of an argument: by architecture, and by number.
    None: any other architecture. Raises Unknown."""
    if any(code not in _KNOWN for code, *_ in program):
        raise Unknown
    arches, numbers = _constants(program)
    starts = sorted({0, *numbers, *(number + 1 for number in numbers if number + 1 < END)})
    other = next(word for word in range(len(arches) + 1) if word not in arches)
    tables: dict[int | None, Table] = {}
    for arch in (*arches, None):
        found = other if arch is None else arch
        table = [(first, follow(program, _walk(program, found, first))) for first in starts]
        tables[arch] = joined(program, table)
    return tables


def by_argument(program: Program, place: Place, most: int) -> tuple[int, tuple[int, Table] | None]:
    """The answers from ``place`` on where they depend on one word of the arguments: its offset in struct
    seccomp_data, and the places of the answers by its value. None where they don't, or the masks of the comparisons
    part its values into more than ``most`` blocks. Before that: how many it were."""
    words = _words(program, place)
    if len(words) != 1:
        return 0, None
    table: Table = []
    ahead = [(0, END, place, 0)]
    for blocks in range(most):
        if not ahead:
            return blocks, (words.pop(), joined(program, table))
        first, size, place, mask = ahead.pop()
        open_at, answer = _answer(program, place, mask, first, size)
        if open_at is None:
            table.append((first, answer))
        else:  # what was decided for the whole is for its halves
            ahead += [(first + size // 2, size // 2, *open_at), (first, size // 2, *open_at)]
    return most, None


def by_bits(program: Program, place: Place) -> tuple[int, int, Place, Place] | None:
    """Where ``place`` begins a row of tests for one bit each, all of one word and with one answer: the word's offset,
    the bits, that answer, and where no bit is set. None elsewhere."""
    bits, offset, answer = 0, program[place][3], -1
    while program[place][0] == LOAD and program[place][3] == offset and place + 2 < len(program):
        (code, _, _, bit), (test, yes, no, word) = program[place + 1], program[place + 2]
        if (code, test, word) != (AND, EQUAL, bit) or bit & (bit - 1) or not bit:
            return None
        found = follow(program, place + 3 + yes)
        if program[found][0] != RETURN or (bits and program[found] != program[answer]):
            return None
        bits, answer, place = bits | bit, found, follow(program, place + 3 + no)
    return (offset, bits, answer, place) if bits and program[place][0] == RETURN else None


def behind(program: Program, entries: set[Place]) -> list[Place]:
    """All that can be reached from there but the answers, the last first."""
    seen: set[Place] = set()
    ahead = list(entries)
    while ahead:
        place = ahead.pop()
        code, yes, no, _ = program[place]
        if place not in seen and code != RETURN:
            seen.add(place)
            steps = (yes, no) if code in COMPARISONS else (0,)
            ahead += [follow(program, place + 1 + step) for step in steps]
    return sorted(seen, reverse=True)


def follow(program: Program, place: Place) -> Place:
    """``place``, or what comes after it where a jump stands there, or the test of no bit at all, which libseccomp
    makes of the upper half of an int."""
    while True:
        code, _, _, word = program[place]
        if code == GO:
            place += 1 + word
        elif code == LOAD and program[place + 1] == (AND, 0, 0, 0) and program[place + 2][0] == EQUAL:
            _, yes, no, word = program[place + 2]
            after = place + 3 + (yes if word == 0 else no)
            if program[after][0] not in (LOAD, RETURN):
                return place  # what comes next is told of what was loaded here
            place = after
        else:
            return place


def joined(program: Program, table: Table) -> Table:
    """``table`` with neighbours that come to the same as one."""
    made: Table = []
    for first, place in table:
        if not made or not is_same(program, place, made[-1][1]):
            made.append((first, place))
    return made


def is_same(program: Program, one: Place, other: Place) -> bool:
    """Whether it comes to the same: one place, or one answer."""
    return one == other or (program[one][0] == RETURN and program[one] == program[other])


def _constants(program: Program) -> tuple[list[int], set[int]]:
    """What the architecture is compared with, and at which numbers a comparison changes its mind."""
    arches: dict[int, None] = {}
    numbers: set[int] = set()
    seen: set[tuple[Place, int]] = set()
    ahead = [(0, -1)]
    while ahead:
        place, loaded = state = ahead.pop()
        if state in seen:
            continue
        seen.add(state)
        code, yes, no, word = program[place]
        if code == LOAD and word in (NUMBER, ARCH):
            ahead.append((place + 1, word))
        elif code == GO:
            ahead.append((place + 1 + word, loaded))
        elif code in COMPARISONS and loaded == NUMBER:
            numbers.add(word if code != ABOVE else min(word + 1, END - 1))
            ahead += [(place + 1 + yes, loaded), (place + 1 + no, loaded)]
        elif code == EQUAL and loaded == ARCH:
            arches[word] = None
            ahead += [(place + 1 + yes, loaded), (place + 1 + no, loaded)]
        elif code not in (LOAD, RETURN):
            raise Unknown
    return list(arches), numbers


def _walk(program: Program, arch: int, number: int) -> Place:
    place, loaded = 0, 0
    while True:
        code, yes, no, word = program[place]
        if code == LOAD and word in (NUMBER, ARCH):
            loaded = arch if word == ARCH else number
            place += 1
        elif code == GO:
            place += 1 + word
        elif code in (LOAD, RETURN):
            return place
        else:
            place += 1 + (yes if _holds(code, loaded, word) else no)


def _holds(code: int, value: int, word: int) -> bool:
    return value == word if code == EQUAL else value > word if code == ABOVE else value >= word


def _words(program: Program, place: Place) -> set[int]:
    """The words that a comparison sees something of; libseccomp masks the upper half of an int with 0."""
    found: set[int] = set()
    seen: set[tuple[Place, int, int]] = set()
    ahead = [(place, 0, 0)]
    while ahead:
        place, loaded, mask = state = ahead.pop()
        if state in seen:
            continue
        seen.add(state)
        code, yes, no, word = program[place]
        if code == LOAD:
            ahead.append((place + 1, word, END - 1))
        elif code == AND:
            ahead.append((place + 1, loaded, mask & word))
        elif code == GO:
            ahead.append((place + 1 + word, loaded, mask))
        elif code in COMPARISONS:
            if mask:
                found.add(loaded)
            sides = (yes, no) if mask else (yes if _holds(code, 0, word) else no,)
            ahead += [(place + 1 + side, loaded, mask) for side in sides]
    return found


def _answer(
    program: Program, place: Place, mask: int, first: int, size: int
) -> tuple[tuple[Place, int] | None, Place]:
    """What comes out where the one word that counts is from ``first`` on, ``size`` values, a power of two, and is
    loaded under ``mask``: None and the answer; or, where it may be more than one, the first comparison that isn't
    decided, and its mask."""
    answer, open_at = -1, None
    ahead = [(place, mask, END - size, first)]
    seen = set(ahead)
    while ahead:
        place, mask, known, bits = ahead.pop()
        code, yes, no, word = program[place]
        while code != RETURN:
            place += 1
            if code == LOAD:
                mask = END - 1
            elif code == AND:
                mask &= word
            elif code == GO:
                place += word
            else:
                may, must = _verdict(code, word, mask, known, bits)
                if may and not must:
                    open_at = open_at or (place - 1, mask)
                    # What each side tells of the hidden bits counts: else a block is parted down to single values
                    # where two comparisons share it.
                    hidden = mask & ~known if code == EQUAL else 0
                    other = (place + no, mask, known, bits)
                    if hidden & (hidden - 1) == 0:
                        other = (place + no, mask, known | hidden, bits | ~word & hidden)
                    if other not in seen:
                        seen.add(other)
                        ahead.append(other)
                    known, bits = known | hidden, bits | word & hidden
                place += yes if may else no
            code, yes, no, word = program[place]
        if answer >= 0 and program[answer] != program[place]:
            return open_at, answer
        answer = place
    return None, answer


def _verdict(code: int, word: int, mask: int, known: int, bits: int) -> tuple[bool, bool]:
    """Whether a comparison of a word whose ``known`` bits are ``bits`` may hold, and whether it must."""
    hidden = mask & ~known
    if code == EQUAL:
        may = word & ~mask == 0 and (bits ^ word) & mask & known == 0
        return may, may and not hidden
    return _holds(code, bits & mask | hidden, word), _holds(code, bits & mask, word)
