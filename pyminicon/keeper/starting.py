"""How a keeper starts its container, and what is known of it then."""

from __future__ import annotations

import os
import time

from pyminicon import calls, container, errors
from pyminicon.detached import state
from pyminicon.keeper import layer
from pyminicon.options import DEVNULL, LIMITS, PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOST_NAME = 64


def options_of(request: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    options = dict(request["options"])
    name = wish["name"]
    if name and len(name) <= _HOST_NAME and options.get("uts") != "host":
        options.setdefault("hostname", name)
    if request["args"] is not None:
        options["init"] = True
        if not options.get("tty"):
            options["stdin"] = PIPE if wish["interactive"] else DEVNULL
            options["stdout"] = options["stderr"] = PIPE
    return options


def started(args: Any, options: dict[str, Any], wish: dict[str, Any]) -> container.Container[bytes]:
    """On disk and with a cgroup where it didn't say otherwise, and where that can be: so files can be copied out of it
    when it has ended, and it can be paused."""
    wishes: dict[str, Any] = {}
    if not wish["remove"] and not options.get("read_only"):
        wishes["storage"] = "disk"
    if not LIMITS & options.keys():
        wishes["usage"] = True
    while True:
        try:
            return calls.start(args, **{**wishes, **options})
        except errors.LaunchError as error:
            unwanted = {"cgroup": "usage", "root": "storage", "prepare": "storage"}.get(error.stage)
            if unwanted not in wishes or unwanted in options:
                raise
            del wishes[unwanted]


def fields_of(
    box: container.Container[bytes], args: Any, options: dict[str, Any], wish: dict[str, Any], created: float
) -> dict[str, Any]:
    argv = [os.fsdecode(word) for word in box._plan.exec_spec[1]] if args is not None else []
    return {
        "version": state.VERSION,
        "id": box.id,
        "name": wish["name"] or box.id,
        "labels": wish["labels"],
        "image": os.fsdecode(options.get("image", "host")),
        "command": argv,
        "status": "running",
        "created": created,
        "started": time.time(),
        "started_since_boot": time.clock_gettime(time.CLOCK_BOOTTIME),
        "finished": None,
        "returncode": None,
        "limit": None,
        "error": None,
        "pid": box.pid,
        "keeper": os.getpid(),
        "boot": state.boot(),
        "remove": wish["remove"],
        "tty": box.terminal is not None,
        "interactive": wish["interactive"],
        "environment": {**box._plan.environment, **(box._spec.env or {})},
        "cwd": os.fsdecode(box._spec.cwd or box._plan.exec_spec[3]),
        "user": None if options.get("user") is None else str(options["user"]),
        "hostname": options.get("hostname") or box.id,
        "network": options.get("network", "none"),
        "stop_signal": box.stop_signal,
        "log_max_size": wish["log_max_size"],
        "lost_output": 0,
        "ports": _ports(box),
        "kept": None,
        "trees": layer.trees(box._plan),
    }


def _ports(box: Any) -> dict[str, list[Any]]:
    return {str(inner): list(outer) for inner, outer in box.ports.items()}
