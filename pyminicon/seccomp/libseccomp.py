"""libseccomp by dlopen: names to numbers, rules to a program. Only this file knows the library.

See seccomp_init(3), seccomp_attr_set(3), seccomp_rule_add(3), seccomp_export_bpf(3). Version 2.5 or later;
before it programs are made without the binary tree, which is slower and as strict.
"""

from __future__ import annotations

import ctypes
import os
import struct

from pyminicon.errors import SpecError
from pyminicon.seccomp.rules import ERRNO, KILL_PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.seccomp.rules import Comparisons, Prepared

# enum scmp_filter_attr, enum scmp_compare
_ACT_BADARCH, _CTL_OPTIMIZE, _BINARY_TREE = 2, 8, 2
_COMPARE = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_UNKNOWN_NAME = -1  # __NR_SCMP_ERROR; other negative numbers are names of other architectures
_LOG_AND_KILL_PROCESS = 3  # the API level that has them, Linux 4.14

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_ENOSYS = 38

# seccomp_arch_native(3) -> (the profile format's name, Go's name); the values are linux/audit.h's.
ARCHITECTURES = {
    0xC000003E: ("SCMP_ARCH_X86_64", "amd64"),
    0x40000003: ("SCMP_ARCH_X86", "386"),
    0xC00000B7: ("SCMP_ARCH_AARCH64", "arm64"),
    0x40000028: ("SCMP_ARCH_ARM", "arm"),
    0xC00000F3: ("SCMP_ARCH_RISCV64", "riscv64"),
    0xC0000015: ("SCMP_ARCH_PPC64LE", "ppc64le"),
    0x80000016: ("SCMP_ARCH_S390X", "s390x"),
    0xC0000102: ("SCMP_ARCH_LOONGARCH64", "loong64"),
}


class _ArgCmp(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class Library:
    """The loaded library. Raises SpecError where there is none."""

    def __init__(self) -> None:
        try:
            self._so = ctypes.CDLL("libseccomp.so.2")
        except OSError as error:
            raise SpecError(
                "seccomp",
                "a filter has to be compiled here, which takes libseccomp.so.2: install the package "
                "libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora, Arch, Alpine)",
            ) from error
        self._declare()
        self.arch: int = self._so.seccomp_arch_native()
        # The library asks the kernel what it can do, and in a sandbox that refuses the question it takes
        # the kernel for an old one. What is compiled here isn't loaded here, so its answer mustn't matter.
        if self._so.seccomp_api_get() < _LOG_AND_KILL_PROCESS:
            self._so.seccomp_api_set(_LOG_AND_KILL_PROCESS)

    def _declare(self) -> None:
        pointer, u32, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
        for name, result, arguments in (
            ("seccomp_arch_native", u32, ()),
            ("seccomp_api_get", ctypes.c_uint, ()),
            ("seccomp_api_set", integer, (ctypes.c_uint,)),
            ("seccomp_init", pointer, (u32,)),
            ("seccomp_release", None, (pointer,)),
            ("seccomp_attr_set", integer, (pointer, integer, u32)),
            ("seccomp_export_bpf", integer, (pointer, integer)),
            ("seccomp_syscall_resolve_name", integer, (ctypes.c_char_p,)),
            ("seccomp_syscall_resolve_num_arch", pointer, (u32, integer)),
            (
                "seccomp_rule_add_exact_array",
                integer,
                (pointer, u32, integer, ctypes.c_uint, ctypes.POINTER(_ArgCmp)),
            ),
        ):
            function = getattr(self._so, name)
            function.restype, function.argtypes = result, arguments
        self._free = ctypes.CDLL(None).free
        self._free.restype, self._free.argtypes = None, (pointer,)

    def number(self, name: str) -> int | None:
        """The call's number here; negative: a call of other architectures only; None: no such call."""
        if not name.isascii() or "\0" in name:
            return None
        number: int = self._so.seccomp_syscall_resolve_name(name.encode())
        return None if number == _UNKNOWN_NAME else number

    def name(self, number: int) -> str | None:
        """The name of the call ``number`` here, or None."""
        found = self._so.seccomp_syscall_resolve_num_arch(self.arch, number)
        if not found:
            return None
        name = ctypes.string_at(found).decode()
        self._free(found)
        return name

    def compile(self, default: int, rules: list[Prepared], absent: list[tuple[int, int]]) -> bytes:
        """The program: struct sock_filter[], 8 bytes an instruction.

        ``default`` (int): the answer where no rule matches. ``rules``: as seccomp_rules.prepared() makes
        them. ``absent``: ranges of numbers (first, last) that answer ENOSYS before all else, in order.
        """
        context = self._so.seccomp_init(default)
        if not context:
            raise SpecError("seccomp", f"libseccomp takes no default action {default:#x}")
        try:
            self._check(self._so.seccomp_attr_set(context, _ACT_BADARCH, KILL_PROCESS), "KILL_PROCESS")
            self._so.seccomp_attr_set(context, _CTL_OPTIMIZE, _BINARY_TREE)  # EINVAL before 2.5
            for number, answer, comparisons in rules:
                self._add(context, number, answer, comparisons)
            program = self._prefix(absent) + self._export(context)
        finally:
            self._so.seccomp_release(context)
        if len(program) > MOST_INSTRUCTIONS * 8:
            raise SpecError(
                "seccomp",
                f"the program has {len(program) // 8} instructions, the kernel takes {MOST_INSTRUCTIONS}",
            )
        return program

    def _add(self, context: int, number: int, answer: int, comparisons: Comparisons) -> None:
        array = (_ArgCmp * len(comparisons))(
            *(
                _ArgCmp(index, _COMPARE[operator], first, second)
                for index, operator, first, second in comparisons
            )
        )
        result = self._so.seccomp_rule_add_exact_array(context, answer, number, len(comparisons), array)
        self._check(result, f"a rule on {self.name(number) or number}")

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result < 0:
            raise SpecError("seccomp", f"libseccomp refuses {what}: {os.strerror(-result)}")

    def _export(self, context: int) -> bytes:
        fd = os.memfd_create("seccomp")
        try:
            self._check(self._so.seccomp_export_bpf(context, fd), "to write the program")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _prefix(self, absent: list[tuple[int, int]]) -> bytes:
        """Instructions in front of the library's, which has no rules on ranges.

        Only for calls of the native architecture: others jump over it, to be closed by what follows.
        """
        load, equal, above, at_least, answer = 0x20, 0x15, 0x25, 0x35, 0x06  # linux/bpf_common.h
        body = []
        for position, (first, last) in enumerate(absent):
            after = 2 * (len(absent) - position - 1)  # instructions of the ranges that follow
            body.append((at_least, 0, 1, first))
            # Beyond the last of this range: on to the next. Otherwise to the answer, which stands after all
            # ranges.
            body.append((above, 0 if after else 1, after, last))
        if not absent:
            return b""
        # The last range is left by its first comparison too: over the answer.
        body[-2] = (at_least, 0, 2, absent[-1][0])
        body.append((answer, 0, 0, ERRNO | _ENOSYS))
        whole = [(load, 0, 0, 4), (equal, 0, len(body) + 1, self.arch), (load, 0, 0, 0), *body]
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in whole)
