"""A thread with a mount namespace of its own, for contestants that need another /sys/fs/cgroup."""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def private_mounts(libc: ctypes.CDLL) -> None:
    """Give the calling thread a mount namespace from which nothing propagates."""
    _check(libc.unshare(_CLONE_FS | _CLONE_NEWNS), "unshare")
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "private propagation")


def _fresh_unified() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    private_mounts(libc)
    _check(libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None), "cgroup2")


class UnifiedRoom:
    """Calls run in a thread that sees a pure cgroup v2 tree at /sys/fs/cgroup.

    crun refuses a hybrid tree. Children inherit the thread's namespace; the namespace is gone with
    the thread. Timing belongs inside the call: the hand-over costs a few microseconds.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        call: Callable[[], Any] | None = _fresh_unified
        while call is not None:
            try:
                self._answers.put((call(), None))
            except BaseException as error:
                self._answers.put((None, error))
            call = self._calls.get()

    def _answer(self) -> Any:
        value, error = self._answers.get()
        if error is not None:
            raise error
        return value

    def __enter__(self) -> UnifiedRoom:
        self._thread.start()
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._calls.put(None)
        self._thread.join()

    def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` in the room and return what it returns."""
        self._calls.put(function)
        return self._answer()

    def wrap(self, function: Callable[[], int]) -> Callable[[], int]:
        """``function`` as a call that goes to the room."""
        return lambda: int(self.call(function))
