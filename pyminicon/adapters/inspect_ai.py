"""inspect_ai's sandbox provider ``pyminicon``: a container to live in for each sample.

    Task(..., sandbox="pyminicon")                         # this machine's programs, none of its data
    Task(..., sandbox=("pyminicon", "debian"))             # an image of the store, or a directory with a "/"
    Task(..., sandbox=("pyminicon", "compose.yaml"))       # the plain fields; the rest is refused by name
    Task(..., sandbox=SandboxEnvironmentSpec("pyminicon", PyminiconConfig(image="debian", memory="1G")))

It is found by its entry point (``inspect_ai``). A command of ``exec`` is a command in the living container: under its
filter and limits, ended with all that has come of it at its timeout. ``exec_remote`` needs no server inside and polls
nothing. Files are read and written with the permissions of the container's user, for root too.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import os
import resource
import shlex
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from inspect_ai.util import (
    ComposeConfig,
    ExecResult,
    OutputLimitExceededError,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    is_compose_yaml,
    is_dockerfile,
    parse_compose_yaml,
    sandboxenv,
)
from inspect_ai.util._sandbox.environment import HostMapping, PortMapping, SandboxUnavailableError
from inspect_ai.util._sandbox.exec_remote import (
    ExecCompleted,
    ExecOutput,
    ExecRemoteAwaitableOptions,
    ExecRemoteCommonOptions,
    ExecRemoteProcess,
    ExecRemoteStreamingOptions,
    ExecStderr,
    ExecStdout,
)
from pydantic import BaseModel, ConfigDict, Field

import pyminicon
from pyminicon import aio, images
from pyminicon.keeper import lending
from pyminicon.options import LIVES, ONLY_RUN, SERVED
from pyminicon.options.parse import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyminicon.aio.path import AsyncContainerPath

#: What a sample's relative paths are relative to.
DIRECTORY = "/tmp/sample"
_REFUSED = 126  # an exec that couldn't begin, as a shell says it
_NOT_FOUND = 127
_SHELL = "command -v bash >/dev/null && exec bash -l; exec sh -l"


class PyminiconConfig(BaseModel):
    """One environment of a sample. Sizes and limits as in ``pyminicon.start``."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    image: str = "host"
    memory: str | int | None = None
    cpus: float | None = None
    pids: int | None = None
    network: Literal["none", "off", "host", "pasta"] = "none"
    #: what may be reached, and ports that lead inside, "0:80" as a rule: samples run beside each other
    egress: list[str] | None = None
    publish: list[str] | None = None
    user: str | None = None
    hostname: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    volumes: list[str] = Field(default_factory=list)
    working_dir: str = DIRECTORY
    #: path inside: text
    files: dict[str, str] = Field(default_factory=dict)
    #: what runs beside the sample's commands
    command: list[str] | None = None

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # the framework keeps what it has resolved by it

    def options(self) -> dict[str, Any]:
        """As ``pyminicon.start`` takes them."""
        names = ("image", "memory", "cpus", "pids", "network", "egress", "publish", "user", "hostname")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if _descriptors is not None:
            options["rlimits"] = {"nofile": _descriptors}
        if os.geteuid() != 0:
            # Every id there is: what adduser makes inside needs more than the one that an ordinary user begins with.
            options["userns"] = "private"
        return {**options, "env": self.env, "volumes": self.volumes}


#: What the limit of descriptors was before this process raised it: samples' programs keep that one.
_descriptors: tuple[int, int] | None = None


def _raise_descriptors() -> None:
    """A sample has about ten, and the 1,024 that a login has would cap how many run at once: as many as are allowed."""
    global _descriptors
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _descriptors = (soft, hard)


async def _lock_passwords(box: aio.AsyncContainer[Any]) -> None:
    """An /etc/shadow in which nobody has a password. This machine's isn't shown to an image "host", and PAM lets not even
    root by without one: chfn and adduser fail."""
    shadow = box.path("/etc/shadow", user="root")
    await shadow.write_bytes(_locked())
    await shadow.chmod(0o640)


