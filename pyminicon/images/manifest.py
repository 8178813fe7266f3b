"""Manifests and indexes: which layers an image has, and which image is this machine's.

OCI image specification, "Image Manifest" and "Image Index"; docker's "Manifest v2, schema 2" and
"manifest list" are the same but for their media types.
"""

from __future__ import annotations

from functools import partial

from .config import algorithm_of, digest_of, is_digest, load, native_platform
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
_CONFIGS = (
    "",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
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
        raise ImageError(f"{what} has the digest {digest!r:.100}, not one of sha256 or sha512")
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
    """The entries that may be images or lead to some. What else lies in an index (signatures, lists of parts,
    whatever comes to be) is passed over, as the specification has it."""
    entries = raw.get("manifests")
    if not isinstance(entries, list):
        raise ImageError("the index has no list of manifests")
    return [
        descriptor(entry, f"entry {i + 1} of the index")
        for i, entry in enumerate(entries)
        if _may_be_image(entry)
    ]


def _may_be_image(entry: object) -> bool:
    if not isinstance(entry, dict):
        return True  # no descriptor at all is an error
    known = entry.get("mediaType", "") in ("", *MANIFESTS, *INDEXES)
    notes = entry.get("annotations")
    attests = isinstance(notes, dict) and "vnd.docker.reference.type" in notes
    return known and not entry.get("artifactType") and not attests


def is_image(data: bytes) -> bool:
    """Whether a manifest is an index or that of a container image, and not, say, a signature's."""
    raw = load(data, "the manifest")
    if is_index(raw):
        return True
    config = raw.get("config")
    kind = config.get("mediaType") if isinstance(config, dict) else None
    layers = raw.get("layers")
    kinds = [layer.get("mediaType") for layer in layers or () if isinstance(layer, dict)]
    if raw.get("artifactType") or (isinstance(kind, str) and kind not in _CONFIGS):
        return False
    return all(isinstance(one, str) and one.startswith(_LAYERS) for one in kinds)


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
        algorithm = algorithm_of(expect) if expect else "sha256"
        found = digest_of(data, algorithm)
        if expect is not None and found != expect:
            raise ImageError(f"wrong digest: the manifest's content is {found}, not {expect}")
        digest = digest_of(data)
        if digest in seen or len(seen) >= _DEEPEST:
            raise ImageError("the index leads to itself, or through too many others")
        seen.add(digest)
        raw = load(data, "the manifest")
        if "manifests" in raw and ("layers" in raw or "config" in raw):
            # Whoever reads it the other way would run something else (OCI image specification 1.0.2).
            raise ImageError("the manifest is an index at the same time")
        if not is_index(raw):
            return parse_manifest(raw, digest)
        entry, data = _pick(parse_index(raw), platform, ref, partial(_fetched, fetch))
        expect, ref = entry.digest, None


def _fetched(fetch: Callable[[Descriptor], bytes], entry: Descriptor) -> bytes:
    data = fetch(entry)
    if len(data) != entry.size:
        raise ImageError(f"wrong size: {entry.digest} has {len(data)} bytes, the index says {entry.size}")
    return data


def _pick(
    entries: list[Descriptor], platform: str | None, ref: str | None, fetch: Callable[[Descriptor], bytes]
) -> tuple[Descriptor, bytes]:
    """The entry that is meant, and what it leads to."""
    if ref is not None:
        named = [entry for entry in entries if ref in (entry.ref, entry.ref.rpartition(":")[2])]
        if not named:
            raise ImageError(f"no image named {ref!r}; there are {_list(e.ref for e in entries)}")
        entries = named
    suitable = choose(entries, platform)
    if not suitable:
        have = _list(entry.platform for entry in entries)
        raise ImageError(f"no image for {platform or native_platform()}; there are {have}")
    if len(suitable) == 1:
        return suitable[0], fetch(suitable[0])
    # One without a platform may be anything: a signature lies beside its image as one of them. The entries of
    # one platform and name are the same image to whoever asks: the first of them that is one will do.
    found: list[tuple[Descriptor, bytes]] = []
    for entry in suitable:
        if entry.ref in {known.ref for known, _ in found} and found:
            continue
        data = fetch(entry)
        if digest_of(data, algorithm_of(entry.digest)) != entry.digest:
            raise ImageError(f"wrong digest: the manifest's content isn't {entry.digest}")
        if is_image(data):
            found.append((entry, data))
    names = {entry.ref for entry, _ in found if entry.ref}
    if len(names) > 1:
        raise ImageError(
            f"more than one image ({_list(names)}); `pyminicon image import --ref NAME` takes one"
        )
    if not found:
        raise ImageError("there is no container image in the index, only what is about images")
    return found[0]


def _list(values: Any) -> str:
    return ", ".join(sorted({value for value in values if value})[:20]) or "none with a name"
