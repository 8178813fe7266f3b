"""An OCI layout of ten layers around the minimal root, for the rung of stored images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from . import build, rootfs

LAYERS = 10
_MEDIA = "application/vnd.oci.image."


def _blob(folder: Path, data: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": f"{_MEDIA}{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _root_layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(rootfs.minimal(), arcname=".")
    return out.getvalue()


def _small_layer(number: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        body = f"layer {number}\n".encode()
        entry = tarfile.TarInfo(f"etc/layer-{number}")
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    return out.getvalue()


def ten() -> Path:
    """Make (once) the layout under build/bench and return its path."""
    layout = build.CACHE / f"{rootfs.minimal().name}-ten-layers"
    if layout.exists():
        return layout
    fresh = layout.with_name(f".{layout.name}.{os.getpid()}")
    (fresh / "blobs" / "sha256").mkdir(parents=True)
    layers = [_root_layer(), *map(_small_layer, range(1, LAYERS))]
    described = [_blob(fresh, data, "layer.v1.tar") for data in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": [rootfs.PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in described]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}manifest.v1+json",
        "config": _blob(fresh, json.dumps(config).encode(), "config.v1+json"),
        "layers": described,
    }
    described = [_blob(fresh, json.dumps(manifest).encode(), "manifest.v1+json")]
    index = {"schemaVersion": 2, "manifests": described}
    (fresh / "index.json").write_text(json.dumps(index))
    (fresh / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    try:
        os.rename(fresh, layout)
    except OSError:  # somebody else was faster
        shutil.rmtree(fresh)
    return layout
