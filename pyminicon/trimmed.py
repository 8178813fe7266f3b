"""Captured output of which the middle was thrown away (``overflow="trim"``)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 4  # bytes of a character, in the encodings that have several


def first_half(most: int) -> int:
    """How many bytes of the beginning are kept; csrc/parent/supervise/supervise.cc counts likewise."""
    return most - most // 2


class Trimmed:
    """One stream on a loop: takes all and keeps the first and the last half of ``most``."""

    def __init__(self, most: int) -> None:
        self._first = first_half(most)
        self._last = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._taken = 0

    def add(self, data: bytes) -> None:
        self._taken += len(data)
        room = self._first - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._last + (1 << 16):  # not at each piece: that moves it all
            self._cut()

    def _cut(self) -> None:
        del self._tail[: max(len(self._tail) - self._last, 0)]

    def value(self) -> bytes:
        self._cut()
        return bytes(self._head + self._tail)

    @property
    def dropped(self) -> int:
        self._cut()
        return self._taken - len(self._head) - len(self._tail)


def as_text(data: bytes, first: int, encoding: str | None, decode: Callable[[bytes], str]) -> tuple[str, int]:
    """The text of what was kept, the cut at ``first``, and how many more bytes had to go for whole characters."""
    head, tail = data[:first], data[first:]
    kept = _whole_end(head, encoding or "utf-8")
    skipped = _whole_beginning(tail, encoding or "utf-8")
    text = decode(head[:kept]) + decode(tail[skipped:])
    return text, len(head) - kept + skipped


def _whole_end(data: bytes, encoding: str) -> int:
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(data[-_LONGEST * 4 :] if len(data) > _LONGEST * 4 else data)
    waiting = decoder.getstate()[0]
    return len(data) - len(waiting)


def _whole_beginning(data: bytes, encoding: str) -> int:
    """The fewest bytes without which the beginning can be read."""
    import codecs

    for skipped in range(_LONGEST):
        try:
            codecs.getincrementaldecoder(encoding)("strict").decode(data[skipped : skipped + _LONGEST * 4])
            return skipped
        except UnicodeError:
            continue
    return 0
