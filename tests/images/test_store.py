"""The store: names, removal, what running containers hold, and many at once."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyminicon.errors import SpecError
from pyminicon.images import ImageConfig, lookup, remove, resolve, tree
from pyminicon.images.archive import import_path
from pyminicon.images.assemble import Job
from pyminicon.images.errors import Busy, ImageError
from pyminicon.images.limits import Limits
from pyminicon.images.progress import Progress
from pyminicon.images.store import Store

from .tars import Layout, file, tar


def bring(store: Store, path: Path, *names: str, data: bytes | None = None) -> str:
    path.write_bytes(data or tar(file(path.name)))
    return import_path(
        Job(store, Limits(), Progress(), names=[f"localhost/{n}:latest" for n in names]), str(path)
    )


def layers(store: Store) -> list[str]:
    return os.listdir(f"{store.path}/layers")


def test_a_name_finds_its_image_with_and_without_tag(store: Store, tmp_path: Path) -> None:
    digest = bring(store, tmp_path / "a.tar", "mine")
    for name in ("mine", "mine:latest", "localhost/mine", digest, digest[7:], digest[7:13]):
        found = resolve(name)
        assert found.digest == digest
        found.close()
    for name in (
        "mine:other",
        "other",
        "min",
        digest[7:11],
        "",
        ".",
        "..",
        "../images",
        "a\0b",
        "x" * 5000,
        "ä" * 200,
    ):
        with pytest.raises(SpecError, match=r"image: "):
            resolve(name)


def test_an_unknown_name_says_what_to_do(store: Store) -> None:
    with pytest.raises(SpecError, match=r"pyminicon image pull debian:13.*pyminicon image import FILE"):
        resolve("debian:13")


def test_another_platform_than_wanted_is_an_error(store: Store, tmp_path: Path) -> None:
    bring(store, tmp_path / "a.tar", "mine")
    with pytest.raises(SpecError, match="linux/s390x"):
        resolve("mine", platform="linux/s390x")


def test_the_second_resolve_reads_no_archive(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar(file("a")))
    time.sleep(0.1)
    resolve(str(path)).close()
    path.chmod(0)  # root could read it; what changes is the ctime, and with it the identity
    os.chmod(path, 0o644)
    resolve(str(path)).close()
    hidden = path.stat()
    key = lookup.file_key(hidden, None)
    time.sleep(0.1)
    resolve(str(path)).close()
    assert store.by_file(key) is not None
    with open(f"{store.path}/files/{key}", "rb") as entry:
        assert entry.read().split(b"\n")[1] == os.fsencode(path)


def test_a_changed_archive_is_imported_anew(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar(file("one")))
    time.sleep(0.1)
    first = resolve(str(path))
    path.write_bytes(tar(file("two")))
    second = resolve(str(path))
    assert first.digest != second.digest
    assert os.listdir(second.layers[0]) == ["two"]
    first.close()
    second.close()


def test_an_archive_written_this_moment_is_not_found_by_its_times(store: Store, tmp_path: Path) -> None:
    """Its next change might bear the same time (git's "racy" files)."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar(file("one")))
    moment = time.time() + 10  # whatever this machine does meanwhile
    os.utime(path, (moment, moment))
    resolve(str(path)).close()
    assert os.listdir(f"{store.path}/files") == []


def test_removing_takes_the_name_first_and_the_image_with_its_last_one(store: Store, tmp_path: Path) -> None:
    digest = bring(store, tmp_path / "a.tar", "one", "two")
    assert remove.remove(store, "one") == ["localhost/one:latest"]
    resolve("two").close()
    assert set(remove.remove(store, "two")) == {"localhost/two:latest", digest}
    assert layers(store) == []
    with pytest.raises(ImageError, match="isn't in the store"):
        remove.remove(store, "two")


def test_a_layer_that_another_image_has_stays(store: Store, tmp_path: Path) -> None:
    base, one, two = tar(file("base")), tar(file("one")), tar(file("two"))
    for name, top in (("one", one), ("two", two)):
        layout = Layout(tmp_path / name)
        layout.index(layout.image(base, top))
        import_path(Job(store, Limits(), Progress(), names=[f"localhost/{name}:latest"]), str(layout.path))
    assert len(layers(store)) == 3
    remove.remove(store, "one")
    assert len(layers(store)) == 2
    found = resolve("two")
    assert [os.listdir(layer) for layer in found.layers] == [["two"], ["base"]]
    found.close()


def test_what_a_running_container_uses_is_not_removed(store: Store, tmp_path: Path) -> None:
    digest = bring(store, tmp_path / "a.tar", "mine")
    first, second = resolve("mine"), resolve("mine")
    for name in ("mine", digest):
        with pytest.raises(Busy, match="in use"):
            remove.remove(store, name)
    first.close()
    with pytest.raises(Busy):
        remove.remove(store, "mine")
    assert remove.prune(store, everything=True) == []
    assert Path(second.layers[0], "a.tar").exists()
    second.close()
    assert [gone for gone, _ in remove.prune(store, everything=True)] == [digest]
    assert (layers(store), store.digests(), store.names()) == ([], [], {})


def test_the_hold_ends_with_the_process_that_has_it(store: Store, tmp_path: Path) -> None:
    bring(store, tmp_path / "a.tar", "mine")
    code = (
        "import sys, time; from pyminicon.images import resolve; found = resolve('mine');"
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Busy):
        remove.remove(store, "mine")
    holder.kill()
    holder.communicate()
    remove.remove(store, "mine")


def test_the_lock_is_not_inherited(store: Store, tmp_path: Path) -> None:
    bring(store, tmp_path / "a.tar", "mine")
    found = resolve("mine")
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in found.lock_fds)
    found.close()
    found.close()  # a second time does nothing


