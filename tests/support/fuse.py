"""A FUSE file system with nothing but a root, for programs that serve it themselves, or don't."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import tempfile
import threading

INIT, GETATTR, STATFS, LOOKUP = 26, 3, 17, 1
_WITHOUT_ANSWER = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_ENOENT, _ENOSYS = 2, 38


def mount(options: str = "") -> tuple[str, int]:
    """A new mount point, and the descriptor to serve it by."""
    where = tempfile.mkdtemp()
    os.chmod(where, 0o755)
    device = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(device, True)
    words = f"fd={device},rootmode=40000,user_id=0,group_id=0{options}"
    subprocess.run(["mount", "-i", "-t", "fuse", "-o", words, "test", where], pass_fds=[device], check=True)
    return where, device


def read(device: int) -> tuple[int, int]:
    """The next request: what it is about, and its number."""
    _, opcode, unique = struct.unpack_from("<IIQ", os.read(device, 1 << 20))
    return opcode, unique


def answer(device: int, opcode: int, unique: int, kept: int = 0) -> None:
    """Tells of a root with nothing in it. ``kept`` (seconds): how long the kernel may remember that."""
    error, body = 0, b""
    if opcode == INIT:  # protocol 7.31, nothing special
        body = struct.pack("<IIIIHHIIHH8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0, *[0] * 8)[:64]
    elif opcode == GETATTR:
        body = struct.pack("<QII6Q10I", kept, 0, 0, 1, *[0] * 8, 0o40755, 2, 0, 0, 0, 4096, 0)
    elif opcode == STATFS:
        body = struct.pack("<5Q4I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24)
    elif opcode in _WITHOUT_ANSWER:
        return
    else:
        error = -_ENOENT if opcode == LOOKUP else -_ENOSYS
    os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


_FORGET, SETATTR, OPEN, READ, WRITE, RELEASE, FLUSH = 2, 4, 14, 15, 16, 18, 25
OPENDIR, READDIR, RELEASEDIR = 27, 28, 29


class Files(threading.Thread):
    """A file system with one directory of ``files``, mounted until ``close()``.

    ``silent``: opcodes that it leaves without an answer from now on. ``seen``: those it was asked.
    """

    def __init__(self, files: dict[str, bytes], options: str = ",allow_other,default_permissions") -> None:
        super().__init__(daemon=True)
        self.files = files
        self.names = list(files)
        self.silent: set[int] = set()
        self.errors: dict[int, int] = {}
        self.seen: list[int] = []
        self.where, self.device = mount(options)
        self._leave = os.eventfd(0)
        self.start()

    def run(self) -> None:
        watch = select.poll()
        watch.register(self.device, select.POLLIN)
        watch.register(self._leave, select.POLLIN)
        while self._leave not in dict(watch.poll()):
            try:
                request = os.read(self.device, 1 << 20)
                _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
                self.seen.append(opcode)
                if opcode not in self.silent and opcode not in _WITHOUT_ANSWER:
                    error, body = self._act(opcode, node, request[40:])
                    os.write(self.device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)
            except OSError:
                return

    def _act(self, opcode: int, node: int, told: bytes) -> tuple[int, bytes]:
        if opcode in self.errors:
            return self.errors[opcode], b""
        if opcode == INIT:
            return 0, struct.pack("<IIIIHHIIHH8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0, *[0] * 8)[:64]
        if opcode == LOOKUP:
            name = told[:-1].decode()
            if name not in self.files:
                return _ENOENT, b""
            found = self.names.index(name) + 2
            return 0, struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)
        if opcode in (GETATTR, SETATTR):
            if opcode == SETATTR and struct.unpack_from("<I", told)[0] & 8:  # FATTR_SIZE
                self.files[self.names[node - 2]] = b""
            return 0, struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode == STATFS:
            return 0, struct.pack("<5Q4I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24)
        if opcode in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 0, 1, 0)  # FOPEN_DIRECT_IO: each read comes here
        if opcode == READDIR:
            return 0, self._entries(struct.unpack_from("<QQ", told)[1])
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", told)
            return 0, self.files[self.names[node - 2]][offset : offset + size]
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", told)
            name = self.names[node - 2]
            self.files[name] = self.files[name][:offset] + told[40 : 40 + size]
            return 0, struct.pack("<II", size, 0)
        return (0, b"") if opcode in (RELEASE, RELEASEDIR, FLUSH) else (_ENOSYS, b"")

    def _attributes(self, node: int) -> bytes:
        size = len(self.files[self.names[node - 2]]) if node > 1 else 0
        mode = 0o100666 if node > 1 else 0o40777
        return struct.pack("<6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _entries(self, offset: int) -> bytes:
        told = b""
        for number, name in list(enumerate(self.names, 1))[offset:]:
            told += struct.pack("<QQII", number + 1, number, len(name), 8) + name.encode()
            told += bytes(-len(told) % 8)
        return told

    def close(self) -> None:
        # Before its descriptor is closed: the number would be another's, and the thread read from that.
        os.eventfd_write(self._leave, 1)
        self.join()
        subprocess.run(["umount", "-l", self.where], check=True)
        os.close(self.device)
        os.close(self._leave)
        os.rmdir(self.where)
