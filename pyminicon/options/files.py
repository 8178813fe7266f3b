"""The option ``files``: what is put into a container before its start, read when it is asked for."""

from __future__ import annotations

import errno
import os

from pyminicon import _core, sizes
from pyminicon.errors import SpecError, insist
from pyminicon.options import text
from pyminicon.options.mounts import inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes of one file, and of all. They travel in the launch plan (kHelperPlanMax in csrc/base/plan.h), beside
#: arguments and environment, of which the kernel takes at most 6M.
MOST, MOST_IN_ALL = 16 << 20, 56 << 20


def files(value: Any) -> list[tuple[str, bytes, int]]:
    """``{"dst": bytes or path}`` as (target, bytes, mode): read now, put in before the start.

    What is a program (it begins with ``#!`` or as an ELF file) is 0755, all else 0644; a path's file
    keeps its own mode. Raises SpecError.
    """
    try:
        items = value.items()
    except AttributeError:
        raise SpecError("files", f"takes a dict, not {type(value).__name__}") from None
    found, left = [], MOST_IN_ALL
    for key, source in items:
        target = inside("files", text("files", key))
        data, mode = _content(target, source)
        left -= len(data)
        if left < 0:
            raise SpecError("files", f"takes {sizes.form(MOST_IN_ALL)} in all, and with {target} it is more")
        found.append((target, data, mode))
    return found


def _content(target: str, source: Any) -> tuple[bytes, int]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        _check_size(target, len(data))
        return data, 0o755 if data.startswith((b"#!", b"\x7fELF")) else 0o644
    if not isinstance(source, (str, os.PathLike)):
        raise SpecError("files", f"takes bytes or a path for each file, not {type(source).__name__}")
    path = text("files", source)
    try:
        return _read(path)
    except OSError as error:
        insist(error, path)
        raise SpecError("files", f"{path}: {error.strerror}") from None


def _read(path: str) -> tuple[bytes, int]:
    # A fifo must not hold us up, and a device may have no end.
    try:
        fd = _core.open_plain(path, True)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise SpecError("files", f"{path} is no regular file") from None
        raise
    with open(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        data = file.read(MOST + 1)
    _check_size(path, len(data))
    return data, mode & 0o777


def _check_size(name: str, size: int) -> None:
    if size > MOST:
        raise SpecError("files", f"takes {sizes.form(MOST)} a file, and {name} is larger")
