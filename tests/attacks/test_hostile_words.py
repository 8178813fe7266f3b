"""Words from strangers: too long, too many, or made to mean something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"BIG": "x" * 70_000}}, {"env": {f"V{n}": "x" for n in range(10_000)}}, {"hostname": "x" * 70_000},
        {"cwd": "/" + "x" * 70_000}, {"user": "x" * 70_000}, {"tmpfs": [f"/mnt/{n}" for n in range(300)]},
        {"tmpfs": ["/mnt/" + "d/" * 3000]}, {"volumes": ["/" + "x" * 5000 + ":/mnt"]}, {"files": {"/" + "y" * 5000: b""}},
        {"files": {f"/tmp/{n}": b"x" for n in range(2000)}}, {"env": {"BIG": "x" * 200_000}}, {"env": {"BIG": "x" * 40_000_000}},
    ],
    ids=lambda options: f"{next(iter(options))}-{len(str(options))}",
)  # fmt: skip
def test_oversized_words_work_or_are_a_clear_error(options: dict[str, Any], inside: Run) -> None:
    """A length that wrapped around was an escape elsewhere (CVE-2021-43784)."""
    try:
        r = inside(["true"], **options)
    except pyminicon.Error as error:
        assert 0 < len(str(error)) < 200_000
    else:
        assert r.returncode == 0


@pytest.mark.parametrize(
    "odd",
    [
        "a,b",
        "a:b",
        "a\\b",
        'a"b',
        "a\nb",
        "a b",
        "a=b,upperdir=c",
        "lowerdir=x",
        "ä",
        "a%sb",
        "..a",
        "$(touch x)",
    ],
)
def test_a_directory_of_any_name_is_an_image_and_a_volume_and_nothing_else(
    odd: str, own_rootfs: Path, tmp_path: Path, inside: Run
) -> None:
    image = tmp_path / odd
    own_rootfs.rename(image)
    assert inside(["cat", "/etc/motd"], image=str(image)).stdout == "from the image\n"
    if ":" not in odd:
        assert inside(["cat", "/mnt/etc/motd"], volumes=[f"{image}:/mnt:ro"]).stdout == "from the image\n"


@pytest.mark.parametrize(
    "options",
    [
        {"volumes": ["/tmp:/a/../../b"]}, {"volumes": ["/tmp:relative"]}, {"volumes": [":/a"]}, {"volumes": ["/tmp:"]}, {"volumes": ["/tmp:/"]},
        {"volumes": ["/tmp:/a\0b"]}, {"tmpfs": ["/../x"]}, {"tmpfs": ["/"]}, {"tmpfs": ["/a:size=1m,upperdir=/"]},
        {"files": {"relative": b""}}, {"files": {"/a/../../b": b""}}, {"hostname": "a/b"}, {"hostname": "a\nb"},
        {"env": {"A=B": "c"}}, {"env": {"A": "b\0c"}}, {"cwd": "relative"}, {"network": "container:x"}, {"userns": "0:0:0"}, {"cap_add": ["NOT_ONE"]},
        {"rlimits": {"nofile": (-5, 1)}}, {"memory": "-1"}, {"pids": -1},
    ],
    ids=str,
)  # fmt: skip
def test_words_that_mean_nothing_start_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(pyminicon.SpecError, match=next(iter(options))):
        pyminicon.run(["true"], **options)


@pytest.mark.parametrize("args", [[], [""], ["a\0b"], "", [None]])
def test_a_command_that_is_none_starts_nothing(args: Any) -> None:
    with pytest.raises((pyminicon.Error, TypeError)):
        pyminicon.run(args)
