"""What an image's StopSignal stands for."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enums, which costs 2.8 ms

_TERM = 15


def number(word: str, otherwise: int = _TERM) -> int:
    """The signal that ``word`` means (``"SIGQUIT"``, ``"QUIT"``, ``"3"``, ``"SIGRTMIN+3"``); ``otherwise`` for
    what means none: SIGTERM of an image's word, as docker has it."""
    if word.isascii() and word.isdigit():
        return int(word) if len(word) < 4 and 0 < int(word) < _signal.NSIG else otherwise
    name, sign, offset = word.upper().removeprefix("SIG").partition("+" if "+" in word else "-")
    found = getattr(_signal, f"SIG{name}", None) if name.isalnum() else None
    if not isinstance(found, int):
        return otherwise
    if not sign:
        return found
    if not name.startswith("RTM") or not (offset.isascii() and offset.isdigit() and len(offset) < 3):
        return otherwise
    found += int(offset) if sign == "+" else -int(offset)
    return found if _signal.SIGRTMIN <= found <= _signal.SIGRTMAX else otherwise
