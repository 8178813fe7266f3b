"""Images as other tools write them, where the specification leaves room or the tool takes some."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.errors import SpecError
from pyminicon.images import lookup, resolve
from pyminicon.images.archive import import_path, may_be_image
from pyminicon.images.assemble import Job
from pyminicon.images.errors import ImageError
from pyminicon.images.export import export
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store
from tests.support.roots import copy_program

from .servers import need
from .tars import Layout, Member, config_json, directory, file, hardlink, sha, symlink, tar

LAYER = tar(directory("d"), file("d/x"))


def job(store: Store, names: list[str] | None = None, **limits: int) -> Job:
    return Job(store, Limits(**limits), Progress(), names=names)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def names_in(found: str | Path) -> list[str]:
    with resolve_closing(str(found)) as layers:
        return sorted(os.listdir(layers[0]))


class resolve_closing:
    def __init__(self, image: str) -> None:
        self._found = resolve(image)

    def __enter__(self) -> list[str]:
        return self._found.layers

    def __exit__(self, *_: object) -> None:
        self._found.close()


# ---- docker archives -----------------------------------------------------------------------------


def jib(layer: bytes, *, first: tuple[Member, ...] = (), packed: bool = True) -> list[Member]:
    """What jib and others write: names of their own, the manifest last."""
    config = config_json(layer, Cmd=["/c"])
    name = f"{sha(layer)[7:]}.tar.gz"
    entry = {"Config": "config.json", "RepoTags": ["me/app:1"], "Layers": [name]}
    return [
        *first,
        file("config.json", config),
        file(name, gzip.compress(layer) if packed else layer),
        file("manifest.json", json.dumps([entry]).encode()),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("first", [(), (file("a name of its own", b"x" * 100_000),)])
def test_the_manifest_decides_whatever_the_members_are_called(
    store: Store, tmp_path: Path, pack: Callable[[bytes], bytes], first: tuple[Member, ...]
) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(pack(tar(*jib(LAYER, first=first))))
    digest = import_path(job(store), str(path))
    assert store.names()[digest] == ["docker.io/me/app:1"]
    assert names_in("me/app:1") == ["d"]


def test_a_root_file_system_with_files_at_its_top_stays_one(store: Store, tmp_path: Path) -> None:
    members = [file(".dockerenv", b""), file("config.json"), directory("bin"), file("bin/x")]
    for name, chosen in (("exported", members), ("flat", [file("a"), file("manifest"), symlink("b", "a")])):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(tar(*chosen))
        found = names_in(path)
        assert found == sorted({member.name.split("/")[0] for member in chosen})
    assert not may_be_image(tar(*members))


# ---- OCI layouts ---------------------------------------------------------------------------------


def entry_of(layout: Layout, manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    return {"mediaType": kind, **layout.blob(json.dumps(manifest).encode()), **more}


def signature(layout: Layout, **more: Any) -> dict[str, Any]:
    """As cosign stores one: an image manifest whose layers are no file systems."""
    payload = layout.blob(b'{"critical": {}}')
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **layout.blob(b"{}")},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", **payload}],
    }
    return entry_of(layout, manifest, **more)


def artifact(layout: Layout) -> dict[str, Any]:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **layout.blob(b"{}")},
        "layers": [{"mediaType": "application/spdx+json", **layout.blob(b"[]")}],
    }
    return entry_of(layout, manifest)


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    "other",
    [
        lambda layout: {"mediaType": "application/vnd.example.future.v7+json", **layout.blob(b"{}")},
        lambda layout: {"mediaType": "application/vnd.example+json", "digest": "blake3:00", "size": 1},
        signature,
        lambda layout: signature(layout, annotations={"org.opencontainers.image.ref.name": "sha256-00.sig"}),
        artifact,
        lambda layout: {**artifact(layout), "artifactType": "application/spdx+json"},
    ],
    ids=["unknown", "unknown-digest", "signature", "named-signature", "artifact", "told-artifact"],
)
def test_what_lies_beside_an_image_is_passed_over(
    store: Store, layout: Layout, other: Callable[[Layout], dict[str, Any]], place: str
) -> None:
    image = layout.image(LAYER)
    image["annotations"] = {"org.opencontainers.image.ref.name": "app"}
    beside = other(layout)
    layout.index(*([beside, image] if place == "before" else [image, beside]))
    assert names_in(layout.path) == ["d"]


def test_an_index_of_signatures_alone_is_an_error_that_says_so(store: Store, layout: Layout) -> None:
    layout.index(signature(layout), artifact(layout))
    with pytest.raises(ImageError, match="no container image in the index"):
        import_path(job(store), str(layout.path))


def test_two_images_still_have_to_be_chosen_from(store: Store, layout: Layout) -> None:
    entries = []
    for name in ("one", "two"):
        entry = layout.image(tar(file(name)))
        entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
    layout.index(*entries)
    with pytest.raises(ImageError, match="more than one image"):
        import_path(job(store), str(layout.path))
    assert import_path(job(store), str(layout.path), "two")


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("step", [-1, 1, 1 << 40])
def test_a_size_that_is_not_the_contents_is_refused(
    store: Store, layout: Layout, which: str, step: int
) -> None:
    image = layout.image(LAYER)
    blob = layout.path / "blobs/sha256" / image["digest"][7:]
    manifest = json.loads(blob.read_bytes())
    if which == "manifest":
        image["size"] += step
    else:
        part = manifest["config"] if which == "config" else manifest["layers"][0]
        part["size"] += step
        image |= layout.blob(json.dumps(manifest).encode())
    layout.index(image)
    with pytest.raises(ImageError, match="wrong size"):
        import_path(job(store), str(layout.path))
    assert store.digests() == []


def test_sha512_is_taken_for_manifests_configurations_and_layers(store: Store, layout: Layout) -> None:
    (layout.path / "blobs/sha512").mkdir()

    def blob(data: bytes) -> dict[str, Any]:
        name = hashlib.sha512(data).hexdigest()
        (layout.path / "blobs/sha512" / name).write_bytes(data)
        return {"digest": f"sha512:{name}", "size": len(data)}

    config = json.loads(config_json(LAYER))
    config["rootfs"]["diff_ids"] = [f"sha512:{hashlib.sha512(LAYER).hexdigest()}"]
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}
        | blob(json.dumps(config).encode()),
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar"} | blob(LAYER)],
    }
    kind = "application/vnd.oci.image.manifest.v1+json"
    layout.index({"mediaType": kind} | blob(json.dumps(manifest).encode()))
    assert names_in(layout.path) == ["d"]
    for place in (layout.path / "blobs/sha512").iterdir():
        if place.read_bytes() == LAYER:
            place.write_bytes(LAYER[:-1] + b"x")
    with pytest.raises(ImageError, match="wrong digest"):
        import_path(job(Store(f"{store.path}/other")), str(layout.path))


def test_a_name_with_tag_and_digest_is_found_by_the_digest() -> None:
    digest = f"sha256:{'1' * 64}"
    assert lookup.ref_names(f"debian:12@{digest}")[-1] == f"docker.io%library%debian@{digest}"
    assert lookup.ref_names(f"host:5000/me/x:1@{digest}") == [f"host:5000%me%x@{digest}"]
    assert lookup.ref_names(f"host:5000/me/x@{digest}") == [f"host:5000%me%x@{digest}"]
    assert lookup.ref_names("host:5000/me/x") == ["host:5000%me%x:latest"]


# ---- layers --------------------------------------------------------------------------------------


def _unpadded(data: bytes) -> bytes:
    """Without the end mark, and without what fills the last member up."""
    return data.rstrip(b"\0")


def test_a_layer_whose_last_member_is_not_filled_up_is_taken(store: Store, layout: Layout) -> None:
    layer = _unpadded(tar(directory("d"), file("d/x", b"content")))
    assert len(layer) % 512
    layout.index(layout.image(layer))
    with resolve_closing(str(layout.path)) as layers:
        assert (Path(layers[0]) / "d/x").read_bytes() == b"content"
    # By a digest it is known to be whole; a file alone isn't, nor is a member that is cut.
    (layout.path.parent / "alone.tar").write_bytes(layer)
    with pytest.raises(SpecError, match="ends early"):
        resolve(str(layout.path.parent / "alone.tar"))
    layout.index(layout.image(layer[:-1]))
    with pytest.raises(SpecError, match="ends early"):
        resolve(str(layout.path))


def test_a_whiteout_may_be_a_hard_link(store: Store, layout: Layout) -> None:
    lower = tar(directory("d"), file("d/a"), file("d/b"), file("d/c"))
    upper = tar(directory("d"), file("d/.wh.a", b""), hardlink("d/.wh.b", "d/.wh.a"))
    layout.index(layout.image(lower, upper))
    found = resolve(str(layout.path))
    out = io.BytesIO()
    export(found.layers, out)
    found.close()
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        assert sorted(archive.getnames()) == [".", "./d", "./d/c"]


@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**40])
@pytest.mark.parametrize("which", ["uid", "gid"])
@pytest.mark.parametrize("make", [file, directory])
def test_an_owner_that_no_system_has_is_refused(
    store: Store, tmp_path: Path, make: Callable[..., Member], which: str, number: int
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar(make("x", mode=0o4755, **{which: number})))
    with pytest.raises(SpecError, match="an owner that no system has"):
        resolve(str(path))
    path.write_bytes(tar(make("x", **{which: 2**32 - 2})))
    with resolve_closing(str(path)) as layers:
        if os.geteuid() == 0:
            assert getattr(os.lstat(f"{layers[0]}/x"), f"st_{which}") == 2**32 - 2


def _root(tmp_path: Path) -> bytes:
    """A root with a program that tells of /, as a layer."""
    root = tmp_path / "made"
    (root / "bin").mkdir(parents=True)
    copy_program(root, "/usr/bin/stat")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in sorted(os.listdir(root)):
            archive.add(root / name, name)
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"init": True}])
def test_the_root_directorys_own_mode_and_owner_are_the_images(
    store: Store, layout: Layout, tmp_path: Path, options: dict[str, Any], needs_root: None
) -> None:
    below = _root(tmp_path)
    said = tar(directory("./", mode=0o1777, uid=5, gid=6))
    layout.index(layout.image(below, said, tar(file("later"))))
    tell = ["stat", "-c", "%a %u %g", "/"]
    image = str(layout.path)
    assert pyminicon.run(tell, image=image, capture_output=True, text=True, **options).stdout == "1777 5 6\n"
    private = pyminicon.run(tell, image=image, userns="private", capture_output=True, text=True, **options)
    assert private.stdout == "1777 0 0\n"
    layout.index(layout.image(below))
    assert pyminicon.run(tell, image=image, capture_output=True, text=True, **options).stdout == "755 0 0\n"


@pytest.mark.parametrize(
    ("told", "want"),
    [("/a/../d", "/d"), ("d", "/d"), ("//d//./", "/d"), ("/../..", "/"), ("/new/../d/e", "/d/e")],
)
def test_a_working_directory_is_read_by_its_words(
    store: Store, layout: Layout, tmp_path: Path, told: str, want: str
) -> None:
    layout.index(layout.image(_root(tmp_path), LAYER, WorkingDir=told))
    tell = ["stat", "-c", "%N", "/proc/self/cwd"]
    r = pyminicon.run(tell, image=str(layout.path), capture_output=True, text=True)
    assert r.stdout.split(" -> ")[1] == f"'{want}'\n"


def test_an_export_keeps_times_to_the_nanosecond(store: Store, tmp_path: Path) -> None:
    path, out = tmp_path / "a.tar", io.BytesIO()
    fine = {"pax_headers": {"mtime": "1000000000.123456789"}}
    before = {"pax_headers": {"mtime": "-1.25"}}
    path.write_bytes(
        tar(directory("d", **fine), file("d/x", **fine), symlink("l", "d", **fine), file("o", **before))
    )
    with resolve_closing(str(path)) as layers:
        export(layers, out)
    again = tmp_path / "again.tar"
    again.write_bytes(out.getvalue())
    with resolve_closing(str(again)) as layers:
        for name in ("d", "d/x", "l"):
            assert os.lstat(f"{layers[0]}/{name}").st_mtime_ns == 1_000_000_000_123_456_789, name
        assert os.lstat(f"{layers[0]}/o").st_mtime_ns == -1_250_000_000


# ---- what an image may come to -------------------------------------------------------------------


def _zeros(count: int, size: int) -> list[bytes]:
    return [tar(file(f"zeros{i}", bytes(size))) for i in range(count)]


@pytest.mark.parametrize("packed", [False, True])
def test_layers_that_are_allowed_make_an_image_that_is_not(
    store: Store, layout: Layout, packed: bool
) -> None:
    layers = _zeros(4, 300_000)
    layout.index(layout.image(*layers, packed=[gzip.compress(one) for one in layers] if packed else None))
    with pytest.raises(ImageError, match="unpacks to more than 1000000"):
        import_path(job(store, bytes=1_000_000), str(layout.path))
    assert store.digests() == []
    import_path(job(store, bytes=2_000_000), str(layout.path))


def test_layers_that_the_store_has_count_as_well(store: Store, layout: Layout) -> None:
    layers = _zeros(4, 300_000)
    layout.index(layout.image(*layers[:3]))
    import_path(job(store, bytes=1_000_000), str(layout.path))
    layout.index(layout.image(*layers))
    with pytest.raises(ImageError, match="unpacks to more than 1000000"):
        import_path(job(store, bytes=1_000_000), str(layout.path))


def test_a_bomb_in_pieces_is_one(store: Store, layout: Layout) -> None:
    layers = _zeros(5, 1_000_000)
    layout.index(layout.image(*layers, packed=[gzip.compress(one) for one in layers]))
    with pytest.raises(ImageError, match="a decompression bomb"):
        import_path(job(store, ratio=50, ratio_from=1_500_000), str(layout.path))
    import_path(job(store, ratio=50, ratio_from=9_000_000), str(layout.path))


def test_members_are_counted_over_all_layers(store: Store, layout: Layout) -> None:
    layers = [tar(*(file(f"{i}-{n}") for n in range(40))) for i in range(3)]
    layout.index(layout.image(*layers))
    with pytest.raises(ImageError, match="more than 100 entries"):
        import_path(job(store, entries=100), str(layout.path))
    import_path(job(store, entries=120), str(layout.path))


# ---- other tools ---------------------------------------------------------------------------------


def tool(*words: str | Path) -> None:
    made = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]


def _tree(image: str, place: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """The image's files as our own export has them."""
    found = resolve(image)
    out = io.BytesIO()
    export(found.layers, out)
    found.close()
    out.seek(0)
    tree = {}
    with tarfile.open(fileobj=out) as archive:
        for member in archive:
            inside = archive.extractfile(member) if member.isreg() else None
            data = inside.read() if inside else member.linkname.encode()
            tree[member.name] = (member.mode, member.uid, member.gid, data)
    return tree


