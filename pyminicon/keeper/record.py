"""Writing the log: bounded, turned over, and never a reason for the container to wait or to end."""

from __future__ import annotations

import os
import time

from pyminicon.detached import log

_PIECE = 1 << 16


class Log:
    """``most`` bytes in two files. What a full disk doesn't take is lost, and its size is told afterwards."""

    def __init__(self, directory: str, most: int) -> None:
        self._directory = os.open(
            directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )  # wherever it is moved
        self._half = most // 2
        #: Bytes that may be read at once.
        self.piece: int = min(_PIECE, self._half // 2)
        self.lost: int = 0  # bytes, in all
        self._missing = 0  # since something was written last
        self.total: int = 0  # bytes that have come
        self._size = 0
        self._fd = self._open()
        self._second = -1
        self._stamp = b""

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open("log", flags, 0o600, dir_fd=self._directory)

    def add(self, which: int, data: bytes) -> None:
        """What has come from stdout (1) or stderr (2)."""
        self.total += len(data)
        head = self._now() + b" " + log.NAMES[which].encode()
        *whole, rest = data.split(b"\n")
        records = [head + b" F " + line + b"\n" for line in whole]
        if rest:
            records.append(head + b" P " + rest + b"\n")
        together: list[bytes] = []
        size = 0
        for (
            record
        ) in records:  # an empty line is one of forty bytes: all of them may be more than a file holds
            if size + len(record) > self._half and together:
                self._keep(b"".join(together), size - (len(head) + 3) * len(together))
                together, size = [], 0
            together.append(record)
            size += len(record)
        self._keep(b"".join(together), size - (len(head) + 3) * len(together))

    def _keep(self, records: bytes, size: int) -> None:
        if self._missing:
            note = f"stderr F pyminicon: {self._missing} bytes of output are lost: the disk was full\n"
            records = self._now() + b" " + note.encode() + records
        if self._write(records):
            self._missing = 0
        else:
            self.lost += size
            self._missing += size

    def _now(self) -> bytes:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._stamp, fraction)

    def _write(self, data: bytes) -> bool:
        if self._size and self._size + len(data) > self._half:
            self._turn()
        begun = self._size
        try:
            while data:
                written = os.write(self._fd, data)
                self._size += written
                data = data[written:]
            return True
        except OSError:
            try:
                os.ftruncate(self._fd, begun)  # no half of a record
                os.lseek(self._fd, begun, os.SEEK_SET)
            except OSError:
                pass
            self._size = begun
            return False

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError:
            return
        self._size = 0

    def _turn(self) -> None:
        try:
            try:
                os.rename("log", "log.1", src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except FileNotFoundError:  # somebody has removed it: what is written to it nobody would see
                pass
            fd = self._open()
        except OSError:  # no room for a name: the log is bounded all the same
            self._cut()
            return
        os.close(self._fd)
        self._fd, self._size = fd, 0
