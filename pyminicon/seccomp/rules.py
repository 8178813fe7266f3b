"""Rules on system calls, brought into a form in which libseccomp compiles them right.

A rule is (number, answer, conditions): where all its conditions hold, the call gets the answer. The
answers are the kernel's (SECCOMP_RET_* with its data, seccomp(2)). Three things stand between what a profile
says and what can be handed to the library:

* Arguments are compared in the bits that the kernel takes of them (seccomp_args).
* The library (2.5.4 at least) gets order wrong: of two rules on one call, ``arg0 >= 1 and arg1 == 1`` and
  ``arg0 <= 5 and arg1 == 2``, it makes a program that compares arg1 where arg0 was meant. Rules made of
  masked equality alone come out right, so every condition becomes *cubes*, pairs (mask, value) that
  hold where ``argument & mask == value``.
* Where two rules match the same call and answer differently, the library's choice depends on how its tree
  happens to grow. Here the stricter answer holds, as when the kernel runs two filters, and between
  equally strict ones the rule that stands first: the looser rule's cubes are cut before they are handed over.
"""

from __future__ import annotations

from pyminicon.errors import SpecError
from pyminicon.seccomp import arg_widths as seccomp_args

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

# Cubes of all rules of a program; beyond this it could not be a program of 4096 instructions, the kernel's
# limit.
_MOST_CUBES = 4096
# Cubes looked at to keep one call's rules apart, a second or so.
_MOST_CUTS = 200_000

Cube = tuple[int, int]  # mask, value
Box = tuple[Cube, Cube, Cube, Cube, Cube, Cube]  # one cube an argument; (0, 0) holds for every value
_ANYTHING: Cube = (0, 0)
Condition = tuple[int, str, int, int]  # argument, operator, value (for MASKED_EQ the mask), second value
Comparisons = tuple[Condition, ...]  # the library's, which take all 64 bits; all must hold
Prepared = tuple[int, int, Comparisons]  # number, answer
_EVERY_CALL: Box = (_ANYTHING,) * 6


class Rule:
    """``answer`` (int) for the call ``number``, named ``name``, where every condition holds.

    A condition is (argument 0 to 5, operator, value, second value); for MASKED_EQ the first is the mask.
    """

    __slots__ = ("answer", "conditions", "name", "number")

    def __init__(self, name: str, number: int, answer: int, conditions: Comparisons = ()) -> None:
        self.name: str = name
        self.number: int = number
        self.answer: int = answer
        self.conditions: Comparisons = conditions


def strictness(answer: int) -> int:
    """The kernel's order of answers, the strictest lowest: its action read as a signed number."""
    action = answer & 0xFFFF0000
    return action - (1 << 32) if action & 0x80000000 else action


def prepared(rules: list[Rule], default: int) -> list[Prepared]:
    """What the library is to be given for ``rules`` where all else gets the answer ``default``.

    Raises SpecError for a condition that can never hold, and for more than a program can say.
    """
    by_number: dict[int, list[Rule]] = {}
    for rule in rules:
        by_number.setdefault(rule.number, []).append(rule)
    made: list[Prepared] = []
    for number, group in sorted(by_number.items()):
        if len(group) == 1:
            lone = _lone(group[0])
            made.extend((number, group[0].answer, one) for one in lone if group[0].answer != default)
        else:
            made.extend((number, answer, _comparisons(box)) for answer, box in _apart(group, default))
        if len(made) > _MOST_CUBES:
            raise SpecError("seccomp", f"the rules on {group[0].name} come to more than the kernel takes")
    return made


def _lone(rule: Rule) -> list[Comparisons]:
    """The comparisons of a call's only rule; which of two words is larger the library then gets right."""
    ordered = [one for one in rule.conditions if _width(rule, one[0]) == 64 and len(_cubes(rule, one)) > 1]
    rest = tuple(one for one in rule.conditions if one not in ordered)
    boxes = _boxes(Rule(rule.name, rule.number, rule.answer, rest))
    if len(boxes) > 1:
        return [_comparisons(box) for box in _boxes(rule)]
    return [tuple(sorted((*_comparisons(box), *ordered))) for box in boxes]


def _comparisons(box: Box) -> Comparisons:
    return tuple((index, "MASKED_EQ", mask, value) for index, (mask, value) in enumerate(box) if mask)


