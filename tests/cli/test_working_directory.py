"""`python -m pyminicon` puts the working directory first on the path: nothing of it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyminicon
from tests.cli.conftest import environment

HERE = Path(pyminicon.__file__).resolve().parents[1]
CALLS = (
    ["run", "host", "true"],
    ["run", "-m", "1g", "--dry-run", "host", "true"],
    ["image", "ls"],
    ["--version"],
)


def loaded_by_python_itself(place: Path) -> set[str]:
    """What `python -m` needs of the path before a line of the module's is run."""
    (place / "probe.py").write_text("import sys\nprint(*sys.modules)\n")
    r = subprocess.run([sys.executable, "-m", "probe"], cwd=place, capture_output=True, text=True, check=True)
    return set(r.stdout.split())


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with a file for every module of the standard library, which says that it was run."""
    place = tmp_path / "hostile"
    place.mkdir()
    for name in sys.stdlib_module_names - loaded_by_python_itself(place) - set(sys.builtin_module_names):
        (place / f"{name}.py").write_text(f"open({str(place)!r} + '/ran', 'a').write(__name__ + ' ')\n")
    return place


def test_the_traps_work(hostile: Path) -> None:
    # Debian's python3 has select and others built in, which no file can stand before.
    wanted = [name for name in ("select", "json", "csv") if name not in sys.builtin_module_names]
    subprocess.run([sys.executable, "-c", f"import {', '.join(wanted)}"], cwd=hostile, check=False)
    assert (hostile / "ran").read_text().split() == wanted


@pytest.mark.parametrize("words", CALLS, ids=lambda words: words[0])
def test_nothing_of_it_is_run(hostile: Path, words: list[str], own_store: Path) -> None:
    r = subprocess.run(
        [sys.executable, "-m", "pyminicon", *words], cwd=hostile, env=environment(), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (r.returncode, r.stderr) == (0, "")
    assert not (hostile / "ran").exists(), (hostile / "ran").read_text()


@pytest.mark.parametrize("how", ["-I", "-P", "PYTHONSAFEPATH", ""])
def test_only_the_working_directory_is_taken_from_the_path(tmp_path: Path, how: str) -> None:
    code = f"""
import sys, types, runpy
sys.path.append({str(HERE)!r})
import pyminicon.cli
main = sys.modules["pyminicon.cli.main"] = types.ModuleType("main")
main.main = lambda: print(before == sys.path)
before = [*sys.path]
runpy.run_module("pyminicon", run_name="__main__")
"""
    flags = [how] if how.startswith("-") else []
    variables = environment(**({how: "1"} if how and not flags else {}))
    r = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert r.stdout == f"{how != ''}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The sources as git has them: nothing that was compiled."""
    place = tmp_path / "checkout"
    shutil.copytree(
        Path(pyminicon.__file__).parent,
        place / "pyminicon",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return place


def test_a_checkout_gives_its_place_to_the_installed_package(checkout: Path) -> None:
    code = "import pyminicon, pyminicon.container as c; print(pyminicon.__file__, c.__file__)"
    for words in (["-m", "pyminicon", "run", "host", "echo", "hi"], ["-c", code]):
        r = subprocess.run(
            [sys.executable, *words],
            cwd=checkout,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (r.returncode, r.stderr) == (0, "")
    package = HERE / "pyminicon"
    assert [Path(name).resolve() for name in r.stdout.split()] == [
        package / "__init__.py",
        package / "container.py",
    ]
    assert not list(checkout.rglob("*.so"))


def test_a_checkout_without_an_installed_package_says_how_to_get_one(checkout: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    r = subprocess.run(
        [sys.executable, "-S", "-c", "import pyminicon"], cwd=checkout, env=clean, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert r.returncode == 1
    assert r.stderr.splitlines()[-1] == (
        "ImportError: these are pyminicon's sources, and it isn't installed for this Python: pip install ."
    )


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_told_so_in_one_sentence(platform: str) -> None:
    tools = Path(__file__).resolve().parents[2] / "tools"
    code = (
        f"import sys; sys.platform = {platform!r}; sys.path.insert(0, {str(tools)!r}); import build_backend"
    )
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert r.returncode == 1
    assert r.stderr == f"pyminicon needs Linux: containers are made by its kernel, which {platform} hasn't.\n"
