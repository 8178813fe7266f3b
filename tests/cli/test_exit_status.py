"""How a container ended is how the command ends; failures are one line on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, environment


def test_the_status_is_the_commands_own(anybody: Cli) -> None:
    r = anybody("run", "host", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (r.returncode, r.stdout, r.stderr) == (3, "out\n", "err\n")


def test_a_signal_is_128_and_its_number(anybody: Cli) -> None:
    r = anybody("run", "--init", "host", "sh", "-c", "kill -TERM $$")
    assert (r.returncode, r.stderr) == (128 + 15, "")


def test_pid_1_that_aborts_is_a_segmentation_fault(cli: Cli) -> None:
    """abort() raises SIGABRT, which pid 1 doesn't hear, and then executes an illegal instruction."""
    r = cli("run", "python", "python3", "-c", "import os; os.abort()")
    assert r.returncode in (128 + 11, 128 + 4)


def test_the_time_limit_is_124(anybody: Cli) -> None:
    r = anybody("run", "--timeout", "0.2", "host", "sleep", "60")
    assert (r.returncode, r.stderr) == (124, "pyminicon: ended by its limit: wall_time\n")


def test_a_program_that_isnt_there_is_127(anybody: Cli) -> None:
    r = anybody("run", "host", "no-such-program")
    assert r.returncode == 127
    assert r.stderr.startswith("pyminicon: exec: no-such-program: No such file or directory")
    assert r.stderr.count("\n") == 1


def test_a_program_that_cant_be_run_is_126(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter\n")
    script.chmod(0o644)
    r = cli("run", "-v", f"{tmp_path}:/x", "host", "/x/script")
    assert r.returncode == 126
    assert "Permission denied" in r.stderr
    script.chmod(0o755)
    r = cli("run", "-v", f"{tmp_path}:/x", "host", "/x/script")
    assert r.returncode == 126
    assert "Exec format error" in r.stderr


WRONG = {
    "no command": [],
    "an unknown command": ["ruin"],
    "no image": ["run"],
    "an option we don't have": ["run", "--privileged", "host", "true"],
    "a letter we don't have": ["run", "-Q", "host", "true"],
    "an option without its value": ["run", "--memory"],
    "a flag with a value": ["run", "--init=maybe", "host", "true"],
    "a missing image": ["run", "./no-such-image", "true"],
    "a name that isn't in the store": ["run", "no-such-image:1", "true"],
    "a device as the image": ["run", "/dev/null", "true"],
    "no program": ["run", "host"],
    "a size that is none": ["run", "-m", "12Q", "host", "true"],
    "less than no memory": ["run", "-m", "-1", "host", "true"],
    "cpus that are none": ["run", "--cpus", "many", "host", "true"],
    "less than no cpus": ["run", "--cpus", "-1", "host", "true"],
    "a cpu beyond the machine": ["run", "--cpuset-cpus", "4095", "host", "true"],
    "less than no processes": ["run", "--pids-limit", "-5", "host", "true"],
    "a negative time": ["run", "--timeout", "-1", "host", "true"],
    "a time that is none": ["run", "--timeout", "soon", "host", "true"],
    "a host name too long": ["run", "--hostname", "h" * 65, "host", "true"],
    "an unknown network": ["run", "--network", "bridge", "host", "true"],
    "an unknown namespace": ["run", "--pid", "container:x", "host", "true"],
    "a variable without a name": ["run", "-e", "=x", "host", "true"],
    "an env-file that isn't there": ["run", "--env-file", "/no/such/file", "host", "true"],
    "a volume over /proc": ["run", "-v", "/tmp:/proc", "host", "true"],
    "a volume without a target": ["run", "-v", "/tmp", "host", "true"],
    "a mount of an unknown type": ["run", "--mount", "type=volume,target=/x", "host", "true"],
    "a relative directory": ["run", "-w", "tmp", "host", "true"],
    "a user that isn't there": ["run", "-u", "nobody-has-this-name", "host", "true"],
    "a capability that is none": ["run", "--cap-add", "FLY", "host", "true"],
    "an unknown security option": ["run", "--security-opt", "mitigations=off", "host", "true"],
    "a missing seccomp profile": ["run", "--security-opt", "seccomp=/no/such", "host", "true"],
    "a limit that is none": ["run", "--ulimit", "nofile", "host", "true"],
    "an unknown limit": ["run", "--ulimit", "files=1", "host", "true"],
    "a bad name": ["run", "--name", "-x", "host", "true"],
    "a storage that is none": ["run", "--storage", "floppy", "host", "true"],
    "an option of doctor's that is none": ["doctor", "--verbose"],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_our_own_failure_is_125_with_one_line(cli: Cli, words: list[str]) -> None:
    r = cli(*words)
    assert (r.returncode, r.stdout) == (125, "")
    if words:
        assert r.stderr.startswith("pyminicon: ")
        assert r.stderr.count("\n") == 1
    assert "Traceback" not in r.stderr


def test_an_error_names_the_option_as_it_was_written(cli: Cli) -> None:
    assert cli("run", "--cpuset-cpus", "4095", "host", "true").stderr.startswith("pyminicon: --cpuset-cpus: ")
    assert cli("run", "--timeout", "0", "host", "true").stderr.startswith("pyminicon: --timeout: ")
    assert cli("run", "--memroy", "1g", "host", "true").stderr.endswith("did you mean --memory?\n")
    assert "--cap-add" in cli("run", "--privileged", "host", "true").stderr


def test_a_message_stays_one_line_whatever_is_in_it(cli: Cli) -> None:
    r = cli("run", "host", "no\nsuch\x1b[31mprogram")
    assert r.returncode == 127
    assert r.stderr.startswith("pyminicon: exec: no\\nsuch\\x1b[31mprogram: ")


def test_help_and_version_are_on_stdout(cli: Cli) -> None:
    for words in (["--help"], ["run", "--help"], ["doctor", "--help"], ["--version"]):
        r = cli(*words)
        assert (r.returncode, r.stderr) == (0, "")
        assert "pyminicon" in r.stdout
    assert "--cpuset-cpus" in cli("run", "--help").stdout


def test_a_closed_stdout_is_no_traceback(cli: Cli) -> None:
    import subprocess

    from tests.cli.conftest import COMMAND, environment

    line = f"{' '.join(COMMAND)} run --help | true; echo ${{PIPESTATUS[0]}}"
    r = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), check=True)
    assert r.stderr == ""


