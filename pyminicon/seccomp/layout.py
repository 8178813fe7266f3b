"""The same filter, laid out so that the kernel is done with it sooner.

When a filter is loaded the kernel compiles it, and then runs it in its mind for each call number there is, native
and 32-bit, to note which are always allowed (``seccomp_cache_prepare``, Linux 5.11): nine hundred runs. So what loading
costs is the program's length, and how many comparisons lead to an answer. libseccomp's tree has a leaf for each number
that a rule names; here it has one for each *range* of numbers with one answer, and the wide ranges lie high up. Rules on
one word of the arguments become such a tree as well; others are taken over as they stand.
"""

from __future__ import annotations

import struct

from pyminicon.seccomp import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.seccomp.walk import Instruction, Place, Program, Table

_KERNELS_NUMBERS = 512  # as many as the kernel tries, about
_MOST_STEPS = 100_000  # for all trees over arguments: a mask may ask for millions
_FARTHEST = 250  # of a comparison's 8-bit offsets, with room for two steps on the way


def compact(program: bytes) -> bytes:
    """``program`` (struct sock_filter[]), laid out anew; itself where that can't be done, or isn't shorter."""
    rows: Program = list(struct.iter_unpack("=HBBI", program))
    try:
        made = _Layout(rows).whole()
    except walk.Unknown:
        return program
    return b"".join(struct.pack("=HBBI", *row) for row in made) if len(made) < len(rows) else program


class _Layout:
    """Written from its end to its beginning: a jump leads forward, so what it leads to is there already.

    A target is the index in ``made``, in which the program's last instruction is the first.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._made: list[Instruction] = []
        self._answers: dict[int, int] = {}  # what is answered -> target
        self._moved: dict[Place, int] = {}  # of the old program -> target
        self._steps = _MOST_STEPS

    def whole(self) -> list[Instruction]:
        tables = walk.by_number(self._program)
        self._move_arguments({place for table in tables.values() for _, place in table})
        target = self._table(walk.NUMBER, tables.pop(None))
        for arch, table in tables.items():
            assert arch is not None
            target = self._compare(walk.EQUAL, arch, self._table(walk.NUMBER, table), target)
        self._load(walk.ARCH, target)
        return self._made[::-1]

    # ---- trees over ranges ---------------------------------------------------------------------------

    def _table(self, word: int, table: Table) -> int:
        target = self._tree(table, walk.END)
        return self._load(word, target) if len(table) > 1 else target

    def _tree(self, table: Table, end: int) -> int:
        if len(table) == 1:
            return self._at(table[0][1])
        if self._is_one_apart(table):
            return self._compare(walk.EQUAL, table[1][0], self._at(table[1][1]), self._at(table[0][1]))
        cut = _middle(table, end)
        upper, lower = self._tree(table[cut:], end), self._tree(table[:cut], table[cut][0])
        return self._compare(walk.AT_LEAST, table[cut][0], upper, lower)

    def _is_one_apart(self, table: Table) -> bool:
        """Whether all values but one come to the same."""
        if len(table) != 3 or table[2][0] != table[1][0] + 1:
            return False
        return walk.is_same(self._program, table[0][1], table[2][1])

    # ---- comparisons of arguments --------------------------------------------------------------------

    def _move_arguments(self, entries: set[Place]) -> None:
        whole = set()
        for place in sorted(entries, reverse=True):
            if bits := walk.by_bits(self._program, place):
                word, mask, yes, no = bits
                target = self._compare(walk.ANY_BIT, mask, self._at(yes), self._at(no))
                self._moved[place] = self._load(word, target)
                continue
            length = len(walk.behind(self._program, {place})) or 1
            blocks, found = walk.by_argument(self._program, place, self._steps // length)
            self._steps -= blocks * length
            if found and len(found[1]) < length:
                self._moved[place] = self._table(*found)
            else:
                whole.add(place)
        for place in walk.behind(self._program, whole):
            self._move(place)

    def _move(self, place: Place) -> None:
        code, yes, no, word = self._program[place]
        if code in walk.COMPARISONS:
            sides = [self._at(walk.follow(self._program, place + 1 + side)) for side in (yes, no)]
            self._moved[place] = self._compare(code, word, *sides)
        elif code == walk.AND or (code == walk.LOAD and word not in (walk.NUMBER, walk.ARCH)):
            self._next_is(self._at(walk.follow(self._program, place + 1)))
            self._moved[place] = self._write((code, 0, 0, word))
        else:
            raise walk.Unknown

    def _at(self, place: Place) -> int:
        code, _, _, word = self._program[place]
        if code != walk.RETURN:
            return self._moved[place]
        if word not in self._answers or self._is_far(self._answers[word]):
            self._answers[word] = self._write((walk.RETURN, 0, 0, word))
        return self._answers[word]

    # ---- instructions --------------------------------------------------------------------------------

    def _load(self, word: int, target: int) -> int:
        self._next_is(target)
        return self._write((walk.LOAD, 0, 0, word))

    def _compare(self, code: int, word: int, yes: int, no: int) -> int:
        yes = self._go(yes) if self._is_far(yes) else yes
        no = self._go(no) if self._is_far(no) else no
        here = len(self._made) - 1
        return self._write((code, here - yes, here - no, word))

    def _next_is(self, target: int) -> None:
        if target != len(self._made) - 1:
            self._go(target)

    def _go(self, target: int) -> int:
        return self._write((walk.GO, 0, 0, len(self._made) - 1 - target))

    def _is_far(self, target: int) -> bool:
        return len(self._made) - 1 - target > _FARTHEST

    def _write(self, instruction: Instruction) -> int:
        self._made.append(instruction)
        return len(self._made) - 1


def _middle(table: Table, end: int) -> int:
    """Where to part ``table`` so that both sides have as many of the kernel's numbers; else as many ranges."""
    edges = [min(first, _KERNELS_NUMBERS) for first, _ in table] + [min(end, _KERNELS_NUMBERS)]
    half = (edges[0] + edges[-1]) / 2
    return min(range(1, len(table)), key=lambda at: (abs(edges[at] - half), abs(at - len(table) / 2)))
