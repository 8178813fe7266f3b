"""Options are read as docker reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyminicon.cli import call, options
from pyminicon.errors import SpecError
from tests.cli.conftest import Cli, environment

READ: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "a value of its own": (["--memory", "1g", "i"], {"memory": "1g"}, ["i"]),
    "a value behind =": (["--memory=1g", "i"], {"memory": "1g"}, ["i"]),
    "an empty value": (["--entrypoint=", "i"], {"entrypoint": ""}, ["i"]),
    "a letter": (["-m", "1g", "i"], {"memory": "1g"}, ["i"]),
    "a letter and its value in one": (["-m1g", "i"], {"memory": "1g"}, ["i"]),
    "a letter, = and its value": (["-m=1g", "i"], {"memory": "1g"}, ["i"]),
    "letters together": (["-it", "i"], {"interactive": True, "tty": True}, ["i"]),
    "letters, the last with a value": (
        ["-itu", "5", "i"],
        {"interactive": True, "tty": True, "user": "5"},
        ["i"],
    ),
    "a flag turned off": (["--init=false", "i"], {"init": False}, ["i"]),
    "again and again": (["-e", "A=1", "-eB=2", "i"], {"env": ["A=1", "B=2"]}, ["i"]),
    "the last one counts": (["-w", "/a", "-w", "/b", "i"], {"workdir": "/b"}, ["i"]),
    "-- ends them": (["--rm", "--", "-i"], {"rm": True}, ["-i"]),
    "the image ends them": (["i", "-t", "--memory", "1"], {}, ["i", "-t", "--memory", "1"]),
    "a value that looks like one": (["-e", "--rm", "i"], {"env": ["--rm"]}, ["i"]),
    "an older name": (["--net", "host", "i"], {"network": "host"}, ["i"]),
}


@pytest.mark.parametrize(("words", "given", "rest"), READ.values(), ids=READ)
def test_words_are_read(words: list[str], given: dict[str, Any], rest: list[str]) -> None:
    assert options.parse(words) == (given, rest)


MEANT: dict[str, tuple[list[str], dict[str, Any]]] = {
    "numbers": (["--cpus=1.5", "--pids-limit=9", "--cpu-time=2"], {"cpus": 1.5, "pids": 9, "cpu_time": 2.0}),
    "no limit of processes": (["--pids-limit=-1"], {}),
    "minutes": (["--timeout=2m"], {"wall_time": 120.0}),
    "limits": (
        ["--ulimit", "nofile=1:2", "--ulimit=core=unlimited"],
        {"rlimits": {"nofile": (1, 2), "core": (-1, -1)}},
    ),
    "a name is the host name": (["--name", "n"], {"hostname": "n"}),
    "but not if there is one": (["--name", "n", "--hostname", "h"], {"hostname": "h"}),
    "nor if it is this machine's": (["--name", "n", "--uts", "host"], {"uts": "host"}),
    "a filter": (["--security-opt", "seccomp=unconfined"], {"seccomp": "unconfined"}),
    "new privileges": (["--security-opt", "no-new-privileges:false"], {"no_new_privileges": False}),
    "no new privileges": (["--security-opt", "no-new-privileges"], {"no_new_privileges": True}),
    "a bind": (["--mount", "type=bind,src=/a,dst=/b,readonly"], {"volumes": ["/a:/b:ro"]}),
    "a tmpfs": (["--mount", "type=tmpfs,target=/b,tmpfs-size=1m"], {"tmpfs": ["/b:size=1m"]}),
    "a volume and a bind": (
        ["-v/a:/b", "--mount=type=bind,source=/c,target=/d"],
        {"volumes": ["/a:/b", "/c:/d:rw"]},
    ),
}


@pytest.mark.parametrize(("words", "meant"), MEANT.values(), ids=MEANT)
def test_words_mean_options(words: list[str], meant: dict[str, Any]) -> None:
    assert call.options(options.parse([*words, "i"])[0]) == meant


def test_every_option_of_the_table_has_a_meaning() -> None:
    own = {"interactive", "rm", "pull", "dry-run", "trace", "json", "help"}  # this command's own matter
    meant = set(call._PLAIN) | set(call._NUMBERS) | set(call._MADE)
    assert {row[0] for row in options.TABLE} == own | meant


def test_every_option_of_the_table_is_in_the_help_and_in_the_manual() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "usage.md").read_text()
    for row in options.TABLE:
        assert f"--{row[0]}" in options.help_text()
        assert f"`--{row[0]}" in manual or f"--{row[0]}`" in manual, row[0]


def test_every_option_reaches_the_library() -> None:
    from pyminicon.options import parse as spec
    from pyminicon.options import rare as spec_rare

    taken = {*spec._CHECKS, *spec_rare.CHECKS, *spec.LIMITS}
    reached = {*call._PLAIN.values(), *(target for target, _ in call._NUMBERS.values())}
    for option in reached:
        assert option in taken, option


def test_variables_come_from_files_and_then_from_the_options(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(
        "\ufeff# a comment\n\nA=1\nB=two words # and this\n   C==\nPYMINICON_HERE\nPYMINICON_NOT\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYMINICON_HERE", "here")
        patch.delenv("PYMINICON_NOT", raising=False)
        found = call.environment({"env-file": [str(file)], "env": ["A=3", "PYMINICON_HERE", "PYMINICON_NOT"]})
    assert found == {"A": "3", "B": "two words # and this", "C": "=", "PYMINICON_HERE": "here"}


def test_only_a_newline_ends_a_value_of_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes("A=a\u2028b\fc\x85d\x0be\rf\r\nB=2\r\n\r\nC=3".encode())
    found = call.environment({"env-file": [str(file)]})
    assert found == {"A": "a\u2028b\fc\x85d\x0be\rf", "B": "2", "C": "3"}


def test_a_broken_line_of_an_env_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nnot a name=2\n")
    with pytest.raises(SpecError, match="line 2"):
        call.environment({"env-file": [str(file)]})


def test_options_hold_inside(cli: Cli, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "f").write_text("data")
    line = "id -u; id -g; pwd; hostname; echo $A $B; "
    line += "cat /v/f; echo; grep ' /v ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; "
    line += "ulimit -n; stat -f -c %T /t; grep Cap /proc/self/status"
    r = cli(
        "run",
        "-u",
        "12:34",
        "-w",
        "/tmp",
        "--hostname",
        "box",
        "-e",
        "A=1",
        "-e",
        "B",
        "-v",
        f"{tmp_path}:/v:ro",
        "--ulimit",
        "nofile=77:88",
        "--tmpfs",
        "/t",
        "--cap-drop",
        "ALL",
        "host",
        "sh",
        "-c",
        line,
        env=environment(B="inherited"),
    )
    lines = r.stdout.splitlines()
    assert lines[:5] == ["12", "34", "/tmp", "box", "1 inherited"]
    assert lines[5:9] == ["data", "ro", "77", "tmpfs"]
    assert {row.split()[1] for row in lines[9:]} == {"0" * 16}


def test_nothing_of_the_callers_environment_goes_in(cli: Cli) -> None:
    r = cli("run", "host", "env", env=environment(SECRET="x"))
    assert sorted(line.partition("=")[0] for line in r.stdout.splitlines()) == [
        "HOME",
        "HOSTNAME",
        "PATH",
        "TERM",
    ]


def test_the_entry_point_can_be_another(cli: Cli) -> None:
    assert cli("run", "--entrypoint", "echo", "host", "hello", "there").stdout == "hello there\n"


@given(
    st.lists(
        st.one_of(
            st.sampled_from([f"--{row[0]}" for row in options.TABLE] + ["-it", "-e", "--", "="]),
            st.text(max_size=8),
        )
    )
)
def test_whatever_is_typed_is_an_option_or_a_refusal(words: list[str]) -> None:
    try:
        found, rest = options.parse(words)
        call.options(found)
    except SpecError as error:
        assert str(error)
    else:
        assert rest == words[len(words) - len(rest) :]
