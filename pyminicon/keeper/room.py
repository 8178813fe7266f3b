"""The directory of one container's state: made under a name that nobody else has, published once it runs."""

from __future__ import annotations

import os

from pyminicon.detached import place, removing
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Room:
    """The directory at ``path``, which stays locked as long as this process lives."""

    def __init__(self, name: str | None) -> None:
        where = place.top(make=True)
        assert where is not None
        self.where: str = where
        self.name: str | None = name
        self._draft = f"{place.DRAFT}{os.getpid()}-{os.urandom(4).hex()}"
        self.path: str = f"{where}/containers/{self._draft}"
        try:
            with place.Locked(where):
                removing.sweep(where)
                if name is not None:
                    self._insist_on_name(name)
                os.mkdir(self.path, 0o700)
                self._lock = place.take(self.path)
                if name is not None:
                    os.symlink(self._draft, f"{where}/names/{name}")
        except OSError as error:
            raise Error(f"state of containers: {error.filename or where}: {error.strerror}") from None

    def fds(self) -> list[int]:
        """The descriptors that hold the lock."""
        return [self._lock]

    def _insist_on_name(self, name: str) -> None:
        try:
            taken = os.readlink(f"{self.where}/names/{name}")
        except FileNotFoundError:
            return
        who = "one that is being started" if taken.startswith(place.DRAFT) else f"container {taken}"
        raise SpecError("name", f"{name:.60} is taken by {who}: pyminicon rm {name:.40}")

    def publish(self, container: str) -> None:
        """Gives it the container's id for its name; from now on other processes find it."""
        path = f"{self.where}/containers/{container}"
        with place.Locked(self.where):
            os.rename(self.path, path)
            self.path = path
            if self.name is not None:
                link = f"{self.where}/names/{self.name}"
                os.symlink(container, f"{path}/name")
                os.rename(f"{path}/name", link)

    def drop(self, fields: dict[str, Any]) -> None:
        """Removes the directory and its name."""
        removing.forget(self.where, self.path, {**fields, "name": self.name})