@functools.cache
def _locked() -> bytes:
    with open("/etc/passwd", "rb") as passwd:  # what the image has as well
        return b"".join(
            b"%s:*:19000:0:99999:7:::\n" % line.partition(b":")[0] for line in passwd if line.strip()
        )


# ---- from what a task says to configurations ----------------------------------------------------------------

#: A compose service's fields that mean something here, and those that change nothing.
_TAKEN = "image command environment working_dir mem_limit cpus network_mode user hostname volumes pids_limit ports".split()
_HARMLESS = "init restart stdin_open tty pull_policy stop_grace_period x_default x_local".split()
_NETWORKS = {None: "none", "none": "none", "host": "host"}


def configurations(config: SandboxEnvironmentConfigType | None) -> dict[str, PyminiconConfig]:
    """The environments of a sample by name, the default one first. Raises ValueError for what isn't understood."""
    if config is None:
        return {"default": PyminiconConfig()}
    if isinstance(config, PyminiconConfig):
        return {"default": config}
    if isinstance(config, ComposeConfig):
        return _services(config)
    if not isinstance(config, str):
        raise ValueError(
            f"the sandbox pyminicon takes an image, a compose file or a PyminiconConfig, not {config!r}"
        )
    if is_dockerfile(config):
        raise ValueError(
            f"{config}: pyminicon builds no images: buildah build -t oci-archive:app.tar . && "
            "pyminicon image import app.tar, then sandbox=('pyminicon', 'app')"
        )
    if is_compose_yaml(config):
        return _services(parse_compose_yaml(config), os.path.dirname(os.path.abspath(config)))
    return {"default": PyminiconConfig(image=_image(config))}


def _image(said: str) -> str:
    """The image that a task's word means. The framework takes each for a file of the task's, so ``debian`` comes as
    ``/where/the/task/is/debian``: where nothing lies there, it is the word again. ``host`` and ``python`` are words
    unless a root file system lies there."""
    if not os.path.isabs(said):
        return said
    if os.path.basename(said) in ("host", "python") and not any(
        os.path.isdir(os.path.join(said, name)) for name in ("usr", "bin")
    ):
        return os.path.basename(said)
    above = said
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return said if above == said else os.path.relpath(said, above)


def _services(config: ComposeConfig, beside: str = ".") -> dict[str, PyminiconConfig]:
    """``beside``: what relative directories are relative to."""
    found = {name: _service(name, service, beside) for name, service in config.services.items()}
    marked = [name for name, service in config.services.items() if service.extensions.get("x-default")]
    first = next((name for name in (*marked, "default") if name in found), next(iter(found)))
    return {"default": found.pop(first), **found}


def _service(name: str, service: Any, beside: str) -> PyminiconConfig:
    said = service.model_dump(exclude_none=True, exclude_unset=True)
    refused = [field for field in said if field not in (*_TAKEN, *_HARMLESS) and not field.startswith("x-")]
    if refused:
        way = ": build it with buildah, import it with pyminicon image import" if "build" in refused else ""
        raise ValueError(
            f"service {name}: the sandbox pyminicon doesn't take {', '.join(sorted(refused))}{way}"
        )
    if "image" not in said:
        raise ValueError(f"service {name}: the sandbox pyminicon needs its image")
    if said.get("network_mode") not in _NETWORKS:
        raise ValueError(f"service {name}: network_mode takes none or host, not {said['network_mode']!r}")
    command = said.get("command")
    fields: dict[str, Any] = {
        "image": said["image"],
        "memory": said.get("mem_limit"),
        "cpus": float(said["cpus"]) if "cpus" in said else None,
        "pids": int(said["pids_limit"]) if "pids_limit" in said else None,
        "network": _NETWORKS[said.get("network_mode")],
        "user": said.get("user"),
        "hostname": said.get("hostname"),
        "env": _environment(said.get("environment") or {}),
        "volumes": [_volume(name, row, beside) for row in said.get("volumes", ())],
        "publish": [str(row) for row in said["ports"]] if said.get("ports") else None,
        "command": ["sh", "-c", command] if isinstance(command, str) else command,
    }
    return PyminiconConfig(
        **fields, **({"working_dir": said["working_dir"]} if "working_dir" in said else {})
    )


