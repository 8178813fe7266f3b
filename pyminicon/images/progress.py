"""What long work says meanwhile: bars on a terminal, lines in a log, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
import time

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_WIDTH = 24


def size(count: float) -> str:
    """Bytes for people: ``"1.4 MB"`` (powers of 1000, as drives and networks count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Task:
    """One piece of work; a context manager. ``add`` may be called from any thread."""

    __slots__ = ("_progress", "done", "finished", "label", "started", "total")

    def __init__(self, progress: Progress, label: str, total: int) -> None:
        self._progress = progress
        self.label: str = label
        self.total: int = total
        self.done: int = 0
        self.finished: str = ""
        self.started: float = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        self._progress.moved(self)

    def __enter__(self) -> Task:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finished = "done" if self.done else "already here"
        else:
            self.finished = "failed" if issubclass(kind, SpecError) else "stopped"
        self._progress.ended(self)


class Progress:
    """Says nothing; the other two are subclasses."""

    def task(self, label: str, total: int = 0) -> Task:
        """Work on ``label`` of ``total`` bytes (0: unknown)."""
        return Task(self, label, total)

    def moved(self, task: Task) -> None: ...

    def ended(self, task: Task) -> None: ...

    def say(self, text: str) -> None: ...


class Lines(Progress):
    """A line when a piece of work ends, for logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def ended(self, task: Task) -> None:
        self.say(_line(task))

    def say(self, text: str) -> None:
        with self._lock:
            self._out.write(text + "\n")
            self._out.flush()


class Bars(Progress):
    """A bar for each piece of work, drawn anew ten times a second at most."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._tasks: list[Task] = []
        self._drawn = 0
        self._last = 0.0

    def task(self, label: str, total: int = 0) -> Task:
        task = super().task(label, total)
        with self._lock:
            self._tasks.append(task)
            self._draw()
        return task

    def moved(self, task: Task) -> None:
        if time.monotonic() - self._last >= 0.1 and self._lock.acquire(blocking=False):
            try:
                self._draw()
            finally:
                self._lock.release()

    def ended(self, task: Task) -> None:
        with self._lock:
            # A finished line goes above the live ones and is never touched again.
            self._tasks.remove(task)
            self._draw(_line(task))

    def say(self, text: str) -> None:
        with self._lock:
            self._draw(text)

    def _draw(self, above: str = "") -> None:
        self._last = time.monotonic()
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        # A line that wraps would throw the count of lines off.
        width = _columns(self._out) - 1
        lines = ([above] if above else []) + [_bar(task)[:width] for task in self._tasks]
        self._out.write(up + "".join(f"\r\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(self._tasks)


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _rate(task: Task) -> str:
    seconds = time.monotonic() - task.started
    return f"{size(task.done / seconds)}/s" if seconds > 0.05 and task.done else ""


def _line(task: Task) -> str:
    amount = f"  {size(task.done)}  {_rate(task)}" if task.done else ""
    return f"{task.label}  {task.finished}{amount}".rstrip()


def _bar(task: Task) -> str:
    if task.total:
        part = min(task.done / task.total, 1.0)
        full = int(part * _WIDTH)
        bar = "=" * full + (">" if full < _WIDTH else "") + " " * (_WIDTH - full - 1)
        return f"{task.label}  [{bar}] {part:4.0%}  {size(task.done)}/{size(task.total)}  {_rate(task)}"
    return f"{task.label}  {size(task.done)}  {_rate(task)}"


def for_terminal(quiet: bool = False, out: TextIO | None = None) -> Progress:
    """The kind that suits ``out`` (default: standard error)."""
    out = out or sys.stderr
    if quiet:
        return Progress()
    return Bars(out) if out.isatty() else Lines(out)
