"""What a task says of its sandbox, for :mod:`pyminicon.adapters.inspect_ai`: its configurations, from words, from a
compose file or as they are."""

from __future__ import annotations

import os
import resource
from typing import Any, ClassVar, Literal

from inspect_ai.util import (
    ComposeConfig,
    SandboxEnvironmentConfigType,
    is_compose_yaml,
    is_dockerfile,
    parse_compose_yaml,
)
from pydantic import BaseModel, ConfigDict, Field

#: What a sample's relative paths are relative to.
DIRECTORY = "/tmp/sample"


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


def raise_descriptors() -> None:
    """A sample has about ten, and the 1,024 that a login has would cap how many run at once: as many as are allowed."""
    global _descriptors
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _descriptors = (soft, hard)


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
