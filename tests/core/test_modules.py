"""What a plain import and a plain run load: every module costs more than part of a container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.python import environment

TOP = Path(__file__).resolve().parents[2]

SLOW = {
    "argparse", "asyncio", "contextlib", "dataclasses", "enum", "functools", "inspect", "json", "logging", "pathlib",
    "re", "selectors", "shutil", "signal", "socket", "struct", "subprocess", "tempfile", "textwrap", "threading",
    "traceback", "typing", "urllib", "uuid", "weakref",
}  # fmt: skip


def loaded(code: str) -> set[str]:
    """Modules that ``code`` adds to a bare interpreter's."""
    text = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    run = [sys.executable, "-S", "-E", "-c"]
    head = (
        f"import sys; sys.path[:0] = {[path for path in environment()['PYTHONPATH'].split(':') if path]!r}\n"
    )
    return set(
        subprocess.run(
            [*run, head + text], capture_output=True, text=True, check=True, cwd="/"
        ).stdout.split()
    )


def test_import_loads_the_package_and_nothing_else() -> None:
    assert loaded("import pyminicon") == {"pyminicon"}


def test_a_plain_run_loads_only_what_it_needs() -> None:
    modules = loaded("import pyminicon; pyminicon.run(['/bin/true'])")
    ours = {name for name in modules if name.split(".")[0] == "pyminicon"}
    assert ours <= {
        "pyminicon", "pyminicon._core", "pyminicon.calls", "pyminicon.errors", "pyminicon.options",
        "pyminicon.options.parse", "pyminicon.plan", "pyminicon.plan.build", "pyminicon.plan.cache",
        "pyminicon.plan.host", "pyminicon.plan.rootfs", "pyminicon.plan.tree", "pyminicon.request", "pyminicon.result",
    }  # fmt: skip
    assert modules & SLOW == set()
    # What any interpreter has loaded that looks for site-packages, and two that are C inside.
    assert modules - ours <= {
        "__future__", "_abc", "_collections_abc", "_stat", "abc", "errno", "genericpath", "importlib", "importlib._bootstrap",
        "importlib._bootstrap_external", "os", "os.path", "posixpath", "stat", "time", "warnings", "_warnings", "fcntl",
    }  # fmt: skip


def test_subprocess_is_loaded_only_for_its_exceptions() -> None:
    assert "subprocess" not in loaded("import pyminicon; pyminicon.run(['/bin/false'], capture_output=True)")
    assert "subprocess" in loaded("import pyminicon; pyminicon.TimeoutExpired")


def test_the_exceptions_are_subprocess_own_and_made_once() -> None:
    import subprocess as theirs

    import pyminicon

    assert issubclass(pyminicon.TimeoutExpired, theirs.TimeoutExpired)
    assert issubclass(pyminicon.CalledProcessError, theirs.CalledProcessError)
    assert pyminicon.TimeoutExpired is pyminicon.TimeoutExpired
    from pyminicon import errors

    assert errors.TimeoutExpired is pyminicon.TimeoutExpired


def test_the_interpreters_lock_is_let_go_of_in_one_way() -> None:
    """What takes it back in between (bind/values/gil.h) knows of no other: it would call Python without the lock."""
    sources = [*(TOP / "csrc").rglob("*.cc"), *(TOP / "csrc").rglob("*.h")]
    others = ("gil_scoped_release", "gil_scoped_acquire", "PyEval_SaveThread", "PyGILState")
    found = {path.name for path in sources for word in others if word in path.read_text()}
    assert found == {"gil.cc"}
