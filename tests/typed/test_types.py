"""What type checkers make of the package, as its users have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

#: Adapters whose frameworks aren't installed where the package is checked.
WITH_FRAMEWORK = (
    "pyminicon.adapters.inspect_ai.",
    "pyminicon.adapters.inspect_config.",
    "pyminicon.adapters.inspect_remote.",
)

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
WRONG = {
    number
    for number, line in enumerate((HERE / "wrong.py").read_text().splitlines(), 1)
    if line.endswith("# wrong")
}


def _mypy(name: str, cache: Path) -> tuple[int, str]:
    r = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={cache}",
            str(HERE / name),
        ],
        capture_output=True,
        text=True,
        cwd=TOP,
        check=False,
    )
    return r.returncode, r.stdout + r.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_mypy_takes_right_uses(cache: Path) -> None:
    code, told = _mypy("right.py", cache)
    assert code == 0, told


def test_mypy_refuses_each_wrong_use(cache: Path) -> None:
    _, told = _mypy("wrong.py", cache)
    assert {int(found) for found in re.findall(r"wrong\.py:(\d+): error", told)} == WRONG, told


# ---- pyright ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyright() -> str:
    found = shutil.which("basedpyright", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("needs basedpyright: pip install '.[check]'")
    return found


def _pyright(program: str, *words: str) -> dict[str, object]:
    words = ("--pythonpath", sys.executable, "--outputjson", *words)
    # From an empty directory: a checkout that lies there would hide the package that is found by the path.
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    with tempfile.TemporaryDirectory() as empty:
        r = subprocess.run([program, *words], capture_output=True, text=True, cwd=empty, env=env, check=False)
    told: dict[str, object] = json.loads(r.stdout)
    return told


def test_the_package_is_typed_whole(pyright: str) -> None:
    told = _pyright(pyright, "--verifytypes", "pyminicon", "--ignoreexternal")
    found = told["typeCompleteness"]
    assert isinstance(found, dict)
    unknown = [
        symbol["name"]
        for symbol in found["symbols"]
        if symbol["isExported"] and (not symbol["isTypeKnown"] or symbol.get("isTypeAmbiguous"))
    ]
    # What derives from a framework's classes is known where the framework is installed.
    assert [name for name in unknown if not name.startswith(WITH_FRAMEWORK)] == []
    assert found["exportedSymbolCounts"]["withKnownType"] > 1000
    assert "pyminicon.run" in {symbol["name"] for symbol in found["symbols"]}


def _errors(program: str, name: str, tmp_path: Path) -> set[int]:
    # Beside the package's own settings, which are none.
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    shutil.copy(HERE / name, tmp_path)
    told = _pyright(program, "--project", str(tmp_path))
    lines = told["generalDiagnostics"]
    assert isinstance(lines, list)
    return {line["range"]["start"]["line"] + 1 for line in lines if line["severity"] == "error"}


def test_pyright_takes_right_uses(pyright: str, tmp_path: Path) -> None:
    assert _errors(pyright, "right.py", tmp_path) == set()


def test_pyright_refuses_each_wrong_use(pyright: str, tmp_path: Path) -> None:
    assert _errors(pyright, "wrong.py", tmp_path) == WRONG
