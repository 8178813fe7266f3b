"""From a registry, or from an archive with a tag, to a running container: by the names that people have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyminicon
from pyminicon.cli.image import main as image_command
from pyminicon.errors import SpecError
from pyminicon.images.store import Store

from .servers import Front, copy, docker_registry
from .tars import Layout, directory, file, symlink, tar
from .test_archive import docker_archive

REPO = Path(pyminicon.__file__).resolve().parents[1]
ROOT = tar(
    *(directory(name) for name in ("usr", "etc", "tmp", "my")),
    *(symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")),
    file("etc/greeting", b"hello from a registry\n"),
)
HOST = ["/usr:/usr:ro"]  # this machine's programs: the image has none
SHOW = ["/bin/cat", "/etc/greeting"]
Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not os.path.islink("/lib"):
        pytest.skip("needs a machine whose programs are all below /usr")
    path = tmp_path_factory.mktemp("registry")
    layout = Layout(path / "layout")
    layout.index(layout.image(ROOT, Cmd=SHOW))
    with docker_registry(path) as host:
        copy(f"oci:{layout.path}", f"docker://{host}/t/oci:1")
        yield host


@pytest.fixture
def front(registry: str) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyminicon", *words],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )


def shown(image: str) -> str:
    done = pyminicon.run([], image=image, volumes=HOST, capture_output=True, text=True, check=True)
    return str(done.stdout)


def test_a_pulled_image_runs_by_the_name_it_was_pulled_by(store: Store, registry: str) -> None:
    name = f"{registry}/t/oci:1"
    assert image_command(["pull", "-q", name]) == 0
    assert shown(name) == "hello from a registry\n"


def test_the_command_pulls_and_runs_by_one_name(store: Store, registry: str) -> None:
    name = f"{registry}/t/oci:1"
    assert command("image", "pull", "-q", name).returncode == 0
    done = command("run", "-v", HOST[0], name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from a registry\n", "")


@pytest.mark.parametrize("tag", ["my/app:2", "ghcr.io/me/app:2", "app:2"])
def test_what_ls_prints_can_be_run(
    store: Store, registry: str, tmp_path: Path, capsys: Out, tag: str
) -> None:
    (tmp_path / "saved.tar").write_bytes(tar(*docker_archive(ROOT, tags=(tag,))))
    image_command(["import", "-q", str(tmp_path / "saved.tar")])
    image_command(["pull", "-q", f"{registry}/t/oci:1"])
    capsys.readouterr()
    image_command(["ls"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(names) == 2
    for name in names:
        done = command("run", "-v", HOST[0], name, *SHOW)
        assert (done.returncode, done.stdout) == (0, "hello from a registry\n"), done.stderr


def test_ls_prints_the_whole_name_where_the_short_one_is_anothers(
    store: Store, tmp_path: Path, capsys: Out
) -> None:
    for name, content in (("localhost/me/x:1", b"mine"), ("docker.io/me/x:1", b"theirs")):
        (tmp_path / "root.tar").write_bytes(tar(file("f", content)))
        image_command(["import", "-q", str(tmp_path / "root.tar"), name])
    capsys.readouterr()
    image_command(["ls"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert sorted(names) == ["docker.io/me/x:1", "me/x:1"]


def test_a_path_that_exists_goes_before_a_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved.tar").write_bytes(tar(*docker_archive(tar(file("f")), tags=("my/root:latest",))))
    image_command(["import", "-q", str(tmp_path / "saved.tar")])
    (tmp_path / "my/root").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    made = pyminicon.plan.rootfs.find("my/root")
    assert made.layers == [str(tmp_path / "my/root")]


@pytest.mark.parametrize("image", ["./my/app:2", "/my/app:2", "../app:2", Path("my/app:2")])
def test_what_begins_like_a_path_is_never_looked_up(store: Store, tmp_path: Path, image: str | Path) -> None:
    (tmp_path / "saved.tar").write_bytes(tar(*docker_archive(ROOT, tags=("my/app:2",))))
    image_command(["import", "-q", str(tmp_path / "saved.tar")])
    with pytest.raises(SpecError, match="No such file or directory"):
        pyminicon.run(["true"], image=image)


def test_a_name_that_is_neither_file_nor_image_says_both(store: Store) -> None:
    with pytest.raises(SpecError, match=r"no such file or directory, and no image 'my/app:2' in the store"):
        pyminicon.run(["true"], image="my/app:2")


def test_a_run_pulls_what_is_missing_and_only_that(store: Store, front: Front) -> None:
    name = f"{front.address}/t/oci:1"
    done = command("run", "-v", HOST[0], name)
    assert done.returncode == 125
    assert front.log == []
    done = command("run", "--pull", "missing", "-v", HOST[0], name)
    assert (done.returncode, done.stdout) == (0, "hello from a registry\n"), done.stderr
    asked = len(front.log)
    assert asked > 0
    assert command("run", "--pull", "missing", "-v", HOST[0], name).returncode == 0
    assert command("run", "--pull", "never", "-v", HOST[0], name).returncode == 0
    assert len(front.log) == asked
    done = command("run", "--pull", "always", "-v", HOST[0], name)
    assert (done.returncode, done.stdout) == (0, "hello from a registry\n"), done.stderr
    assert len(front.log) > asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pull", "sometimes", "x"], "--pull: takes never, missing or always"),
        (["--pull", "always", "host"], "--pull: takes a name in a registry"),
        (["--pull", "always", "./x.tar"], "--pull: takes a name in a registry"),
        (["--pull", "missing", "./x.tar"], "No such file or directory"),
        (["--pull", "missing", "127.0.0.1:1/x"], "127.0.0.1:1: Connection refused"),
    ],
)
def test_what_cannot_be_pulled_is_one_line_and_125(store: Store, words: list[str], said: str) -> None:
    done = command("run", *words, "true")
    assert done.returncode == 125
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_pull_missing_leaves_this_machines_programs_alone(store: Store) -> None:
    assert command("run", "--pull", "missing", "host", "true").returncode == 0