def _sample(place: Path) -> Path:
    place.mkdir()
    (place / "bin").mkdir()
    (place / "bin/tool").write_bytes(b"#!/bin/sh\n")
    (place / "bin/tool").chmod(0o4755)
    (place / "etc").mkdir()
    (place / "etc/conf").write_text("a=b\n")
    (place / "link").symlink_to("/etc/conf")
    os.link(place / "etc/conf", place / "etc/conf2")
    if os.geteuid() == 0:
        os.chown(place / "etc/conf", 12, 34)
    return place


def test_what_umoci_inserts_and_deletes_is_what_we_run(
    store: Store, tmp_path: Path, needs_root: None
) -> None:
    need("umoci")
    layout = tmp_path / "layout"
    tool("umoci", "init", "--layout", layout)
    tool("umoci", "new", "--image", f"{layout}:app")
    tool("umoci", "insert", "--image", f"{layout}:app", _sample(tmp_path / "tree"), "/opt")
    (tmp_path / "more").write_bytes(b"more")
    tool("umoci", "insert", "--image", f"{layout}:app", tmp_path / "more", "/opt/etc/more")
    tool("umoci", "insert", "--image", f"{layout}:app", "--whiteout", "/opt/bin")
    tool("umoci", "config", "--image", f"{layout}:app", "--config.workingdir", "/opt/x/../etc")
    ours = _tree(str(layout), tmp_path)
    assert ours["./opt/etc/more"][3] == b"more" and "./opt/bin" not in ours
    assert ours["./opt/etc/conf"][:3] == (0o644, 12, 34)
    tool("umoci", "unpack", "--image", f"{layout}:app", tmp_path / "bundle")
    theirs = {
        f"./{path.relative_to(tmp_path / 'bundle/rootfs')}"
        for path in (tmp_path / "bundle/rootfs").rglob("*")
    }
    assert {name for name in ours if name != "."} == theirs
    found = resolve(str(layout))
    assert found.config is not None and found.config.workdir == "/opt/etc"
    found.close()


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci", "dir"])
def test_what_skopeo_copies_is_the_same_image(
    store: Store, layout: Layout, tmp_path: Path, form: str
) -> None:
    need("skopeo")
    lower = tar(directory("./", mode=0o755), directory("d"), file("d/a", uid=7), file("d/b"))
    image = layout.image(lower, tar(directory("d"), file("d/.wh.a", b"")), Cmd=["/c"])
    image["annotations"] = {"org.opencontainers.image.ref.name": "app"}
    layout.index(image)
    want = _tree(str(layout.path), tmp_path)
    target = tmp_path / "copied"
    if form == "dir":
        # A form of skopeo's own that we don't read: back from there to one that we do.
        tool("skopeo", "copy", f"oci:{layout.path}:app", f"dir:{target}")
        tool("skopeo", "copy", f"dir:{target}", f"oci-archive:{tmp_path / 'back.tar'}:app")
        target = tmp_path / "back.tar"
    else:
        name = "me/app:1" if form == "docker-archive" else "app"
        tool("skopeo", "copy", f"oci:{layout.path}:app", f"{form}:{target}:{name}")
    assert _tree(str(target), tmp_path) == want


