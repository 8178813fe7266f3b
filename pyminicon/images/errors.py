"""What can go wrong with an image. Everything here is a ``SpecError`` about the option ``image``."""

from __future__ import annotations

from ..errors import SpecError


class ImageError(SpecError):
    """An image that can't be found, read, trusted or stored; the store is as it was before."""

    __module__ = "pyminicon"

    def __init__(self, message: str) -> None:
        super().__init__("image", message)
        self.message = message

    def __reduce__(self) -> tuple[type[ImageError], tuple[str]]:
        return type(self), (self.message,)


def foreign_store(path: str, owner: int, mine: int) -> ImageError:
    """The error for a store that others may write to."""
    if owner != mine:
        return ImageError(
            f"the store {path} belongs to uid {owner}, not to {mine}: set PYMINICON_STORE to your own"
        )
    return ImageError(f"anybody may write to the store {path}: chmod 700 {path}")


class RegistryError(ImageError):
    """A registry that refused or could not be reached.

    ``status`` (int | None): the HTTP status of its last answer, None when there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[RegistryError], tuple[str, int | None]]:  # type: ignore[override]
        return type(self), (self.message, self.status)


class Missing(ImageError):
    """An image that isn't in the store, or not any more."""


class Busy(ImageError):
    """Something in the store that a running container or another command is using."""