def _environment(said: list[str] | dict[str, str | None]) -> dict[str, str]:
    """Docker's words: a name without a value takes the caller's."""
    rows = said.items() if isinstance(said, dict) else ((*row.partition("=")[::2],) for row in said)
    bare = set(said) if isinstance(said, list) else {name for name, value in said.items() if value is None}
    found = {name: os.environ.get(name) if name in bare else value for name, value in rows}
    return {name: value for name, value in found.items() if value is not None}


def _volume(name: str, row: Any, beside: str) -> str:
    if isinstance(row, str) and row.partition(":")[0].startswith(("/", ".")):
        source, _, rest = row.partition(":")
        return f"{os.path.abspath(os.path.join(beside, source))}:{rest}"
    raise ValueError(
        f"service {name}: the sandbox pyminicon takes volumes as 'directory:path[:ro]', not {row!r}"
    )


# ---- the environment --------------------------------------------------------------------------------------


class PyminiconSandboxEnvironment(SandboxEnvironment):
    """One living container."""

    #: While tasks go on their samples' containers come out of a warm pool. Whoever asks for a sample without a task has none.
    _tasks: ClassVar[int] = 0
    _templates: ClassVar[dict[str, aio.Template]] = {}

    def __init__(self, box: aio.AsyncContainer[Any], config: PyminiconConfig) -> None:
        super().__init__()
        self.box = box
        self.config = config
        self._lent: asyncio.Task[lending.Lent] | None = None

    async def connection(self, *, user: str | None = None) -> SandboxConnection:
        """A shell in it, for whoever runs the command on this machine as this user. The framework asks this of each
        sample: a socket is made, and nothing is started. It ends with the sample."""
        try:
            if self._lent is None:
                self._lent = asyncio.create_task(asyncio.to_thread(lending.Lent, self.box))
            await asyncio.shield(self._lent)
        except (OSError, pyminicon.Error) as error:
            raise ConnectionError(f"no shell in container {self.box.id}: {error}") from error
        state = os.environ.get("PYMINICON_STATE")
        words = ["env", f"PYMINICON_STATE={os.path.abspath(state)}"] if state else []
        words += [sys.executable, "-m", "pyminicon", "exec", "-it", *(["-u", user] if user else [])]
        words += ["-w", self.config.working_dir, self.box.id, "sh", "-c", _SHELL]
        ports = [
            PortMapping(
                container_port=inner, protocol="tcp", mappings=[HostMapping(host_ip=host, host_port=outer)]
            )
            for inner, (host, outer) in self.box.ports.items()
        ]
        return SandboxConnection(
            type="pyminicon", command=shlex.join(words), ports=ports or None, container=self.box.id
        )

    async def _end(self) -> None:
        try:
            if self._lent is not None:
                await asyncio.to_thread((await self._lent).end)
        except (OSError, pyminicon.Error):  # nobody reaches it; what ends it is below
            pass
        finally:
            await self.box.aclose()

    # ---- life ----

    @classmethod
    def config_files(cls) -> list[str]:
        return ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return PyminiconConfig(**config)

    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:
        for one in configurations(config).values():  # what isn't understood is said before the first sample
            parse(LIVES, one.options(), frozenset(ONLY_RUN))
            if one.image not in ("host", "python") and not os.path.isdir(one.image):
                # Another thread: an archive is unpacked at its first use.
                (await asyncio.to_thread(images.resolve, one.image)).close()
        _raise_descriptors()
        cls._tasks += 1

    @classmethod
    async def task_cleanup(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, cleanup: bool
    ) -> None:
        cls._tasks = max(0, cls._tasks - 1)
        if not cls._tasks:
            while cls._templates:
                await cls._templates.popitem()[1].close()

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        made: dict[str, SandboxEnvironment] = {}
        try:
            for name, one in configurations(config).items():
                made[name] = await cls._begin(one)
        except BaseException:
            await cls.sample_cleanup(task_name, config, made, True)
            raise
        return made

    @classmethod
    async def _started(cls, config: PyminiconConfig) -> aio.AsyncContainer[Any]:
        options = config.options()
        if not cls._tasks or SERVED & options.keys():  # ports and a proxy are each container's own
            cold: aio.AsyncContainer[Any] = await aio.start(**options)
            return cold
        env = options.pop("env")
        template = cls._templates.setdefault(repr(options), aio.Template(init=True, **options))
        started: aio.AsyncContainer[Any] = await template.start(env=env)
        return started

    @classmethod
    async def _begin(cls, config: PyminiconConfig) -> PyminiconSandboxEnvironment:
        self = cls(await cls._started(config), config)
        try:
            making = [self.box.path(config.working_dir).mkdir(parents=True, exist_ok=True)]
            if config.image in ("host", "python"):
                making.append(_lock_passwords(self.box))
            await asyncio.gather(*making)
            for file, text in config.files.items():
                await self.write_file(file, text)
            if config.command is not None:
                quiet = dict.fromkeys(("stdin", "stdout", "stderr"), pyminicon.DEVNULL)
                await self.box.start(config.command, cwd=config.working_dir, **quiet)
        except BaseException:
            await self.box.aclose()
            raise
        return self

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        await asyncio.gather(*(one.as_type(cls)._end() for one in environments.values()))

    # ---- commands ----

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        options: dict[str, Any] = {"capture_output": True, "timeout": timeout, "max_output": 2 * limit}
        data = input.encode() if isinstance(input, str) else input
        try:
            with _unavailable_once_ended():
                r = await self.box.run(cmd, input=data, **self._asked(cwd, env, user), **options)
        except pyminicon.TimeoutExpired as error:
            told = _text(error.stdout) + _text(error.stderr)
            raise TimeoutError(
                f"Command timed out after {timeout} seconds. {told[-4096:]}".rstrip()
            ) from None
        except pyminicon.Error as error:
            return self._refused(error)
        out, err = _text(r.stdout), _text(r.stderr)
        if r.limit == "output" or max(len(r.stdout), len(r.stderr)) > limit:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, out[-limit:])
        return ExecResult(r.returncode == 0, _status(r.returncode), out, err)

    def _asked(self, cwd: str | None, env: dict[str, str] | None, user: str | None) -> dict[str, Any]:
        place = os.path.join(self.config.working_dir, cwd) if cwd else self.config.working_dir
        options: dict[str, Any] = {"cwd": place, "env": env or {}}
        return {**options, "user": user} if user is not None else options

    def _refused(self, error: Exception) -> ExecResult[str]:
        """What a command answers that couldn't begin."""
        if isinstance(error, PermissionError):
            raise error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return ExecResult(False, _NOT_FOUND, "", str(error))
        if isinstance(error, pyminicon.SpecError):
            return ExecResult(False, _REFUSED, "", str(error))
        raise error

    @overload
    async def exec_remote(
        self,
        cmd: list[str],
        options: ExecRemoteStreamingOptions | None = None,
        *,
        stream: Literal[True] = True,
    ) -> ExecRemoteProcess: ...

    @overload
    async def exec_remote(
        self, cmd: list[str], options: ExecRemoteAwaitableOptions | None = None, *, stream: Literal[False]
    ) -> ExecResult[str]: ...

    async def exec_remote(
        self, cmd: list[str], options: ExecRemoteCommonOptions | None = None, *, stream: bool = True
    ) -> ExecRemoteProcess | ExecResult[str]:
        asked = options or ExecRemoteCommonOptions()
        if not stream:
            seconds = asked.timeout if isinstance(asked, ExecRemoteAwaitableOptions) else None
            return await self.exec(
                cmd, asked.input, asked.cwd, asked.env, asked.user, seconds  # type: ignore[arg-type]
            )  # fmt: skip
        return await Running.begin(self, cmd, asked)

    # ---- files ----

    def _path(self, file: str) -> AsyncContainerPath:
        return self.box.path(os.path.join(self.config.working_dir, file), strict=True)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        with _unavailable_once_ended():
            path = self._path(file)
            try:
                await path.write_bytes(data)
            except FileNotFoundError:
                await path.parent.mkdir(parents=True, exist_ok=True)
                await path.write_bytes(data)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        with _unavailable_once_ended():
            path = self._path(file)
            if (await path.stat()).st_size > SandboxEnvironmentLimits.MAX_READ_FILE_SIZE:
                raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
            data: bytes = await path.read_bytes()
        return data.decode() if text else data

    def default_polling_interval(self) -> float:
        return 0.2


