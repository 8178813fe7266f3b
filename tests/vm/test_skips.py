"""The plugin that turns an unexcused skip into a failure, tried on small test files of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

TREE = Path(__file__).resolve().parent.parent.parent


def outcome(tmp_path: Path, body: str, strict: bool) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    env = {**os.environ, "PYTHONPATH": str(TREE), "PYMINICON_STRICT_SKIPS": "1" if strict else "0"}
    options = ["-q", "-p", "tests.skips", "-p", "no:cacheprovider", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)


SKIP = "def test_a():\n    pytest.skip('the dog ate it')\ndef test_b():\n    pass"


def test_a_skip_is_only_a_skip_where_nobody_asked(tmp_path: Path) -> None:
    done = outcome(tmp_path, SKIP, strict=False)
    assert done.returncode == 0
    assert "1 passed, 1 skipped" in done.stdout


def test_a_skip_without_a_known_reason_fails_a_strict_run(tmp_path: Path) -> None:
    done = outcome(tmp_path, SKIP, strict=True)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "the dog ate it" in done.stdout


def test_a_skipif_mark_is_judged_by_its_reason(tmp_path: Path) -> None:
    body = "@pytest.mark.skipif(True, reason='no time')\ndef test_a():\n    pass"
    assert outcome(tmp_path, body, strict=True).returncode == 1


def test_a_module_that_skips_itself_fails_a_strict_run(tmp_path: Path) -> None:
    body = "pytest.importorskip('no_such_module_anywhere')\ndef test_a(): pass"
    done = outcome(tmp_path, body, strict=True)
    assert done.returncode != 0
    assert "no_such_module_anywhere" in done.stdout


def test_a_known_reason_stays_a_skip(tmp_path: Path) -> None:
    done = outcome(tmp_path, "def test_a():\n    pytest.skip('needs cgroup v1 (memory)')", strict=True)
    assert done.returncode == 0
    assert "1 skipped" in done.stdout


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    done = outcome(tmp_path, "@pytest.mark.xfail\ndef test_a():\n    assert False", strict=True)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("reason", "release", "who", "answer"),
    [
        ("needs Linux 7.0 (OPEN_TREE_NAMESPACE)", "6.1.0-50-amd64", "root", True),
        ("needs Linux 6.15", "6.1.0-50-amd64", "user", True),
        ("needs Linux 7.0 (OPEN_TREE_NAMESPACE)", "7.2.13+deb14-amd64", "root", False),
        ("needs Linux 5.12", "6.1.0-50-amd64", "root", False),
        ("needs root", "7.2.13+deb14-amd64", "user", True),
        ("needs root", "7.2.13+deb14-amd64", "root", False),
        ("it needs root", "7.2.13+deb14-amd64", "user", False),
    ],
)
def test_a_reason_counts_only_where_it_can_be_true(reason: str, release: str, who: str, answer: bool) -> None:
    assert skips.excused(reason, release, who) is answer
