"""Two nodes on one machine, each a network namespace, with a cable between them; and an image to send to them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyminicon.images.store import Store
from tests.adapters.clusters import JOBS, kill_the_worker_of, new_mark
from tests.images import tars

ADDRESSES = ("10.77.0.1", "10.77.0.2")


@contextlib.contextmanager
def running(words: list[str], **env: str) -> Iterator[subprocess.Popen[str]]:
    made = subprocess.Popen(words, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    try:
        yield made
    finally:
        made.terminate()  # a worker's nanny ends it
        try:
            made.wait(20)
        except subprocess.TimeoutExpired:
            made.kill()
        made.communicate()


def wire(far: int) -> None:
    """A cable from this node to that of the process ``far``."""
    near = f"""
        ip link set lo up
        ip link add near type veth peer name far netns {far}
        ip addr add {ADDRESSES[0]}/24 dev near; ip link set near up
        nsenter -t {far} -n sh -ec 'ip link set lo up; ip addr add {ADDRESSES[1]}/24 dev far; ip link set far up'
    """
    subprocess.run(["sh", "-ec", near], check=True)


def spread_over(
    stores: list[Path], place: Path, image: str, spread: Callable[..., Iterator[Any]]
) -> dict[str, Any]:
    """What a map over the nodes came to, of which one worker is killed in the middle, and what their stores hold."""
    mark = new_mark()
    (place / "out").mkdir(mode=0o777)
    jobs = [["/bin/echo", str(number)] for number in range(JOBS)]
    middle = JOBS // 2
    jobs[middle] = ["/bin/sh", "-c", f"mkdir /out/first && exec sleep {mark}; echo {middle}"]
    killed: list[Any] = []
    killer = threading.Thread(target=lambda: killed.append(kill_the_worker_of(mark)))
    killer.start()
    results = [(r.job, r.stdout) for r in spread(jobs, image=image, text=True, volumes=[f"{place}/out:/out"])]
    killer.join()
    held = []
    for store in stores:
        os.environ["PYMINICON_STORE"] = str(store)
        held.append(Store().digests())
    return {
        "jobs": [job for job, _ in results],
        "wrong": [(job, told) for job, told in results if told != f"{job}\n"],
        "killed": len(killed),
        "stores": held,
    }


def archive(place: Path) -> str:
    os.environ["PYMINICON_STORE"] = str(place / "callers")
    shell = Path("/bin/busybox").read_bytes()
    members = [tars.directory("bin"), tars.directory("out"), tars.file("bin/busybox", shell, mode=0o755)]
    members += [tars.symlink(f"bin/{name}", "busybox") for name in ("sh", "echo", "mkdir", "sleep")]
    path = place / "app.tar"
    path.write_bytes(tars.tar(*members))
    return str(path)
