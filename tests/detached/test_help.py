"""What helps: each verb's --help, completion, the manual page, hints for verbs that aren't there."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyminicon.cli import options
from pyminicon.cli.kept import verbs
from tests.detached.conftest import Place


@pytest.mark.parametrize("verb", sorted(verbs.ALL))
def test_each_verb_helps_with_its_options_and_examples(place: Place, verb: str) -> None:
    text = place.ok(verb, "--help")
    assert text.startswith(f"Usage: pyminicon {verb} ")
    assert "\nExamples:\n  pyminicon " in text
    assert all(f"--{row[0]}" in text for row in verbs.ALL[verb].table)
    assert all(len(line) < 120 for line in text.splitlines())
    r = place(verb, "--nosuch")
    assert r.returncode == 125 and "--nosuch: no such option" in r.stderr
    if verbs.ALL[verb].least:
        r = place(verb)
        assert r.returncode == 125 and f"pyminicon {verb} --help" in r.stderr


@pytest.mark.parametrize(
    "words",
    ["run", "doctor", "completion", "manual", "pull", "images", "rmi", "image"]
    + [f"image {verb}" for verb in ("import", "pull", "ls", "inspect", "rm", "prune", "export")],
)
def test_every_other_command_helps_in_the_same_style(place: Place, words: str) -> None:
    text = place.ok(*words.split(), "--help")
    assert text.startswith("Usage: pyminicon ")
    assert "\nExamples:\n  " in text


def test_json_is_what_a_refusal_says_as_well_and_only_where_it_was_asked_for(place: Place) -> None:
    for words in (
        ["--memory", "lots", "host", "true"], ["--nosuch", "host"], ["-d", "--name", "a/b", "host", "true"],
        ["nosuchimage", "true"], [], ["--name", "x", "-d", "--restart", "always", "host"],
    ):  # fmt: skip
        r = place("run", "--json", *words)
        assert (r.returncode, r.stdout) == (125, "")
        told = json.loads(r.stderr)
        assert told["returncode"] is None and told["error"]["message"], words
    assert (
        json.loads(place("run", "--memory", "lots", "--json", "host", "true").stderr)["error"]["subject"]
        == "--memory"
    )
    r = place("run", "--memory", "lots", "host", "prog", "--json")
    assert r.returncode == 125 and r.stderr.startswith("pyminicon: --memory: ")


def test_the_command_itself_names_every_verb(place: Place) -> None:
    text = place.ok("--help")
    assert all(verb in text for verb in verbs.ALL)


@pytest.mark.parametrize(
    ("verb", "hint"), [("build", "buildah"), ("restart", "run -d"), ("compose", "run -d"), ("info", "doctor")]
)
def test_verbs_of_dockers_that_are_not_there_are_told_from(place: Place, verb: str, hint: str) -> None:
    r = place(verb, "x")
    assert r.returncode == 125 and hint in r.stderr and len(r.stderr) < 150


def _completed(place: Place, *words: str) -> list[str]:
    """What bash makes of the last of the words."""
    array = " ".join(f"'{word}'" for word in ("pyminicon", *words))
    script = f"""
    pyminicon() {{ {sys.executable} -m pyminicon "$@"; }}
    source <(pyminicon completion bash)
    COMP_WORDS=({array}); COMP_CWORD={len(words)}; _pyminicon; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    r = subprocess.run(
        ["bash", "-c", script], env=place.env, capture_output=True, text=True, check=True, timeout=60
    )
    assert r.stderr == ""
    return r.stdout.split()


