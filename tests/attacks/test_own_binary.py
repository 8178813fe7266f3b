"""The program that starts containers must not be overwritten from one (CVE-2019-5736): here that is Python."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]

# The helper's exit status when it is run with nothing to do: no such words, or nothing to map.
HELPER_WITHOUT_A_PLAN = (errno.EINVAL, errno.EBADF, errno.ENODEV)


@pytest.fixture
def interpreter() -> Any:
    """The host's interpreter: looked at before and after."""
    path = Path(os.path.realpath(sys.executable))
    before = (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.stat().st_size)
    yield path
    assert (
        path.stat().st_ino,
        path.stat().st_mtime_ns,
        path.stat().st_ctime_ns,
        path.stat().st_size,
    ) == before


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}])
@pytest.mark.parametrize("trap", ["script", "link", "link to pid 1"])
def test_a_container_cannot_run_its_launcher_again(
    trap: str, options: dict[str, Any], own_rootfs: Path, inside: Run, interpreter: Path
) -> None:
    entry = own_rootfs / "entry"
    if trap == "script":
        entry.write_text("#!/proc/self/exe\n")
        entry.chmod(0o755)
    else:
        entry.symlink_to("/proc/self/exe" if trap == "link" else "/proc/1/exe")
    # What runs, if anything, is the helper: static, sealed against writing, and of no use without a plan.
    try:
        r = inside(
            ["/entry", "-c", "import sys; print('python', sys.version)"], image=str(own_rootfs), **options
        )
    except pyminicon.LaunchError as error:
        assert error.stage in ("exec", "cwd"), error
    else:
        assert r.returncode in HELPER_WITHOUT_A_PLAN and r.stdout == r.stderr == ""


@pytest.mark.parametrize(
    "program", ["/proc/self/exe", "/usr/../proc/self/exe", "/proc/thread-self/exe", "/proc/1/exe"]
)
def test_nor_when_the_command_itself_names_it(program: str, inside: Run, interpreter: Path) -> None:
    try:
        r = inside([program, "-c", "print('python')"])
    except pyminicon.LaunchError as error:
        assert error.stage == "exec", error
    else:
        assert r.returncode in HELPER_WITHOUT_A_PLAN and r.stdout == r.stderr == ""


def test_nor_by_a_file_that_was_put_in(inside: Run, interpreter: Path) -> None:
    try:
        r = inside(["/entry", "-c", "print('python')"], files={"/entry": b"#!/proc/self/exe\n"})
    except pyminicon.LaunchError as error:  # not executable
        assert error.stage == "exec", error
    else:
        assert r.returncode in HELPER_WITHOUT_A_PLAN and r.stdout == r.stderr == ""


def test_the_trap_does_run_the_launcher_where_it_execs_directly(own_rootfs: Path) -> None:
    """The same script under a plain fork and exec: the interpreter starts again."""
    entry = own_rootfs / "entry"
    entry.write_text("#!/proc/self/exe\nprint('python')\n")
    entry.chmod(0o755)
    code = f"import os\nif os.fork() == 0: os.execv({str(entry)!r}, ['entry'])\nos.wait()"
    env = {**os.environ, "PYTHONHOME": sys.base_prefix}
    r = subprocess.run(
        [os.path.realpath(sys.executable), "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert r.stdout == "python\n", r


def test_the_same_traps_work_where_the_program_is_the_containers_own(own_rootfs: Path, inside: Run) -> None:
    (own_rootfs / "entry").symlink_to("/proc/self/exe")
    # In here /proc/self/exe is the container's own shell, which may be run again.
    assert inside(["sh", "-c", "exec /entry -c 'echo again'"], image=str(own_rootfs)).stdout == "again\n"


def test_a_container_cannot_open_pid_1s_program_for_writing(inside: Run, interpreter: Path) -> None:
    script = "readlink /proc/1/exe; (echo x >> /proc/1/exe) 2>&1; ls -L /proc/1/exe >/dev/null 2>&1 && echo seen; :"
    r = inside(["sh", "-c", script], init=True)
    assert "seen" not in r.stdout and "memfd" not in r.stdout and "Permission denied" in r.stdout
    # Without init pid 1 is the program itself: seen, and busy; to an ordinary user it is root's before it is busy.
    r = inside(["sh", "-c", script])
    assert "seen" in r.stdout and ("Permission denied" if os.geteuid() else "Text file busy") in r.stdout


def test_not_even_a_container_that_may_trace_can_open_the_helpers_program(hostile: Run) -> None:
    found = hostile("overwrite", init=True, cap_add=["SYS_PTRACE"])
    assert found["open-read"][0] == -1 and found["open-write"][0] == -1
    # Without init pid 1 is the program itself: seen, and busy.
    assert hostile("overwrite", cap_add=["SYS_PTRACE"])["open-read"][0] == 0


def test_a_python_image_cannot_write_the_interpreter_it_runs(interpreter: Path) -> None:
    code = "import sys, os; p = os.path.realpath(sys.executable); os.unlink(p); open(p, 'w').write('gone'); print(os.path.getsize(p))"
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
    # Gone in there: the private layer took the write. An ordinary user can't write what is root's.
    theirs = os.geteuid() != 0 and os.stat(os.path.realpath(sys.executable)).st_uid == 0
    assert r.stdout == ("" if theirs else "4\n")


def test_the_theft_works_where_a_pidfd_is_within_reach(hostile: Run) -> None:
    # Without init pid 1 is the thief itself: its pidfd is among its own descriptors.
    assert hostile("steal", cap_add=["SYS_PTRACE"])["beyond"][0] > 0


@pytest.mark.parametrize("added", [[], ["SYS_PTRACE"], ["ALL"]])
def test_inits_descriptors_cannot_be_taken(hostile: Run, added: list[str]) -> None:
    """Its life-line is a pidfd of the launcher: pidfd_getfd through it would ask for CAP_SYS_PTRACE only."""
    found = hostile("steal", init=True, cap_add=added)
    assert (found["taken"][0], found["beyond"][0]) == (0, 0)
