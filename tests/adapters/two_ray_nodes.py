"""A Ray cluster on two nodes, each a network namespace with a store of its own and two processors, and a map over it.

Run by `with_ray_on_two_nodes` in a network namespace of its own. It prints what it saw as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from pyminicon.adapters import ray as boxes
from tests.adapters.clusters import PATIENCE
from tests.adapters.nodes import ADDRESSES, archive, running, spread_over, wire

PORT = 6379


@contextlib.contextmanager
def nodes(place: Path) -> Iterator[list[Path]]:
    """The nodes' stores."""
    stores = [place / f"store-{number}" for number in range(2)]
    start = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "2", "--disable-usage-stats",
        "--object-store-memory", str(100 << 20),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(running(["unshare", "-n", "sh", "-c", "echo there; exec sleep infinity"]))
        assert far.stdout is not None and far.stdout.readline() == "there\n"
        wire(far.pid)
        for number, (address, store) in enumerate(zip(ADDRESSES, stores, strict=True)):
            enter = ["nsenter", "-t", str(far.pid), "-n"] if number else []
            role = ["--address", f"{ADDRESSES[0]}:{PORT}"]
            if not number:
                role = [
                    "--head",
                    "--port",
                    str(PORT),
                    "--include-dashboard",
                    "false",
                    "--temp-dir",
                    place / "r",
                ]
            words = [*enter, *start, *map(str, role), "--node-ip-address", address]
            stack.enter_context(running(words, PYMINICON_STORE=str(store), HOME=str(place)))
            wait_for_nodes(number + 1)
        yield stores


def wait_for_nodes(number: int) -> None:
    deadline = time.monotonic() + PATIENCE * 2
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            if not ray.is_initialized():
                ray.init(address=f"{ADDRESSES[0]}:{PORT}", logging_level="critical", log_to_driver=False)
            if sum(node["Alive"] for node in ray.nodes()) == number:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{number} nodes")


def main(place: Path) -> dict[str, Any]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    image = archive(place)
    with nodes(place) as stores:
        found = spread_over(stores, place, image, boxes.map)
        ray.shutdown()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
