"""Output that is too long, without an end to what wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import pyminicon
from pyminicon import aio

Run = Callable[..., Any]


@pytest.fixture(params=["run", "command", "template", "aio"])
def run(request: pytest.FixtureRequest) -> Run:
    def call(args: Any, **options: Any) -> Any:
        options = {"timeout": 60, **options}
        if request.param == "run":
            return pyminicon.run(args, image="python", **options)
        if request.param == "command":
            with pyminicon.start(image="python") as c:
                return c.run(args, **options)
        if request.param == "template":
            with pyminicon.Template(image="python", stock=1) as t:
                return t.run(args, **options)
        return asyncio.run(aio.run(args, image="python", **options))

    return call


def test_the_first_and_the_last_half_of_each_stream_are_kept(run: Run) -> None:
    code = "import sys\nfor n in range(200000): print(n)\nsys.stderr.write('short')"
    r = run(["python", "-c", code], capture_output=True, max_output=1001, overflow="trim")
    whole = b"".join(b"%d\n" % n for n in range(200000))
    assert r.stdout == whole[:501] + whole[-500:]
    assert (r.returncode, r.limit, r.stderr) == (0, None, b"short")
    assert r.dropped == (len(whole) - 1001, 0)


def test_what_fits_is_whole(run: Run) -> None:
    r = run(
        ["python", "-c", "print('x' * 999)"], capture_output=True, max_output=1000, overflow="trim", text=True
    )
    assert (r.stdout, r.dropped) == ("x" * 999 + "\n", (0, 0))


def test_text_is_cut_at_whole_characters(run: Run) -> None:
    code = "print('a' + '\u20ac' * 5000, end='')"
    for most in range(100, 106):
        r = run(
            ["python", "-X", "utf8", "-c", code],
            capture_output=True,
            max_output=most,
            overflow="trim",
            text=True,
        )
        assert set(r.stdout) == {"a", "\u20ac"}
        assert len(r.stdout.encode()) + r.dropped[0] == 15001
        assert most - 4 <= len(r.stdout.encode()) <= most


def test_memory_stays_flat_however_much_comes() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    r = pyminicon.run(
        ["sh", "-c", "head -c 300000000 /dev/zero"],
        capture_output=True,
        max_output="1M",
        overflow="trim",
        timeout=120,
    )
    assert (len(r.stdout), r.dropped) == (1 << 20, (300_000_000 - (1 << 20), 0))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_it_takes_max_output_and_somebody_who_waits() -> None:
    with pytest.raises(pyminicon.SpecError, match="overflow"):
        pyminicon.run(["true"], overflow="trim", capture_output=True)
    with pytest.raises(pyminicon.SpecError, match="overflow"):
        pyminicon.run(["true"], overflow="cut")  # type: ignore[call-overload]
    with pytest.raises(pyminicon.SpecError, match="overflow"):
        pyminicon.start(["true"], overflow="trim")  # type: ignore[call-overload]
    r = pyminicon.run(["sh", "-c", "echo 12345"], capture_output=True, max_output=3)
    assert (r.limit, r.dropped) == ("output", (0, 0))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-le", "gb18030", "shift_jis", "latin-1"]
)
def test_text_of_any_encoding_is_cut_at_whole_characters(encoding: str) -> None:
    text = (
        "ab 中国 \u00e4\n"
        if encoding == "gb18030"
        else "ab 日本 c\n"
        if encoding == "shift_jis"
        else "ab \u00e4b\n"
    )
    if encoding.startswith("utf"):
        text = "a\U0001f600\u20ac\n"
    whole = (text * 100).encode(encoding)
    code = f"import sys; sys.stdout.buffer.write({whole!r})"
    for most in range(24, 40):
        r = pyminicon.run(
            ["python", "-c", code],
            image="python", capture_output=True, encoding=encoding, max_output=most, overflow="trim",
        )  # fmt: skip
        head = next(n for n in range(len(text) * 100, -1, -1) if r.stdout.startswith((text * 100)[:n]))
        assert (text * 100).endswith(r.stdout[head:])
        mark = len("".encode(encoding))
        assert len(r.stdout.encode(encoding)) + sum(r.dropped) == len(whole), (most, mark)


def test_bytes_that_are_no_text_leave_no_part_of_a_character_at_the_cut() -> None:
    unit = "\u20ac\u20ac".encode() + b"\xff"
    for most in range(8, 20):
        r = pyminicon.run(
            ["sh", "-c", r"for i in 1 2 3 4 5 6 7 8 9; do printf '\342\202\254\342\202\254\377'; done"],
            capture_output=True, text=True, errors="surrogateescape", max_output=most, overflow="trim",
        )  # fmt: skip
        assert set(r.stdout) <= {"\u20ac", "\udcff"}, most
        assert len(r.stdout.encode(errors="surrogateescape")) + r.dropped[0] == 9 * len(unit)
