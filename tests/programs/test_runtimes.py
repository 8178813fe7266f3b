"""Runtimes that ask for their limits, compilers that bring their own linkers, a browser, a transcoder."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pyminicon
from tests.programs.conftest import shell

Mode = dict[str, Any]


def test_the_jvm_sizes_its_heap_by_the_memory_limit(runtimes: str, mode: Mode) -> None:
    script = (
        "java -XX:+PrintFlagsFinal -version 2>/dev/null | grep -w MaxHeapSize | tr -s ' ' | cut -d' ' -f5"
    )
    heap = int(shell(script, runtimes, mode, memory="256M"))
    assert 64 << 20 <= heap <= 128 << 20, heap
    # Without a limit it is this machine's.
    assert int(shell(script, runtimes, mode)) != heap


def test_the_jvm_counts_its_processors_by_the_cpu_limit(runtimes: str, mode: Mode) -> None:
    script = "java -XshowSettings:system -version 2>&1 | grep -i 'effective cpu count'"
    assert shell(script, runtimes, mode, cpus=1.0).split()[-1] == "1"


def test_go_builds_a_program(runtimes: str, mode: Mode) -> None:
    script = """
        mkdir g; cd g; export HOME=/tmp GOFLAGS=-mod=mod; go mod init g 2>/dev/null
        printf 'package main\\nimport "fmt"\\nfunc main() { fmt.Println(6 * 7) }\\n' >m.go; go build -o m .; ./m
    """
    assert shell(script, runtimes, mode, storage="tmpfs:size=2g") == "42\n"


def test_cargo_builds_a_program(runtimes: str, mode: Mode) -> None:
    script = "export HOME=/tmp USER=me; cargo new -q c 2>&1; cd c; cargo build -q --offline; target/debug/c"
    assert shell(script, runtimes, mode) == "Hello, world!\n"


def test_ffmpeg_encodes_a_second_of_video(runtimes: str, mode: Mode) -> None:
    script = """
        ffmpeg -v error -f lavfi -i testsrc=d=1:r=25 -c:v libx264 o.mp4
        ffprobe -v error -select_streams v -show_entries stream=codec_name,nb_frames -of csv=p=0 o.mp4
    """
    assert shell(script, runtimes, mode).strip() == "h264,25"


def test_chromium_draws_a_page(runtimes: str, mode: Mode) -> None:
    script = """
        export HOME=/tmp; echo '<body style="background: #ff0000"><h1>Drawn</h1>' >p.html
        chromium --headless --no-sandbox --disable-gpu --window-size=320,200 --screenshot=/tmp/p.png file:///tmp/p.html >&2
    """
    env = {"HOME": "/tmp", **mode.get("env", {})}
    r = pyminicon.run(
        ["sh", "-ec", script], image=runtimes, cwd="/tmp", collect=["/tmp/p.png"], capture_output=True, timeout=600,
        **{**mode, "env": env},
    )  # fmt: skip
    assert r.returncode == 0, r.stderr[-2000:]
    colours = _colours(r.files["/tmp/p.png"])
    assert bytes((255, 0, 0)) in colours and len(colours) > 1  # the background, and letters on it


def _colours(png: bytes) -> set[bytes]:
    """The colours of an 8-bit RGB or RGBA PNG (RFC 2083)."""
    at, data, header = 8, b"", b""
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + size]
        header = body if kind == b"IHDR" else header
        data += body if kind == b"IDAT" else b""
        at += size + 12
    width, height, depth, colour = struct.unpack_from(">IIBB", header)
    assert depth == 8 and colour in (2, 6)
    each = 3 if colour == 2 else 4
    rows, before, found = zlib.decompress(data), bytes(width * each), set()
    for y in range(height):
        start = y * (width * each + 1)
        before = _unfiltered(rows[start], rows[start + 1 : start + 1 + width * each], before, each)
        found |= {before[x : x + 3] for x in range(0, len(before), each)}
    return found


def _unfiltered(kind: int, row: bytes, above: bytes, each: int) -> bytes:
    made = bytearray(row)
    for i in range(len(row)):
        left = made[i - each] if i >= each else 0
        corner = above[i - each] if i >= each else 0
        if kind == 4:
            guess = left + above[i] - corner
            near = [
                (abs(guess - value), order, value) for order, value in enumerate((left, above[i], corner))
            ]
            made[i] = (row[i] + min(near)[2]) & 255
        else:
            made[i] = (row[i] + (0, left, above[i], (left + above[i]) // 2)[kind]) & 255
    return bytes(made)
