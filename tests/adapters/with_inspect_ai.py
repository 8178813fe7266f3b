"""The sandbox provider, by inspect_ai's own conformance suite and beyond it. Run by ``make adapters``, in an
environment that has inspect_ai.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash, python
from inspect_ai.util import SandboxEnvironmentSpec, SandboxUnavailableError
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
from tests.adapters.page import programs
from tests.support.processes import in_namespace, marked, marked_soon

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
    assert one.volumes == [f"{tmp_path}/data:/data:ro"]


def test_a_word_is_an_image_and_a_path_what_lies_there(tmp_path: Path) -> None:
    """The framework has made each the path of a file of the task's."""
    (tmp_path / "root/usr").mkdir(parents=True)
    (tmp_path / "python/package").mkdir(parents=True)
    for said, meant in {
        "debian": "debian", "debian:12": "debian:12", "ghcr.io/some/body:1": "ghcr.io/some/body:1", "host": "host",
        "python": "python", "root": f"{tmp_path}/root",
    }.items():  # fmt: skip
        assert adapter.configurations(f"{tmp_path}/{said}")["default"].image == meant
    (tmp_path / "host/usr").mkdir(parents=True)
    assert adapter.configurations(f"{tmp_path}/host")["default"].image == f"{tmp_path}/host"


@pytest.mark.parametrize("image", ["no-such-image", "./no-such-directory"])
def test_an_image_that_is_not_there_is_said_before_the_first_sample(image: str) -> None:
    with pytest.raises(pyminicon.SpecError, match=image):
        asyncio.run(Box.task_init("task", adapter.PyminiconConfig(image=image)))


