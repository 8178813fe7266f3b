"""Sizes: what is taken, what is refused, and with which words."""

from __future__ import annotations

import pytest

from pyminicon import sizes
from pyminicon.errors import SpecError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("5b", 5),
        ("64k", 65536),
        ("64K", 65536),
        ("64kb", 65536),
        ("64KiB", 65536),
        ("64M", 64 << 20),
        ("1g", 1 << 30),
        ("1.5g", 3 << 29),
        ("0.25k", 256),
        ("2T", 2 << 40),
        ("1p", 1 << 50),
        ("007", 7),
    ],
)
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert sizes.parse(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "k",
        "12Q",
        "-1",
        "+1",
        "1e3",
        "1_000",
        "0x10",
        "64 M",
        " 64M",
        "64M\n",
        "1.5",
        "1.5b",
        ".5k",
        "1.k",
        "64MM",
        "5ib",
        "64bk",
        "M64",
        "1,5g",
        "six",
        "6\u0664M",
        "\u0666\u0664",
        "NaN",
        "inf",
        "9" * 30,
        "1..5g",
    ],
)
def test_what_is_not_a_size_is_nothing(text: str) -> None:
    assert sizes.parse(text) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (100, "100"), (1024, "1K"), (64 << 20, "64M"), ((1 << 30) + 1024, "1048577K")],
)
def test_a_size_is_written_without_loss(size: int, text: str) -> None:
    assert sizes.form(size) == text
    assert sizes.parse(text) == size


def test_a_size_for_people_is_short_and_never_too_large() -> None:
    for size in (0, 9_999, 10_000, 1_023_999, 1_024_000, 24684096 * 1024, sizes.LARGEST):
        shown = sizes.about(size)
        read = sizes.parse(shown)
        assert read is not None
        assert len(shown) <= 7
        assert size * 0.999 <= read <= size


@pytest.mark.parametrize(
    "value", ["12Q", "-1", "", None, True, 1.5, b"64M", [], -1, 4095, "2K", (1 << 30) + 1, "2g"]
)
def test_a_refused_size_names_the_option_and_the_range(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        sizes.check("memory", value, 4096, 1 << 30, "this machine's memory")
    assert caught.value.option == "memory"
    assert "4K to 1G (this machine's memory)" in str(caught.value)


def test_the_ends_of_the_range_belong_to_it() -> None:
    assert sizes.check("memory", 4096, 4096, 8192) == 4096
    assert sizes.check("memory", "8k", 4096, 8192) == 8192


def test_a_long_value_does_not_make_a_long_message() -> None:
    with pytest.raises(SpecError) as caught:
        sizes.check("memory", "x" * 100_000)
    assert len(str(caught.value)) < 300
