"""System calls tried in a child of one's own, with or without a seccomp filter, and a filter run on paper."""

from __future__ import annotations

import ctypes
import os
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
X86_64, I386 = 0xC000003E, 0x40000003

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(program: bytes) -> None:
    """Put the calling process under ``program``, under no_new_privs."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    described = _Program(len(program) // 8, program)
    if _libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(described), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def one_call(number: int, answer: int, argument: int | None = None) -> bytes:
    """A program that has ``answer`` for the call ``number``, with ``argument`` as its second if that is given, and
    lets all else through."""
    ends = [(0x06, 0, 0, answer), (0x06, 0, 0, ALLOW)]
    rows = [(0x20, 0, 0, 0), (0x15, 0, 1, number), *ends]
    if argument is not None:
        rows[1:] = [(0x15, 0, 3, number), (0x20, 0, 0, 24), (0x15, 0, 1, argument), *ends]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def raw(number: int, *arguments: int | bytes | None) -> int:
    """The call's result, or the negative of its errno."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *words)
    return -ctypes.get_errno() if result == -1 and ctypes.get_errno() else int(result)


def in_child(work: Callable[[], Any], program: bytes | None = None) -> Any:
    """What ``work`` returns in a forked child under ``program``; -N where signal N ended it."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(readable)
            if program is not None:
                load(program)
            os.write(writable, pickle.dumps(work()))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writable)
    with open(readable, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        return code
    assert code == 0, "the child failed"
    return pickle.loads(data)


def answer(program: bytes, number: int, arguments: Sequence[int] = (), arch: int = X86_64) -> int:
    """What ``program`` answers to a call: the kernel's classic BPF machine, as far as seccomp allows it."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *words)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x06:
            return int(k)
        elif code == 0x05:
            at += k
        elif code == 0x54:
            accumulator &= k
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }
            at += if_true if holds[code] else if_false
