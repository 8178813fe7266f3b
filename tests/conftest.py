"""Fixtures of all tests: root file systems, an ordinary user, and an account of what was left behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# The tests are found in the top directory; pyminicon only if it was built in place there, else the installed
# one. (`python -m pytest` puts the working directory first.)
if not list((REPO / "pyminicon").glob("_core*.so")):
    sys.path[:] = [path for path in sys.path if path not in ("", str(REPO))]
if str(REPO) not in sys.path:
    sys.path.append(str(REPO))

from tests.support import leftovers as account  # noqa: E402
from tests.support import ordinary, roots  # noqa: E402

# What the tests send and expect to work is what whoever runs them may have had ignored (nohup, a job in the
# background), and what they make must be there for other users.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
os.umask(0o022)
# A login gives 1024 descriptors; hundreds of containers at once, each with pipes, take more.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(_soft, 20_000), _hard), _hard))

PAYLOADS = ("container", "attacks")  # the folders whose tests start containers


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A directory for this session's files alone: sessions of one account share theirs otherwise, and each that
    begins closes it to other accounts, which an ordinary user's tests then can't reach, and removes older ones'."""
    if config.option.basetemp is None:
        made = tempfile.mkdtemp(prefix="pyminicon-")
        os.chmod(made, 0o711)
        config.option.basetemp = f"{made}/t"
        config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))
    if config.pluginmanager.hasplugin("hypothesispytest"):  # an example's time is the machine's, not ours
        from hypothesis import HealthCheck, settings

        settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that starts containers accounts for what it leaves."""
    for item in items:
        if Path(str(item.fspath)).parent.name in PAYLOADS and "leftovers" not in item.fixturenames:  # type: ignore[attr-defined]
            item.fixturenames.insert(0, "leftovers")  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def warm() -> None:
    """The first launches of a process make what is kept for all: the reaper, a stack for the child, the thread that
    holds limits."""
    import pyminicon

    pyminicon.run(["/bin/true"], wall_time=60)
    pyminicon.run(["/bin/true"], init=True)


@pytest.fixture
def leftovers(warm: None) -> Iterator[None]:
    """Fails the test if a descriptor, mount, cgroup, process or scratch directory is there afterwards."""
    before = account.count()
    yield
    assert account.appeared(before) == {}


@pytest.fixture(scope="session")
def _minimal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = roots.minimal(tmp_path_factory.mktemp("image") / "root")
    made.parent.chmod(0o755)
    return made


@pytest.fixture
def rootfs(_minimal: Path) -> Iterator[Path]:
    """A small root directory with a shell and coreutils. Nobody may change it: that is checked."""
    before = roots.fingerprint(_minimal)
    yield _minimal
    assert roots.fingerprint(_minimal) == before, "the image was written"


@pytest.fixture
def own_rootfs(_minimal: Path, tmp_path: Path) -> Path:
    """The same root, a copy to prepare as the test likes."""
    return roots.copy_of(_minimal, tmp_path / "rootfs")


@pytest.fixture(scope="session")
def bare_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One static program, /payload, and nothing else."""
    return roots.bare(tmp_path_factory.mktemp("bare") / "root")


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Debian root directory, made once a machine by mmdebstrap."""
    cache = Path(os.environ.get("PYMINICON_TEST_CACHE", "/var/cache/pyminicon-tests"))
    tar = cache / "debian.tar"
    if os.geteuid() != 0:
        pytest.skip("needs root to make a Debian root file system")
    if not tar.exists():
        tool = shutil.which("mmdebstrap")
        if tool is None:
            pytest.skip("needs the internet and mmdebstrap to make a Debian root file system")
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f"debian.{os.getpid()}.tar"
        made = subprocess.run(
            [tool, "--quiet", "--variant=minbase", "--include=procps,gcc,libc6-dev,dpkg-dev,hostname", "bookworm", part],
            capture_output=True, text=True, check=False, timeout=500,
        )  # fmt: skip
        if made.returncode != 0:
            part.unlink(missing_ok=True)
            pytest.skip(f"needs the internet: mmdebstrap failed: {made.stderr.strip()[-200:]}")
        part.rename(tar)
    root = tmp_path_factory.mktemp("debian") / "root"
    root.mkdir()
    subprocess.run(["tar", "-xpf", tar, "-C", root, "--exclude=./dev/*"], check=True)
    return root


@pytest.fixture
def as_user(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``as_user(code)`` runs Python code as an ordinary user (as ourselves if we are one)."""
    home, hold = tmp_path / "home", tmp_path / "hold"
    home.mkdir()
    hold.mkdir()
    if os.geteuid() == 0:
        os.chown(home, ordinary.UID, ordinary.UID)
        for above in (tmp_path.parent, tmp_path.parent.parent):
            if above.stat().st_uid == 0 and above != Path(tempfile.gettempdir()):
                above.chmod(above.stat().st_mode | 0o011)
        tmp_path.chmod(0o755)
    return lambda code, **options: ordinary.python(code, hold, home, **options)


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image store of the test's own."""
    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
