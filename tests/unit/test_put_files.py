"""``files``: read when they are asked for, regular files of a size that the launch can carry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyminicon.errors import SpecError
from pyminicon.options.files import MOST, files


def test_files_know_programs_by_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x")
    (tmp_path / "p").chmod(0o640)
    got = files(
        {"/a": b"#!/bin/sh", "/b": b"\x7fELF..", "/c": b"text", "/d": tmp_path / "p", "/e": bytearray(b"#!")}
    )
    assert got == [
        ("/a", b"#!/bin/sh", 0o755), ("/b", b"\x7fELF..", 0o755), ("/c", b"text", 0o644), ("/d", b"x", 0o640), ("/e", b"#!", 0o755),
    ]  # fmt: skip


def test_a_directory_among_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Is a directory"):
        files({"/a": tmp_path})


@pytest.mark.parametrize("what", ["fifo", "/dev/zero", "/dev/tty", "socket"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, what: str) -> None:
    path = what if what.startswith("/") else str(tmp_path / what)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        import socket

        socket.socket(socket.AF_UNIX).bind(path)
    with pytest.raises(SpecError, match=f"files: {path}"):
        files({"/a": path})


def test_a_file_is_16m_at_most(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(MOST + 1))
    (tmp_path / "full").write_bytes(bytes(MOST))
    assert len(files({"/a": tmp_path / "full"})[0][1]) == MOST
    with pytest.raises(SpecError, match=r"files: takes 16M a file, and .*/large is larger"):
        files({"/a": tmp_path / "large"})
    with pytest.raises(SpecError, match=r"files: takes 16M a file, and /b is larger"):
        files({"/b": bytes(MOST + 1)})


def test_all_of_them_are_what_a_launch_can_carry_at_most() -> None:
    data = bytes(14 << 20)
    files({f"/{number}": data for number in range(4)})
    with pytest.raises(SpecError, match=r"files: takes 56M in all, and with /last it is more"):
        files({**{f"/{number}": data for number in range(4)}, "/last": b"x"})


@pytest.mark.parametrize(
    "bad",
    [{"/a\0b": b""}, {5: b""}, {None: b""}, {"/\ud800": b""}, {"/a": "x\0y"}, {"/a": "\ud800"}],
    ids=repr,
)
def test_names_that_can_be_none_are_refused(bad: Any) -> None:
    with pytest.raises(SpecError, match="files: "):
        files(bad)
