"""What goes when a container is removed, and what dead keepers left."""

from __future__ import annotations

import os

from pyminicon.detached import place, state
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATE = "state"


def forget(where: str, directory: str, fields: dict[str, Any]) -> None:
    """Removes all that is left of a container that has ended: layer, name, directory."""
    kept = fields.get("kept")
    if kept:
        from pyminicon.images import tree

        tree.remove(kept)
    with place.Locked(where):
        _remove(where, directory, fields.get("name"))


def _remove(where: str, directory: str, name: str | None) -> None:
    if name:
        link = f"{where}/names/{name}"
        try:
            if os.readlink(link) == os.path.basename(directory):
                os.unlink(link)
        except OSError:
            pass
    try:
        # The state first: without it nobody takes the directory for a container. Whatever else is there: a keeper that
        # is killed may leave what is only on its way to another name.
        for file in sorted(os.listdir(directory), key=_STATE.__ne__):
            try:
                os.unlink(f"{directory}/{file}")
            except FileNotFoundError:
                pass
        os.rmdir(directory)
    except FileNotFoundError:
        pass


def sweep(where: str) -> None:
    """Removes what was being made when its keeper was killed, and what should have been gone by then (--rm).
    Called under the lock, where nobody makes one."""
    for name in os.listdir(f"{where}/containers"):
        directory = f"{where}/containers/{name}"
        if place.is_kept(directory):
            continue
        text = None if name.startswith(place.DRAFT) else state.text_of(directory)
        if text is None or '"remove": true' in text or f'"boot": "{state.boot()}"' not in text:
            try:
                fd = place.take(directory)
            except OSError:  # somebody else is removing it
                continue
            try:
                _remove(where, directory, None)
            except OSError:  # something that isn't ours lies in it: no reason for others not to start
                pass
            os.close(fd)
    for name in os.listdir(f"{where}/names"):
        try:
            if not os.path.isdir(f"{where}/containers/{os.readlink(f'{where}/names/{name}')}"):
                os.unlink(f"{where}/names/{name}")
        except OSError:
            pass


def remove(directory: str, patience: float = 10.0) -> None:
    """Removes a container that has ended. Raises Error while it runs."""
    import time

    fields = state.read(directory)
    if fields is None:
        raise place.NoSuchContainer(f"no such container: {os.path.basename(directory)}")
    if fields["status"] in ("running", "paused"):
        raise Error(f"container {fields['name']} is {fields['status']}: stop it first, or rm -f")
    deadline = time.monotonic() + patience
    while True:
        try:
            fd = place.take(directory)
            break
        except BlockingIOError:  # its keeper is about to leave, or somebody looks
            if time.monotonic() > deadline:
                raise Error(f"container {fields['name']}: its keeper doesn't end") from None
            time.sleep(0.002)
        except FileNotFoundError:
            return
    try:
        forget(os.path.dirname(os.path.dirname(directory)), directory, fields)
    finally:
        os.close(fd)