def test_prune_keeps_names_archives_and_what_runs(store: Store, tmp_path: Path) -> None:
    named = bring(store, tmp_path / "named.tar", "named")
    time.sleep(0.1)
    archive = tmp_path / "archive.tar"
    archive.write_bytes(tar(file("archive")))
    time.sleep(0.1)
    resolve(str(archive)).close()
    (tmp_path / "running.tar").write_bytes(tar(file("running")))
    running = resolve(str(tmp_path / "running.tar"))
    loose = bring(store, tmp_path / "loose.tar")
    (tmp_path / "loose.tar").unlink()
    assert remove.prune(store) == [(loose, str(tmp_path / "loose.tar"))]
    archive.unlink()
    assert len(remove.prune(store)) == 1
    running.close()
    (tmp_path / "running.tar").unlink()
    remove.prune(store)
    assert store.digests() == [named]
    assert os.listdir(f"{store.path}/files") == []


def _race(path: str, start: float, results: multiprocessing.Queue[str]) -> None:
    time.sleep(max(0.0, start - time.time()))
    try:
        found = resolve(path)
        assert all(os.path.isdir(layer) and os.listdir(layer) for layer in found.layers)
        results.put(found.digest)
    except BaseException as error:
        results.put(repr(error))


def test_many_importers_at_once_make_one_image(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar(*(file(f"f{i}", os.urandom(100)) for i in range(500))))
    time.sleep(0.1)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    start = time.time() + 1.5
    processes = [context.Process(target=_race, args=(str(path), start, results)) for _ in range(6)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert found.pop().startswith("sha256:")
    assert len(layers(store)) == 1


def test_importing_and_removing_at_once_never_shows_half_an_image(store: Store, tmp_path: Path) -> None:
    """An importer that finds a layer keeps it, though a remover would have liked to take it."""
    data = tar(*(file(f"f{i}") for i in range(50)))
    stop, over = time.monotonic() + 3, tmp_path / "over"
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            while not over.exists():
                with contextlib.suppress(Busy, ImageError):
                    remove.remove(store, "mine")
                remove.prune(store, everything=True)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            status = 1
        os._exit(status)
    count = 0
    try:
        while time.monotonic() < stop or (count <= 3 and time.monotonic() < stop + 60):
            digest = bring(store, tmp_path / "a.tar", "mine", data=data)
            found = lookup.open_image(store.path, digest)
            if found is not None:
                assert len(os.listdir(found.layers[0])) == 50
                found.close()
                count += 1
    finally:
        over.touch()
    assert os.waitpid(pid, 0)[1] == 0
    assert count > 3
    remove.prune(store, everything=True)


def test_a_store_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, 1234, 1234)
    with pytest.raises(ImageError, match="belongs to uid 1234"):
        Store(str(path))


