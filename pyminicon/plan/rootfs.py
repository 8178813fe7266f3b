"""From ``image=`` to what lies below the container's root.

An image is either a list of layers (a directory is one layer), or assembled from this machine: the
``host`` image, and ``python``, which is the same with the caller's interpreter.
"""

from __future__ import annotations

import os
import stat

from pyminicon.errors import SpecError, insist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from pyminicon.images import ImageConfig

    #: path, whether links are followed, whether it must be the same file, what was there
    Fingerprint: TypeAlias = tuple[str, bool, bool, os.stat_result | None]


class Rootfs:
    """``layers``: directories, top first; empty for an image assembled from this machine.

    ``trees``: what is assembled, each host directory at its own path; ``files``: likewise. ``path``: directories to put in
    front of PATH. ``config``: the image's own, if it has one. ``lock_fds``: held while it is used.
    ``about``: the stat of a directory that is an image. ``top``: "mode:uid:gid" of / itself, where the image
    says it.
    """

    __slots__ = (
        "_looked",
        "_unsure",
        "about",
        "config",
        "files",
        "layers",
        "lock_fds",
        "path",
        "top",
        "trees",
    )

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.trees: list[str] = []
        self.files: list[str] = []
        self.path: list[str] = []
        self.config: ImageConfig | None = None
        self.lock_fds: list[int] = []
        self.about: os.stat_result | None = None
        self.top: str = ""
        self._looked: dict[str, os.stat_result | None] = {}
        self._unsure = False

    def fingerprints(self) -> list[Fingerprint] | None:
        """What this image was looked at for: a plan made from it holds as long as all that stays. None where
        that can't be told."""
        if self.about is None or self._unsure:
            return None
        image = self.layers[0]
        rows: list[Fingerprint] = [
            (image, True, True, self.about),
            (f"{image}/oci-layout", True, False, None),
        ]
        return rows + [(path, False, False, about) for path, about in self._looked.items()]

    def _lstat(self, path: str) -> os.stat_result | None:
        """What lies at ``path``, or None; asked once, so that a plan is made from one answer."""
        if path not in self._looked:
            try:
                self._looked[path] = os.lstat(path)
            except FileNotFoundError:
                self._looked[path] = None
            except OSError:
                self._unsure = True
                raise
        return self._looked[path]

    def entry(self, path: str) -> os.stat_result | None:
        """lstat of ``path`` (relative) in the merged layers; None if it isn't there or is deleted."""
        found = self._find(path)
        return found[1] if found else None

    def _find(self, path: str) -> tuple[str, os.stat_result] | None:
        """The topmost layer that shows ``path``, as overlayfs merges them, and its lstat there."""
        for layer in self.layers:
            found, goes_on = self._in_layer(layer, path.split("/"))
            if found is not None:
                return layer, found
            if not goes_on:
                return None
        return None

    def _in_layer(self, layer: str, names: list[str]) -> tuple[os.stat_result | None, bool]:
        """What a layer has at a path, and whether it lets the lower ones show theirs: not behind a whiteout, a
        file or an opaque directory."""
        at = layer
        above: list[str] = []
        for name in names:
            at = f"{at}/{name}"
            try:
                status = self._lstat(at)
            except OSError:
                return None, False
            if status is None:
                return None, not any(_is_opaque(directory) for directory in above)
            if len(above) + 1 == len(names):
                deleted = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
                return None if deleted else status, False
            if not stat.S_ISDIR(status.st_mode):
                return None, False
            above.append(at)
        return None, False

    def read(self, path: str) -> bytes | None:
        """A small file of the image, by its links as a container would go, and by none out of it; None where
        it isn't there. Raises SpecError for what is no file, or can't be read."""
        from pyminicon import _core

        where: tuple[str, str] | None = ("/", path)
        if self.layers:
            where = self._follow(path)
        try:
            return _core.read_beneath(*where, _MOST_READ) if where else None
        except OSError as error:
            insist(error, path)
            raise SpecError("image", f"{path} {_why_unread(error)}") from None

    def _follow(self, path: str) -> tuple[str, str] | None:
        """The layer, and the path in it, to which the links of ``path`` lead in the end."""
        done: list[str] = []
        left = path.split("/")
        links = 0
        while left:
            name = left.pop(0)
            if name == "..":
                del done[-1:]
            if name in ("", ".", ".."):
                continue
            found = self._find("/".join([*done, name]))
            if found is None:
                return None
            if not stat.S_ISLNK(found[1].st_mode):
                done.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            target = os.readlink("/".join([found[0], *done, name]))
            left = target.split("/") + left
            if target.startswith("/"):
                done = []
        where = self._find("/".join(done))
        return (where[0], "/".join(done)) if where else None


#: As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40
_MOST_READ = 1 << 20  # bytes of passwd or group


