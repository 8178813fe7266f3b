"""A terminal for a container: a pty pair of its own, of which we hold the outer side.

    with pyminicon.start(["bash"], tty=True) as c:
        c.terminal.write(b"echo hi\\n")
        print(c.terminal.read())

The caller's own terminal never goes in: whoever holds a terminal can read what is typed there and, with
CAP_SYS_ADMIN, type words of his own (TIOCSTI, ioctl_tty(2)).
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import termios

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Terminal:
    """The outer side of a pty pair: what a terminal emulator holds.

    ``read`` gives what programs inside write, ``write`` is what is typed. ``fileno`` is for poll and
    select. It begins with 24 rows of 80 columns.
    """

    def __init__(self, pair: tuple[int, int] | None = None) -> None:
        """``pair``: its two sides, if they are there already."""
        self.inner: int
        self._outer, self.inner = pair or os.openpty()
        # Its number must not be given out again while another thread is about to use it: that would read and write
        # a file that it has nothing to do with.
        self._lock: Any = _thread.RLock()  # a signal's handler may close it
        self._inside: int = 0
        self._maker: int = os.getpid()
        self._left: int = -1  # the descriptor, closed while somebody is inside
        self.resize(24, 80)

    def fileno(self) -> int:
        """The descriptor of the outer side; -1 once it is closed."""
        return self._outer

    def read(self, most: int = 65536) -> bytes:
        """At most ``most`` bytes of output, waiting for the first; b"" when nobody is left to write.

        Raises BlockingIOError on a non-blocking descriptor where there is none yet.
        """
        fd = self._enter()
        try:
            return os.read(fd, most)
        except OSError as error:
            if error.errno == errno.EIO:  # the inner side is closed, or hung up with its session
                return b""
            raise
        finally:
            self._leave()

    def write(self, data: bytes) -> int:
        """Types ``data``; the number of bytes that were taken (as os.write)."""
        fd = self._enter()
        try:
            return os.write(fd, data)
        finally:
            self._leave()

    def resize(self, rows: int, columns: int) -> None:
        """Sets the window's size; the foreground programs inside get SIGWINCH."""
        size = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
        fd = self._enter()
        try:
            fcntl.ioctl(fd, termios.TIOCSWINSZ, size)
        finally:
            self._leave()

    def size(self) -> tuple[int, int]:
        """(rows, columns), as programs inside see it or have set it."""
        fd = self._enter()
        try:
            return size_of(fd)
        finally:
            self._leave()

    def give_to(self, uid: int) -> None:
        """It belongs to the user ``uid`` of this machine, or he couldn't open /dev/console or change its modes."""
        if os.geteuid() == 0:  # only root may give files away; a single-id map is its owner's already
            os.fchown(self.inner, uid, -1)

    def close_inner(self) -> None:
        """Lets go of the inner side, which the container holds by now."""
        if self.inner >= 0:
            fd, self.inner = self.inner, -1
            os.close(fd)

    def close(self) -> None:
        """Closes it; programs inside get SIGHUP, as when a window is closed."""
        self.close_inner()
        if os.getpid() != self._maker:  # forked: whoever held the lock, or was inside, isn't here
            self._lock, self._inside = _thread.RLock(), 0
        with self._lock:
            fd, self._outer = self._outer, -1
            if fd < 0:
                return
            if self._inside:
                self._left = fd
                _make_dead(fd)
            else:
                os.close(fd)

    def _enter(self) -> int:
        with self._lock:
            if self._outer < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._inside += 1
            return self._outer

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._left >= 0 and not self._inside:
                fd, self._left = self._left, -1
                os.close(fd)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _make_dead(fd: int) -> None:
    """The terminal goes, its number stays: what is still read there is at its end, and nothing can be written."""
    try:
        reading, writing = os.pipe()
    except OSError:  # no descriptor is left: it goes with the last who uses it
        return
    os.close(writing)
    os.dup2(reading, fd, inheritable=False)
    os.close(reading)


def size_of(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal ``fd``. Raises OSError if it is none."""
    found = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    return int.from_bytes(found[:2], "little"), int.from_bytes(found[2:4], "little")


def name_of(stdin: Any) -> str:
    """The name of the terminal that is given as a container's stdin. Raises SpecError."""
    try:
        return os.ttyname(stdin if isinstance(stdin, int) else stdin.fileno())
    except (AttributeError, OSError):
        raise SpecError("tty", "takes a terminal as stdin, one with a name in /dev/pts") from None
