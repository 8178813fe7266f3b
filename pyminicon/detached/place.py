"""Where the state of detached containers lies, whose it is, and which container a name means.

    containers/ID/   state, log, log.1, socket; locked (flock) by the keeper as long as it lives
    names/NAME       a link to the container's directory
    lent/ID/         socket, of a container that its own process serves; locked likewise
    lock             held for a few system calls by whoever gives or takes a name

All of it is one user's alone (0700), so beneath its top no name can be a trap.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_NAME = 128
_PATIENCE = 10.0  # seconds for a lock that is held for a few system calls
DRAFT = ".new-"  # how the directory of a container begins that has no id yet
LENT = "lent"  # beneath it: a room for each container of a process that lets others in (keeper/lending.py)


def top_path() -> str:
    """The directory: $PYMINICON_STATE, /run/pyminicon for root, else below $XDG_RUNTIME_DIR, or what stands in
    for that where nobody has logged in."""
    path = os.environ.get("PYMINICON_STATE")
    if path:
        return os.path.abspath(path)
    if os.geteuid() == 0:
        return "/run/pyminicon"
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session:
        return f"{os.path.abspath(session)}/pyminicon"
    session = f"/run/user/{os.geteuid()}"
    if os.access(session, os.W_OK):
        return f"{session}/pyminicon"
    if os.access("/tmp", os.W_OK):
        return f"/tmp/pyminicon-{os.geteuid()}"
    from pyminicon.images.lookup import store_path

    return f"{store_path()}/run"


def top(make: bool = False) -> str | None:
    """:func:`top_path`, once it is known to be this user's alone; None where it isn't there (``make``: it is made).
    Raises Error: who else may write there would choose what is run."""
    path = top_path()
    above = os.path.dirname(path)
    try:
        if make:
            _make(path)
        _insist_on_owner(above, os.stat(above), 0)
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if make:
            raise _unusable(above, error.strerror) from None
        return None
    except OSError as error:
        raise _unusable(path, error.strerror) from None
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(path, "is no directory")
    _insist_on_owner(path, found, None)
    return path


def _make(path: str) -> None:
    if not os.path.isdir(path) and os.path.lexists(path):
        return  # what it is will be said
    if path.endswith("/run"):  # of the store, which may not be there yet
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    for directory in (path, f"{path}/containers", f"{path}/names"):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            if directory == path:
                _insist_on_owner(path, os.lstat(path), None)  # before anything is made in it


def _insist_on_owner(path: str, found: os.stat_result, also: int | None) -> None:
    me = os.geteuid()
    if found.st_uid not in (me, also):
        raise _unusable(path, f"belongs to uid {found.st_uid}, not to {me}")
    sticky = also is not None and found.st_mode & stat.S_ISVTX  # there nobody takes another's away
    if found.st_mode & (0o077 if also is None else 0o022) and not sticky and stat.S_ISDIR(found.st_mode):
        raise _unusable(path, f"is open to others (mode {stat.S_IMODE(found.st_mode):o})")


def _unusable(path: str, why: str | None) -> Error:
    return Error(
        f"state of containers: {path}: {why}; set XDG_RUNTIME_DIR or PYMINICON_STATE to one of your own"
    )


def check_name(name: str, option: str = "name") -> str:
    """docker's rule for names. Raises SpecError."""
    plain = isinstance(name, str) and all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    if not plain or not name or not name[0].isalnum():
        raise SpecError(option, "takes letters, digits, '_', '.' and '-', the first a letter or digit")
    if len(name) > LONGEST_NAME:
        raise SpecError(option, f"takes {LONGEST_NAME} characters at most, not {len(name)}")
    return name


class Locked:
    """``with Locked(top):`` nobody else gives or takes a name meanwhile."""

    def __init__(self, where: str) -> None:
        self._path = f"{where}/lock"

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                late = time.monotonic() > deadline
            except BaseException:
                os.close(self._fd)
                raise
            if late:
                os.close(self._fd)
                raise Error(f"{self._path}: whoever holds it doesn't go on: fuser -v {self._path}")
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def take(directory: str) -> int:
    """The lock of a container's directory, now the caller's. Raises BlockingIOError where its keeper lives."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_kept(directory: str) -> bool:
    """Whether the keeper lives. Asked of the lock, which goes with it: a pid may be somebody else's by now."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: whoever looks at the same time isn't taken for a keeper.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def directories(where: str | None) -> Iterator[str]:
    """Those of all containers, drafts not among them."""
    if where is None:
        return
    try:
        names = os.listdir(f"{where}/containers")
    except FileNotFoundError:
        return
    for name in sorted(names):
        if not name.startswith("."):
            yield f"{where}/containers/{name}"


def find(word: str) -> str:
    """The directory of the container that ``word`` names: its name, its id or the beginning of that. Raises Error."""
    where = top()
    if where is not None and word and "/" not in word and not word.startswith("."):
        try:
            link = os.readlink(f"{where}/names/{word}")
            if not link.startswith(DRAFT) and os.path.isdir(f"{where}/containers/{link}"):
                return f"{where}/containers/{link}"
        except OSError:
            pass
        found = [path for path in directories(where) if os.path.basename(path).startswith(word)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(os.path.basename(path) for path in found[:4])
            raise Error(f"{word}: more than one container's id begins like this: {ids}")
        if os.path.exists(f"{where}/{LENT}/{word}/socket"):
            return f"{where}/{LENT}/{word}"
    raise NoSuchContainer(f"no such container: {word:.140}")


class NoSuchContainer(Error):
    """Nothing has that name or id."""
