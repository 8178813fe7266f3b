"""The sandbox provider, by inspect_ai's own conformance suite and beyond it. Run by ``make adapters``, in an
environment that has inspect_ai.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash, python
from inspect_ai.util import SandboxEnvironmentSpec
from inspect_ai.util._sandbox.exec_remote import (
    ExecCompleted,
    ExecRemoteStreamingOptions,
    ExecStderr,
    ExecStdout,
)
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

import pyminicon
from pyminicon.adapters import inspect_ai as adapter

Box = adapter.PyminiconSandboxEnvironment
IMAGE = os.environ.get("PYMINICON_TEST_IMAGE", "host")


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest) -> AsyncIterator[Box]:
    made = await Box.sample_init("task", adapter.PyminiconConfig(image=IMAGE), {})
    yield made["default"].as_type(Box)
    await Box.sample_cleanup("task", None, made, False)


def test_it_is_found_by_its_entry_point() -> None:
    assert registry_find_sandboxenv("pyminicon") is Box


async def test_a_command_is_confined(sandbox_env: Box) -> None:
    told = await sandbox_env.exec(["cat", "/proc/self/status"])
    assert "\nSeccomp:\t2\n" in told.stdout and "\nNoNewPrivs:\t1\n" in told.stdout
    for words in (["mount", "-t", "tmpfs", "none", "/mnt"], ["unshare", "-U", "true"]):
        assert not (await sandbox_env.exec(words)).success


async def test_memory_is_what_the_configuration_says() -> None:
    try:
        pyminicon.run(["true"], memory="64M")
    except pyminicon.LaunchError as error:  # no cgroup is this user's: the sample fails too, and says so
        with pytest.raises(pyminicon.LaunchError, match=error.stage):
            await Box.sample_init("task", adapter.PyminiconConfig(image=IMAGE, memory="64M"), {})
        return
    made = await Box.sample_init("task", adapter.PyminiconConfig(image=IMAGE, memory="64M"), {})
    box = made["default"]
    eat = "x=a; while :; do x=$x$x; done"
    assert (await box.exec(["sh", "-c", eat])).returncode in (137, 2)
    assert (await box.exec(["echo", "goes on"])).stdout == "goes on\n"
    await Box.sample_cleanup("task", None, made, False)


async def test_exec_remote_tells_what_comes_as_it_comes(sandbox_env: Box) -> None:
    options = ExecRemoteStreamingOptions(stdin_open=True, input="one\n")
    line = "while read x; do echo got $x; echo err $x >&2; done; exit 7"
    process = await sandbox_env.exec_remote(["sh", "-c", line], options)
    told = {ExecStdout: "", ExecStderr: ""}
    async for event in process:
        if isinstance(event, ExecCompleted):
            assert event.exit_code == 7
            break
        told[type(event)] += event.data
        if event == ExecStdout("got one\n"):
            await process.write_stdin("two\n")
            await process.close_stdin()
    assert told == {ExecStdout: "got one\ngot two\n", ExecStderr: "err one\nerr two\n"}
    assert process.pid > 1


async def test_exec_remote_ends_with_all_that_came_of_it(sandbox_env: Box) -> None:
    process = await sandbox_env.exec_remote(["sh", "-c", "setsid sleep 77 & echo there; sleep 77"])
    assert await anext(process) == ExecStdout("there\n")
    await process.kill()
    assert [event async for event in process] == []
    assert "sleep" not in (await sandbox_env.exec(["ps", "ax"])).stdout
    with pytest.raises(RuntimeError):
        await process.write_stdin("x")


async def test_a_connection_is_a_shell_in_it_as_long_as_the_sample_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    monkeypatch.setenv("PYMINICON_STATE", str(state))
    made = await Box.sample_init("task", adapter.PyminiconConfig(image=IMAGE), {})
    box = made["default"]
    await box.write_file("here", "found\n")
    told = await box.connection()
    assert told.command == (await box.connection()).command and told.container in told.command
    words = shlex.split(told.command)
    words[words.index("-it")] = "-i"  # there is no terminal here
    shell = await asyncio.to_thread(
        subprocess.run, words, input=b"cat here; grep Seccomp: /proc/self/status; exit 3\n", capture_output=True, timeout=60
    )  # fmt: skip
    assert (shell.returncode, shell.stdout) == (3, b"found\nSeccomp:\t2\n"), shell.stderr
    ended = await asyncio.to_thread(
        subprocess.run, [*words[: words.index("exec")], "rm", "-f", str(told.container)],
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode != 0
    assert (await box.exec(["true"])).success, "nobody ends it that way"
    await Box.sample_cleanup("task", None, made, False)
    assert [*(state / "lent").iterdir()] == []
    after = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=60)
    assert after.returncode == 125 and b"no such container" in after.stderr


# ---- configurations ---------------------------------------------------------------------------------------


def test_a_compose_files_plain_fields_are_understood(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        """
services:
  helper: {image: host, network_mode: none}
  default:
    image: python
    command: sleep infinity
    environment: [A=b, C=d=e]
    working_dir: /srv
    mem_limit: 1g
    cpus: 1.5
    user: "1000"
    volumes: ["./data:/data:ro"]
