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
import functools
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    sandboxenv,
)
from inspect_ai.util._sandbox.environment import HostMapping, PortMapping
from inspect_ai.util._sandbox.exec_remote import (
    ExecRemoteAwaitableOptions,
    ExecRemoteCommonOptions,
    ExecRemoteProcess,
    ExecRemoteStreamingOptions,
)
from pydantic import BaseModel

import pyminicon
from pyminicon import aio, images
from pyminicon.adapters.inspect_config import PyminiconConfig, configurations, raise_descriptors
from pyminicon.adapters.inspect_remote import Running, shell_status, unavailable_once_ended
from pyminicon.keeper import lending
from pyminicon.options import LIVES, ONLY_RUN, SERVED
from pyminicon.options.parse import parse

if TYPE_CHECKING:
    from pyminicon.aio.path import AsyncContainerPath

_REFUSED = 126  # an exec that couldn't begin, as a shell says it
_NOT_FOUND = 127
_SHELL = "command -v bash >/dev/null && exec bash -l; exec sh -l"


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
        raise_descriptors()
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
            with unavailable_once_ended():
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
        return ExecResult(r.returncode == 0, shell_status(r.returncode), out, err)

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
        return await Running.begin(self.box, cmd, asked, self._asked(asked.cwd, asked.env, asked.user))

    # ---- files ----

    def _path(self, file: str) -> AsyncContainerPath:
        return self.box.path(os.path.join(self.config.working_dir, file), strict=True)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        with unavailable_once_ended():
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
        with unavailable_once_ended():
            path = self._path(file)
            if (await path.stat()).st_size > SandboxEnvironmentLimits.MAX_READ_FILE_SIZE:
                raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
            data: bytes = await path.read_bytes()
        return data.decode() if text else data

    def default_polling_interval(self) -> float:
        return 0.2


sandboxenv(name="pyminicon")(PyminiconSandboxEnvironment)


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""
