"""Resource limits by name, as setrlimit(2) numbers them."""

from __future__ import annotations

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# asm-generic numbers, the same on x86_64 and aarch64.
NAMES = {
    name: number
    for number, name in enumerate(
        "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime".split()
    )
}
INFINITY = (1 << 64) - 1


def check(option: str, value: Any) -> list[tuple[int, int, int]]:
    """``{"nofile": (256, 512)}`` or ``{"nofile": 256}`` as (resource, soft, hard). Raises SpecError."""
    try:
        items = list(value.items()) if value is not None else []
    except AttributeError:
        raise SpecError(option, f"takes a dict, not {type(value).__name__}") from None
    return [(_number(option, name), *_pair(option, name, limit)) for name, limit in items]


def _number(option: str, name: Any) -> int:
    key = name.lower().removeprefix("rlimit_") if isinstance(name, str) else name
    if key not in NAMES:
        raise SpecError(option, f"{name!r} is none of {', '.join(NAMES)}")
    return NAMES[key]


def _pair(option: str, name: str, limit: Any) -> tuple[int, int]:
    pair = limit if isinstance(limit, (tuple, list)) else (limit, limit)
    if len(pair) != 2:
        raise SpecError(option, f"{name}: takes a number or (soft, hard)")
    soft, hard = (_amount(option, name, amount) for amount in pair)
    if soft > hard:
        raise SpecError(option, f"{name}: the soft limit is above the hard one")
    return soft, hard


def _amount(option: str, name: str, amount: Any) -> int:
    if amount in (-1, "unlimited"):
        return INFINITY
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= INFINITY:
        raise SpecError(option, f"{name}: takes whole numbers from 0 on, or -1 for no limit")
    return amount
