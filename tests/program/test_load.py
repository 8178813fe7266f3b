"""After pyminicon.load() a program may drop its privileges, change its root or lose its files."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyminicon
from tests.support.python import environment, fresh

PACKAGE = Path(pyminicon.__file__).parent
SENTENCE = "who changes user, root or sys.path calls pyminicon.load() before"

# One launch of each kind that has a room of its own.
LAUNCHES = """
import asyncio, pyminicon
def launches(image, **more):
    said = []
    for options in (
        {}, {"init": True}, {"read_only": True}, {"hostname": "box", "env": {"A": "b"}, "cwd": "/tmp", "text": True},
        {"tmpfs": ["/x:size=1m"], "files": {"/f": b"1"}, "collect": ["/f"]}, {"rlimits": {"nofile": (64, 64)}},
        {"cap_drop": ["ALL"]}, {"input": b"1", "timeout": 20, "wall_time": 20}, {"volumes": ["/:/v:ro"]},
        {"user": "0", "cap_add": ["SYS_TIME"], "seccomp": "unconfined"}, {"time": "private"},
        {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    ):
        try:
            r = pyminicon.run(["/bin/true"], image=image, **{"capture_output": True, **more, **options})
        except pyminicon.Error as error:
            said.append((options, error))
        else:
            if r.returncode != 0: said.append((options, r))
    with pyminicon.start(["/bin/cat"], image=image, stdin=-1, stdout=-1, **more) as c:
        if c.communicate(b"x")[0] != b"x": said.append("start")
    with pyminicon.Template(image=image, **more) as t:
        if t.run(["/bin/true"]).returncode: said.append("Template")
    async def both():
        return await asyncio.gather(*(pyminicon.aio.run(["/bin/true"], image=image, **more) for _ in range(3)))
    if any(r.returncode for r in asyncio.run(both())): said.append("aio")
    try: pyminicon.run(["/nothing"], image=image, **more)
    except pyminicon.LaunchError as error:
        if error.stage != "exec": said.append(error)
    return said
"""


def test_everything_a_launch_imports_is_loaded() -> None:
    """Read from the sources: whatever a function imports when it is called is there after load()."""
    code = "import pyminicon, sys; pyminicon.load(); print(*sys.modules)"
    loaded = set(fresh(code).stdout.split())
    for name in sorted(_imported()):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:  # else an extra, or a later Python's
            assert name in loaded, name


def _imported() -> Iterator[str]:
    for source in PACKAGE.rglob("*.py"):
        if {"cli", "adapters"} & set(source.relative_to(PACKAGE).parts) or source.name in (
            "__main__.py",
            "_checkout.py",
        ):
            continue
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.If)
                and isinstance(node.test, ast.Name)
                and node.test.id == "TYPE_CHECKING"
            ):
                node.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                above = source.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
                yield ".".join((*above, node.module))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package in a directory of its own, which can be taken away."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "pyminicon", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def in_copy(copy: Path, code: str) -> subprocess.CompletedProcess[str]:
    first = f"import sys\nsys.path.insert(0, {str(copy)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", first + code],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


CHANGES = {
    "uid": "os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)",
    "directory": "os.chdir('/proc')",
    "checkout": "shutil.rmtree(copy)",
    "path": "sys.path[:] = []; sys.path_importer_cache.clear()",
    "all": "shutil.rmtree(copy); sys.path[:] = []; sys.path_importer_cache.clear(); os.chdir('/proc')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_load_everything_works(change: str, copy: Path, needs_root: None) -> None:
    code = f"copy = {str(copy)!r}\nimport os, shutil, pyminicon\npyminicon.load()\n{CHANGES[change]}\n"
    if (
        change == "uid"
    ):  # a clock of its own is set in a file of /proc that is root's then: refused, with a hint
        code += "r = launches('host'); print(len(r), 'PR_SET_DUMPABLE' in str(r[0][1]), r.pop(0)[0])\n"
        r = in_copy(copy, f"{LAUNCHES}\n{code}print(r)")
        assert (r.stdout, r.stderr) == ("1 True {'time': 'private'}\n[]\n", "")
        return
    r = in_copy(copy, f"{LAUNCHES}\n{code}print(launches('host'))")
    assert (r.stdout, r.stderr) == ("[]\n", ""), r.stdout + r.stderr


# A root with nothing in it but an image and what a chroot needs (docs/nested.md).
JAIL = """
set -e; cd {jail}; mkdir proc dev tmp sys
mount -t proc proc proc; mount --rbind /sys sys
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
cd /; exec "$@"
"""


def test_after_load_it_may_change_its_root(tmp_path: Path, own_rootfs: Path, needs_root: None) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    own_rootfs.rename(jail / "image")
    code = f"""
{LAUNCHES}
import os, sys, pyminicon
pyminicon.load()
os.chroot({str(jail)!r}); os.chdir("/")
print(os.listdir("/image") != [], os.path.exists("/usr"), launches("/image"))
"""
    script = JAIL.format(jail=jail)
    r = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", sys.executable, "-c", code],
        cwd="/", env=environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (r.stdout, r.stderr) == ("True False []\n", "")


@pytest.mark.parametrize("change", ["path", "all"])
def test_without_it_the_error_names_it(change: str, copy: Path, needs_root: None) -> None:
    code = f"""
copy = {str(copy)!r}
import os, shutil, traceback, pyminicon
if sys.argv[1:] == ["used"]: pyminicon.run(["true"])
{CHANGES[change]}
for options in ({{}}, {{"volumes": ["/:/v:ro"]}}, {{"user": "1"}}, {{"memory": "1g"}}, {{"pids": 5}}):
    try: print(pyminicon.run(["true"], **options).returncode)
    except Exception as error: print(f"{{type(error).__name__}}: {{error}}")
"""
    r = in_copy(copy, code)
    for line in r.stdout.splitlines():
        assert line.startswith("ImportError: No module named ") and line.endswith(f"({SENTENCE})"), r.stdout
    code = code.replace('if sys.argv[1:] == ["used"]: ', "")
    if change == "all":
        shutil.copytree(PACKAGE, copy / "pyminicon", ignore=shutil.ignore_patterns("__pycache__"))
    first, *others = in_copy(copy, code).stdout.splitlines()
    assert first == "0"
    assert len(others) == 4
    for line in others if change == "all" else ():
        assert line.startswith("LaunchError: prepare: pyminicon.") and line.endswith(f"({SENTENCE})"), line
        assert len(line) < 180