def _apart(rules: list[Rule], default: int) -> list[tuple[int, Box]]:
    """The boxes of one call's rules, each cut by those that come before it and answer differently."""
    cuts = 0
    taken: list[tuple[int, Box]] = []
    kept: list[tuple[int, Box]] = []
    for rule in sorted(
        rules, key=lambda one: strictness(one.answer)
    ):  # stable: the first of equals stays first
        boxes = _boxes(rule)
        left = boxes
        for answer, box in taken:
            if answer != rule.answer:
                cuts += len(left)
                left = [piece for one in left for piece in _without(one, box)]
                if len(left) > _MOST_CUBES or cuts > _MOST_CUTS:
                    raise SpecError("seccomp", f"the rules on {rule.name} overlap in too many ways")
        taken.extend((rule.answer, box) for box in boxes)
        if rule.answer != default:
            kept.extend((rule.answer, box) for box in dict.fromkeys(left))
    # A rule without conditions takes the place of the narrower ones beside it.
    whole = {answer for answer, box in kept if box == _EVERY_CALL}
    return [(answer, box) for answer, box in kept if box == _EVERY_CALL or answer not in whole]


def _boxes(rule: Rule) -> list[Box]:
    """Where the rule holds, as a union of boxes."""
    boxes = [_EVERY_CALL]
    for condition in rule.conditions:
        index, cubes = condition[0], _cubes(rule, condition)
        boxes = [
            (*box[:index], cube, *box[index + 1 :])  # type: ignore[misc]
            for box in boxes
            for cube in cubes
        ]
        if len(boxes) > _MOST_CUBES:
            raise SpecError("seccomp", f"the conditions on {rule.name} come to more than the kernel takes")
    return boxes


def _cubes(rule: Rule, condition: Condition) -> list[Cube]:
    index, operator, first, second = condition
    cubes = cubes_of(operator, first, second, _width(rule, index))
    if not cubes:
        what = f"{operator} {first:#x}" + (f" {second:#x}" if operator == "MASKED_EQ" else "")
        raise SpecError("seccomp", f"{rule.name}: argument {index} can never be {what}")
    return cubes


def _width(rule: Rule, index: int) -> int:
    bits = seccomp_args.width(rule.name, index)
    if bits is None:
        raise SpecError("seccomp", f"{rule.name}: no rule on its arguments, whose widths aren't known here")
    return bits


def cubes_of(operator: str, first: int, second: int, bits: int) -> list[Cube]:
    """The values of ``bits`` bits for which the comparison holds, as cubes; none if there is no such value.

    A number written as a sign-extended negative one (AT_FDCWD, -1) stands for what the kernel takes of it.
    """
    top = (1 << bits) - 1
    if operator == "MASKED_EQ":
        high = first & ~top
        if second & ~first or (second & ~top and (second & ~top != high or not second >> (bits - 1) & 1)):
            return []
        return [(first & top, second & top)]
    value = first & top if first >> (bits - 1) == (1 << (65 - bits)) - 1 else first
    below, above = min(value - 1, top), value + 1
    if operator == "EQ":
        return [(top, value)] if value <= top else []
    if operator == "NE":
        return _blocks(0, below, top) + _blocks(above, top, top)
    if operator in ("LT", "LE"):
        return _blocks(0, below if operator == "LT" else min(value, top), top)
    return _blocks(above if operator == "GT" else value, top, top)


def _blocks(low: int, high: int, top: int) -> list[Cube]:
    """The numbers from ``low`` to ``high`` as aligned blocks, each a mask on the upper bits."""
    cubes = []
    while low <= high:
        size = low & -low or top + 1
        while size > high - low + 1:
            size >>= 1
        cubes.append((top & ~(size - 1), low))
        low += size
    return cubes


def _without(box: Box, hole: Box) -> list[Box]:
    """``box`` less ``hole``: one piece for each bit that the hole asks for and the box leaves open."""
    for (mask, value), (hole_mask, hole_value) in zip(box, hole, strict=True):
        if (value ^ hole_value) & mask & hole_mask:
            return [box]
    pieces: list[Box] = []
    for index in range(6):
        mask, value = box[index]
        hole_mask, hole_value = hole[index]
        # From the top: the pieces are then blocks, as most holes are, and the next hole lies in one of them.
        for bit in (1 << n for n in reversed(range(hole_mask.bit_length()))):
            if bit & hole_mask & ~mask:
                piece = (mask | bit, value | (~hole_value & bit))
                pieces.append((*box[:index], piece, *box[index + 1 :]))  # type: ignore[arg-type]
                mask, value = mask | bit, value | (hole_value & bit)
        box = (*box[:index], (mask, value), *box[index + 1 :])  # type: ignore[assignment]
    return pieces
