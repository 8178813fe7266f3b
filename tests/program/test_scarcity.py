"""There is no process, thread, descriptor or memory to be had, whichever it is that is missing: an exception that
names it, or what was asked for; nothing hangs, nothing is left, signals are as they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.servers import copy, docker_registry
from tests.images.tars import Layout, file, tar
from tests.program.conftest import REPO, environment

KINDS = (
    "run init userns user limited disk collect files start tty held template aio aio_beside aio_start "
    "living aio_living publish egress pasta detached attach copy served exec cp pull".split()
)
#: A try of these takes a second and has hundreds of such calls.
LONG = {"detached": 30}


@pytest.fixture(scope="session")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs the internet: no C compiler is installed")
    tool = tmp_path_factory.mktemp("scarce") / "scarce"
    source = REPO / "tests/support/scarce.c"
    subprocess.run([compiler, "-O1", "-x", "c", source, "-o", tool], check=True)
    return tool


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """One in a registry, to pull."""
    path = tmp_path / "registry"
    path.mkdir()
    layout = Layout(path / "layout")
    layout.index(layout.image(tar(file("etc/greeting", b"there\n"))))
    with docker_registry(path) as host:
        copy(f"oci:{layout.path}", f"docker://{host}/t/oci:1")
        yield f"{host}/t/oci:1"


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> dict[str, str]:
    told = {"SCARCE_STATE": str(tmp_path / "state")}
    if kind == "pull":
        told |= {"PYMINICON_STORE": str(tmp_path / "store"), "SCARCE_IMAGE": request.getfixturevalue("image")}
    return {**environment(), **told}


def tries(scarce: Path, kind: str, first: int, step: int, names: dict[str, str]) -> list[dict[str, object]]:
    if kind == "pasta" and shutil.which("pasta") is None:
        pytest.skip("needs pasta")
    if kind == "pasta" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs root to open /dev/net/tun, as no udev has made it")
    if kind in ("limited", "user") and os.geteuid() != 0:
        pytest.skip("needs root: cgroups may be nobody else's, and another user takes it")
    made = subprocess.run(
        [scarce, sys.executable, "-m", "tests.support.scarcity", kind, str(first), str(step)],
        env=names,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-600:] + made.stderr[-2000:]
    return [json.loads(line) for line in made.stdout.splitlines()]


def check(lines: list[dict[str, object]]) -> None:
    assert lines[-1]["refused"] is None and lines[-1]["outcome"] == "ok"
    assert len(lines) > 3, "nothing was refused"
    for line in lines:
        assert not str(line["outcome"]).startswith("bad"), line
        assert line["blocked"] == [], line
        assert not line["kept"] and not line.get("left"), line
    assert any(line["outcome"] != "ok" for line in lines)


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_cannot_be_had_is_told_and_leaves_nothing_behind(
    scarce: Path, kind: str, surroundings: dict[str, str]
) -> None:
    check(tries(scarce, kind, 1, LONG.get(kind, 3), surroundings))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_of_them_one_by_one(scarce: Path, kind: str, surroundings: dict[str, str]) -> None:
    check(tries(scarce, kind, 1, 1, surroundings))
