"""Captured output of which the middle was thrown away (``overflow="trim"``)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LONGEST = 4  # bytes of a character, in the encodings that have several


def first_half(most: int) -> int:
    """How many bytes of the beginning are kept; csrc/parent/supervise/exchange.cc counts likewise."""
    return most - most // 2


def as_text(
    data: bytes, dropped: int, first: int, encoding: str | None, decode: Callable[[bytes, str | None], str]
) -> tuple[str, int]:
    """The text of what was kept, the cut at ``first`` with ``dropped`` bytes thrown away there, and how many more bytes
    had to go for whole characters. ``decode``: of bytes, in an encoding."""
    head, tail = data[:first], data[first:]
    kept = _whole_end(head, encoding or "utf-8")
    unmarked = _without_mark(head, encoding)
    skipped = _whole_beginning(tail, len(head) + dropped, unmarked or "utf-8")
    text = decode(head[:kept], encoding) + decode(tail[skipped:], unmarked)
    return text, len(head) - kept + skipped


def _whole_end(head: bytes, encoding: str) -> int:
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(head)
    waiting = decoder.getstate()[0]
    return len(head) - len(waiting)


def _without_mark(head: bytes, encoding: str | None) -> str | None:
    """The encoding of what doesn't begin with the mark that tells the order of the bytes."""
    import codecs

    name = codecs.lookup(encoding or "utf-8").name
    if name not in ("utf-16", "utf-32"):
        return encoding
    big = head.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    return f"{name}-{'be' if big else 'le'}"


def _whole_beginning(tail: bytes, at: int, encoding: str) -> int:
    """How many bytes of ``tail``, whose place in all that was written is ``at``, belong to a character that has been cut."""
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)
    name = codecs.lookup(encoding).name
    if name.startswith(("utf-16", "utf-32")):
        unit = 2 if name.startswith("utf-16") else 4
        starts = range(-at % unit, unit + 4, unit)  # of two halves of a pair the second can't stand alone
    elif _is_multibyte(decoder):
        # Where a character begins can't be told from its middle there, but nothing below 0x30 is a part of one.
        return next((place for place, byte in enumerate(tail) if byte < 0x30), 0)
    else:
        starts = range(_LONGEST)
    # The one from which it can be read the furthest: there may be bytes that are no character at all.
    best, furthest = 0, -1
    for skipped in starts:
        try:
            decoder("strict").decode(tail[skipped : skipped + _LONGEST * 4])
            return skipped
        except UnicodeDecodeError as error:
            if skipped + error.start > max(furthest, skipped):
                best, furthest = skipped, skipped + error.start
        except UnicodeError:
            continue
    return best


def _is_multibyte(decoder: Any) -> bool:
    """Whether it is one of those of China, Japan and Korea."""
    return any(kind.__module__ == "_multibytecodec" for kind in decoder.__mro__)
