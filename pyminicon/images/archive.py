"""Images from files: root file system tarballs, `docker save` archives, OCI layouts and their tars."""

from __future__ import annotations

import errno
import io
import itertools
import os
import time

from .. import _core
from . import config as configs
from . import decompress, docker_archive, layers, lookup
from .assemble import Job, assemble, keep
from .config import check_platform, native_platform
from .errors import ImageError
from .layout import DirectoryLayout, TarLayout
from .limits import Budget
from .tar_index import TarBlobs, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_PIECE = 1 << 18
_HEAD = 1 << 16
#: What may lie at the top of an image archive; anything else makes it a root file system.
_IMAGE_NAMES = (".", "blobs", "oci-layout", "index.json", "manifest.json", "repositories")


def import_path(job: Job, path: str, ref: str | None = None) -> str:
    """Bring an archive or OCI layout into the store; the image's digest.

    ``ref`` chooses one of several images in it. ``"-"`` is standard input.
    Raises ImageError for a file that is none of the kinds, damaged or hostile.
    """
    job.store.sweep()
    if path == "-":
        with os.fdopen(os.dup(0), "rb", buffering=0) as file:
            return _stream(job, _read(file), ref)
    if os.path.isdir(path):
        return _layout(job, os.path.abspath(path), ref)
    try:
        fd = _core.open_plain(path, True)  # not to hang on a fifo, nor to wake a device up
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ImageError(f"{path} is neither a file nor a directory with an OCI layout") from None
        raise ImageError(f"{path}: {error.strerror}") from None
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        # The identity before the first byte is read: of a file that changes meanwhile nobody will
        # ever ask for this one again.
        key = lookup.file_key(status, job.platform)
        if ref is None and _settled(status):
            job.file_entry = (key, os.path.abspath(path))
        return _file(job, file, os.path.abspath(path), f"import-{key}", ref)


def _settled(status: os.stat_result) -> bool:
    """Whether a later change of the file would show in its times: the kernel's clock for them
    moves in steps of up to 10 ms."""
    return time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > 50_000_000


def _layout(job: Job, path: str, ref: str | None) -> str:
    layout = DirectoryLayout(path)
    try:
        status = os.stat(f"{path}/index.json")
    except OSError:
        raise ImageError(f"{path} is a directory without an index.json: no OCI layout") from None
    if ref is None and _settled(status):
        job.file_entry = (lookup.file_key(status, job.platform), os.path.abspath(path))
    return assemble(job, layout, layout.index(), origin=path, ref=ref)


def _file(job: Job, file: BinaryIO, path: str, staging_key: str, ref: str | None) -> str:
    head = _head(job, _read(file))
    file.seek(0)
    if may_be_image(head):
        with _seekable(job, file, path) as whole:
            digest = _image_archive(job, whole, path, ref)
        if digest is not None:
            return digest
        file.seek(0)
    total = os.fstat(file.fileno()).st_size
    return _plain(job, _read(file), path, staging_key, ref=ref, total=total)


def _stream(job: Job, chunks: Iterator[bytes], ref: str | None) -> str:
    """What comes through a pipe: an image is spooled, as its manifest may come last."""
    seen: list[bytes] = []
    head = _head(job, _remembered(chunks, seen))
    chunks = itertools.chain(seen, chunks)
    label, key = "standard input", f"import-{os.getpid()}"
    if not may_be_image(head):
        return _plain(job, chunks, label, key, ref=ref)
    with _spool(job, chunks, label) as whole:
        digest = _image_archive(job, whole, label, ref)
        if digest is not None:
            return digest
        whole.seek(0)
        return _plain(job, _read(whole), label, key, ref=ref)


def _head(job: Job, chunks: Iterator[bytes]) -> bytes:
    head = b""
    for piece in decompress.decompressed(chunks, Budget(job.budget.limits)):
        head += piece
        if len(head) >= _HEAD:
            break
    return head


def _remembered(chunks: Iterator[bytes], seen: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        seen.append(chunk)
        yield chunk


def may_be_image(head: bytes) -> bool:
    """Whether an archive that begins with ``head`` may hold an image instead of a root file system.

    Its manifest.json decides, wherever that lies; but to look for it is to read all of a compressed archive. An
    image's files lie at the top under whatever names, or in directories that are digests; a root file
    system shows other directories within ``head``.
    """
    seen = False
    try:
        for member in members(io.BytesIO(head), len(head)):
            seen = True
            top, slash, _ = member.name.partition("/")
            at_the_top = member.is_file and not slash
            if not at_the_top and top not in _IMAGE_NAMES and not _is_hex(top):
                return False
    except ImageError:
        return False
    return seen


def _is_hex(name: str) -> bool:
    return len(name) in (64, 128) and not name.strip("0123456789abcdef")


def _seekable(job: Job, file: BinaryIO, path: str) -> BinaryIO:
    """The file itself, or its decompressed content in a nameless file of the store."""
    start = file.read(8)
    file.seek(0)
    if decompress.kind(start):
        return _spool(job, _read(file), os.path.basename(path))
    return os.fdopen(os.dup(file.fileno()), "rb")


def _spool(job: Job, chunks: Iterator[bytes], label: str) -> BinaryIO:
    fd = os.open(f"{job.store.path}/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    spool = os.fdopen(fd, "w+b")
    try:
        with job.progress.task(label) as task:
            for piece in decompress.decompressed(chunks, Budget(job.budget.limits)):
                job.check()
                task.add(spool.write(piece))
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def _image_archive(job: Job, file: BinaryIO, path: str, ref: str | None) -> str | None:
    """The digest of the image in the archive; None when it holds a root file system after all."""
    blobs = TarBlobs(file)
    if "manifest.json" in blobs:
        return docker_archive.take(job, blobs, path, ref)
    if "oci-layout" in blobs and "index.json" in blobs:
        layout = TarLayout(blobs)
        return assemble(job, layout, layout.index(), origin=path, ref=ref)
    return None


def _plain(
    job: Job, chunks: Iterator[bytes], source: str, staging_key: str, *, ref: str | None, total: int = 0
) -> str:
    """A root file system: one layer, and a configuration made up for it."""
    if ref is not None:
        raise ImageError(f"{source} is a root file system: there is no {ref!r} in it to choose")
    with (
        job.store.staging(staging_key, job.check) as staging,
        job.progress.task(os.path.basename(source), total) as task,
    ):
        known = job.store.by_file(job.file_entry[0]) if job.file_entry else None
        if known is not None:
            job.store.tag(known, job.names or [])
            return known

        def pieces() -> Iterator[bytes]:
            for piece in chunks:
                job.check()
                task.add(len(piece))
                yield piece

        diff_id, lock = layers.take(job.store, staging, pieces(), job.budget, job.check)
        try:
            return _add_plain(job, diff_id, source)
        finally:
            os.close(lock)


def _add_plain(job: Job, diff_id: str, source: str) -> str:
    platform = check_platform(job.platform) if job.platform else native_platform()
    data = configs.for_plain(diff_id, platform)
    digest = configs.digest_of(data)
    parsed = configs.parse(data)
    keep(job, digest, parsed, about={"source": source, "config": parsed.raw}, names=job.names or [])
    return digest


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
