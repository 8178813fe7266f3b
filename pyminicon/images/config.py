"""An image's configuration: JSON by a stranger in, checked values out.

OCI image specification, "Image Configuration"; docker's differs in nothing that matters here.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath

from .errors import ImageError
from .lookup import ImageConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i386": "386",
    "i686": "386",
    "loongarch64": "loong64",
    "mips64": "mips64le",
}


_PLATFORM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"


def native_platform() -> str:
    """This machine's platform as images name it: ``"linux/amd64"``, ``"linux/arm/v7"``."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def check_platform(text: str) -> str:
    """``text`` when it reads ``os/architecture[/variant]``. Raises ImageError."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(part and not part.strip(_PLATFORM) for part in parts):
        raise ImageError(f"a platform is os/architecture[/variant], like linux/arm64, not {text!r:.100}")
    return text


#: The algorithms of digests (OCI image specification, "Descriptors"), and how many digits each has.
_DIGITS = {"sha256": 64, "sha512": 128}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def algorithm_of(digest: str) -> str:
    return digest.partition(":")[0]


def is_digest(value: object) -> bool:
    """Whether ``value`` is a ``sha256:`` or ``sha512:`` digest in its one right spelling."""
    if not isinstance(value, str):
        return False
    algorithm, _, digits = value.partition(":")
    return len(digits) == _DIGITS.get(algorithm, -1) and not digits.strip("0123456789abcdef")


def load(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises ImageError naming ``what``."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} isn't JSON: {error}") from None
    if not isinstance(found, dict):
        raise ImageError(f"{what} isn't a JSON object")
    return found


class Parsed:
    """``config`` (ImageConfig), ``diff_ids`` (list[str], bottom first), ``platform`` (str),
    ``raw`` (the JSON object)."""

    __slots__ = ("config", "diff_ids", "platform", "raw")

    def __init__(self, config: ImageConfig, diff_ids: list[str], platform: str, raw: dict[str, Any]) -> None:
        self.config: ImageConfig = config
        self.diff_ids: list[str] = diff_ids
        self.platform: str = platform
        self.raw: dict[str, Any] = raw


def parse(data: bytes) -> Parsed:
    """An image configuration. Raises ImageError for one that can't be right."""
    raw = load(data, "the image's configuration")
    rootfs = raw.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(map(is_digest, diff_ids)):
        raise ImageError("the image's configuration has no list of layers (rootfs.diff_ids)")
    if not diff_ids:
        raise ImageError("the image has no layers: there is nothing in it to run")
    if len(diff_ids) > 500:
        raise ImageError(f"the image has {len(diff_ids)} layers, overlayfs takes 500")
    parts = [_text(raw, "os") or "linux", _text(raw, "architecture") or "unknown", _text(raw, "variant")]
    platform = check_platform("/".join(part for part in parts if part))
    wants = raw.get("config")
    if wants is None:
        wants = {}
    if not isinstance(wants, dict):
        raise ImageError("the image's configuration: config isn't an object")
    volumes = wants.get("Volumes") or {}
    if not isinstance(volumes, dict):
        raise ImageError("the image's configuration: Volumes isn't an object")
    config = ImageConfig(
        _strings(wants, "Entrypoint"),
        _strings(wants, "Cmd"),
        [entry for entry in _strings(wants, "Env") or [] if entry.find("=") > 0],
        workdir=_directory(_text(wants, "WorkingDir")),
        user=_text(wants, "User"),
        stopsignal=_text(wants, "StopSignal"),
        volumes=[_clean(volume, "Volumes") for volume in volumes if volume.startswith("/")],
    )
    return Parsed(config, diff_ids, platform, raw)


def _directory(path: str) -> str:
    """As docker reads it: from the root, by its words alone (`/a/../b` is `/b`, whatever `/a` is)."""
    return "/" + posixpath.normpath(f"/{path}").strip("/") if path else ""


def _clean(value: object, key: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ImageError(f"the image's configuration: {key} holds {value!r}, not a string without NUL")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ImageError(f"the image's configuration: {key} isn't text") from None
    return value


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    return "" if value is None else _clean(value, key)


def _strings(raw: dict[str, Any], key: str) -> list[str] | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        # Very old builders wrote a bare string where the specification has a list.
        return [_clean(value, key)]
    if not isinstance(value, list):
        raise ImageError(f"the image's configuration: {key} isn't a list")
    return [_clean(item, key) for item in value]


def for_plain(diff_id: str, platform: str) -> bytes:
    """The configuration made up for a plain root file system: the same one for the same bytes."""
    os_name, _, architecture = platform.partition("/")
    made = {
        "architecture": architecture,
        "os": os_name,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    return json.dumps(made, sort_keys=True, separators=(",", ":")).encode()