sandboxenv(name="pyminicon")(PyminiconSandboxEnvironment)


@contextlib.contextmanager
def _unavailable_once_ended() -> Iterator[None]:
    """A container that has ended is said in the framework's way: a tool's call fails by it, and its sample goes on."""
    try:
        yield
    except pyminicon.ContainerEnded as error:
        raise SandboxUnavailableError(str(error)) from error


def _status(returncode: int) -> int:
    """As a shell tells it."""
    return 128 - returncode if returncode < 0 else returncode


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


class Running(ExecRemoteProcess):
    """``exec_remote``'s handle: events as they come, by the loop, nothing is asked for."""

    def __init__(self, process: aio.AsyncProcess[bytes], stdin_open: bool) -> None:
        # The base class's own would speak to a server inside, which there isn't.
        self._process = process
        self._stdin_open = stdin_open
        self._killed = self._completed = False
        self._iterated = False
        self._events: asyncio.Queue[ExecOutput | None] = asyncio.Queue(maxsize=64)
        self._work = asyncio.get_running_loop().create_task(self._follow())

    @classmethod
    async def begin(
        cls, sandbox: PyminiconSandboxEnvironment, cmd: list[str], asked: ExecRemoteCommonOptions
    ) -> Running:
        open_after = isinstance(asked, ExecRemoteStreamingOptions) and asked.stdin_open
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), pyminicon.PIPE)
        given = asked.input is not None or open_after
        streams["stdin"] = pyminicon.PIPE if given else pyminicon.DEVNULL
        with _unavailable_once_ended():
            process = await sandbox.box.start(
                cmd, **streams, **sandbox._asked(asked.cwd, asked.env, asked.user)
            )
        self = cls(process, open_after)
        if given:
            await self._write(asked.input or b"", not open_after)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _follow(self) -> None:
        """Both streams to their ends, then how it ended. A queue that nobody empties holds the program up."""
        process = self._process
        try:
            await asyncio.gather(
                self._read(process.stdout, ExecStdout), self._read(process.stderr, ExecStderr)
            )
            status = await process.wait()
            self._completed = True
            await self._events.put(None if self._killed else ExecCompleted(_status(status)))
        finally:
            await process.aclose()

    async def _read(self, stream: Any, kind: type[ExecStdout] | type[ExecStderr]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while data := await stream.read(1 << 16):
            if text := decoder.decode(data):
                await self._events.put(kind(text))
        if text := decoder.decode(b"", True):
            await self._events.put(kind(text))

    def __aiter__(self) -> Running:
        if self._iterated:
            raise RuntimeError("ExecRemoteProcess can only be iterated once")
        self._iterated = True
        return self

    async def __anext__(self) -> ExecOutput:
        if self._completed and self._events.empty():
            raise StopAsyncIteration
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            await asyncio.shield(self.kill())
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    async def _write(self, data: str | bytes, then_close: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data.encode() if isinstance(data, str) else data)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it doesn't read, as subprocess.communicate takes it
        if then_close:
            stdin.close()

    async def write_stdin(self, data: str | bytes) -> None:
        if not self._stdin_open:
            raise RuntimeError("write_stdin() requires stdin_open=True in ExecRemoteStreamingOptions")
        if self._completed or self._killed:
            raise RuntimeError("Cannot write to stdin: process has terminated")
        await self._write(data, False)

    async def close_stdin(self) -> None:
        if not self._stdin_open:
            raise RuntimeError("close_stdin() requires stdin_open=True in ExecRemoteStreamingOptions")
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def kill(self) -> None:
        """Ends it with all that has come of it."""
        if self._completed or self._killed:
            return
        self._killed = True
        self._process.kill()
        await self._process.wait()
