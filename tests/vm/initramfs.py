"""Build the small first file system: busybox, the modules that reach the real root, and a script.

It is a cpio archive in the "newc" format (cpio(5)), written here so that no cpio or initramfs tool is needed.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from kernels import Kernel

# The devices and file systems without which the real root can't be mounted. Everything else is loaded by
# modprobe once it is there.
_NEEDED = ("virtio_pci", "9pnet_virtio", "9p")

_BEGIN = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in {modules}; do /bin/busybox insmod /modules/$module || echo "vm: insmod $module failed"; done
"""

_HOST_ROOT = """
# cache=loose: nobody else changes these files while the machine runs, and every lookup that the cache answers
# saves a round trip to the emulator.
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any root /root ||
    exec /bin/busybox poweroff -f
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /bin/bash {script}
"""


# A disk with a Debian of its own. The modules are the cache's; they lie beneath /run, to which /lib/modules is a link:
# with a mount below /usr no ordinary user could make an overlay of it.
_DISK_NEEDED = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "9pnet_virtio", "9p")
_DISK_ROOT = """
for second in 0 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; /bin/busybox sleep 0.2; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /root/run
/bin/busybox mkdir /root/run/modules
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any modules \
    /root/run/modules || exec /bin/busybox poweroff -f
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


def build(kernel: Kernel, script: str, target: Path) -> None:
    """Write the archive for ``kernel`` to ``target``; ``script`` is what bash then runs as pid 1."""
    _build(kernel, _NEEDED, _HOST_ROOT.replace("{script}", script), target)


def build_for_disk(kernel: Kernel, target: Path) -> None:
    """The archive that goes on with /sbin/init of the first virtio disk."""
    _build(kernel, _DISK_NEEDED, _DISK_ROOT, target)


def _build(kernel: Kernel, needed: tuple[str, ...], then: str, target: Path) -> None:
    archive = _Cpio()
    for name in ("bin", "modules"):
        archive.directory(name)
    archive.file("bin/busybox", kernel.busybox.read_bytes(), 0o755)
    order = _load_order(kernel, needed)
    for path in order:
        archive.file(f"modules/{_plain_name(path)}", _module_bytes(path), 0o644)
    init = _BEGIN.format(modules=" ".join(_plain_name(p) for p in order)) + then
    archive.file("init", init.encode(), 0o755)
    target.write_bytes(archive.finish())


def _load_order(kernel: Kernel, modules: tuple[str, ...]) -> list[Path]:
    """Module files, dependencies first; a needed one that isn't listed is built into the kernel."""
    needs: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_plain_name(Path(path)).removesuffix(".ko"): path for path in needs}
    order: list[str] = []
    for name in modules:
        wanted = by_name.get(name)
        if wanted is None:
            continue
        # modules.dep lists the nearest dependency last-to-load first; reversed, every one follows its own.
        for path in [*reversed(needs[wanted]), wanted]:
            if path not in order:
                order.append(path)
    return [kernel.modules / path for path in order]


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".xz")


def _module_bytes(path: Path) -> bytes:
    # Decompressed here: busybox's insmod needn't know xz then, and the emulated processor is slow at it.
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


class _Cpio:
    """Collects entries in memory; a few MB in all."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def directory(self, name: str) -> None:
        self._entry(name, b"", 0o040755)

    def file(self, name: str, data: bytes, mode: int) -> None:
        self._entry(name, data, 0o100000 | mode)

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", b"", 0)
        return b"".join(self._parts)

    def _entry(self, name: str, data: bytes, mode: int) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + encoded, data):
            self._parts.append(part + b"\0" * (-len(part) % 4))
