"""The store: what is in it, and how something comes in.

An image is there when its launch record is, and the record is renamed into place last. A layer is
there when its directory in layers/ is, and that is renamed into place whole. See lookup.py for the
layout and for what a running container locks. No fsync: a process may be killed at any moment and
the store is sound, but a machine that loses power may lose what it had just written.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from . import locks, lookup
from .errors import ImageError, Missing, foreign_store
from .locks import StoreLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .lookup import ImageConfig
    from .unpack import Unpacked

_DIRECTORIES = ("refs", "files", "images", "layers", "tmp")


def layer_id(diff_id: str) -> str:
    """The directory name of a layer. Short, because mount(2) takes one page of lower directories;
    the whole digest lies beside the tree and is compared."""
    return diff_id.partition(":")[2][:32]


class Store:
    """The store at ``path`` (default: :func:`lookup.store_path`), made when it isn't there."""

    __slots__ = ("path",)

    def __init__(self, path: str | None = None) -> None:
        self.path: str = path or lookup.store_path()
        if ":" in self.path or "," in self.path or "\\" in self.path:
            raise ImageError(f"the store can't be at {self.path!r}: overlayfs takes no ':', ',' or '\\'")
        try:
            # 0700: setuid programs of images must not be in reach of this machine's users.
            os.makedirs(self.path, 0o700, exist_ok=True)
            about = os.stat(self.path)
            if about.st_uid != os.geteuid() or about.st_mode & 0o002:
                raise foreign_store(self.path, about.st_uid, os.geteuid())
            for name in _DIRECTORIES:
                os.makedirs(f"{self.path}/{name}", 0o700, exist_ok=True)
        except OSError as error:
            raise ImageError(
                f"the store {self.path} can't be made: {error.strerror}; set PYMINICON_STORE to another place"
            ) from None

    # -- coming in ---------------------------------------------------------------------------

    def sweep(self) -> int:
        """Remove the leftovers of killed imports and pulls; how many there were."""
        return locks.sweep(f"{self.path}/tmp")

    def staging(self, key: str, check: Callable[[], None] | None = None) -> locks.Staging:
        """A place to make something; ``key`` names it, and one process at a time has it."""
        return locks.Staging(f"{self.path}/tmp/{key}", check)

    def hold_layer(self, diff_id: str) -> int | None:
        """A shared lock on a layer, so that no removal takes it; None when the store lacks it."""
        path = f"{self.path}/layers/{layer_id(diff_id)}"
        fd = locks.lock(path, fcntl.LOCK_SH)
        if fd is not None and (known := lookup.read_small(f"{path}/diff_id")) != diff_id.encode():
            os.close(fd)
            raise ImageError(f"layer {diff_id} and {known!r} have the same name in the store")
        return fd

    def publish_layer(self, staging: locks.Staging, diff_id: str, made: Unpacked) -> int | None:
        """Make a finished tree a layer; a shared lock on it. When somebody else was first, theirs
        stays. None when a removal took it at once: nothing names it yet."""
        texts = {"diff_id": diff_id, "size": str(made.size), "notes": "\n".join(made.notes)}
        if made.has_root:
            about = os.stat(staging.fs)
            texts["root"] = f"{about.st_mode & 0o7777:o}:{about.st_uid}:{about.st_gid}"
        for name, text in texts.items():
            with open(f"{staging.path}/{name}", "w") as file:
                file.write(text)
        target = f"{self.path}/layers/{layer_id(diff_id)}"
        return staging.share(target) if staging.publish(target) else self.hold_layer(diff_id)

    def layer_notes(self, diff_id: str) -> list[str]:
        text = lookup.read_small(f"{self.path}/layers/{layer_id(diff_id)}/notes") or b""
        return text.decode().splitlines()

    def root_of(self, diff_ids: list[str]) -> str:
        """Mode and owner of the root directory, by the topmost layer that says something of it."""
        for diff_id in reversed(diff_ids):
            told = lookup.read_small(f"{self.path}/layers/{layer_id(diff_id)}/root")
            if told:
                return told.decode()
        return ""

    def layer_size(self, diff_id: str) -> int:
        return int(lookup.read_small(f"{self.path}/layers/{layer_id(diff_id)}/size") or 0)

    def add_image(
        self,
        digest: str,
        platform: str,
        diff_ids: list[str],
        config: ImageConfig | None,
        *,
        about: dict[str, Any],
        names: list[str],
        file_entry: tuple[str, str] | None = None,
    ) -> None:
        """Write an image whose layers the caller holds, and its names. Tags move, records don't.

        ``about`` is what `inspect` shows. ``file_entry``: the identity and path of the archive
        that it came from.
        """
        ids = [layer_id(layer) for layer in reversed(diff_ids)]
        record = lookup.encode_record(digest, platform, ids, config, self.root_of(diff_ids))
        hexes = digest.partition(":")[2]
        about = {
            "digest": digest,
            "platform": platform,
            "created_here": int(time.time()),
            "diff_ids": diff_ids,
            **about,
        }
        with self.locked() as lock:
            if not os.path.exists(f"{self.path}/images/{hexes}"):
                lock.write(f"images/{hexes}.json", json.dumps(about, indent=1).encode())
                lock.write(f"images/{hexes}", record)
            for name in names:
                lock.write(f"refs/{ref_file(name)}", digest.encode())
            if file_entry is not None:
                lock.write(
                    f"files/{file_entry[0]}", f"{digest}\n{file_entry[1]}".encode("utf-8", "surrogateescape")
                )

    def tag(self, digest: str, names: list[str]) -> None:
        """Give an image more names."""
        with self.locked() as lock:
            if not os.path.exists(f"{self.path}/images/{digest.partition(':')[2]}"):
                raise ImageError(f"{digest} isn't in the store")
            for name in names:
                lock.write(f"refs/{ref_file(name)}", digest.encode())

    def has(self, digest: str) -> bool:
        return os.path.exists(f"{self.path}/images/{digest.partition(':')[2]}")

    def by_file(self, key: str) -> str | None:
        """The digest of the image that the archive with this identity was imported as."""
        data = lookup.read_small(f"{self.path}/files/{key}")
        digest = data.split(b"\n", 1)[0].decode() if data else ""
        return digest if digest and self.has(digest) else None

    def by_path(self, path: str) -> str | None:
        """The digest of the image that was last imported from the archive or layout at ``path``."""
        wanted = os.fsencode(os.path.abspath(path))
        newest: tuple[float, str] | None = None
        for key in os.listdir(f"{self.path}/files"):
            digest, _, source = (lookup.read_small(f"{self.path}/files/{key}") or b"").partition(b"\n")
            if source == wanted and self.has(digest.decode()):
                made = os.stat(f"{self.path}/files/{key}").st_mtime
                newest = max(newest or (made, digest.decode()), (made, digest.decode()))
        return newest[1] if newest else None

    def find(self, name: str) -> str | None:
        """The digest of what `ls` shows as ``name``: a name, a digest or its beginning, a path."""
        digest = lookup.find_digest(self.path, name)
        return self.by_path(name) if digest is None and "/" in name else digest

    # -- looking -----------------------------------------------------------------------------

    def digests(self) -> list[str]:
        return sorted(f"sha256:{name}" for name in os.listdir(f"{self.path}/images") if "." not in name)

    def names(self) -> dict[str, list[str]]:
        """The names of every image that has one, by digest."""
        found: dict[str, list[str]] = {}
        for ref in sorted(os.listdir(f"{self.path}/refs")):
            digest = lookup.read_small(f"{self.path}/refs/{ref}")
            if digest:
                found.setdefault(digest.decode(), []).append(ref.replace("%", "/"))
        return found

    def about(self, digest: str) -> dict[str, Any]:
        """What is known of an image. Raises Missing when it isn't in the store, ImageError for a damaged file."""
        path = f"{self.path}/images/{digest.partition(':')[2]}.json"
        data = lookup.read_small(path)
        if data is None:
            raise Missing(f"{digest} isn't in the store")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        kinds = {"digest": str, "platform": str, "created_here": int, "diff_ids": list}
        if not isinstance(found, dict) or not all(isinstance(found.get(k), t) for k, t in kinds.items()):
            raise ImageError(f"{path} is damaged; `pyminicon image rm {digest[7:19]}` removes its image")
        return found

    def locked(self) -> StoreLock:
        """The store's own lock, for a moment's change of names or records."""
        return StoreLock(self.path)


def ref_file(name: str) -> str:
    """The file that a name given to an image is kept in: without a registry it is a local one."""
    return lookup.ref_names(name)[0]
