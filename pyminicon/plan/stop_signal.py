"""What an image's StopSignal stands for."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enums, which costs 2.8 ms

_TERM = 15


def number(word: str) -> int:
    """The signal that ``word`` means (``"SIGQUIT"``, ``"QUIT"``, ``"3"``, ``"SIGRTMIN+3"``); SIGTERM for
    what means none, as docker has it."""
    if word.isascii() and word.isdigit():
        return int(word) if len(word) < 4 and 0 < int(word) < _signal.NSIG else _TERM
    name, sign, offset = word.upper().removeprefix("SIG").partition("+" if "+" in word else "-")
    found = getattr(_signal, f"SIG{name}", None) if name.isalnum() else None
    if not isinstance(found, int):
        return _TERM
    if not sign:
        return found
    if not name.startswith("RTM") or not (offset.isascii() and offset.isdigit() and len(offset) < 3):
        return _TERM
    found += int(offset) if sign == "+" else -int(offset)
    return found if _signal.SIGRTMIN <= found <= _signal.SIGRTMAX else _TERM
