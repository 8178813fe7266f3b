"""A store that others may write to, and records that lead out of it: refused where a launch would use them."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

import pyminicon
from pyminicon.errors import SpecError
from pyminicon.images import lookup, resolve
from pyminicon.images.errors import RegistryError
from pyminicon.images.reference import parse
from pyminicon.images.registry import Registry
from pyminicon.images.store import Store
from pyminicon.images.transport import Transport, _proxy_login, split

from .tars import file, tar


@pytest.fixture
def named(store: Store, tmp_path: Path) -> str:
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar(file("bin/x")))
    found = resolve(str(archive))
    store.tag(found.digest, ["localhost/mine:latest"])
    found.close()
    return "mine"


def test_a_store_of_another_user_is_refused_by_every_launch(
    store: Store, named: str, needs_root: None
) -> None:
    os.chown(store.path, 1234, -1)
    try:
        for options in ({"image": named}, {"image": "host", "storage": "disk"}):
            with pytest.raises(SpecError, match="belongs to uid 1234, not to 0"):
                pyminicon.run(["x"], **options)
        with pytest.raises(SpecError, match="belongs to uid 1234"):
            pyminicon.Template(image=named)
    finally:
        os.chown(store.path, 0, -1)
    resolve(named).close()


def test_a_store_that_anybody_may_write_to_is_refused(store: Store, named: str) -> None:
    os.chmod(store.path, 0o707)
    with pytest.raises(SpecError, match="anybody may write to the store"):
        resolve(named)
    with pytest.raises(SpecError, match="anybody may write to the store"):
        Store(store.path)
    os.chmod(store.path, 0o755)
    resolve(named).close()


@pytest.mark.parametrize("layer", ["../r", "..", "/etc", "a" * 31, "A" * 32, "g" * 32, "a" * 31 + "/", ""])
def test_a_layer_that_no_digest_names_is_refused(store: Store, named: str, layer: str) -> None:
    digest = lookup.find_digest(store.path, named)
    assert digest is not None
    record = Path(f"{store.path}/images/{digest[7:]}")
    whole = record.read_bytes()
    record.write_bytes(lookup.encode_record(digest, "linux/amd64", [layer], None))
    with pytest.raises(SpecError, match="can't be read"):
        resolve(named)
    record.write_bytes(whole)
    resolve(named).close()


@pytest.mark.parametrize("digest", ["sha256:../../evil", "sha256:", "../x", "sha256:" + "A" * 64])
def test_a_tag_that_leads_out_of_the_store_finds_nothing(store: Store, named: str, digest: str) -> None:
    Path(f"{store.path}/evil").write_bytes(
        Path(f"{store.path}/images")
        .joinpath(next(name for name in os.listdir(f"{store.path}/images") if "." not in name))
        .read_bytes()
    )
    Path(f"{store.path}/refs/localhost%mine:latest").write_text(digest)
    with pytest.raises(SpecError):
        resolve(named)


def test_what_ls_shows_is_what_rm_and_inspect_take(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyminicon.cli import image as command

    archive = tmp_path / "run-by-path.tar"
    archive.write_bytes(tar(file("bin/x")))
    os.utime(archive, (1, 1))
    import time

    time.sleep(0.1)
    resolve(str(archive)).close()
    assert command.main(["ls"]) == 0
    shown = capsys.readouterr().out.splitlines()[1].split()[0]
    assert shown == str(archive)
    assert command.main(["inspect", shown]) == 0
    assert command.main(["rm", shown]) == 0
    assert store.digests() == []
    assert command.main(["rm", shown]) == 125


def test_prune_says_what_it_takes(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pyminicon.cli import image as command

    archive = tmp_path / "gone.tar"
    archive.write_bytes(tar(file("bin/x")))
    digest = resolve(str(archive))
    digest.close()
    archive.unlink()
    assert command.main(["prune"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{digest.digest}\n"
    assert f"from {archive}" in told.err


# ---- what is told to whom ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "realm", "may"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("http://127.0.0.1:5000", "http://localhost/token", True),
        ("http://localhost:5000", "http://[::1]:9/token", True),
        ("http://127.0.0.1:5000", "http://evil.example/token", False),
        ("http://127.0.0.1:5000", "http://10.0.0.1/token", False),
        ("http://127.0.0.1:5000", "http://127.0.0.1.evil.example/token", False),
        ("http://127.0.0.1:5000", "http://user@evil.example/token", False),
        ("http://registry.example", "http://registry.example/token", True),
        ("http://registry.example", "http://127.0.0.1/token", False),
        ("https://registry.example", "http://registry.example/token", False),
        ("http://127.0.0.1:5000", "ftp://127.0.0.1/token", False),
    ],
)
def test_a_password_without_tls_goes_to_no_other_machine(base: str, realm: str, may: bool) -> None:
    registry = Registry(parse("registry.example/x"), Transport(), plain_http=True)
    registry._base = base
    assert registry._may_be_told(split(realm)) is may
    if not may and not realm.startswith("https"):
        with pytest.raises(RegistryError, match="asks for a login at"):
            registry._token({"realm": realm}, None)


def test_a_proxys_name_and_password_are_told_to_it() -> None:
    told = _proxy_login(split("http://me:p%40ss@proxy.example:3128"))
    assert base64.b64decode(told["Proxy-Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert _proxy_login(split("http://proxy.example:3128")) == {}
