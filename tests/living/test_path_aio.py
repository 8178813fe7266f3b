"""Files inside on an event loop: the same answers, awaited, and nothing of it holds the loop."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pyminicon import aio, errors
from pyminicon.inside import workers
from tests.support import fuse
from tests.support.loops import nothing_blocks

Work = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def living(**options: Any) -> AsyncIterator[Any]:
    async with await aio.start(["sleep", "1000"], image="host", init=True, **options) as box:
        yield box


def inside(work: Work, **options: Any) -> Any:
    """``work(container)`` on a loop in which nothing may block."""

    async def act() -> Any:
        with nothing_blocks():
            async with living(**options) as box:
                return await asyncio.wait_for(work(box), 60)

    return asyncio.run(act())


def test_every_method_is_awaited() -> None:
    async def work(box: Any) -> None:
        top = box.path("/tmp/top")
        await top.mkdir()
        path = top / "file"
        assert await path.write_text("words") == 5 and await path.read_text() == "words"
        assert await path.write_bytes(b"bytes") == 5 and await path.read_bytes() == b"bytes"
        assert (await path.exists(), await path.is_file(), await path.is_dir(), await path.is_symlink()) == (
            True,
            True,
            False,
            False,
        )
        assert (await path.stat()).st_size == (await path.lstat()).st_size == 5
        await (top / "link").symlink_to("file")
        assert (
            await (top / "link").readlink() == box.path("file")
            and (await (top / "link").lstat()).st_size == 4
        )
        await path.chmod(0o600)
        await (top / "new").touch()
        assert (
            await (top / "new").rename(top / "newer")
            == await (top / "newer").replace(top / "newer")
            == top / "newer"
        )
        await (top / "a/b").mkdir(parents=True)
        assert {one.name async for one in top.iterdir()} == {"file", "link", "newer", "a"}
        assert [str(one) async for one in top.glob("f*")] == ["/tmp/top/file"]
        assert [str(one) async for one in top.rglob("b")] == ["/tmp/top/a/b"]
        walked = [(str(where), sorted(names)) async for where, _, names in top.walk()]
        assert walked[0] == ("/tmp/top", ["file", "link", "newer"])
        await (top / "a/b").rmdir()
        await (top / "newer").unlink()
        await top.rmtree()
        assert not await top.exists()

    inside(work)


def test_errors_are_those_of_the_other() -> None:
    async def work(box: Any) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            await box.path("/nothing").read_text()
        assert caught.value.filename == "/nothing"
        with pytest.raises(FileNotFoundError):
            async for _ in box.path("/nothing").iterdir():
                pass
        with pytest.raises(OSError) as odd:
            await box.path("/dev/zero").open()
        assert odd.value.errno == errno.EOPNOTSUPP
        with pytest.raises(TypeError):
            os.stat(box.path("/etc/passwd"))
        with pytest.raises(errors.SpecError, match="user"):
            await box.path("/etc", user="nobody-of-that-name").stat()
        if os.geteuid() == 0:  # else there is no such user inside
            with pytest.raises(PermissionError):
                await box.path("/new", user="1000").mkdir()

    inside(work)


def test_an_open_file_is_awaited_too() -> None:
    async def work(box: Any) -> None:
        async with await box.path("/tmp/file").open("w+") as file:
            await file.write("one\ntwo\n")
            await file.writelines(["three\n"])
            await file.flush()
            assert await file.tell() == 14 and await file.seek(0) == 0
            assert await file.readline() == "one\n" and [line async for line in file] == ["two\n", "three\n"]
            await file.seek(0)
            assert await file.truncate(4) == 4 and await file.read() == "one\n"
            assert os.fstat(file.fileno()).st_size == 4 and not file.wrapped.closed
        assert file.wrapped.closed
        async with await box.path("/proc/version").open("rb") as file:
            assert (await file.read(5), bool(await file.readlines())) == (b"Linux", True)

    inside(work)


def test_many_at_once() -> None:
    async def work(box: Any) -> None:
        async def one(number: int) -> None:
            path = box.path(f"/tmp/{number}")
            await path.write_text(str(number))
            assert await path.read_text() == str(number) and await path.is_file()
            await path.unlink()

        await asyncio.gather(*(one(number) for number in range(40)))
        assert [path async for path in box.path("/tmp").iterdir()] == []

    inside(work)


def test_copies_and_archives(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("words")

    async def work(box: Any) -> bytes:
        await box.copy_in(tmp_path / "tree", "/tmp")
        await box.copy_out(PurePosixPath("/tmp/tree"), tmp_path / "back")
        with await box.get_archive("/tmp/tree") as file:
            data: bytes = await asyncio.to_thread(file.read)
        await box.path("/tmp/again").mkdir()
        await box.put_archive("/tmp/again", data)
        assert await box.path("/tmp/again/tree/file").read_text() == "words"
        with pytest.raises(FileNotFoundError):
            await box.copy_out("/tmp/nothing", tmp_path)
        return data

    with tarfile.open(fileobj=io.BytesIO(inside(work))) as tar:
        assert tar.getnames() == ["tree", "tree/file"]
    assert (tmp_path / "back" / "file").read_text() == "words"


def test_a_cancelled_operation_leaves_the_next_one_alone() -> None:
    async def work(box: Any) -> None:
        path = box.path("/tmp/file")
        await path.write_text("x")
        for turn in range(60):
            task = asyncio.ensure_future(path.stat() if turn % 2 else path.read_text())
            await asyncio.sleep(turn * 0.00002)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            assert (await path.stat()).st_size == 1

    inside(work)


def test_one_that_hangs_doesnt_hold_the_loop(
    needs_root: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 2.0)
    files = fuse.Files({"file": b"words"})

    async def work(box: Any) -> None:
        path = box.path("/volume/file")
        assert await path.read_bytes() == b"words"
        files.silent = {fuse.LOOKUP, fuse.OPENDIR}
        pauses = []

        async def tick() -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.02)
                pauses.append(time.monotonic() - before)

        ticking = asyncio.ensure_future(tick())

        async def names() -> list[Any]:
            return [one async for one in box.path("/volume").iterdir()]

        acts = [
            path.stat(),
            path.read_bytes(),
            path.open(),
            names(),
            box.copy_out("/volume", tmp_path / "out"),
        ]
        answers = await asyncio.gather(*acts, return_exceptions=True)
        ticking.cancel()
        assert [type(one) for one in answers] == [TimeoutError] * len(acts)
        assert sorted(pauses)[len(pauses) * 9 // 10] < 0.3
        began = time.monotonic()
        with pytest.raises(TimeoutError):  # of wait_for
            await asyncio.wait_for(path.stat(), 0.1)
        assert time.monotonic() - began < 1.5
        assert await box.path("/tmp").is_dir()

    try:
        inside(work, volumes=[f"{files.where}:/volume"])
    finally:
        files.close()


def test_once_it_has_ended_everything_says_so() -> None:
    async def work(box: Any) -> None:
        path = box.path("/tmp/file")
        await path.write_text("x")
        box.kill()
        await box.wait()
        for act in (path.stat, path.read_text, path.unlink, path.mkdir, path.rmtree):
            with pytest.raises(errors.ContainerEnded) as caught:
                await act()
            assert (caught.value.id, caught.value.returncode) == (box.id, -9)
        with pytest.raises(errors.ContainerEnded):
            box.path("/tmp")
        with pytest.raises(errors.ContainerEnded):
            await box.copy_in("/etc/hostname", "/tmp")

    inside(work)


def test_without_an_init_there_is_no_path() -> None:
    async def act() -> None:
        async with await aio.start(["sleep", "1000"], image="host") as box:
            with pytest.raises(errors.SpecError, match="init"):
                box.path("/tmp")

    asyncio.run(act())
