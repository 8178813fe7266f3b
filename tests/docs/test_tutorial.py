"""Every command of docs/tutorial.md is run, and what it prints is compared with the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import pyminicon

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs" / "tutorial.md"
CACHE = Path(os.environ.get("PYMINICON_TEST_CACHE", "/var/cache/pyminicon-tests"))
MARK = "~~~end of a command~~~"


def steps() -> list[tuple[str, str]]:
    """(command, what it prints) of the page's console blocks, in order."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> "):
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
            else:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def pattern(expected: str) -> str:
    """``[...]`` on a line of its own stands for any lines, else for any characters of the line."""
    rows = []
    for line in expected.splitlines():
        if line == "[...]":
            rows.append(r"(?:.*\n)*?")
        else:
            rows.append(".*?".join(re.escape(part) for part in line.split("[...]")) + r"\n")
    return "".join(rows)


def _archive(command: str) -> Path:
    """Runs the page's own command for the archive, once a machine: it is kept."""
    kept = CACHE / f"tutorial-{zlib.crc32(command.encode()):x}.tar"
    if not kept.exists():
        if shutil.which("mmdebstrap") is None:
            pytest.skip("needs the internet and mmdebstrap to make a Debian root file system")
        CACHE.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.tar")
        words = [str(part) if word == "debian.tar" else word for word in shlex.split(command)]
        made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
        if made.returncode != 0:
            part.unlink(missing_ok=True)
            pytest.skip(f"needs the internet: mmdebstrap failed: {made.stderr.strip()[-200:]}")
        part.rename(kept)
    return kept


def _script(found: list[tuple[str, str]]) -> str:
    lines = []
    for command, _ in found:
        run = command
        if command.startswith("mmdebstrap "):
            run = f"ln -s {_archive(command)} debian.tar"
        # The status of the command is what the next one sees in $?.
        lines += [run, f"status=$?; echo '{MARK}'; (exit $status)"]
    return "\n".join(lines) + "\n"


def test_the_python_of_the_page_prints_what_it_says() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```\n\nprints\n\n```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 1
    for code, expected in blocks:
        environment = {**os.environ, "PYTHONPATH": str(Path(pyminicon.__file__).resolve().parents[1])}
        r = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert (r.stdout, r.stderr) == (expected, "")


def test_every_command_prints_what_the_page_says(tmp_path: Path, needs_root: None) -> None:
    found = steps()
    assert len(found) > 40
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pyminicon").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pyminicon "$@"\n')
    (programs / "pyminicon").chmod(0o755)
    place = tmp_path / "empty"
    place.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(pyminicon.__file__).resolve().parents[1]),
        "PYMINICON_STORE": str(tmp_path / "store"),
        "LC_ALL": "C.UTF-8",
    }
    script = _script(found)
    # Namespaces of the test's own, so that no command of the page, however wrong, is seen by the machine.
    # A stranger's shared memory is there, and is there afterwards: a reader's machine has such too.
    stranger = "ipcmk --shmem 7654 >/dev/null; bash; ipcs --shmems | grep -c ' 7654 ' >segments"
    argv = ["unshare", "--mount", "--ipc", "--uts", "sh", "-c", stranger]
    r = subprocess.run(
        argv, input=script, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False, timeout=300,
    )  # fmt: skip
    Path("/var/tmp/marker").unlink(missing_ok=True)
    printed = r.stdout.split(f"{MARK}\n")
    wrong = [
        f"$ {command}\n--- the page says:\n{expected}--- printed:\n{output}"
        for (command, expected), output in zip(found, printed, strict=False)
        if not re.fullmatch(pattern(expected), output)
    ]
    assert not wrong, "\n".join(wrong)
    assert len(printed) == len(found) + 1, "bash ended before the page did"
    assert (place / "segments").read_text() == "1\n"
