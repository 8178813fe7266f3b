"""Archives for the tests, the honest and the other kind."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


class Member(tarfile.TarInfo):
    """A header with its content."""

    data: bytes | None = None


def file(name: str, data: bytes = b"x", **fields: Any) -> Member:
    return _info(name, tarfile.REGTYPE, data=data, **{"size": len(data), **fields})


def directory(name: str, **fields: Any) -> Member:
    return _info(name, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str, **fields: Any) -> Member:
    return _info(name, tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str) -> Member:
    return _info(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int = 1, minor: int = 3) -> Member:
    return _info(name, tarfile.CHRTYPE, devmajor=major, devminor=minor)


def _info(name: str, kind: bytes, **fields: Any) -> Member:
    info = Member(name)
    info.type = kind
    for field, value in {"mtime": 1_000_000_000, **fields}.items():
        setattr(info, field, value)
    return info


def global_header(**records: str) -> bytes:
    """A PAX header for all members that follow; "__" in a key stands for "."."""
    given = {key.replace("__", "."): value for key, value in records.items()}
    return tarfile.TarInfo.create_pax_global_header(given)


def tar(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(member.data) if member.data is not None else None)
    return out.getvalue()


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config_json(*layers: bytes, **wants: Any) -> bytes:
    """The configuration of an image of these (uncompressed) layers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": wants,
            "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
        }
    ).encode()


class Layout:
    """An OCI layout in the making. Everything can be made wrong on purpose."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, digest: str | None = None) -> dict[str, Any]:
        digest = digest or sha(data)
        (self.path / "blobs/sha256" / digest[7:]).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def image(self, *layers: bytes, packed: list[bytes] | None = None, **wants: Any) -> dict[str, Any]:
        """Write an image's blobs; the descriptor of its manifest."""
        config = self.blob(config_json(*layers, **wants))
        entries = [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", **self.blob(data)}
            for data in packed or list(layers)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
            "layers": entries,
        }
        return {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            **self.blob(json.dumps(manifest).encode()),
        }

    def index(self, *entries: dict[str, Any]) -> bytes:
        data = json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()
        (self.path / "index.json").write_bytes(data)
        return data