def test_what_buildah_commits_is_what_was_put_in(store: Store, tmp_path: Path, needs_root: None) -> None:
    need("buildah")
    where = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    made = subprocess.run(["buildah", *where, "from", "scratch"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    name = made.stdout.strip()
    tool("buildah", *where, "add", name, _sample(tmp_path / "tree"), "/")
    tool("buildah", *where, "config", "--workingdir", "/etc", "--cmd", "/bin/tool", name)
    for form in ("oci-archive", "docker-archive"):
        target = tmp_path / f"{form}.tar"
        tool("buildah", *where, "commit", name, f"{form}:{target}")
        ours = _tree(str(target), tmp_path)
        assert ours["./bin/tool"][0] == 0o4755 and ours["./etc/conf"][:3] == (0o644, 0, 0)  # as its add does
        assert ours["./link"][3] == b"/etc/conf" and ours["./etc/conf2"][3] in (b"a=b\n", b"./etc/conf")
        found = resolve(str(target))
        assert found.config is not None
        assert (found.config.workdir, found.config.cmd) == ("/etc", ["/bin/tool"])
        found.close()
    tool("buildah", *where, "rm", name)


def test_our_export_goes_through_another_builder_and_back(
    store: Store, tmp_path: Path, needs_root: None
) -> None:
    need("umoci", "skopeo")
    first = tmp_path / "first.tar"
    with tarfile.open(first, "w") as archive:
        archive.add(_sample(tmp_path / "tree"), ".")
    want = _tree(str(first), tmp_path)
    found, exported = resolve(str(first)), tmp_path / "exported"
    with open(tmp_path / "exported.tar", "wb") as out:
        export(found.layers, out)
    found.close()
    exported.mkdir()
    tool("tar", "-C", exported, "--same-owner", "-xpf", tmp_path / "exported.tar")
    layout = tmp_path / "layout"
    tool("umoci", "init", "--layout", layout)
    tool("umoci", "new", "--image", f"{layout}:app")
    tool("umoci", "insert", "--image", f"{layout}:app", exported, "/")
    tool("skopeo", "copy", f"oci:{layout}:app", f"docker-archive:{tmp_path / 'last.tar'}:me/app:1")
    again = _tree(str(tmp_path / "last.tar"), tmp_path)
    assert {name: row[:3] for name, row in again.items() if name != "."} == {
        name: row[:3] for name, row in want.items() if name != "."
    }