"""
    )
    found = adapter.configurations(str(tmp_path / "compose.yaml"))
    assert list(found) == ["default", "helper"]
    one = found["default"]
    assert (one.image, one.memory, one.cpus, one.user) == ("python", "1g", 1.5, "1000")
    assert (one.working_dir, one.env) == ("/srv", {"A": "b", "C": "d=e"})
    assert one.command == ["sh", "-c", "sleep infinity"]
    assert one.volumes == [f"{Path.cwd()}/data:/data:ro"]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("{build: .}", "build: build it with buildah"),
        ("{image: host, ports: ['80:80']}", "ports"),
        ("{image: host, privileged: true}", "privileged"),
        ("{image: host, network_mode: bridge}", "none or host, not 'bridge'"),
        ("{image: host, volumes: ['named:/x']}", "directory:path"),
        ("{working_dir: /}", "needs its image"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(tmp_path: Path, service: str, said: str) -> None:
    (tmp_path / "compose.yaml").write_text(f"services: {{default: {service}}}\n")
    with pytest.raises(ValueError, match=said):
        adapter.configurations(str(tmp_path / "compose.yaml"))


def test_a_dockerfile_is_refused_with_the_way_round_it() -> None:
    with pytest.raises(ValueError, match="buildah build"):
        adapter.configurations("path/Dockerfile")


# ---- a whole evaluation -----------------------------------------------------------------------------------


class _Words:
    """Stands in for a table that tiktoken would fetch from the Internet to count tokens."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [len(word) for word in text.split()]


def test_an_evaluation_with_two_tools_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: _Words())

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        done = sum(message.role == "tool" for message in messages)
        if done == 0:
            return ModelOutput.for_tool_call("mockllm/model", "bash", {"command": "echo $((6 * 7)) > answer"})
        if done == 1:
            return ModelOutput.for_tool_call(
                "mockllm/model", "python", {"code": "print(open('answer').read())"}
            )
        return ModelOutput.from_content("mockllm/model", f"It is {messages[-1].text.strip()}.")

    task = Task(
        dataset=[Sample(input=f"What is 6 * 7? ({number})", target="42") for number in range(100)],
        solver=[use_tools([bash(timeout=20), python(timeout=20)]), generate()],
        scorer=includes(),
        sandbox=SandboxEnvironmentSpec("pyminicon", adapter.PyminiconConfig(image="python")),
    )
    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = eval(task, model=model, log_dir=str(tmp_path), display="none", max_samples=100)
    assert log.status == "success", log.error
    assert log.results is not None and log.results.completed_samples == 100
    assert log.results.scores[0].metrics["accuracy"].value == 1
