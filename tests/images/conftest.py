"""What the tests of images share: a store of their own, and a look at what is left in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyminicon.images import Resolved, resolve
from pyminicon.images.store import Store


@pytest.fixture(autouse=True)
def no_login_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tests see neither the caller's logins nor the caller's store."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    path = tmp_path / "store"
    monkeypatch.setenv("PYMINICON_STORE", str(path))
    yield Store(str(path))
    assert leftovers(path) == []


def leftovers(store: Path) -> list[str]:
    """Work in progress that nobody is working on."""
    return sorted(os.listdir(store / "tmp"))


@pytest.fixture
def user_attributes(tmp_path: Path) -> None:
    """tmpfs has user.* attributes from Linux 6.6 on."""
    try:
        os.setxattr(tmp_path, "user.test", b"")
    except OSError:
        pytest.skip("needs Linux 6.6 or a temporary directory on a disk (user.* attributes)")


@pytest.fixture
def imported(store: Store, tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Writes an archive, resolves it, and gives the directory of its only layer."""
    held: list[Resolved] = []

    def do(data: bytes, name: str = "root.tar") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        held.append(resolve(str(path)))
        (layer,) = held[-1].layers
        return Path(layer)

    yield do
    for found in held:
        found.close()
