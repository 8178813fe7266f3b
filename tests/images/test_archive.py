"""Image archives of every make: `docker save` old and new, OCI layouts and their tars, packed or not."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from pyminicon.errors import SpecError
from pyminicon.images import resolve
from pyminicon.images.archive import import_path, may_be_image
from pyminicon.images.assemble import Job
from pyminicon.images.errors import ImageError
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store

from .servers import copy, need
from .tars import Layout, Member, config_json, directory, file, hardlink, sha, symlink, tar

BASE, TOP = tar(directory("d"), file("d/base")), tar(file("d/top"), file("d/.wh.base"))


def job(store: Store) -> Job:
    return Job(store, Limits(), Progress())


def docker_archive(*layers: bytes, tags: tuple[str, ...] = ("x:1",), old: bool = False) -> list[Member]:
    """The members of what docker 1.10 to 24 saves: a link for a layer that is there twice."""
    config = config_json(*layers, Cmd=["/c"])
    members: list[Member] = []
    paths: list[str] = []
    first: dict[bytes, str] = {}
    for i, layer in enumerate(layers):
        name = sha(layer + bytes([i]))[7:]
        members += [directory(f"{name}/"), file(f"{name}/VERSION", b"1.0")]
        if layer in first:
            members.append(symlink(f"{name}/layer.tar", f"../{first[layer]}/layer.tar"))
        else:
            members.append(file(f"{name}/layer.tar", layer))
        first.setdefault(layer, name)
        paths.append(f"{name}/layer.tar")
    entry = {"Config": f"{sha(config)[7:]}.json", "RepoTags": list(tags) or None, "Layers": paths}
    members.append(file(f"{sha(config)[7:]}.json", config))
    members.append(file("manifest.json", json.dumps([entry]).encode()))
    members.append(file("repositories", b"{}"))
    return members


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_docker_archive_is_brought_in_with_its_tags(
    store: Store, tmp_path: Path, pack: type[bytes]
) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(pack(tar(*docker_archive(BASE, TOP, BASE, tags=("me/x:1", "me/x:2")))))
    digest = import_path(job(store), str(path))
    assert digest == sha(config_json(BASE, TOP, BASE, Cmd=["/c"]))
    found = resolve("me/x:2")
    # Twice the same layer is once for overlayfs, where it lies highest.
    assert [sorted(os.listdir(f"{layer}/d")) for layer in found.layers] == [["base"], ["base", "top"]]
    assert found.config is not None
    assert found.config.cmd == ["/c"]
    found.close()


def test_one_of_several_images_is_chosen_by_name(store: Store, tmp_path: Path) -> None:
    one, two = docker_archive(BASE, tags=("x:1",)), docker_archive(TOP, tags=("x:2", "y:2"))
    entries = [json.loads(m.data or b"")[0] for m in (*one, *two) if m.name == "manifest.json"]
    rest = [m for m in (*one, *two) if m.name not in ("manifest.json", "repositories")]
    path = tmp_path / "both.tar"
    path.write_bytes(tar(*rest, file("manifest.json", json.dumps(entries).encode())))
    with pytest.raises(ImageError, match=r"2 images \(docker.io/library/x:1, docker.io/library/x:2\)"):
        import_path(job(store), str(path))
    assert import_path(job(store), str(path), "y:2") == sha(config_json(TOP, Cmd=["/c"]))
    with pytest.raises(ImageError, match=r"no image docker\.io/library/z:1"):
        import_path(job(store), str(path), "z:1")


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_layout_in_a_tar_is_an_image(store: Store, tmp_path: Path, prefix: str, pack: type[bytes]) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(BASE, TOP))
    members = [directory("./")] if prefix else []
    for place, _, names in sorted(os.walk(layout.path)):
        for name in sorted(names):
            inside = os.path.relpath(f"{place}/{name}", layout.path)
            members.append(file(prefix + inside, Path(place, name).read_bytes()))
    path = tmp_path / "layout.tar"
    path.write_bytes(pack(tar(*members)))
    found, same = resolve(str(path)), resolve(str(layout.path))
    assert found.digest == same.digest
    assert len(found.layers) == 2
    found.close()
    same.close()


def test_a_layout_is_imported_once_until_its_index_changes(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(BASE))
    time.sleep(0.1)
    first = resolve(str(layout.path))
    (layout.path / "blobs").rename(tmp_path / "elsewhere")
    again = resolve(str(layout.path))
    assert again.digest == first.digest
    (tmp_path / "elsewhere").rename(layout.path / "blobs")
    layout.index(layout.image(TOP))
    changed = resolve(str(layout.path))
    assert changed.digest != first.digest
    for found in (first, again, changed):
        found.close()


def test_a_layout_of_several_images_wants_a_name(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    key = "org.opencontainers.image.ref.name"
    layout.index(
        {**layout.image(BASE), "annotations": {key: "one"}},
        {**layout.image(TOP), "annotations": {key: "x/y:two"}},
    )
    with pytest.raises(ImageError, match="`pyminicon image import --ref NAME` takes one"):
        import_path(job(store), str(layout.path))
    with pytest.raises(SpecError, match="`pyminicon image import --ref NAME` takes one"):
        resolve(str(layout.path))
    one, two = (
        import_path(job(store), str(layout.path), "one"),
        import_path(job(store), str(layout.path), "two"),
    )
    assert one != two
    with pytest.raises(ImageError, match="no image named 'three'; there are one, x/y:two"):
        import_path(job(store), str(layout.path), "three")


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_read(store: Store, tmp_path: Path, kind: str) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(BASE, TOP))
    copy(f"oci:{layout.path}", f"{kind}:{tmp_path}/out.tar:name:1")
    found = resolve(f"{tmp_path}/out.tar")
    assert len(found.layers) == 2
    found.close()


def test_what_buildah_builds_is_read(store: Store, tmp_path: Path) -> None:
    need("buildah")
    if os.geteuid() != 0:
        pytest.skip("needs root: buildah wants subordinate ids")
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    (tmp_path / "hello").write_text("hello")
    script = (
        "set -e; c=$(buildah from scratch); buildah copy -q $c hello /etc/hello;"
        "buildah config --env A=b --cmd /x $c; buildah commit -q $c oci-archive:built.tar; buildah rm $c"
    )
    roots = ["--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run")]
    script = script.replace("buildah ", f"buildah {' '.join(roots)} ")
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = resolve(f"{tmp_path}/built.tar")
    assert Path(found.layers[0], "etc/hello").read_text() == "hello"
    assert found.config is not None
    assert found.config.env[-1] == "A=b"
    assert found.config.cmd == ["/x"]
    found.close()


def test_a_root_file_system_is_told_from_an_image_by_its_first_names() -> None:
    hexes = "0123456789abcdef" * 4
    for members, expected in (
        ([directory("./"), directory("./bin")], False),
        ([file("etc/passwd")], False),
        ([directory("./"), file("./oci-layout")], True),
        ([file("blobs/sha256/" + hexes), file("index.json")], True),
        ([directory(hexes), file(f"{hexes}.json"), file("manifest.json")], True),
        ([file("manifest.json"), directory("usr")], False),
        ([directory("blobs"), hardlink("x", "y")], False),
    ):
        assert may_be_image(tar(*members)) is expected
    assert not may_be_image(b"")
    assert not may_be_image(b"\0" * 1024)
    assert not may_be_image(b"no tar at all" * 100)


def test_a_root_that_begins_like_an_image_is_a_root_all_the_same(store: Store, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(
        tar(directory("blobs"), file("blobs/mine"), file("index.json", b"{}"))
    )
    found = resolve(str(tmp_path / "root.tar"))
    assert sorted(os.listdir(found.layers[0])) == ["blobs", "index.json"]
    found.close()


def test_layers_and_configuration_must_agree_in_number(store: Store, tmp_path: Path) -> None:
    members = docker_archive(BASE, TOP)
    raw = json.loads(members[-2].data or b"")
    raw[0]["Layers"].pop()
    members[-2] = file("manifest.json", json.dumps(raw).encode())
    (tmp_path / "x.tar").write_bytes(tar(*members))
    with pytest.raises(SpecError, match="lists 1 layers, the configuration 2"):
        resolve(str(tmp_path / "x.tar"))
