"""What a launch does when its image isn't in the store yet: import it, fetch it, or say so."""

from __future__ import annotations

from . import lookup, progress
from .archive import import_path
from .assemble import Job
from .config import check_platform
from .errors import ImageError
from .limits import Limits
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lookup import Resolved


def by_path(root: str, name: str, platform: str | None) -> Resolved:
    """Import the archive or layout ``name`` and lock it."""
    store = Store(root)
    while True:
        job = Job(store, Limits(), progress.Progress(), platform=platform, names=[])
        try:
            digest = import_path(job, name)
        except OSError as error:
            raise ImageError(f"{name}: {error.strerror or error}; the store is {root}") from None
        found = lookup.open_image(root, digest)
        if found is not None:
            return found
        # Pruned between the import and the lock: once more.


def by_name(root: str, image: str, platform: str | None, pull: str, other: Resolved | None) -> Resolved:
    """Fetch the image ``image`` when ``pull`` allows it, else say what is there and what to do."""
    if pull not in ("never", "missing"):
        raise ImageError(f'pull takes "never" or "missing", not {pull!r}')
    if platform is not None:
        check_platform(platform)
    if pull == "missing" and not image.startswith((".", "/")):
        while True:
            digest = fetch(image, root, platform)
            found = lookup.open_image(root, digest)
            if found is not None:
                return found
    if other is not None:
        raise ImageError(
            f"{image!r} is in the store for {other.platform}, not for {platform}; "
            f"`pyminicon image pull --platform {platform} {image}` fetches it"
        )
    if image.startswith((".", "/")):
        raise ImageError(f"{image}: no such file or directory")
    no_file = "no such file or directory, and " if "/" in image else ""
    raise ImageError(
        f"{no_file}no image {image!r} in the store {root}; `pyminicon image pull {image}` fetches it from a registry, "
        "`pyminicon image import FILE` takes an archive"
    )


def fetch(image: str, root: str | None = None, platform: str | None = None, quiet: bool = False) -> str:
    """Pull ``image`` as `pyminicon image pull` does without options; its digest."""
    from .puller import pull

    says = progress.Progress() if quiet else progress.for_terminal()
    return pull(Job(Store(root), Limits(), says, platform=platform), image)
