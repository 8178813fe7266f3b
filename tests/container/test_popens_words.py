"""What subprocess's users expect of errors, of terminate() and of Popen's further words."""

from __future__ import annotations

import asyncio
import errno
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import aio

FAULTS: dict[str, tuple[list[str], dict[str, Any], type[OSError], str]] = {
    "no such program": (["no-such"], {}, FileNotFoundError, "no-such"),
    "no such file": (["./no-such"], {}, FileNotFoundError, "./no-such"),
    "below a file": (["/etc/passwd/x"], {}, NotADirectoryError, "/etc/passwd/x"),
    "a directory": (["/etc"], {}, PermissionError, "/etc"),
    "not executable": (["/etc/passwd"], {}, PermissionError, "/etc/passwd"),
    "no program at all": ([""], {}, FileNotFoundError, ""),
    "no such directory": (["true"], {"cwd": "/no-such"}, FileNotFoundError, "/no-such"),
    "a file as directory": (["true"], {"cwd": "/etc/passwd"}, NotADirectoryError, "/etc/passwd"),
    "another program": (["true"], {"executable": "no-such"}, FileNotFoundError, "no-such"),
    "another file": (["true"], {"executable": "/no-such"}, FileNotFoundError, "/no-such"),
}


@pytest.mark.parametrize(("args", "options", "kind", "filename"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_the_program_is_the_error_that_subprocess_raises(
    args: list[str], options: dict[str, Any], kind: type[OSError], filename: str
) -> None:
    def from_template() -> None:
        with pyminicon.Template(stock=1) as template:
            template.run(args, **options)

    ways = (
        lambda: pyminicon.run(args, **options),
        lambda: pyminicon.run(args, init=True, **options),
        lambda: pyminicon.start(args, **options).close(),
        lambda: asyncio.run(aio.run(args, **options)),
        from_template,
    )
    for way in ways:
        with pytest.raises(kind) as caught:
            way()
        error = caught.value
        assert isinstance(error, pyminicon.LaunchError) and type(error).__name__ == "LaunchError"
        assert (error.filename, error.stage) == (filename, "cwd" if "cwd" in options else "exec")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.filename, again.hint) == (
            type(error), str(error), error.filename, error.hint,
        )  # fmt: skip
    if filename and ("executable" not in options or "/" in filename):
        with pytest.raises(kind) as theirs:
            subprocess.run(args, check=False, **options)
        assert (theirs.value.errno, theirs.value.filename) == (error.errno, filename)


def test_of_any_stage_it_is_what_its_errno_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        pyminicon.run(["true"], volumes=[f"{tmp_path}/no-such:/v"])
    assert isinstance(missing.value, pyminicon.LaunchError) and missing.value.stage == "mount"
    assert missing.value.filename == f"{tmp_path}/no-such"
    with pytest.raises(pyminicon.LaunchError) as other:
        pyminicon.run(["true"], rlimits={"nofile": (1 << 40, 1 << 40)})
    refused = other.value.errno in (errno.EPERM, errno.EACCES)
    assert isinstance(other.value, PermissionError) == refused and not isinstance(
        other.value, FileNotFoundError
    )


def test_terminate_ends_a_program_that_has_no_handler() -> None:
    with pyminicon.start(["sleep", "inf"]) as c:
        c.terminate()
        assert c.wait(60) == -15
    with pyminicon.start(["sleep", "inf"], stop_signal="INT") as c:
        c.terminate()
        assert c.wait(60) == -2
    with pyminicon.Template(stock=1) as template, template.start(["sleep", "inf"]) as c:
        c.terminate()
        assert c.wait(60) == -15

    async def on_a_loop() -> int:
        async with await aio.start(["sleep", "inf"]) as c:
            c.terminate()
            return await c.wait()

    assert asyncio.run(on_a_loop()) == -15


@pytest.mark.parametrize("init", [False, True])
def test_terminate_leaves_a_program_with_a_handler_to_itself(init: bool) -> None:
    script = "trap 'exit 7' TERM; echo; while :; do sleep 0.05; done"
    with pyminicon.start(["sh", "-c", script], stdout=pyminicon.PIPE, init=init) as c:
        assert c.stdout is not None
        c.stdout.readline()
        c.terminate()
        assert c.wait(10) == 7
    with pyminicon.start(["sh", "-c", script.replace("exit 7", "")], stdout=pyminicon.PIPE, init=init) as c:
        assert c.stdout is not None
        c.stdout.readline()
        c.terminate()
        with pytest.raises(pyminicon.TimeoutExpired):  # type: ignore[attr-defined]
            c.wait(0.3)
        c.kill()
        assert c.wait(60) == -9


def test_the_program_can_be_another_than_its_own_name() -> None:
    for executable in ("sh", "/bin/sh"):
        r = pyminicon.run(["a name", "-c", "echo $0"], executable=executable, capture_output=True, text=True)
        assert r.stdout == "a name\n"


@pytest.mark.parametrize("init", [False, True])
def test_groups_and_the_umask_are_as_asked_for(init: bool, needs_root: None) -> None:
    script = ["sh", "-c", "id -u; id -g; id -G; umask"]
    options = {"group": "daemon", "extra_groups": ["adm", 777], "umask": 0o027, "init": init}
    for who in ({}, {"userns": "private"}):
        r = pyminicon.run(script, capture_output=True, text=True, **options, **who)
        assert r.stdout.splitlines() == ["0", "1", "1 4 777", "0027"]
    r = pyminicon.run(script, capture_output=True, text=True, user=1000, **options)
    assert r.stdout.splitlines() == ["1000", "1", "1 4 777", "0027"]
    with pyminicon.Template(stock=1, user="1000", **options) as template:
        assert template.run(script, capture_output=True, text=True).stdout == r.stdout
    for wrong in ({"group": "no-such"}, {"extra_groups": ["no-such"]}, {"group": 1, "user": "1:1"}):
        with pytest.raises(pyminicon.SpecError):
            pyminicon.run(["true"], **wrong)  # type: ignore[arg-type]


def test_the_program_leads_a_group_of_its_own_and_no_other_can_be_asked_for() -> None:
    script = ["sh", "-c", "cut -d' ' -f5 /proc/self/stat"]
    r = pyminicon.run(script, process_group=0, capture_output=True, text=True)
    assert r.stdout == "1\n"
    with pytest.raises(pyminicon.SpecError, match="process_group"):
        pyminicon.run(script, process_group=5)


def test_too_little_memory_is_named(needs_root: None) -> None:
    with pytest.raises(pyminicon.LaunchError, match="below 1M"):
        pyminicon.run(["true"], memory="100k")