def test_nobody_else_may_look_into_a_store(store: Store) -> None:
    assert os.stat(store.path).st_mode & 0o77 == 0


def test_a_store_where_none_can_be_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path, word in ((tmp_path / "file/store", "PYMINICON_STORE"), (tmp_path / "a:b", "overlayfs")):
        monkeypatch.setenv("PYMINICON_STORE", str(path))
        with pytest.raises(SpecError, match=word):
            Store()


def test_the_store_is_found_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYMINICON_STORE", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert lookup.store_path() == "/var/lib/pyminicon"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lookup.store_path() == f"{os.environ['HOME']}/.local/share/pyminicon"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert lookup.store_path() == "/data/pyminicon"


@pytest.mark.parametrize(
    "config",
    [
        None,
        ImageConfig(),
        ImageConfig(
            ["/entry", ""], [], ["A=b\nc", "Ü=\udcff"], workdir="/w", user="me:us", stopsignal="SIGINT"
        ),
        ImageConfig(None, ["x"], volumes=["/v"]),
    ],
)
def test_a_record_reads_as_it_was_written(config: ImageConfig | None) -> None:
    layers = ["a" * 32, "0123456789abcdef" * 2]
    data = lookup.encode_record("sha256:1", "linux/amd64", layers, config, "1777:5:6")
    digest, platform, ids, found, top = lookup.decode_record(data)
    assert (digest, platform, ids, top) == ("sha256:1", "linux/amd64", layers, "1777:5:6")
    for field in ImageConfig.__slots__ if config else ():
        assert getattr(found, field) == getattr(config, field)
    assert (found is None) == (config is None)


def test_a_damaged_record_is_an_error_that_helps(store: Store, tmp_path: Path) -> None:
    digest = bring(store, tmp_path / "a.tar", "mine")
    whole = Path(f"{store.path}/images/{digest[7:]}").read_bytes()
    for data in (b"", b"\0", whole[:10], whole[:-20], b"\xff" * 100):
        Path(f"{store.path}/images/{digest[7:]}").write_bytes(data)
        with pytest.raises(SpecError, match="remove it and import it again"):
            resolve("mine")


def test_a_tree_that_fights_back_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for _ in range(1200):  # deeper than Python's stack, longer than PATH_MAX
        if not root.exists():
            root.mkdir()
            fd = os.open(root, os.O_RDONLY)
        os.mkdir("ddd", dir_fd=fd)
        below = os.open("ddd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkdir("closed", 0o000, dir_fd=fd)
    os.symlink("/etc", "link", dir_fd=fd)
    os.mkfifo("fifo", dir_fd=fd)
    os.close(fd)
    (root / "locked").mkdir()
    (root / "locked/file").touch()
    (root / "locked").chmod(0o500)
    tree.remove(str(root))
    assert not root.exists()
    assert os.path.isdir("/etc")


def test_finding_a_stored_image_imports_nothing_slow(store: Store, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    bring(store, archive, "mine")
    time.sleep(0.1)
    resolve(str(archive)).close()
    code = (
        "import sys; before = set(sys.modules)\n"
        "from pyminicon.images import resolve\n"
        f"resolve('mine').close(); resolve({str(archive)!r}).close(); resolve('mine:latest').close()\n"
        "new = set(sys.modules) - before\n"
        "print(*sorted(name for name in new if not name.startswith('pyminicon')))\n"
        "print(*sorted(name for name in new if name.startswith('pyminicon.images')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outside, ours = done.stdout.splitlines()
    slow = {
        "json",
        "re",
        "pathlib",
        "subprocess",
        "typing",
        "enum",
        "dataclasses",
        "hashlib",
        "contextlib",
        "shutil",
    }
    assert slow.isdisjoint(outside.split())
    assert ours.split() == ["pyminicon.images", "pyminicon.images.lookup"]
