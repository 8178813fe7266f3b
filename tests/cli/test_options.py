"""Options are read as docker reads them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyminicon
from pyminicon.cli import call, options
from pyminicon.errors import SpecError
from tests.cli.conftest import COMMAND, Cli, Started, environment

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
    "a bind": (["--mount", "type=bind,src=/a,dst=/b,readonly"], {"volumes": [("/a", "/b", "ro")]}),
    "no limits": (["-m0", "--cpus=0", "--pids-limit=0", "--memory-swap=0", "--cpuset-cpus="], {}),
    "a directory to work in": (["-w", "/a"], {"cwd": "/a", "make_cwd": True}),
    "one with a way up": (["-w", "/a/../b..c/"], {"cwd": "/b..c", "make_cwd": True}),
    "shared memory": (["--shm-size", "1g"], {"tmpfs": ["/dev/shm:size=1g,mode=1777"]}),
    "groups": (["--group-add", "adm", "--group-add=7"], {"extra_groups": ["adm", "7"]}),
    "a signal to stop by": (["--stop-signal", "QUIT", "--stop-timeout=3"], {"stop_signal": "QUIT"}),
    "names": (["--add-host", "a:1.2.3.4", "--dns", "::1"], {"add_host": ["a:1.2.3.4"], "dns": ["::1"]}),
    "what is let out": (["--egress", "a.com", "--egress=b:1"], {"egress": ["a.com", "b:1"]}),
    "ports": (["-p", "80:80", "-p127.0.0.1:0:81"], {"publish": ["80:80", "127.0.0.1:0:81"]}),
    "descriptors": (["--preserve-fds", "2"], {"pass_fds": [3, 4]}),
    "what every container has": (["--device", "/dev/null:/dev/null:rw", "--label", "a=b", "-l", "c"], {}),
    "a bind in quotes": (
        ["--mount", 'type=bind,"source=/a,b:c",target=/d'],
        {"volumes": [("/a,b:c", "/d", "rw")]},
    ),
    "words that mean nothing here": (
        ["-v/a:/b:ro,z", "--security-opt=label=disable", "--security-opt", "apparmor=unconfined"],
        {"volumes": ["/a:/b:ro,z"]},
    ),
    "a tmpfs": (["--mount", "type=tmpfs,target=/b,tmpfs-size=1m"], {"tmpfs": ["/b:size=1m"]}),
    "a volume and a bind": (
        ["-v/a:/b", "--mount=type=bind,source=/c,target=/d"],
        {"volumes": ["/a:/b", ("/c", "/d", "rw")]},
    ),
}


@pytest.mark.parametrize(("words", "meant"), MEANT.values(), ids=MEANT)
def test_words_mean_options(words: list[str], meant: dict[str, Any]) -> None:
    assert call.options(options.parse([*words, "i"])[0]) == meant


def test_every_option_of_the_table_has_a_meaning() -> None:
    own = {
        "interactive",
        "detach",
        "log-max-size",
        "rm",
        "pull",
        "quiet",
        "dry-run",
        "trace",
        "json",
        "help",
    }  # this command's own matter
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


WRONG: dict[str, tuple[list[str], str]] = {
    "a device of this machine": (["--device", "/dev/kvm"], "--device: /dev/kvm can't go in"),
    "a label of SELinux's": (["--security-opt", "label=type:x"], "--security-opt: 'label=type:x'"),
    "half a quote": (["--mount", 'type=bind,"source=/a'], "--mount: "),
    "no number of seconds": (["--stop-timeout", "soon"], "--stop-timeout: takes whole seconds"),
    "a label without a name": (["--label", "=b"], "--label: takes KEY=VALUE"),
    "no number of descriptors": (["--preserve-fds", "-1"], "--preserve-fds: takes how many"),
    "a file that is there": (["--cidfile", "/etc/passwd"], "--cidfile: /etc/passwd is there already"),
    "shared memory of the host's": (["--shm-size", "1m", "--ipc", "host"], "--shm-size: can't be given with"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_an_error(words: list[str], message: str) -> None:
    with pytest.raises(pyminicon.SpecError) as caught:
        call.options(options.parse([*words, "i"])[0])
    assert str(caught.value).startswith(message)


# docker's words, and what must not be suggested in their place.
SUGGESTED = {
    "--privileged": "no_new",
    "--runtime": "--time",
    "--stop-time": "--timeout",
    "--annotation": "--userns",
}


@pytest.mark.parametrize("word", SUGGESTED)
def test_no_option_of_another_meaning_is_suggested(word: str) -> None:
    with pytest.raises(pyminicon.SpecError) as caught:
        options.parse([word, "x", "i"])
    assert f"did you mean {SUGGESTED[word]}" not in str(caught.value)


def test_what_means_nothing_here_is_said(cli: Cli) -> None:
    r = cli("run", "-v", "/tmp:/x:ro,Z", "--security-opt", "label=disable", "host", "ls", "-d", "/x")
    assert (r.returncode, r.stdout) == (0, "/x\n")
    assert [line.partition(" means nothing here: ")[0] for line in r.stderr.splitlines()] == [
        "pyminicon: --security-opt: 'label=disable'",
        "pyminicon: --volume: 'Z'",
    ] or r.stderr.count("means nothing here") == 2


def test_a_directory_to_work_in_is_made(cli: Cli) -> None:
    for words in ((), ("--read-only",), ("--tmpfs", "/a")):
        assert cli("run", *words, "-w", "/a/b c", "host", "pwd").stdout == "/a/b c\n"


def test_the_id_is_written_once(cli: Cli, tmp_path: Path) -> None:
    r = cli("run", "--cidfile", f"{tmp_path}/id", "--json", "--label", "k=v", "host", "hostname")
    told = json.loads(r.stderr)
    assert (tmp_path / "id").read_text() == told["id"] == r.stdout.strip() and told["labels"] == {"k": "v"}
    assert cli("run", "--cidfile", f"{tmp_path}/id", "host", "true").returncode == 125


def test_descriptors_are_passed_on(cli: Cli) -> None:
    readable, writable = os.pipe()
    line = [*COMMAND, "run", "--preserve-fds", "1", "host", "sh", "-c", "echo through >&3"]
    subprocess.run(
        ["bash", "-c", f'exec "$@" 3>&{writable}', "sh", *line],
        pass_fds=[writable],
        check=True,
        env=environment(),
    )
    os.close(writable)
    with open(readable) as pipe:
        assert pipe.read() == "through\n"


def test_json_tells_of_a_launch_that_failed(cli: Cli) -> None:
    r = cli("run", "--json", "host", "nope")
    told = json.loads(r.stderr)
    assert (r.returncode, told["returncode"], told["args"]) == (127, None, ["nope"])
    assert (told["error"]["stage"], told["error"]["errno"], told["error"]["subject"]) == ("exec", 2, "nope")


def test_a_line_in_one_word_is_pointed_to_the_shell(cli: Cli) -> None:
    r = cli("run", "host", "echo hi")
    assert r.returncode == 127 and "sh -c" in r.stderr
    r = cli("run", "host", "")
    assert r.returncode == 127 and "name is empty" in r.stderr


def test_a_container_that_goes_on_after_a_sigterm_is_killed(start: Callable[..., Started]) -> None:
    one = start(
        "run",
        "--stop-timeout",
        "1",
        "host",
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep .1; done",
    )
    assert one.line() == "ready\n"
    one.process.terminate()
    assert one.status() == 128 + 15
    # By the signal that it knows it ends by itself.
    one = start(
        "run",
        "--stop-signal",
        "QUIT",
        "host",
        "sh",
        "-c",
        "trap 'exit 7' QUIT; trap '' TERM; echo ready; while :; do sleep .1; done",
    )
    assert one.line() == "ready\n"
    one.process.terminate()
    assert one.status() == 7


VERBS = {
    "create": "run -d",
    "restart": "run -d",
    "commit": "cp",
    "build": "image import",
    "load": "image import",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_of_dockers_says_what_is_meant_here(cli: Cli, verb: str) -> None:
    r = cli(verb)
    assert r.returncode == 125 and VERBS[verb] in r.stderr


def test_dockers_verbs_for_images_are_the_image_stores(cli: Cli) -> None:
    assert cli("images").stdout == cli("image", "ls").stdout != ""
    assert "image" in cli("pull", "--help").stdout
    assert cli("rmi", "no-such-image:1").returncode == 125


def test_an_env_file_without_an_end_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="--env-file: /dev/zero: has more than 6M"):
        call.environment({"env-file": ["/dev/zero"]})
