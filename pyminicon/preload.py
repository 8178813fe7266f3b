"""Loads ahead what a launch would load when it needs it: for whoever drops privileges or changes root afterwards."""

from __future__ import annotations

import os
import sys

# What our own functions import of the standard library and of extras when they need it, and what that loads in turn.
_STANDARD = (
    "atexit asyncio codecs ctypes difflib encodings.ascii encodings.latin_1 errno fcntl gc io json pwd resource selectors "
    "signal stat struct subprocess tempfile termios time tty backports.zstd compression.zstd"
).split()

# Not part of any launch: the command line, others' frameworks, what `python -m` in a checkout needs.
_APART = frozenset(("cli", "adapters", "__main__", "_checkout"))


def load() -> None:
    """Loads all that a launch needs, so that nothing is looked for on disk any more.

    Call it before ``setuid``, ``chroot``, a change of ``sys.path`` or whatever else makes this package's files
    unreachable: everything works as before then. It takes about 0.1 s, once.
    """
    for name in (*_STANDARD, *_modules()):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("pyminicon"):
                raise  # what is missing isn't an extra that may be missing
    for name in ("TimeoutExpired", "CalledProcessError"):
        getattr(sys.modules["pyminicon.errors"], name)
    _libseccomp()


def rooms(*names: str) -> None:
    """Loads all modules of these packages of ours, once.

    What a thread imports while another forks stays locked in the forked process for ever: the lock's owner
    isn't there. So whoever plans in a thread of its own loads before what planning imports when it needs it.
    """
    if not _found:  # once: it reads directories, which a loop's thread shouldn't
        _found.extend(_modules())
    for name in names:
        if name not in _loaded:
            for module in _found:
                if module.startswith(f"pyminicon.{name}"):
                    __import__(module)
            _loaded.add(name)


_found: list[str] = []
_loaded: set[str] = set()


def _modules() -> list[str]:
    """Every module of the package that a program can come to."""
    found = []
    places = [("pyminicon", path) for path in sys.modules["pyminicon"].__path__]
    for package, place in places:
        with os.scandir(place) as entries:
            for entry in entries:
                stem, _, suffix = entry.name.partition(".")
                if stem in _APART or stem == "__pycache__":
                    continue
                if entry.is_dir():
                    places.append((f"{package}.{stem}", entry.path))
                elif suffix == "py" or suffix.endswith(".so"):
                    found.append(package if stem == "__init__" else f"{package}.{stem}")
    return found


def _libseccomp() -> None:
    """The library that filters other than the default are compiled with, where there is one."""
    from pyminicon.errors import SpecError
    from pyminicon.seccomp.libseccomp import Library

    try:
        Library()
    except SpecError:
        pass  # whoever asks for such a filter is told so then