def test_bash_completes_verbs_options_and_names(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    place.ok("run", "-d", "--name", "week", "host", "true")
    place.ok("wait", "week")
    assert _completed(place, "unp") == ["unpause"]
    assert set(_completed(place, "")) >= {*verbs.ALL, "run", "pull", "completion"}
    assert _completed(place, "exec", "--work") == ["--workdir"]
    assert _completed(place, "exec", "we") == ["web"]
    assert _completed(place, "exec", "-e", "A=b", "we") == ["web"]
    assert _completed(place, "exec", "-w", "we") == []  # a directory's name
    assert _completed(place, "exec", "web", "we") == []  # a command's
    assert sorted(_completed(place, "logs", "we")) == ["web", "week"]
    assert "host" in _completed(place, "run", "--rm", "ho")


def _with_program(place: Place, tmp_path: Path) -> dict[str, str]:
    """An environment that has ``pyminicon`` on its path, and a home without settings."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pyminicon").write_text(f'#!/bin/sh\nexec {sys.executable} -m pyminicon "$@"\n')
    (tmp_path / "bin/pyminicon").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return {**place.env, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "PS1": "> "}


def test_fish_completes_verbs_options_and_names(place: Place, tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("needs fish")
    env = _with_program(place, tmp_path)
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    place.ok("run", "-d", "--name", "week", "host", "true")
    place.ok("wait", "week")

    def completed(line: str) -> set[str]:
        script = f"pyminicon completion fish | source; complete -C '{line}'"
        r = subprocess.run(
            [fish, "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60
        )
        assert r.stderr == ""
        return {row.split("\t")[0] for row in r.stdout.splitlines()}

    assert completed("pyminicon unp") == {"unpause"}
    assert completed("pyminicon exec --work") == {"--workdir"}
    assert completed("pyminicon exec we") == {"web"}
    assert completed("pyminicon logs we") == {"web", "week"}
    assert completed("pyminicon run ho") == {"host"}


def test_zsh_completes_verbs_options_and_names(place: Place, tmp_path: Path) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("needs zsh")
    env = _with_program(place, tmp_path)
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(zsh, ["zsh", "-f", "-i"], env)
    shown = b""

    def until(wanted: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + 60
        while wanted not in shown:
            assert select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0], shown
            shown += os.read(fd, 4096)
        shown = shown.partition(wanted)[2]

    try:
        os.write(fd, b"source <(pyminicon completion zsh); echo rea''dy\n")
        until(b"ready\r\n")
        for typed, wanted in (
            (b"unp", b"unpause"),
            (b"exec --work", b"--workdir"),
            (b"exec we", b"web"),
            (b"run ho", b"host"),
        ):
            os.write(fd, b"pyminicon " + typed + b"\t")
            until(wanted)
            os.write(fd, b"\x15")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


def test_the_manual_page_is_set_without_a_warning(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "pyminicon.1"
    page.write_text(place.ok("manual") + "\n")
    renderers = [
        words
        for words in (["groff", "-man", "-Tutf8", "-ww", "-z"], ["mandoc", "-T", "lint", "-W", "warning"])
        if shutil.which(words[0])
    ]
    if not renderers:
        pytest.skip("needs groff or mandoc")
    for words in renderers:
        r = subprocess.run([*words, str(page)], capture_output=True, text=True, check=False, timeout=60)
        assert (r.stdout + r.stderr, r.returncode) == ("", 0), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_script_has_all_verbs_and_options(place: Place, shell: str) -> None:
    script = place.ok("completion", shell)
    assert all(verb in script for verb in (*verbs.ALL, "run"))
    long = "-l " if shell == "fish" else "--"
    for table in (options.TABLE, *(verb.table for verb in verbs.ALL.values())):
        assert all(f"{long}{row[0]}" in script for row in table)
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=60)
    assert place("completion", "tcsh").returncode == 125


def test_the_manual_page_is_made_of_the_same_tables(place: Place) -> None:
    page = place.ok("manual")
    assert page.startswith(".TH PYMINICON 1")
    plain = page.replace("\\-", "-")
    for verb in verbs.ALL.values():
        assert all(f"--{row[0]}" in plain for row in verb.table)
    assert all(f"--{row[0]}" in plain for row in options.TABLE)
