"""The signal that an image asks to be stopped by."""

from __future__ import annotations

import signal

import pytest

from pyminicon.options.stop_signal import number


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("SIGQUIT", signal.SIGQUIT),
        ("quit", signal.SIGQUIT),
        ("SIGWINCH", signal.SIGWINCH),
        ("3", 3),
        ("37", 37),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_names_and_numbers_are_understood(word: str, expected: int) -> None:
    assert number(word) == expected


@pytest.mark.parametrize(
    "word",
    ["", "0", "65", "9" * 5000, "-3", "SIGNOTHING", "_IGN", "SIG_DFL", "NSIG", "SIGQUIT+1", "RTMIN+99",
     "RTMIN-1", "RTMIN+", "\u0663", "SIGRTMIN+\u0663", "SIG"],
)  # fmt: skip
def test_what_is_no_signal_is_sigterm(word: str) -> None:
    assert number(word) == signal.SIGTERM
