"""``ps inspect port``: what is known of containers. docs/detached.md has the fields."""

from __future__ import annotations

import os
import sys
import time

from pyminicon.cli.kept import shapes
from pyminicon.cli.kept.verbs import each
from pyminicon.detached import place, state
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KINDS = ("name", "label", "status", "id")
_STATUSES = ("running", "paused", "exited", "dead")
_SHORT = 20


def ps(given: dict[str, Any], rest: list[str]) -> int:
    """See the verb's help."""
    if rest:
        raise SpecError("ps", f"takes no words, not {rest[0]!r}")
    found = [fields for _, fields in state.every() if _fits(fields, given)]
    found.reverse()
    if "last" in given:
        if not given["last"].isdigit():
            raise SpecError("--last", f"takes a number, not {given['last']!r}")
        found = found[: int(given["last"])]
    if given.get("quiet"):
        sys.stdout.write("".join(f"{fields['id']}\n" for fields in found))
        return 0
    form = given.get("format", "table")
    told = [summary(fields, bool(given.get("no-trunc")) or form != "table") for fields in found]
    if form == "table":
        columns = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
        heads = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
        sys.stdout.write(shapes.table([heads, *(tuple(one[name] for name in columns) for one in told)]))
        return 0
    template = "{{json .}}" if form == "json" else form
    sys.stdout.write("".join(f"{shapes.line(template, one)}\n" for one in told))
    return 0


def _fits(fields: dict[str, Any], given: dict[str, Any]) -> bool:
    wanted: dict[str, list[str]] = {}
    for word in given.get("filter", ()):
        kind, equals, value = word.partition("=")
        if kind not in _KINDS or not equals:
            raise SpecError("--filter", f"takes {'= '.join(_KINDS)}=, not {word!r}")
        if kind == "status" and value not in _STATUSES:
            raise SpecError("--filter", f"status is one of {' '.join(_STATUSES)}, not {value!r}")
        wanted.setdefault(kind, []).append(value)
    every = given.get("all") or "last" in given or "status" in wanted
    if not every and fields["status"] not in ("running", "paused"):
        return False
    return all(any(_is(fields, kind, value) for value in values) for kind, values in wanted.items())


def _is(fields: dict[str, Any], kind: str, value: str) -> bool:
    if kind == "label":
        key, equals, wanted = value.partition("=")
        return key in fields["labels"] and (not equals or fields["labels"][key] == wanted)
    if kind == "id":
        return bool(fields["id"].startswith(value))
    return value in fields["name"] if kind == "name" else fields["status"] == value


def summary(fields: dict[str, Any], whole: bool) -> dict[str, str]:
    """One container in the words of ``docker ps --format json``."""
    command = shapes.printable(" ".join(fields["command"]))
    if not whole and len(command) > _SHORT:
        command = command[: _SHORT - 1] + "…"
    return {
        "ID": fields["id"],
        "Names": fields["name"],
        "Image": fields["image"],
        "Command": f'"{command}"',
        "CreatedAt": moment(fields["created"]),
        "RunningFor": f"{_span(time.time() - fields['created'])} ago",
        "State": fields["status"],
        "Status": _status(fields),
        "Ports": ", ".join(
            f"{host}:{outer}->{inner}/tcp" for inner, (host, outer) in fields["ports"].items()
        ),
        "Labels": ",".join(f"{key}={value}" for key, value in fields["labels"].items()),
        "Networks": fields["network"],
    }


def _status(fields: dict[str, Any]) -> str:
    if fields["status"] in ("running", "paused"):
        # Not by the clock on the wall, which may have been set since.
        lasted = time.clock_gettime(time.CLOCK_BOOTTIME) - fields["started_since_boot"]
        return f"Up {_span(lasted)}" + (" (Paused)" if fields["status"] == "paused" else "")
    if fields["status"] == "dead":
        return "Dead"
    why = f", {fields['limit']}" if fields["limit"] else ""
    return f"Exited ({state.exit_status(fields)}{why}) {_span(time.time() - fields['finished'])} ago"


def _span(seconds: float) -> str:
    seconds = max(seconds, 0.0)  # the clock may have jumped
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} second{'' if int(seconds) == 1 else 's'}"


def moment(seconds: float | None) -> str:
    """As docker writes it."""
    if seconds is None:
        return "0001-01-01T00:00:00Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def inspect(given: dict[str, Any], names: list[str]) -> int:
    """A list of one entry for each name; what isn't there is said on stderr."""
    found: list[dict[str, Any]] = []

    def act(name: str) -> None:
        directory = place.find(name)
        fields = state.read(directory)
        if fields is None:
            raise place.NoSuchContainer(f"no such container: {name}")
        found.append(details(directory, fields))

    status = each(act, names, quiet=True)
    if "format" in given:
        template = "{{json .}}" if given["format"] == "json" else given["format"]
        sys.stdout.write("".join(f"{shapes.line(template, one)}\n" for one in found))
    else:
        import json

        sys.stdout.write(json.dumps(found, indent=4) + "\n")
    return status


def details(directory: str, fields: dict[str, Any]) -> dict[str, Any]:
    """In the words of ``docker inspect``."""
    status = fields["status"]
    running = status in ("running", "paused")
    ports = {f"{inner}/tcp": [{"HostIp": h, "HostPort": str(p)}] for inner, (h, p) in fields["ports"].items()}
    return {
        "Id": fields["id"],
        "Name": fields["name"],
        "Created": moment(fields["created"]),
        "Path": (fields["command"] or [""])[0],
        "Args": fields["command"][1:],
        "State": {
            "Status": status,
            "Running": running,
            "Paused": status == "paused",
            "Dead": status == "dead",
            "OOMKilled": fields["limit"] == "memory",
            "Limit": fields["limit"] or "",
            "Pid": fields["pid"] if running else 0,
            "ExitCode": 0 if running else state.exit_status(fields),
            "Error": fields["error"] or "",
            "StartedAt": moment(fields["started"]),
            "FinishedAt": moment(fields["finished"]),
        },
        "Image": fields["image"],
        "LogPath": f"{directory}/log",
        "HostConfig": {
            "AutoRemove": fields["remove"],
            "NetworkMode": fields["network"],
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "cri", "Config": {"max-size": str(fields["log_max_size"])}},
        },
        "Config": {
            "Hostname": fields["hostname"],
            "User": fields["user"] or "",
            "Tty": fields["tty"],
            "OpenStdin": fields["interactive"],
            "Env": [f"{key}={value}" for key, value in fields["environment"].items()],
            "Cmd": fields["command"],
            "Image": fields["image"],
            "WorkingDir": fields["cwd"],
            "Labels": fields["labels"],
            "StopSignal": fields["stop_signal"],
        },
        "NetworkSettings": {"Ports": ports},
        "KeeperPid": fields["keeper"] if running else 0,
        "LostOutput": fields["lost_output"],
    }


def port(given: dict[str, Any], rest: list[str]) -> int:
    """``80/tcp -> 127.0.0.1:8080``, or the outer side alone of one that is named."""
    directory = place.find(rest[0])
    fields = state.read(directory) or {"ports": {}}
    if len(rest) == 1:
        for inner, (host, outer) in fields["ports"].items():
            sys.stdout.write(f"{inner}/tcp -> {host}:{outer}\n")
        return os.EX_OK
    inner = rest[1].removesuffix("/tcp")
    if inner not in fields["ports"]:
        raise Error(f"no port {rest[1]} of container {rest[0]} is published")
    host, outer = fields["ports"][inner]
    sys.stdout.write(f"{host}:{outer}\n")
    return 0
