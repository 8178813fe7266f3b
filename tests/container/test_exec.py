"""What is run, where and with which environment; and each way in which it can't be run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import pyminicon
from tests.support.run import out, sh


def failure(args: list[str], **options: object) -> pyminicon.LaunchError:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(args, **options)
    return caught.value


def test_nothing_of_the_callers_environment_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    names = {line.partition("=")[0] for line in out("env", hostname="box").splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "HOME", "TERM", "HOSTNAME"}
    assert "hush" not in out("cat /proc/1/environ; env")


def test_env_adds_to_the_clean_environment_and_wins() -> None:
    text = out("echo $A:$HOME:$EMPTY:", env={"A": "1 2\n3", "HOME": "/x", "EMPTY": ""})
    assert text == "1 2 3:/x::\n"


def test_bytes_that_are_no_utf8_come_through_in_args_and_env() -> None:
    odd = os.fsdecode(b"\xff\xfe")
    r = pyminicon.run(["sh", "-c", 'printf %s "$1$ODD"', "sh", odd], env={"ODD": odd}, capture_output=True)
    assert r.stdout == b"\xff\xfe\xff\xfe"


def test_ten_thousand_variables_and_long_arguments_work() -> None:
    env = {f"V{number}": "x" * 50 for number in range(10000)}
    r = pyminicon.run(
        ["sh", "-c", "echo $V9999 ${#1}", "sh", "y" * 70000], env=env, capture_output=True, text=True
    )
    assert r.stdout == "x" * 50 + " 70000\n"


def test_an_argument_longer_than_the_kernel_takes_is_an_error_of_exec() -> None:
    error = failure(["true", "x" * (1 << 20)])
    assert (error.stage, error.errno) == ("exec", errno.E2BIG)


def test_cwd_is_root_by_default_and_what_was_asked_for() -> None:
    assert out("pwd") == "/\n"
    assert out("pwd; pwd -P", cwd="/usr/bin") == "/usr/bin\n/usr/bin\n"


def test_a_missing_cwd_is_an_error_that_names_it() -> None:
    error = failure(["true"], cwd="/no/such/place")
    assert (error.stage, error.errno, error.subject) == ("cwd", errno.ENOENT, "/no/such/place")
    assert str(error).startswith("cwd: /no/such/place: No such file or directory")


def test_a_file_as_cwd_is_an_error() -> None:
    assert failure(["true"], cwd="/etc/passwd").errno == errno.ENOTDIR


def test_a_cwd_that_is_a_link_out_stays_inside(own_rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (own_rootfs / "way").symlink_to(outside)
    error = failure(["/bin/sh"], image=str(own_rootfs), cwd="/way")
    assert (error.stage, error.errno) == ("cwd", errno.ENOENT)


@pytest.mark.parametrize("number", [3, 5, 7, 9, 12, 20])
def test_no_descriptor_of_the_caller_can_be_the_cwd(number: int, own_rootfs: Path) -> None:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (own_rootfs / "out").symlink_to(f"/proc/self/fd/{number}")
        try:
            text = out("pwd -P; ls /proc/self/root", image=str(own_rootfs), cwd="/out")
        except pyminicon.LaunchError as error:
            assert error.stage == "cwd"
        else:
            assert text.startswith("/"), "a directory of the container, not (unreachable)"
    finally:
        os.close(fd)


def test_programs_are_looked_up_in_the_path_inside(own_rootfs: Path) -> None:
    tool = own_rootfs / "opt/tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found by $0\n")
    tool.chmod(0o755)
    image = str(own_rootfs)
    r = pyminicon.run(
        ["tool"], image=image, env={"PATH": "/nowhere:/opt:/bin"}, capture_output=True, text=True
    )
    assert r.stdout == "found by /opt/tool\n"
    assert failure(["tool"], image=image).errno == errno.ENOENT


def test_a_file_that_may_not_be_run_doesnt_end_the_search(own_rootfs: Path) -> None:
    (own_rootfs / "first").mkdir()
    (own_rootfs / "first/echo").write_text("not executable")
    r = pyminicon.run(["echo", "hi"], image=str(own_rootfs), env={"PATH": "/first:/bin"}, capture_output=True)
    assert r.stdout == b"hi\n"


def test_the_search_reports_a_forbidden_file_rather_than_a_missing_one(own_rootfs: Path) -> None:
    (own_rootfs / "first").mkdir()
    (own_rootfs / "first/tool").write_text("not executable")
    error = failure(["tool"], image=str(own_rootfs), env={"PATH": "/first:/bin"})
    assert error.errno == errno.EACCES


def test_a_missing_program_is_an_error_of_exec_and_not_exit_status_127() -> None:
    error = failure(["no-such-program"])
    assert (error.stage, error.errno, error.subject) == ("exec", errno.ENOENT, "no-such-program")
    assert error.hint is not None
    assert sh("no-such-program").returncode == 127


def test_a_rootfs_without_the_program_is_an_error(bare_rootfs: Path) -> None:
    error = failure(["/bin/sh"], image=str(bare_rootfs))
    assert (error.stage, error.errno, error.subject) == ("exec", errno.ENOENT, "/bin/sh")


def test_a_file_that_is_not_executable_is_an_error() -> None:
    error = failure(["/etc/passwd"])
    assert (error.stage, error.errno, error.subject) == ("exec", errno.EACCES, "/etc/passwd")


def test_a_directory_is_not_executable() -> None:
    assert failure(["/etc"]).errno == errno.EACCES


def test_a_script_without_its_interpreter_is_an_error_that_says_so() -> None:
    error = failure(["/tmp/script"], files={"/tmp/script": b"#!/no/such/interpreter\n"})
    assert (error.stage, error.errno, error.subject) == ("exec", errno.ENOENT, "/tmp/script")
    assert error.hint is not None
    assert "interpreter" in error.hint


def test_a_file_of_no_known_format_is_an_error_that_says_so() -> None:
    error = failure(["/tmp/blob"], files={"/tmp/blob": b"\x7fELF garbage"})
    assert error.errno == errno.ENOEXEC
    assert error.hint is not None


def test_a_program_with_a_slash_is_relative_to_cwd(own_rootfs: Path) -> None:
    r = pyminicon.run(["./echo", "x"], image=str(own_rootfs), cwd="/bin", capture_output=True)
    assert r.stdout == b"x\n"


def test_scripts_run_as_the_kernel_runs_them() -> None:
    r = pyminicon.run(["/tmp/s", "a b"], files={"/tmp/s": b'#!/bin/sh\necho "$1" $0\n'}, capture_output=True)
    assert r.stdout == b"a b /tmp/s\n"


@pytest.mark.parametrize("status", [0, 1, 42, 126, 127, 255])
@pytest.mark.parametrize("init", [False, True])
def test_the_exit_status_is_the_programs(status: int, init: bool) -> None:
    assert sh(f"exit {status}", init=init).returncode == status


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("PIPE", 13)])
def test_under_init_a_signal_is_reported_as_subprocess_does(name: str, number: int) -> None:
    assert sh(f"kill -{name} $$; sleep 5", init=True).returncode == -number


def test_pid_1_is_deaf_to_its_own_default_signals() -> None:
    assert out("kill -TERM $$; echo still here") == "still here\n"


def test_result_has_what_completed_process_has() -> None:
    r = pyminicon.run(["sh", "-c", "echo o; echo e >&2; exit 3"], capture_output=True)
    assert (r.args[0], r.returncode, r.stdout, r.stderr) == ("sh", 3, b"o\n", b"e\n")
    with pytest.raises(pyminicon.CalledProcessError) as caught:
        r.check_returncode()
    assert (caught.value.returncode, caught.value.output, caught.value.stderr) == (3, b"o\n", b"e\n")
    assert r.limit is None
    assert 0 < r.startup < 60
    assert 0 < r.usage.wall < 60
    assert r.usage.memory_peak is None


def test_check_raises_what_subprocess_raises() -> None:
    import subprocess

    with pytest.raises(subprocess.CalledProcessError) as caught:
        pyminicon.run(["false"], check=True)
    assert isinstance(caught.value, pyminicon.Error)


def test_trace_tells_the_stages_in_order() -> None:
    r = pyminicon.run(["true"], trace=True)
    assert r.trace is not None
    names = [name for name, _ in r.trace]
    assert names[0] == "prepare"
    assert names[-2:] == ["exec", "started"]
    assert {"mount", "pivot_root", "seccomp"} <= set(names)
    times = [at for _, at in r.trace]
    assert times == sorted(times)
    assert pyminicon.run(["true"]).trace is None


def test_a_bare_name_whose_interpreter_is_missing_isnt_said_to_be_nowhere(own_rootfs: Path) -> None:
    tool = own_rootfs / "bin" / "lost"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)
    for name in ("lost", "nowhere"):
        with pytest.raises(FileNotFoundError, match="or the interpreter it names"):
            pyminicon.run([name], image=str(own_rootfs))
