"""Manifests and indexes: which layers an image has, and which image is this machine's.

OCI image specification, "Image Manifest" and "Image Index"; docker's "Manifest v2, schema 2" and
"manifest list" are the same but for their media types.
"""

from __future__ import annotations

from .config import digest_of, is_digest, load, native_platform
from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_SUFFIXES = ("tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd")
#: An index may hold indexes; nobody nests deeper, and whoever does is up to something.
_DEEPEST = 4


class Descriptor:
    """A pointer to content: ``media_type`` (str), ``digest`` (str), ``size`` (int),
    ``platform`` (str, empty when not said), ``ref`` (str, the name in an OCI layout)."""

    __slots__ = ("digest", "media_type", "platform", "ref", "size")

    def __init__(self, media_type: str, digest: str, size: int, platform: str = "", ref: str = "") -> None:
        self.media_type: str = media_type
        self.digest: str = digest
        self.size: int = size
        self.platform: str = platform
        self.ref: str = ref


class Manifest:
    """``digest`` (str), ``config`` (Descriptor), ``layers`` (list[Descriptor], bottom first),
    ``raw`` (the JSON object)."""

    __slots__ = ("config", "digest", "layers", "raw")

    def __init__(
        self, digest: str, config: Descriptor, layers: list[Descriptor], raw: dict[str, Any]
    ) -> None:
        self.digest: str = digest
        self.config: Descriptor = config
        self.layers: list[Descriptor] = layers
        self.raw: dict[str, Any] = raw


def descriptor(raw: object, what: str) -> Descriptor:
    """Raises ImageError naming ``what`` for anything but a whole descriptor."""
    if not isinstance(raw, dict):
        raise ImageError(f"{what} isn't a descriptor")
    media_type, digest, size = raw.get("mediaType", ""), raw.get("digest"), raw.get("size")
    if not is_digest(digest):
        raise ImageError(f"{what} has the digest {digest!r:.100}, not a sha256 one")
    if not isinstance(media_type, str) or type(size) is not int or size < 0:
        raise ImageError(f"{what} lacks a media type or a size")
    platform = raw.get("platform")
    notes = raw.get("annotations")
    ref = notes.get("org.opencontainers.image.ref.name") if isinstance(notes, dict) else ""
    return Descriptor(
        media_type,
        str(digest),
        size,
        _platform(platform),
        ref if isinstance(ref, str) and ref.isprintable() else "",
    )


def _platform(raw: object) -> str:
    if not isinstance(raw, dict):
        return ""
    parts = [raw.get("os"), raw.get("architecture"), raw.get("variant") or ""]
    if not all(isinstance(part, str) and part.isprintable() for part in parts):
        return ""
    return "/".join(str(part) for part in parts if part)


def is_index(raw: dict[str, Any]) -> bool:
    return raw.get("mediaType") in INDEXES or (
        raw.get("mediaType") not in MANIFESTS and isinstance(raw.get("manifests"), list)
    )


def parse_manifest(raw: dict[str, Any], digest: str) -> Manifest:
    """An image manifest. Raises ImageError for what isn't one, or not one of a container image."""
    if raw.get("schemaVersion") == 1:
        raise ImageError("a docker manifest of schema 1, which registries gave up in 2017: push it anew")
    layers = raw.get("layers")
    if not isinstance(layers, list):
        raise ImageError("the manifest has no list of layers")
    found = [descriptor(layer, f"layer {i + 1} of the manifest") for i, layer in enumerate(layers)]
    for layer in found:
        prefix = next((p for p in _LAYERS if layer.media_type.startswith(p)), None)
        if prefix is None or not layer.media_type.endswith(_SUFFIXES):
            raise ImageError(f"not a container image: a layer has the type {layer.media_type!r:.100}")
    return Manifest(digest, descriptor(raw.get("config"), "the manifest's config"), found, raw)


def parse_index(raw: dict[str, Any]) -> list[Descriptor]:
    entries = raw.get("manifests")
    if not isinstance(entries, list):
        raise ImageError("the index has no list of manifests")
    return [descriptor(entry, f"entry {i + 1} of the index") for i, entry in enumerate(entries)]


def choose(entries: list[Descriptor], platform: str | None) -> list[Descriptor]:
    """The entries that suit ``platform`` (default: this machine's), the best first.

    One that doesn't say its platform suits any, after those that do.
    """
    wanted = platform or native_platform()
    scored = [(_score(entry.platform, wanted), i, entry) for i, entry in enumerate(entries)]
    return [entry for score, _, entry in sorted(scored[:], key=lambda s: s[:2]) if score < 9]


def _score(have: str, wanted: str) -> int:
    if not have:
        return 3
    if have == wanted:
        return 0
    base, variant = _split(have)
    wanted_base, wanted_variant = _split(wanted)
    if base != wanted_base:
        return 9
    # amd64/v3 doesn't run on every amd64, arm/v7 not on v6; one without a variant runs on all.
    if not variant or (base == "linux/arm64" and {variant, wanted_variant} <= {"v8", ""}):
        return 1
    if not wanted_variant:
        return 9 if base == "linux/amd64" else 2
    return 2 if variant < wanted_variant else 9


def _split(platform: str) -> tuple[str, str]:
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return f"{os_name}/{architecture}", variant


def find(
    data: bytes,
    platform: str | None,
    fetch: Callable[[Descriptor], bytes],
    expect: str | None = None,
    ref: str | None = None,
) -> Manifest:
    """The image manifest behind ``data``, going through indexes by ``platform``.

    ``fetch`` returns the content of a descriptor; its digest is checked here. ``expect``: the digest
    that ``data`` must have. ``ref``: the name of the entry in an OCI layout's index.
    Raises ImageError when nothing suits, content isn't what its digest says, or an index leads
    back to itself.
    """
    seen: set[str] = set()
    while True:
        digest = digest_of(data)
        if expect is not None and digest != expect:
            raise ImageError(f"wrong digest: the manifest's content is {digest}, not {expect}")
        if digest in seen or len(seen) >= _DEEPEST:
            raise ImageError("the index leads to itself, or through too many others")
        seen.add(digest)
        raw = load(data, "the manifest")
        if "manifests" in raw and ("layers" in raw or "config" in raw):
            # Whoever reads it the other way would run something else (OCI image specification 1.0.2).
            raise ImageError("the manifest is an index at the same time")
        if not is_index(raw):
            return parse_manifest(raw, digest)
        entry = _pick(parse_index(raw), platform, ref)
        if entry.digest in seen:
            raise ImageError("the index leads to itself")
        data, expect, ref = fetch(entry), entry.digest, None


def _pick(entries: list[Descriptor], platform: str | None, ref: str | None) -> Descriptor:
    if ref is not None:
        named = [entry for entry in entries if ref in (entry.ref, entry.ref.rpartition(":")[2])]
        if not named:
            raise ImageError(f"no image named {ref!r}; there are {_list(e.ref for e in entries)}")
        entries = named
    suitable = choose(entries, platform)
    if not suitable:
        have = _list(entry.platform for entry in entries)
        raise ImageError(f"no image for {platform or native_platform()}; there are {have}")
    names = {entry.ref for entry in suitable if entry.ref}
    if len(names) > 1:
        raise ImageError(
            f"more than one image ({_list(names)}); `pyminicon image import --ref NAME` takes one"
        )
    return suitable[0]


def _list(values: Any) -> str:
    return ", ".join(sorted({value for value in values if value})[:20]) or "none with a name"
