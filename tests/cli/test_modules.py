"""A command line is paid for mostly in imports: what a plain run loads is pinned here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import environment

# Beyond what a bare interpreter has: ours, and modules of the interpreter itself that are written in C.
OURS = {
    "pyminicon",
    "pyminicon.cli",
    "pyminicon.cli.main",
    "pyminicon.cli.run_command",
    "pyminicon.errors",
    "pyminicon.container",
    "pyminicon._core",
    "pyminicon.options",
    "pyminicon.options.parse",
    "pyminicon.plan",
    "pyminicon.plan.build",
    "pyminicon.plan.host",
    "pyminicon.plan.rootfs",
    "pyminicon.plan.tree",
    "pyminicon.request",
}
OF_THE_HOST = {"pyminicon.plan.host"}  # the image, which is made of this machine
OF_A_START = {"pyminicon.container"}  # what runs, and is there to be asked
OF_A_CALL = {
    "pyminicon.calls",
    "pyminicon.patience",
    "pyminicon.plan.cache",
    "pyminicon.result",
}  # what only Python can call twice, and look at
THEIRS = {"__future__", "_signal", "atexit", "errno", "gc"}

SLOW = {
    "argparse",
    "contextlib",
    "dataclasses",
    "enum",
    "json",
    "logging",
    "pathlib",
    "re",
    "shutil",
    "signal",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
}


def _loaded(code: str, *flags: str) -> set[str]:
    line = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    r = subprocess.run(
        [sys.executable, "-I", *flags, "-c", line],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return set(r.stdout.split())


def _from_here(code: str) -> str:
    return f"sys.path[:0] = {[path for path in sys.path if path]!r}\n{code}"


def test_importing_the_package_imports_nothing_else() -> None:
    assert _loaded(_from_here("import pyminicon")) <= {"pyminicon", "__future__"}


def test_a_plain_run_loads_these_modules_and_no_others() -> None:
    code = "from pyminicon.cli.main import command\nassert command(['run', 'host', 'true']) == 0"
    loaded = _loaded(_from_here(code))
    assert loaded - THEIRS <= OURS
    assert not loaded & SLOW


def test_a_run_without_options_loads_nothing_for_them(bare_rootfs: Path) -> None:
    words = ["run", str(bare_rootfs), "/payload"]
    loaded = _loaded(_from_here(f"from pyminicon.cli.main import command\ncommand({words!r})"))
    assert "pyminicon.container" in loaded
    assert {name for name in loaded if name.startswith("pyminicon")} == OURS - OF_THE_HOST
    assert "errno" not in loaded


def test_a_plain_call_loads_no_room_that_it_does_not_need(bare_rootfs: Path) -> None:
    words = "capture_output=True, text=True, timeout=9, check=True"
    code = f"import pyminicon\npyminicon.run(['/payload'], image={str(bare_rootfs)!r}, {words})"
    loaded = _loaded(_from_here(code))
    ours = {name for name in OURS - OF_THE_HOST - OF_A_START if not name.startswith("pyminicon.cli")}
    assert {name for name in loaded if name.startswith("pyminicon")} == ours | OF_A_CALL


def test_common_options_load_no_slow_module() -> None:
    words = [
        "run",
        "-i",
        "-e",
        "A=b",
        "-w",
        "/",
        "-u",
        "1:1",
        "--init",
        "-v",
        "/tmp:/x",
        "--tmpfs",
        "/y",
        "host",
        "true",
    ]
    loaded = _loaded(_from_here(f"from pyminicon.cli.main import command\nassert command({words!r}) == 0"))
    assert not loaded & SLOW


def test_limits_load_no_slow_module(needs_root: None) -> None:
    words = ["run", "-m", "64m", "--cpus", "1", "--pids-limit", "20", "--timeout", "9", "host", "true"]
    loaded = _loaded(_from_here(f"from pyminicon.cli.main import command\nassert command({words!r}) == 0"))
    assert not loaded & SLOW
