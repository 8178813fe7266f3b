"""mini-swe-agent's own docker environment, which calls `docker` from PATH: that is our command line here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minisweagent.environments.docker import DockerEnvironment


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program of that name, and containers of the test's own; none is left in the end."""
    shim = tmp_path / "bin/docker"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m pyminicon "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("PYMINICON_STATE", str(tmp_path / "state"))
    yield
    deadline = time.monotonic() + 60
    while (left := _all()) and time.monotonic() < deadline:
        time.sleep(0.1)  # it is stopped in the background
    assert left == []


def _all() -> list[str]:
    return subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=True).stdout.split()


def made(**options: Any) -> Any:
    return DockerEnvironment(image="host", **options)


def test_it_is_there() -> None:
    assert subprocess.run(["docker", "version"], capture_output=True, check=True).stdout


def test_a_command_runs_and_its_status_comes_back() -> None:
    environment = made()
    try:
        said = environment.execute({"command": "echo hello; echo there >&2; exit 42"})
        assert (said["returncode"], sorted(said["output"].split())) == (42, ["hello", "there"])
        assert environment.execute({"command": "echo still"})["output"] == "still\n"
    finally:
        environment.cleanup()


def test_variables_are_set_forwarded_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "outer")
    monkeypatch.setenv("BOTH", "outer")
    environment = made(env={"INNER": "inner", "BOTH": "inner"}, forward_env=["OUTER", "BOTH", "NOWHERE"])
    try:
        said = environment.execute({"command": 'echo "$INNER $OUTER $BOTH [$NOWHERE]"'})
        assert said["output"] == "inner outer inner []\n"
    finally:
        environment.cleanup()


def test_the_directory_is_the_containers_or_the_commands() -> None:
    environment = made(cwd="/tmp")
    try:
        assert environment.execute({"command": "pwd; touch here"})["output"] == "/tmp\n"
        assert environment.execute({"command": "pwd; ls /tmp"}, cwd="/")["output"] == "/\nhere\n"
    finally:
        environment.cleanup()


def test_a_command_out_of_time_is_told_and_the_next_one_works() -> None:
    environment = made()
    try:
        said = environment.execute({"command": "echo begun; sleep 1000"}, timeout=2)
        assert said["returncode"] == -1 and said["extra"]["exception_type"] == "TimeoutExpired"
        assert environment.execute({"command": "pgrep -c -f '[s]leep 1000'"})["output"] == "0\n"
    finally:
        environment.cleanup()


def test_a_container_ends_with_its_time() -> None:
    environment = made(container_timeout="2s")
    try:
        assert environment.execute({"command": "echo running"})["output"] == "running\n"
        deadline = time.monotonic() + 60
        while _all() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert environment.execute({"command": "echo running"})["returncode"] != 0
    finally:
        environment.cleanup()
