"""Archives in tar's format, put in and taken out without a program on either side."""

from __future__ import annotations

import errno
import io
import os
import stat as modes
import tarfile
import tempfile

from pyminicon.inside import ops, wire
from pyminicon.inside.copying import Beneath, refuse, write_all
from pyminicon.inside.ops import Name
from pyminicon.inside.pour import pour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, ClassVar

    from pyminicon.inside.home import Hold

_MOST_HEADER = 1 << 20  # of a member's own words, which tarfile reads into memory


class _Member(tarfile.TarInfo):
    _WORDS: ClassVar[tuple[bytes, ...]] = (
        tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    )  # fmt: skip

    # Not frombuf: newer tarfiles go past it (Debian's 3.11.2-6+deb12u9). Not a HeaderError: a later header's is
    # taken for the archive's end.
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._WORDS and self.size > _MOST_HEADER:
            raise OSError(errno.EINVAL, "not an archive: a header longer than 1M")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def put(hold: Hold, target: Name, archive: Any) -> None:
    """Unpacks ``archive``, bytes or a binary file, compressed or not, into the directory ``target``."""
    unpack(Beneath(hold, target, links=0), archive)


def unpack(beneath: Beneath, archive: Any) -> None:
    """The same, beneath that directory."""
    whole = io.BytesIO(archive) if isinstance(archive, (bytes, bytearray, memoryview)) else archive
    if not hasattr(whole, "read"):
        raise _not_binary(type(archive).__name__)
    reader: Any = _Binary(whole)  # all that it asks of one that it reads as a stream
    unpacking = _Unpacking(beneath)
    try:
        with tarfile.open(fileobj=reader, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                vars(tar)["members"] = []  # it would keep them all
                unpacking.put(tar, member)
    except (tarfile.TarError, EOFError) as error:
        raise OSError(errno.EINVAL, f"not an archive: {error}") from None
    for name, mode, time in reversed(unpacking.later):
        beneath.settle(name, mode, time)


def _not_binary(what: str) -> TypeError:
    return TypeError(f"an archive is bytes or a binary file, not {what}")


class _Binary:
    """What tarfile reads of a file. One that was opened for text is told in words of ours."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> Any:
        """The next piece."""
        data = self._file.read(size)
        if isinstance(data, str):
            raise _not_binary(f"a text file ({type(self._file).__name__})")
        return data


def _beneath(name: str) -> bytes:
    """A member's name as one beneath the directory. Raises OSError for what leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise wire.failure(errno.EINVAL, name)
    return os.fsencode("/".join(parts))


class _Unpacking:
    """``later``: the directories that were made, with the modes and times that they get in the end."""

    def __init__(self, beneath: Beneath) -> None:
        self._beneath = beneath
        self._there = b""  # the directory of the member before
        self.later: list[tuple[bytes, int, int]] = []

    def put(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """The next member."""
        beneath, name = self._beneath, _beneath(member.name)
        time = int(member.mtime * 1_000_000_000)
        if not name:
            return  # "./": that directory is there
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise refuse(member.name)
        self._above(name)
        if member.isdir():
            if beneath.mkdir(name, 0o700):
                self.later.append((name, member.mode, time))
                if len(self.later) > ops.MOST_NAMES:
                    raise wire.failure(errno.EOVERFLOW, member.name)
        elif member.issym():
            if "\0" in member.linkname:
                raise wire.failure(errno.EINVAL, member.name)
            beneath.symlink(name, os.fsencode(member.linkname))
        elif member.islnk():
            beneath.link(name, _beneath(member.linkname))
        else:
            source = tar.extractfile(member)
            if source is None:
                raise wire.failure(errno.EINVAL, member.name)
            beneath.file(name, member.mode, time, source.read)

    def _above(self, name: bytes) -> None:
        """Makes the directories on the way, which not every archive has as members."""
        above = os.path.dirname(name)
        if above == self._there:
            return
        try:
            self._beneath.ask(wire.STAT, above)
        except FileNotFoundError:
            parts = above.split(b"/")
            for i in range(len(parts)):
                try:
                    self._beneath.ask(wire.MKDIR, b"/".join(parts[: i + 1]), mode=0o777)
                except FileExistsError:
                    pass
        self._there = above


# ---- out


def get(hold: Hold, source: Name) -> IO[bytes]:
    """An archive of the file or directory, in a temporary file that nobody else has a name of."""
    made: Any = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        _pack(hold, source, made.fileno())
        made.seek(0)
    except BaseException:
        made.close()
        raise
    archive: IO[bytes] = made
    return archive


def _pack(hold: Hold, source: Name, out: int) -> None:
    info = hold.rights.held(ops.stat(source, False), hold)
    pack(info.st_mode, lambda base: Beneath(hold, base), source, out)


def pack(mode: int, of: Callable[[Name], Beneath], source: Name, out: int) -> None:
    """Writes an archive of the source, whose mode that is, into an empty file. ``of``: whatever reads beneath a name."""
    name = os.path.basename(source.name)
    if modes.S_ISDIR(mode):
        beneath = of(source)
        waiting = [b""]
    else:
        beneath = of(Name(os.path.dirname(source.name), os.path.dirname(source.told)))
        waiting = [name]
    while waiting:
        inner = waiting.pop()
        told = os.path.join(name, inner) if modes.S_ISDIR(mode) else name
        if not modes.S_ISDIR(_pack_one(beneath, inner, told, out)):
            continue
        names = sorted((found for found, _ in beneath.names(inner)), reverse=True)
        waiting += [os.path.join(inner, os.fsencode(found)) for found in names]
        if len(waiting) > ops.MOST_NAMES:
            raise wire.failure(errno.EOVERFLOW, source.told)
    write_all(out, bytes(2 * tarfile.BLOCKSIZE))


def _pack_one(beneath: Beneath, name: bytes, told: bytes, out: int) -> int:
    """Its mode."""
    info = beneath.lstat(name)
    member = tarfile.TarInfo(os.fsdecode(told) or ".")
    member.mode = modes.S_IMODE(info.st_mode)
    member.uid, member.gid = info.st_uid, info.st_gid
    member.mtime = info.st_mtime_ns / 1e9
    kind = modes.S_IFMT(info.st_mode)
    if kind == modes.S_IFREG:
        _pack_file(beneath, name, member, out)
        return info.st_mode
    if kind == modes.S_IFDIR:
        member.type = tarfile.DIRTYPE
    elif kind == modes.S_IFLNK:
        member.type = tarfile.SYMTYPE
        member.linkname = os.fsdecode(beneath.readlink(name))
    else:
        raise refuse(beneath.told(name))
    write_all(out, _header(member))
    return info.st_mode


def _pack_file(beneath: Beneath, name: bytes, member: tarfile.TarInfo, out: int) -> None:
    fd = beneath.open(name)
    if fd < 0:
        with tempfile.TemporaryFile() as whole:  # nobody knows yet how long it is
            beneath.piped(name, whole.fileno())
            _put_contents(beneath, whole.fileno(), member, out)
        return
    try:
        _put_contents(beneath, fd, member, out)
    finally:
        os.close(fd)


def _put_contents(beneath: Beneath, source: int, member: tarfile.TarInfo, out: int) -> None:
    member.size = os.fstat(source).st_size
    write_all(out, _header(member))
    start = os.lseek(out, 0, os.SEEK_CUR)
    pour(beneath.hold, source, out, member.size)
    end = start + member.size  # also where it has become shorter
    end += -end % tarfile.BLOCKSIZE
    os.ftruncate(out, end)
    os.lseek(out, end, os.SEEK_SET)


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
