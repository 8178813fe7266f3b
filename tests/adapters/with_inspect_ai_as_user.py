"""The same suite as an ordinary user. Run by ``make adapters``; as an ordinary user `with_inspect_ai` is that already."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ordinary

HERE = Path(__file__).resolve().parent


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """An empty directory to build in, and his home; where he can come to, whatever else runs here."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as hold,
        tempfile.TemporaryDirectory(dir="/var/tmp") as home,
    ):
        for place in (hold, home):
            os.chmod(place, 0o755)
        os.chown(home, ordinary.UID, ordinary.UID)
        yield Path(hold), Path(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_with_a_range_of_ids_passes_all(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    hold, home = places
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-c",
        str(HERE / "inspect_ai.ini"),
        "--rootdir",
        str(HERE.parents[1]),
    ]
    words += ["-p", "no:cacheprovider", "--basetemp", str(home / "tests"), str(HERE / "with_inspect_ai.py")]
    done = subprocess.run(
        ordinary.command(words, hold),
        cwd=HERE.parents[1],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", done.stdout, re.MULTILINE))
    assert not failed, done.stdout
    counts = re.findall(
        r"^(?:collected .*|inspect_ai\S*: .*|SKIPPED .*|=+ \d\d passed.*)$", done.stdout, re.MULTILINE
    )
    with capsys.disabled():
        print("", *(f"as an ordinary user: {line.strip('= ')}" for line in counts), sep="\n")
    assert re.search(r"self_check: (\d+) collected, \1 passed", done.stdout), done.stdout[-2000:]
