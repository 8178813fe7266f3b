"""Root file systems for tests, made of what every machine has: no download, no package."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

#: dash and coreutils are essential packages; a program that isn't there is left out.
PROGRAMS = (
    "sh cat ls echo id mkdir rmdir touch rm ln cp mv mknod mkfifo chmod chown mount umount stat readlink sleep "
    "head tail tr wc dd uname env grep kill sync true false printf sort test seq truncate sha256sum pwd "
    "setsid nproc od tty find ps hostname"
).split()


def _libraries(program: str) -> list[str]:
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", listing)


def copy_program(root: Path, program: str) -> None:
    """``program`` and the libraries it needs, into /bin and their own paths."""
    shutil.copy2(os.path.realpath(program), root / "bin" / os.path.basename(program))
    for library in _libraries(program):
        target = root / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.path.realpath(library), target)


def minimal(root: Path) -> Path:
    """A small root: the usual directories, passwd and group, a shell and what one uses in it."""
    for name in "bin dev etc home lib lib64 proc root run sys tmp usr/bin var/tmp".split():
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is not None:
            copy_program(root, found)
    etc = root / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\n"
    )
    (etc / "group").write_text(
        "root:x:0:\nusers:x:100:\naudio:x:29:alice,bob\nvideo:x:44:alice\nalice:x:1000:\n"
    )
    (etc / "motd").write_text("from the image\n")
    root.chmod(0o755)
    return root


def copy_of(source: Path, target: Path) -> Path:
    """The same tree to play with. Files are copied, so that a write to one isn't a write to the other."""
    shutil.copytree(source, target, symlinks=True)
    return target


_PAYLOAD = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "ls")) return access(argv[2], F_OK) == 0 ? 0 : 3;
  puts(argc > 1 ? argv[1] : "alive");
  return 0;
}
"""


def bare(root: Path) -> Path:
    """One static program and nothing else: no /proc, no /dev, no /etc."""
    root.mkdir(parents=True, exist_ok=True)
    source = root.parent / "payload.c"
    source.write_text(_PAYLOAD)
    compiler = shutil.which("cc") or shutil.which("gcc") or "g++"
    subprocess.run([compiler, "-static", "-O1", "-x", "c", source, "-o", root / "payload"], check=True)
    root.chmod(0o755)
    return root


def fingerprint(root: Path) -> str:
    """A digest over names, types, modes, owners, link targets and contents of a tree."""
    total = hashlib.sha256()
    for place, names, files in os.walk(root):
        names.sort()
        for name in sorted(names + files):
            path = os.path.join(place, name)
            info = os.lstat(path)
            total.update(f"{path}\0{info.st_mode:o}\0{info.st_uid}:{info.st_gid}\0{info.st_rdev}\0".encode())
            if stat.S_ISLNK(info.st_mode):
                total.update(os.readlink(path).encode())
            elif stat.S_ISREG(info.st_mode):
                total.update(Path(path).read_bytes())
                total.update(f"{info.st_mtime_ns}".encode())
    return total.hexdigest()
