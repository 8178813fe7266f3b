"""Sizes as people write them ("64M", 1048576) and as the kernel takes them (bytes).

The suffixes are docker's: ``b k m g t p`` in either case, with or without a ``b`` or ``ib`` behind
them, and always powers of 1024. A decimal fraction is allowed with a suffix ("1.5g").
"""

from __future__ import annotations

from pyminicon.errors import SpecError

#: The largest number that the kernel's own parsers (memparse, kstrtoll) take.
LARGEST = (1 << 63) - 1

_UNITS = "KMGTP"
_POWERS = {"": 0, "b": 0} | {
    unit.lower() + tail: 10 * (power + 1) for power, unit in enumerate(_UNITS) for tail in ("", "b", "ib")
}
_DIGITS = frozenset("0123456789")


def parse(text: str) -> int | None:
    """The bytes that ``text`` names, or None when it isn't a size.

    Neither a sign nor a space or underscore, neither an exponent nor a digit of another script is
    taken: ``int`` and ``float`` take them all, and a size that is misread is a limit that isn't held.
    """
    number = text.rstrip("bBiIkKmMgGtTpP")
    power = _POWERS.get(text[len(number) :].lower())
    whole, dot, fraction = number.partition(".")
    if power is None or len(number) > 24 or not whole or not _DIGITS.issuperset(whole + fraction):
        return None
    if dot and not (fraction and power):
        return None
    part = (int(fraction) << power) // 10 ** len(fraction) if dot else 0
    return (int(whole) << power) + part


def form(size: int) -> str:
    """``size`` bytes with the largest suffix that divides them: 67108864 is "64M", 100 is "100"."""
    for power in range(len(_UNITS), 0, -1):
        if size and size % (1 << (10 * power)) == 0:
            return f"{size >> (10 * power)}{_UNITS[power - 1]}"
    return str(size)


def shown(value: object) -> str:
    """``value`` for an error message: its repr, cut. Python itself refuses to write very large numbers."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "a number of thousands of digits"


def about(size: int) -> str:
    """``size`` for a person, rounded down by less than one in a thousand: 25276514304 is "24105M"."""
    power = 0
    while size >> (10 * (power + 1)) >= 1000 and power < len(_UNITS):
        power += 1
    return form(size >> (10 * power) << (10 * power))


def check(option: str, value: object, least: int = 0, most: int = LARGEST, why: str = "") -> int:
    """``value`` (``int`` in bytes, or ``str`` such as "64M") as bytes, between ``least`` and ``most``.

    Raises :class:`SpecError` for ``option`` with the range that it takes; ``why`` (a few words)
    says where the upper end comes from.
    """
    size: int | None = None
    if isinstance(value, str):
        size = parse(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if size is None or not least <= size <= most:
        upper = f" ({why})" if why else ""
        form_of = 'a size such as "64M" or a number of bytes, ' if size is None else ""
        raise SpecError(option, f"takes {form_of}{about(least)} to {about(most)}{upper}, not {shown(value)}")
    return size
