"""Killed at any moment: an image is there whole or not at all, and the next one finds no mess."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyminicon.images import lookup, remove, resolve
from pyminicon.images.store import Store

from .servers import Front, Handler, copy, docker_registry, need
from .tars import Layout, directory, file, tar

_PULL = """
import sys
from pyminicon.cli.image import main
sys.exit(main(sys.argv[1:]))
"""


def command(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PULL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def layer(seed: int) -> bytes:
    rng = random.Random(seed)
    members = [directory(f"d{seed}")]
    members += [file(f"d{seed}/f{i}", rng.randbytes(rng.randrange(3000))) for i in range(400)]
    return tar(*members)


LAYERS = tuple(layer(seed) for seed in range(4))
COUNTS = [401, 401, 401, 401]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    path = tmp_path_factory.mktemp("registry")
    layout = Layout(path / "layout")
    layout.index(layout.image(*LAYERS))
    with docker_registry(path) as host:
        copy(f"oci:{layout.path}", f"docker://{host}/big:1")
        with Front(host) as front:
            yield front


def whole_or_absent(store: Store) -> bool:
    """True when the image is there, and then whole; every layer that is there is whole too."""
    for name in os.listdir(f"{store.path}/layers"):
        assert (
            sum(len(files) + len(dirs) for _, dirs, files in os.walk(f"{store.path}/layers/{name}/fs")) == 401
        )
    for digest in store.digests():
        found = lookup.open_image(store.path, digest)
        assert found is not None
        assert len(found.layers) == 4
        assert all(os.path.isdir(path) for path in found.layers)
        found.close()
    return bool(store.digests())


def test_a_puller_killed_at_random_moments_leaves_a_sound_store(store: Store, front: Front) -> None:
    name = f"{front.address}/big:1"
    started = time.monotonic()
    assert command("pull", "-q", name).wait() == 0
    length = time.monotonic() - started
    assert whole_or_absent(store)
    rng = random.Random(7)
    for _ in range(12):
        remove.prune(store, everything=True)
        process = command("pull", "-q", name)
        time.sleep(rng.uniform(0.1, length))
        process.kill()
        process.communicate()
        whole_or_absent(store)
        if rng.random() < 0.5:  # the next one, killed too, finds what the first one left
            process = command("pull", "-q", name)
            time.sleep(rng.uniform(0.1, length))
            process.kill()
            process.communicate()
            whole_or_absent(store)
    assert command("pull", "-q", name).wait() == 0
    assert whole_or_absent(store)
    resolve(name).close()


def test_the_second_puller_goes_on_when_the_first_is_killed(store: Store, front: Front) -> None:
    name = f"{front.address}/big:1"
    first = command("pull", "-q", name)
    while not os.path.isdir(f"{store.path}/tmp") or not os.listdir(f"{store.path}/tmp"):
        time.sleep(0.001)
        assert first.poll() is None
    second = command("pull", "-q", name)
    time.sleep(0.15)
    first.kill()
    first.communicate()
    assert second.wait(60) == 0
    second.communicate()
    assert whole_or_absent(store)


def test_ctrl_c_stops_at_once_and_leaves_a_sound_store(store: Store, front: Front) -> None:
    stuck = front.before
    asked_for, over = threading.Event(), threading.Event()

    def hang(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            asked_for.set()
            over.wait(40)
        return False

    front.before = hang
    process = command("pull", "-q", f"{front.address}/big:1")
    try:
        assert asked_for.wait(60)
        time.sleep(0.2)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - asked < 20
        assert process.returncode == 130
        assert b"Traceback" not in said
    finally:
        front.before = stuck
        over.set()
        process.kill()
    assert not whole_or_absent(store)
    assert command("pull", "-q", f"{front.address}/big:1").wait() == 0


def test_an_importer_killed_at_random_moments_leaves_a_sound_store(store: Store, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(layer(9))
    rng = random.Random(5)
    for _ in range(12):
        remove.prune(store, everything=True)
        process = command("import", "-q", str(archive), "mine")
        time.sleep(rng.uniform(0.1, 0.5))
        process.kill()
        process.communicate()
        for name in os.listdir(f"{store.path}/layers"):
            assert len(os.listdir(f"{store.path}/layers/{name}/fs/d9")) == 400
    assert command("import", "-q", str(archive), "mine").wait() == 0
    resolve("mine").close()


@pytest.mark.parametrize("call", ["rename", "mkdir", "mkdirat", "flock"])
def test_an_importer_killed_at_every_change_of_a_name_leaves_a_sound_store(
    store: Store, tmp_path: Path, call: str
) -> None:
    """The moments that matter: strace kills it at its first, second, ... such call, until it gets through."""
    need("strace")
    archive = tmp_path / "root.tar"
    archive.write_bytes(tar(directory("d"), file("d/a"), file("d/b")))
    words = [sys.executable, "-c", _PULL, "import", "-q", str(archive), "mine"]
    for count in range(1, 30):
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={count}"]
        done = subprocess.run(
            ["strace", "-f", "-o", "/dev/null", *inject, *words], check=False, capture_output=True
        )
        fresh = Store(store.path)
        for digest in fresh.digests():
            found = lookup.open_image(store.path, digest)
            assert found is not None
            assert sorted(os.listdir(f"{found.layers[0]}/d")) == ["a", "b"]
            found.close()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        remove.prune(fresh, everything=True)
    assert count > 1
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    resolve("mine").close()