def _why_unread(error: OSError) -> str:
    import errno

    if error.errno in (errno.EINVAL, errno.EISDIR, errno.ELOOP):
        return "is no regular file"
    if error.errno == errno.EFBIG:
        return "has more than 1M"
    if error.errno == errno.EXDEV:
        return "lies behind a mount of its own, which a container doesn't see"
    return f"can't be read: {error.strerror}"


def _is_opaque(directory: str) -> bool:
    """Whether ``directory`` of a layer hides the lower ones' of its name (the marks that the store writes)."""
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
        except OSError:  # none, not for us, or not on this file system
            pass
    return False


def find(image: str, dry: bool = False) -> Rootfs:
    """What ``image`` stands for; ``dry``: imports nothing. Raises SpecError."""
    root = Rootfs()
    if image in ("host", "python"):
        root.trees = _system_trees()
        if image == "python":
            _add_python(root)
        return root
    if "/" in image and (about := _plain_directory(image)):
        root.layers = [os.path.abspath(image)]
        root.about = about
        return root
    from pyminicon.images import resolve

    found = resolve(image, dry=dry)
    root.layers = list(found.layers)
    root.top = found.top
    root.config = found.config
    root.lock_fds = list(found.lock_fds)
    return root


def _plain_directory(path: str) -> os.stat_result | None:
    try:
        about = os.stat(path)
    except OSError as error:
        insist(error, path)
        # Names in the store have slashes too: ghcr.io/me/tool.
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and path[0] not in "./":
            return None
        raise SpecError("image", f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(about.st_mode):
        return None if os.path.exists(path + "/oci-layout") else about
    if not stat.S_ISREG(about.st_mode):
        raise SpecError("image", f"{path} is neither a directory nor an archive")
    return None


def _system_trees() -> list[str]:
    """/usr, and /bin /lib… where they are directories of their own (not merged into /usr)."""
    names = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
    return [f"/{name}" for name in names if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]


def system_links() -> list[tuple[str, str]]:
    """(name, target) of the links that stand for /bin, /lib… on a merged-/usr machine."""
    names = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
    return [(name, os.readlink(f"/{name}")) for name in names if os.path.islink(f"/{name}")]


def _add_python(root: Rootfs) -> None:
    """The interpreter's prefixes and the directories it imports from, where /usr hasn't got them."""
    import sys

    executable = os.path.realpath(sys.executable or "/usr/bin/python3")
    prefixes = (sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(executable)))
    for prefix in dict.fromkeys(os.path.abspath(path) for path in prefixes):
        if not _is_home(prefix):
            _add_tree(root, prefix)
            continue
        # Of somebody's home (pip's --prefix, a venv made in it) what is the interpreter's.
        for name in ("bin", "lib", "lib64", "libexec", "include", "share"):
            _add_tree(root, f"{prefix}/{name}")
        if os.path.isfile(f"{prefix}/pyvenv.cfg"):
            root.files.append(f"{prefix}/pyvenv.cfg")
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    for path in packages + [path for place in packages for path in _editable(place)]:
        if not _is_home(path):
            _add_tree(root, os.path.abspath(path))
    bins = [os.path.join(sys.prefix, "bin"), os.path.join(sys.base_prefix, "bin")]
    root.path = list(dict.fromkeys(bins))


def _add_tree(root: Rootfs, tree: str) -> None:
    covered = any(tree == known or tree.startswith(known + "/") for known in root.trees)
    if not covered and tree.count("/") > 1 and os.path.isdir(tree):
        root.trees.append(tree)


def _is_home(path: str) -> bool:
    """Whether ``path`` is where somebody keeps more than programs."""
    marks = (".ssh", ".gnupg", ".aws", ".bash_history")
    path = os.path.abspath(path)
    return path == os.path.abspath(os.path.expanduser("~")) or any(
        os.path.lexists(f"{path}/{mark}") for mark in marks
    )


def _editable(packages: str) -> list[str]:
    """Where the packages lie that were installed as links to their source: the lines of .pth files (site), and
    what the finders that setuptools puts into them know."""
    import sys

    found: list[str] = []
    try:
        names = [name for name in os.listdir(packages) if name.endswith(".pth")]
    except OSError as error:
        insist(error, packages)
        return found
    for name in sorted(names):
        try:
            with open(f"{packages}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read(1 << 20).splitlines()
        except OSError as error:
            insist(error, f"{packages}/{name}")
            continue
        for line in map(str.rstrip, lines):
            if line.startswith(("import ", "import\t")):
                finder = sys.modules.get(line.split()[1].partition(";")[0].rstrip(";"))
                mapping = getattr(finder, "MAPPING", None)
                found += [path for path in mapping.values() if isinstance(path, str)] if mapping else []
            elif line and not line.startswith("#"):
                found.append(os.path.join(packages, line))
    return [path for path in found if os.path.isdir(path)]