def test_a_task_names_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: _Words())
    task = Task(dataset=[Sample(input="?", target="x")], sandbox=("pyminicon", "host"))
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("{build: .}", "build: build it with buildah"),
        ("{image: host, ports: ['80:80/udp']}", "TCP alone"),
        ("{image: host, ports: ['8000-8010:80']}", "takes .ADDRESS:.PORT:PORT"),
        ("{image: host, network_mode: host, ports: ['80']}", "this machine's already"),
        ("{image: host, privileged: true}", "privileged"),
        ("{image: host, network_mode: bridge}", "none or host, not 'bridge'"),
        ("{image: host, volumes: ['named:/x']}", "directory:path"),
        ("{working_dir: /}", "needs its image"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(tmp_path: Path, service: str, said: str) -> None:
    (tmp_path / "compose.yaml").write_text(f"services: {{default: {service}}}\n")
    with pytest.raises(ValueError, match=said):
        asyncio.run(Box.task_init("task", str(tmp_path / "compose.yaml")))


def test_a_compose_files_ports_are_published(tmp_path: Path) -> None:
    ports = "[80, '8080:81', '127.0.0.2:8082:82/tcp']"
    (tmp_path / "compose.yaml").write_text(f"services: {{default: {{image: host, ports: {ports}}}}}\n")
    one = adapter.configurations(str(tmp_path / "compose.yaml"))["default"]
    assert one.publish == ["80", "8080:81", "127.0.0.2:8082:82/tcp"]


SERVER = "import socket; s = socket.create_server(('', 80)); print('there', flush=True); s.accept()[0].sendall(b'inside')"


async def test_a_published_port_leads_into_the_sample(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {default: {image: python, ports: [80]}}\n")
    config = str(tmp_path / "compose.yaml")
    await Box.task_init("task", config)
    try:
        made = await Box.sample_init("task", config, {})
        box = made["default"].as_type(Box)
        server = await box.exec_remote(["python3", "-c", SERVER])
        assert await anext(server) == ExecStdout("there\n")
        (port,) = (await box.connection()).ports or ()
        (outside,) = port.mappings
        assert (port.container_port, outside.host_ip) == (80, "127.0.0.1")
        reader, writer = await asyncio.open_connection(outside.host_ip, outside.host_port)
        assert await reader.read() == b"inside"
        writer.close()
        await Box.sample_cleanup("task", None, made, False)
        with pytest.raises(OSError):
            await asyncio.open_connection(outside.host_ip, outside.host_port)
    finally:
        await Box.task_cleanup("task", config, True)


async def test_a_sample_reaches_what_its_egress_names_and_nothing_else() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nfrom outside")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetch = (
        "import urllib.request as u, sys; print(u.urlopen(sys.argv[1], timeout=20).read().decode(), end='')"
    )
    config = adapter.PyminiconConfig(
        image="python", egress=[f"127.0.0.1:{port}"], env={"no_proxy": "", "NO_PROXY": ""}
    )
    await Box.task_init("task", config)
    made = await Box.sample_init("task", config, {})
    try:
        box = made["default"]
        told = await box.exec(["python3", "-c", fetch, f"http://127.0.0.1:{port}/"])
        assert told.stdout == "from outside", told.stderr
        told = await box.exec(["python3", "-c", fetch, "http://127.0.0.1:1/"])
        assert not told.success and "403" in told.stderr
    finally:
        await Box.sample_cleanup("task", None, made, False)
        await Box.task_cleanup("task", config, True)
        server.close()


async def test_a_samples_network_is_what_its_configuration_says() -> None:
    line = "import socket; s = socket.socket(); print(len(socket.if_nameindex()))"
    found = {}
    for network in ("none", "off"):
        config = adapter.PyminiconConfig(image="python", network=network)
        made = await Box.sample_init("task", config, {})
        found[network] = (await made["default"].exec(["python3", "-c", line])).stdout
        await Box.sample_cleanup("task", None, made, False)
    assert found == {"none": "1\n", "off": ""}


@pytest.mark.skipif(not shutil.which("pasta"), reason="needs pasta")
async def test_a_sample_with_pasta_has_an_interface() -> None:
    made = await Box.sample_init("task", adapter.PyminiconConfig(image="python", network="pasta"), {})
    try:
        told = await made["default"].exec(
            ["python3", "-c", "import socket; print(len(socket.if_nameindex()))"]
        )
        assert told.stdout == "2\n", told.stderr
    finally:
        await Box.sample_cleanup("task", None, made, False)


def test_a_dockerfile_is_refused_with_the_way_round_it() -> None:
    with pytest.raises(ValueError, match="buildah build"):
        adapter.configurations("path/Dockerfile")


# ---- a whole evaluation -----------------------------------------------------------------------------------


class _Words:
    """Stands in for a table that tiktoken would fetch from the Internet to count tokens."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [len(word) for word in text.split()]


def init_of(mark: str) -> int:
    """The pid, in this namespace, of pid 1 of the container that has a process with ``mark`` in its words."""
    (inside,) = marked_soon(mark, 60)
    for pid in in_namespace(os.readlink(f"/proc/{inside}/ns/pid")):
        if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            return pid
    raise LookupError(mark)


async def test_a_container_that_was_killed_is_unavailable(sandbox_env: Box) -> None:
    mark = f"98.{os.getpid()}1"
    running = await sandbox_env.exec_remote(["sleep", mark])
    os.kill(init_of(mark), signal.SIGKILL)
    assert [event async for event in running] == [ExecCompleted(137)]
    for call in (
        sandbox_env.exec(["true"]), sandbox_env.exec_remote(["true"]),
        sandbox_env.write_file("x", "x"), sandbox_env.read_file("/etc/passwd"),
    ):  # fmt: skip
        with pytest.raises(SandboxUnavailableError, match=f"container {sandbox_env.box.id} has ended"):
            await call
    assert not marked(mark)


def test_the_pages_evaluation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        pyminicon.run(["true"], memory="256M", cpus=1)
        refused = None
    except pyminicon.LaunchError as error:  # no cgroup is this user's: the evaluation fails too, and says so
        refused = error.stage
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: _Words())
    (program,) = programs("inspect_ai")
    (tmp_path / "sums.py").write_text(program)
    asked = ModelOutput.for_tool_call("mockllm/model", "bash", {"command": "echo $((6 * 7))"})

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        return (
            asked
            if messages[-1].role == "user"
            else ModelOutput.from_content("mockllm/model", messages[-1].text)
        )

    model = get_model("mockllm/model", custom_outputs=answer)
    monkeypatch.chdir(tmp_path)
    (log,) = eval("sums.py", model=model, log_dir=str(tmp_path), display="none")
    if refused is not None:
        assert log.error is not None and refused in log.error.message
        return
    assert log.status == "success", log.error
    assert log.results is not None and log.results.scores[0].metrics["accuracy"].value == 1


#: One of the hundred, whose container is killed when its first command has ended.
KILLED = 57


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As many as a login has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_samples_programs_have_the_callers_limit_of_descriptors(few_descriptors: None) -> None:
    config = adapter.PyminiconConfig(image=IMAGE)
    await Box.task_init("task", config)
    made = await Box.sample_init("task", config, {})
    assert (await made["default"].exec(["sh", "-c", "ulimit -n"])).stdout == "1024\n"
    await Box.sample_cleanup("task", None, made, False)
    await Box.task_cleanup("task", config, True)


def test_an_evaluation_with_two_tools_runs_to_its_end_though_a_container_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_descriptors: None
) -> None:
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: _Words())
    mark = f"98.{os.getpid()}2"

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        chosen = any(f"({KILLED})" in message.text for message in messages)
        done = sum(message.role == "tool" for message in messages)
        if done == 0:
            more = f"; sleep {mark} >/dev/null 2>&1 &" if chosen else ""
            return ModelOutput.for_tool_call(
                "mockllm/model", "bash", {"command": f"echo $((6 * 7)) > answer{more}"}
            )
        if done == 1:
            if chosen:
                os.kill(init_of(mark), signal.SIGKILL)
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
    assert log.results.scores[0].metrics["accuracy"].value == 0.99
    assert log.samples is not None
    told = {
        sample.input: message.error
        for sample in log.samples for message in sample.messages
        if message.role == "tool" and message.error is not None
    }  # fmt: skip
    assert list(told) == [f"What is 6 * 7? ({KILLED})"]
    (error,) = told.values()
    assert error.type == "sandbox_unavailable" and "has ended with returncode -9" in error.message
