"""From a name to lower directories: the part of the store that lies on the launch path.

Nothing here imports more than ``os`` and ``fcntl``: a launch from a stored image reads two small
files and takes one lock. The record of an image is a list of fields with NUL between them, because
none of its strings can hold a NUL (they end up in ``execve``) and splitting needs no parser.

Layout of a store::

    refs/NAME          a tag: the digest of its image ('/' in names is written '%')
    files/KEY          an archive that was run by path: its digest, then the path
    images/HEX         the launch record of the image sha256:HEX; its presence *is* the image
    images/HEX.json    the same image for people: manifest, configuration, where it came from
    layers/ID/fs       an unpacked layer; ID is the first 32 digits of its diff id
    tmp/               work in progress; whoever works there holds a lock on the directory

A running container holds a shared lock on its image's record, so one lock guards all layers; `rm`
needs the exclusive one, and layers go only when no record names them.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_MAGIC = "pyminicon image 2"
#: Of 0.1: without the root directory's mode and owner.
_FIRST_MAGIC = "pyminicon image 1"
_END = "end of record"


class ImageConfig:
    """What an image asks of a launch (OCI image specification, "Execution Parameters").

    ``entrypoint`` and ``cmd`` (list[str] | None), ``env`` (list of ``"KEY=value"``),
    ``workdir``, ``user`` and ``stopsignal`` (str, empty when the image doesn't say),
    ``volumes`` (list of absolute paths).
    """

    __slots__ = ("cmd", "entrypoint", "env", "stopsignal", "user", "volumes", "workdir")

    def __init__(
        self,
        entrypoint: list[str] | None = None,
        cmd: list[str] | None = None,
        env: list[str] | None = None,
        *,
        workdir: str = "",
        user: str = "",
        stopsignal: str = "",
        volumes: list[str] | None = None,
    ) -> None:
        self.entrypoint: list[str] | None = entrypoint
        self.cmd: list[str] | None = cmd
        self.env: list[str] = env or []
        self.workdir: str = workdir
        self.user: str = user
        self.stopsignal: str = stopsignal
        self.volumes: list[str] = volumes or []


class Resolved:
    """An image that is in the store and stays there as long as ``lock_fds`` are open.

    ``layers`` (list[str]): absolute directories, the top one first, as overlay's lowerdir wants them.
    ``config`` (ImageConfig | None): None for a plain root file system, which asks for nothing.
    ``lock_fds`` (list[int]): close-on-exec descriptors; the caller closes them when the container
    has ended (:meth:`close` does it). ``digest`` (str): ``"sha256:..."``. ``platform`` (str):
    ``"os/architecture[/variant]"``. ``top`` (str): ``"mode:uid:gid"`` of its root directory, the mode
    octal, or empty.
    """

    __slots__ = ("config", "digest", "layers", "lock_fds", "platform", "top")

    def __init__(
        self,
        layers: list[str],
        config: ImageConfig | None,
        lock_fds: list[int],
        digest: str,
        platform: str,
        top: str = "",
    ) -> None:
        self.layers: list[str] = layers
        self.config: ImageConfig | None = config
        self.lock_fds: list[int] = lock_fds
        self.digest: str = digest
        self.platform: str = platform
        self.top: str = top

    def close(self) -> None:
        """Let go of the image; may be called more than once."""
        fds, self.lock_fds = self.lock_fds, []
        for fd in fds:
            os.close(fd)


def store_path() -> str:
    """The directory of the store: $PYMINICON_STORE, /var/lib/pyminicon for root, else XDG's data home."""
    path = os.environ.get("PYMINICON_STORE")
    if not path:
        if os.geteuid() == 0:
            return "/var/lib/pyminicon"
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        path = f"{data}/pyminicon"
    return os.path.abspath(path)


def own_store() -> str:
    """:func:`store_path`, if what lies there is this user's: who else may write there chooses what runs. Raises
    ImageError."""
    root = store_path()
    try:
        about = os.stat(root)
    except OSError:
        return root
    if about.st_uid != os.geteuid() or about.st_mode & 0o002:
        from .errors import foreign_store

        raise foreign_store(root, about.st_uid, os.geteuid())
    return root


def is_layer_id(name: str) -> bool:
    return len(name) == 32 and not name.strip("0123456789abcdef")


def encode_record(
    digest: str, platform: str, layer_ids: list[str], config: ImageConfig | None, top: str = ""
) -> bytes:
    """The launch record of an image. ``top``: "mode:uid:gid" of the root directory, where the image says it.
    Raises ValueError for a string that holds a NUL."""
    fields = [RECORD_MAGIC, digest, platform, top, str(len(layer_ids)), *layer_ids]
    if config is not None:
        fields += [config.workdir, config.user, config.stopsignal]
        for strings in (config.entrypoint, config.cmd, config.env, config.volumes):
            fields += ["-"] if strings is None else [str(len(strings)), *strings]
    if any("\0" in field for field in fields):
        raise ValueError("a NUL byte in the image's configuration")
    fields.append(_END)
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def decode_record(
    data: bytes,
) -> tuple[str, str, list[str], ImageConfig | None, str]:
    """``(digest, platform, layer ids, config, top)`` of a record. Raises ValueError when it isn't one."""
    fields = iter(data.decode("utf-8", "surrogateescape").split("\0"))
    try:
        magic = next(fields)
        if magic not in (RECORD_MAGIC, _FIRST_MAGIC):
            raise ValueError("a record of another version")
        digest, platform = next(fields), next(fields)
        top = next(fields) if magic == RECORD_MAGIC else ""
        if top and (top.count(":") != 2 or top.strip("0123456789:") or "" in top.split(":")):
            raise ValueError("a root directory without mode or owner")
        layer_ids = [next(fields) for _ in range(int(next(fields)))]
        if not all(map(is_layer_id, layer_ids)):
            raise ValueError("a layer whose name is no digest's")
        workdir = next(fields)
        if workdir == _END:
            return digest, platform, layer_ids, None, top
        user, stopsignal = next(fields), next(fields)
        entrypoint, cmd, env, volumes = [_strings(fields) for _ in range(4)]
        if next(fields) != _END:
            raise ValueError("a record of another version")
    except StopIteration:
        raise ValueError("a record that ends early") from None
    return (
        digest,
        platform,
        layer_ids,
        ImageConfig(entrypoint, cmd, env, workdir=workdir, user=user, stopsignal=stopsignal, volumes=volumes),
        top,
    )


def _strings(fields: Iterator[str]) -> list[str] | None:
    count = next(fields)
    return None if count == "-" else [next(fields) for _ in range(int(count))]


def ref_names(name: str) -> list[str]:
    """The files below refs/ that ``name`` may stand for, the likeliest first.

    A name without a registry is one that was given to an import, else one of Docker Hub's, as
    docker reads it; without a tag it is ``latest``.
    """
    base, at, digest = name.partition("@")
    head, slash, last = base.rpartition("/")
    if at:
        base = head + slash + last.partition(":")[0]  # the digest decides, as docker reads it
    tag = f"@{digest}" if at else "" if ":" in last else ":latest"
    first, slash, rest = base.partition("/")
    if slash and first in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        candidates = [f"docker.io/{rest if '/' in rest else 'library/' + rest}"]
    elif slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        candidates = [base]
    elif slash:
        candidates = [f"localhost/{base}", f"docker.io/{base}"]
    else:
        candidates = [f"localhost/{base}", f"docker.io/library/{base}"]
    return [(candidate + tag).replace("/", "%") for candidate in candidates]


def read_small(path: str) -> bytes | None:
    """The content of a small file of the store, None when it isn't there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    data = os.read(fd, 65536)
    if len(data) < 65536:
        return data
    while more := os.read(fd, 1 << 20):
        data += more
    return data


def file_key(status: os.stat_result, platform: str | None) -> str:
    """What tells one state of a file from every other, without reading it."""
    key = (
        f"{status.st_dev:x}-{status.st_ino:x}-{status.st_size:x}"
        f"-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"
    )
    return f"{key}-{platform.replace('/', '%')}" if platform else key


def find_digest(root: str, name: str) -> str | None:
    """The digest that a tag, ``sha256:`` digest or prefix of one (from 6 digits) stands for."""
    if name.startswith(".") or "\0" in name or not name.isascii():
        return None
    for ref in ref_names(name):
        data = read_small(f"{root}/refs/{ref}") if len(ref) < 256 else None
        if data:
            return data.decode()
    prefix = name.removeprefix("sha256:")
    if len(prefix) < 6 or prefix.strip("0123456789abcdef"):
        return None
    try:
        names = os.listdir(f"{root}/images")
    except FileNotFoundError:
        return None
    found = [n for n in names if n.startswith(prefix) and "." not in n]
    if len(found) > 1:
        from .errors import ImageError

        raise ImageError(f"{name!r} is the beginning of {len(found)} digests; give more of it")
    return f"sha256:{found[0]}" if found else None


#: Locks of this process by number, as (device, inode). A number that was closed since may be another file's.
_private: dict[int, tuple[int, int]] = {}


def private(fd: int) -> int:
    """``fd``, which no forked worker is to have: it would hold the lock for as long as it lives."""
    info = os.fstat(fd)
    _private[fd] = (info.st_dev, info.st_ino)
    return fd


def _close_private() -> None:
    for fd, identity in _private.items():
        try:
            info = os.fstat(fd)
            if (info.st_dev, info.st_ino) == identity:
                os.close(fd)
        except OSError:
            continue
    _private.clear()


os.register_at_fork(after_in_child=_close_private)


def open_image(root: str, digest: str) -> Resolved | None:
    """Lock and read the record of an image; None when the store doesn't have it (any more)."""
    hexes = digest.partition(":")[2]
    if not hexes or hexes.strip("0123456789abcdef"):
        return None
    try:
        path = f"{root}/images/{hexes}"
        fd = private(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        # A removal holds the exclusive lock while it unlinks: having waited for it, look again.
        if os.fstat(fd).st_nlink:
            found, platform, ids, config, top = decode_record(read_all(fd))
            layers = [f"{root}/layers/{layer}/fs" for layer in ids]
            return Resolved(layers, config, [fd], found, platform, top)
    except ValueError as error:
        os.close(fd)
        from .errors import ImageError

        raise ImageError(
            f"{digest} in {root} can't be read: {error}; remove it and import it again"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
