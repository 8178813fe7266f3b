"""A Dask cluster on two nodes, each a network namespace with a store of its own and two workers, and a map over it.

Run by `with_dask_on_two_nodes` in a network namespace of its own, where it makes the second one and a cable between
them. It prints what it saw as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client, SchedulerPlugin

from pyminicon.adapters import dask
from pyminicon.images.store import Store
from tests.adapters.clusters import JOBS, kill_the_worker_of, new_mark
from tests.adapters.nodes import ADDRESSES, archive, running, wire

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
    mark = new_mark()
    image = archive(place)
    (place / "out").mkdir(mode=0o777)
    jobs = [["/bin/echo", str(number)] for number in range(JOBS)]
    middle = JOBS // 2
    jobs[middle] = ["/bin/sh", "-c", f"mkdir /out/first && exec sleep {mark}; echo {middle}"]
    killed: list[Any] = []
    killer = threading.Thread(target=lambda: killed.append(kill_the_worker_of(mark)))
    with nodes(place) as (address, stores), Client(address, timeout=60) as client:
        client.wait_for_workers(2 * WORKERS, timeout=120)
        client.register_plugin(Tasks())
        killer.start()
        spread = dask.map(client, jobs, image=image, text=True, volumes=[f"{place}/out:/out"])
        results = [(r.job, r.stdout) for r in spread]
        killer.join()
        where = [
            (name, worker.split("//")[1].split(":")[0]) for name, worker in client.run_on_scheduler(ended)
        ]
        held = []
        for store in stores:
            os.environ["PYMINICON_STORE"] = str(store)
            held.append(Store().digests())
    return {
        "jobs": [job for job, _ in results],
        "wrong": [(job, told) for job, told in results if told != f"{job}\n"],
        "killed": len(killed),
        "batches": collections.Counter(node for name, node in where if name == "pyminicon"),
        "sent": collections.Counter(node for name, node in where if name == "unpacked"),
        "stores": held,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
