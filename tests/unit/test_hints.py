"""What an error says for the machine's sake is taken in at a glance: a cause, one remedy, less than 150 characters."""

from __future__ import annotations

import ast
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyminicon
from pyminicon import _explain
from pyminicon.cgroups import v2

PACKAGE = Path(pyminicon.__file__).parent
LONG = f"/sys/fs/cgroup/user.slice/{'x' * 300}/pids.max"
DOCS = "docs/cgroups.md"


def text(node: ast.expr) -> str:
    """As much of it as stands in the source; a name is a dozen characters."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    is_page = isinstance(node, ast.FormattedValue) and ast.unparse(node.value) == "_DOCS"
    return DOCS if is_page else "x" * 12


def strings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.JoinedStr, ast.Constant)):
        yield text(node)
    else:
        for inner in ast.iter_child_nodes(node):
            yield from strings(inner)


def hints() -> Iterator[str]:
    """What is returned in _explain.py, and what refuses a limit in cgroups/."""
    for node in ast.walk(ast.parse(Path(_explain.__file__).read_text())):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from strings(node.value)
    for file in sorted(PACKAGE.glob("cgroups/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == "refuse"
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "hint"
            if called and len(node.args) > 2:  # type: ignore[attr-defined]
                yield from strings(node.args[2])  # type: ignore[attr-defined]
            elif named:
                yield from strings(node.value)  # type: ignore[attr-defined]
    yield from (v2.BUSY, v2.DENIED, v2.SYSTEMDS, v2.READ_ONLY)


FOUND = sorted({hint for hint in hints() if " " in hint})


def test_they_are_found() -> None:
    assert len(FOUND) > 30
    assert any("loginctl enable-linger" in hint for hint in FOUND)


@pytest.mark.parametrize("hint", FOUND)
def test_it_is_short_whatever_the_path(hint: str) -> None:
    error = pyminicon.LaunchError(errno.EPERM, "cgroup", LONG, hint)
    assert len(str(error)) < 150
    assert "/pids.max: Operation not permitted (" in str(error)
    assert str(error).endswith(f"({hint})") and error.subject == LONG


def test_a_path_without_a_remedy_is_whole() -> None:
    assert (
        str(pyminicon.LaunchError(errno.ENOENT, "mount", LONG)) == f"mount: {LONG}: No such file or directory"
    )


def test_what_fits_is_whole() -> None:
    error = pyminicon.LaunchError(errno.EPERM, "mount", "/a/path/of/some/length", "a remedy")
    assert str(error) == "mount: /a/path/of/some/length: Operation not permitted (a remedy)"


@pytest.mark.parametrize("stage", ["clone", "prepare", "mount", "helper"])
def test_a_limit_of_the_callers_own_is_named_whatever_stage_meets_it(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        _explain.launch_error(errno.EMFILE, stage, "", None).hint
        == "raise the limit of descriptors: ulimit -n 8192"
    )
    for limit, hint in (
        (0, "raise the limit of a file's size: ulimit -f unlimited"),
        (resource.RLIM_INFINITY, None),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limit=limit: (limit, limit))
        assert _explain.launch_error(errno.EFBIG, stage, "memfd_create", None).hint == hint


@pytest.mark.parametrize(
    ("stage", "number", "word"),
    [
        ("mount", errno.ENOTDIR, "a file goes onto a file"),
        ("mount", errno.EINVAL, "a file goes onto a file"),
        ("exec", errno.EAGAIN, "nproc counts"),
    ],
)
def test_what_the_errno_alone_does_not_say_is_said(stage: str, number: int, word: str) -> None:
    assert word in str(_explain._EXPLAIN[stage](number, "/x"))