HOSTILE: dict[str, list[str]] = {
    "a host name that is no text": ["--hostname", "\udcff"],
    "a user of thousands of digits": ["-u", "9" * 5000],
    "an id map of thousands of digits": ["--userns", f"0:{'9' * 5000}:1"],
    "a number of thousands of digits": ["--pids-limit", "9" * 5000],
    "two mounts on one target": ["--tmpfs", "/x", "--tmpfs", "/x"],
    "--rm turned off": ["--rm=false"],
}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_words_are_125_and_one_line(cli: Cli, words: list[str]) -> None:
    r = cli("run", *words, "host", "true")
    assert (r.returncode, r.stdout) == (125, "")
    assert r.stderr.startswith("pyminicon: -")
    assert r.stderr.count("\n") == 1


def test_a_users_table_full_of_digits_hurts_nobody(cli: Cli, own_rootfs: Path) -> None:
    (own_rootfs / "etc").mkdir(exist_ok=True)
    (own_rootfs / "etc/passwd").write_text(f"evil:x:{'9' * 5000}:0::/:\n")
    r = cli("run", "-u", "0", str(own_rootfs), "/bin/true")
    assert (r.returncode, r.stderr) == (0, "")
    assert cli("run", "-u", "evil", str(own_rootfs), "/bin/true").returncode == 125


def test_even_a_mistake_of_ours_is_125_and_one_line() -> None:
    code = (
        "from pyminicon.cli import main, run_command\n"
        "def broken(words): raise KeyError('a\\nb')\n"
        "run_command.main = broken\n"
        "import sys; sys.argv[1:] = ['run']; main.main()"
    )
    r = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert (r.returncode, r.stdout, r.stderr.count("\n")) == (125, "", 1)
    assert "KeyError" in r.stderr


def test_an_archive_or_directory_here_is_pointed_at(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.tar").touch()
    (tmp_path / "dir").mkdir()
    for name in ("my.tar", "dir"):
        r = cli("run", name, "true", cwd=tmp_path)
        assert r.returncode == 125
        assert f"./{name}" in r.stderr
    assert "./none" not in cli("run", "none", "true", cwd=tmp_path).stderr


def test_a_name_too_long_for_a_host_name_is_the_names_fault(cli: Cli) -> None:
    assert cli("run", "--name", "n" * 65, "host", "true").stderr.startswith("pyminicon: --name: ")
    assert cli("run", "--name", "n" * 65, "--hostname", "h", "host", "true").returncode == 0
