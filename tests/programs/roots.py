"""Debian roots with the programs that people run, made by mmdebstrap once and kept where tests/vm keeps its kernels."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.kernels import cache_dir

SUITE = "bookworm"
PACKAGES = {
    "tools": "sudo openssh-server openssh-client gcc g++ make libc6-dev nodejs npm postgresql nginx-light gdb strace git "
    "python3-pip python3-venv tmux rsyslog apt-utils dpkg-dev procps ca-certificates",
    "runtimes": "default-jre-headless golang-go cargo chromium ffmpeg ca-certificates fonts-dejavu-core",
}
_MOST_SECONDS = 1500


class CannotMake(Exception):
    """The root can't be made here, and why."""


def place_of(name: str) -> Path:
    """Where the root ``name`` is kept: another list of packages is another root."""
    digest = hashlib.sha256(f"{SUITE} {PACKAGES[name]}".encode()).hexdigest()[:12]
    return cache_dir() / f"programs-{name}-{digest}"


def root(name: str) -> Path:
    """The root directory ``name``, made if it isn't there. Raises CannotMake."""
    place = place_of(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.parent / f"programs-{name}.lock"):
        if not place.exists():
            _make(name, place)
        for old in place.parent.glob(f"programs-{name}-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)
    return place


def archive() -> Path:
    """A small Debian as an archive, for whoever is to own what is unpacked of it. Raises CannotMake."""
    place = cache_dir() / f"programs-{SUITE}.tar"
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.with_suffix(".lock")):
        if not place.exists():
            _bootstrap(place, [])
    return place


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def begin(name: str) -> None:
    """Has the root ``name`` made beside us, if it isn't there: whoever wants it waits for its lock."""
    if not place_of(name).exists() and shutil.which("mmdebstrap") is not None:
        subprocess.Popen([sys.executable, "-m", "tests.programs.roots", name], cwd=Path(__file__).parents[2])


def _make(name: str, place: Path) -> None:
    _bootstrap(place, [f"--include={PACKAGES[name]}"])


def _bootstrap(place: Path, words: list[str]) -> None:
    tool = shutil.which("mmdebstrap")
    if tool is None or os.geteuid() != 0:
        raise CannotMake("needs root and mmdebstrap to make a Debian root file system")
    part = place.with_name(f"part.{place.name}")  # by the end of its name the tool knows an archive
    shutil.rmtree(part, ignore_errors=True)
    command = [tool, "--quiet", "--variant=minbase", *words, SUITE, str(part)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MOST_SECONDS)
    if made.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        raise CannotMake(f"needs the internet: mmdebstrap failed: {made.stderr.strip()[-200:]}")
    part.rename(place)


if __name__ == "__main__":
    for each in sys.argv[1:] or PACKAGES:
        root(each)
