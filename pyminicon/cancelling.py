"""Ending from another thread what a call has begun."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    class Ended(Protocol):
        def kill(self) -> object: ...


class Cancel:
    """Given to a call as ``cancel=``: :meth:`cancel`, from any thread, ends what that has begun, and the call raises
    :class:`Cancelled`. What ``start`` has begun with it is ended as well, also later.

    One may be given to several calls. Once it is cancelled it stays so.
    """

    def __init__(self) -> None:
        import _thread

        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = _thread.allocate_lock()
        self._begun: list[Any] = []  # weak references to handles
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` has been called."""
        return self._cancelled

    def cancel(self) -> None:
        """Ends what was begun; at once, and without waiting for it."""
        with self._lock:
            self._cancelled = True
            os.eventfd_write(self._fd, 1)
            begun, self._begun = self._begun, []
        for reference in begun:
            handle = reference()
            if handle is not None:
                handle.kill()

    def fileno(self) -> int:
        """Readable once it is cancelled."""
        return self._fd

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Cancel can't be pickled: it belongs to the process that made it")

    def _attach(self, handle: Ended) -> None:
        import _weakref

        with self._lock:
            if not self._cancelled:
                self._begun = [one for one in self._begun if one() is not None]
                self._begun.append(_weakref.ref(handle))
                return
        handle.kill()
