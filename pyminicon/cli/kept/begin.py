"""``run -d``: start a container with a keeper of its own, print its id, return."""

from __future__ import annotations

import os
import sys

from pyminicon import sizes
from pyminicon.detached import asking, beginning, log, place
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: list[str], wanted: dict[str, Any], given: dict[str, Any]) -> int:
    """Starts what ``run`` asks for; the exit status."""
    for name in ("trace", "preserve-fds"):
        if given.get(name):
            raise SpecError(f"--{name}", "can't be given with --detach")
    if wanted.get("pid") == "host":
        raise SpecError("--pid", "host can't be given with --detach: pid 1 is our init there")
    if given.get("name") is not None:
        place.check_name(given["name"], "--name")
    fields, to = beginning.begin(args, wanted, _wish(given))
    try:
        if "cidfile" in given:
            _write_id(given["cidfile"], fields["id"])
    except BaseException:
        asking.ask(to, {"do": "remove"})
        raise
    finally:
        to.close()
    if given.get("json"):
        import json

        told = {name: fields[name] for name in ("id", "name", "labels", "image", "command", "status")}
        os.write(2, (json.dumps(told) + "\n").encode())
    sys.stdout.write(f"{fields['id']}\n")
    return 0


def _wish(given: dict[str, Any]) -> beginning.Wish:
    labels = {word.partition("=")[0]: word.partition("=")[2] for word in given.get("label", ())}
    timeout = given.get("stop-timeout")
    return beginning.Wish(
        name=given.get("name"),
        labels=labels,
        remove=bool(given.get("rm")),
        log_max_size=_log_size(given.get("log-max-size")),
        interactive=bool(given.get("interactive")),
        stop_timeout=None if timeout is None else int(timeout),
    )


def _log_size(word: str | None) -> int:
    if word is None:
        return beginning.LOG_SIZE
    size = sizes.parse(word)
    if size is None:
        raise SpecError("--log-max-size", f"takes a size, as 10m, not {word!r}")
    return log.check_size("--log-max-size", size)


def _write_id(path: str, container: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(container)
    except OSError as error:
        raise SpecError("--cidfile", f"{path}: {error.strerror}") from None
