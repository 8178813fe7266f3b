"""A Dask cluster on two nodes, each a network namespace with a store of its own and two workers, and a map over it.

Run by `with_dask_on_two_nodes` in a network namespace of its own, where it makes the second one and a cable between
them. It prints what it saw as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client, SchedulerPlugin

from pyminicon.adapters import dask
from tests.adapters.nodes import ADDRESSES, archive, running, spread_over, wire

WORKERS = 2  # a node


class Tasks(SchedulerPlugin):  # type: ignore[misc]
    """Where which tasks ended, as the scheduler saw it."""

    name = "tasks"

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def transition(self, key: Any, start: str, finish: str, *_: Any, **more: Any) -> None:
        if (start, finish) == ("processing", "memory"):
            self.ended.append((str(key).partition("-")[0], more["worker"]))


def ended(dask_scheduler: Any) -> list[tuple[str, str]]:
    return list(dask_scheduler.plugins["tasks"].ended)


@contextlib.contextmanager
def nodes(place: Path) -> Iterator[tuple[str, list[Path]]]:
    """The scheduler's address and the nodes' stores."""
    stores = [place / f"store-{number}" for number in range(2)]
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(running(["unshare", "-n", "sh", "-c", "echo there; exec sleep infinity"]))
        assert far.stdout is not None and far.stdout.readline() == "there\n"
        wire(far.pid)
        tool = [sys.executable, "-m"]
        stack.enter_context(
            running(
                [*tool, "distributed.cli.dask_scheduler", "--host", ADDRESSES[0], "--port", "8786", "--no-dashboard"],
                # Dask's own tries would take a restart each before the adapter's begin.
                DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0",
            )
        )  # fmt: skip
        for number, (address, store) in enumerate(zip(ADDRESSES, stores, strict=True)):
            enter = ["nsenter", "-t", str(far.pid), "-n"] if number else []
            words = [
                *enter,
                *tool,
                "distributed.cli.dask_worker",
                f"tcp://{ADDRESSES[0]}:8786",
                "--host",
                address,
            ]
            words += [
                "--nworkers",
                str(WORKERS),
                "--nthreads",
                "1",
                "--no-dashboard",
                "--death-timeout",
                "60",
            ]
            words += ["--local-directory", str(place / f"dask-{number}")]
            stack.enter_context(running(words, PYMINICON_STORE=str(store)))
        yield f"tcp://{ADDRESSES[0]}:8786", stores


def main(place: Path) -> dict[str, Any]:
    image = archive(place)
    with nodes(place) as (address, stores), Client(address, timeout=60) as client:
        client.wait_for_workers(2 * WORKERS, timeout=120)
        client.register_plugin(Tasks())
        found = spread_over(stores, place, image, functools.partial(dask.map, client))
        where = [
            (name, worker.split("//")[1].split(":")[0]) for name, worker in client.run_on_scheduler(ended)
        ]
    return found | {
        "batches": collections.Counter(node for name, node in where if name == "pyminicon"),
        "sent": collections.Counter(node for name, node in where if name == "unpacked"),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
