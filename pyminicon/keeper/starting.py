"""How a keeper starts its container, and what is known of it then."""

from __future__ import annotations

import os
import time

from pyminicon import errors
from pyminicon.detached import state
from pyminicon.keeper.box import Box
from pyminicon.keeper.planning import launched, planned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOST_NAME = 64
_PIPE, _DEVNULL = -1, -3  # subprocess's own numbers
#: What a container has a cgroup for.
_LIMITS = frozenset("memory memory_swap cpus cpu_weight cpuset pids io_weight usage cgroup_parent".split())


def options_of(request: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    options = dict(request["options"])
    name = wish["name"]
    if name and len(name) <= _HOST_NAME and options.get("uts") != "host":
        options.setdefault("hostname", name)
    if request["args"] is not None:
        options["init"] = True
        if not options.get("tty"):
            options["stdin"] = _PIPE if wish["interactive"] else _DEVNULL
            options["stdout"] = options["stderr"] = _PIPE
    return options


def started(args: Any, options: dict[str, Any], wish: dict[str, Any], aside: list[int]) -> Box:
    """On disk and with a cgroup where it didn't say otherwise, and where that can be: so files can be copied out of it
    when it has ended, and it can be paused."""
    wishes: dict[str, Any] = {}
    if not wish["remove"] and not options.get("read_only"):
        wishes["storage"] = "disk"
    if not _LIMITS & options.keys():
        wishes["usage"] = True
    while True:
        try:
            return _start(args, {**wishes, **options}, aside)
        except errors.LaunchError as error:
            unwanted = {"cgroup": "usage", "root": "storage", "prepare": "storage"}.get(error.stage)
            if unwanted not in wishes or unwanted in options:
                raise
            del wishes[unwanted]


def _start(args: Any, options: dict[str, Any], aside: list[int]) -> Box:
    terminal = None
    if args is not None and options.get("tty"):
        from pyminicon.terminal import Terminal

        terminal = Terminal()
        options.update(dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inner))
    try:
        made = planned(args, options, aside)
        if terminal is not None:
            terminal.give_to(made.outer_uid)
        handle, serving = launched(made)
    except BaseException:
        if terminal is not None:
            terminal.close()
        raise
    box = Box(handle, args, made.about, serving)
    if terminal is not None:
        terminal.close_inner()
        box.terminal = terminal
    return box


def fields_of(
    box: Box, args: Any, options: dict[str, Any], wish: dict[str, Any], created: float
) -> dict[str, Any]:
    return {
        "version": state.VERSION,
        "id": box.id,
        "name": wish["name"] or box.id,
        "labels": wish["labels"],
        "image": os.fsdecode(options.get("image", "host")),
        "command": box.about["argv"] if args is not None else [],
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
        "environment": box.environment,
        "cwd": box.cwd,
        "user": None if options.get("user") is None else str(options["user"]),
        "hostname": options.get("hostname") or box.id,
        "network": options.get("network", "none"),
        "stop_signal": box.stop_signal,
        "log_max_size": wish["log_max_size"],
        "lost_output": 0,
        "ports": _ports(box),
        "kept": None,
        "trees": box.about.pop("trees"),
        "owner": list(box.about["owner"]),
    }


def _ports(box: Box) -> dict[str, list[Any]]:
    return {str(inner): list(outer) for inner, outer in box.ports.items()}
