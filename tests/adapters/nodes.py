"""Two nodes on one machine, each a network namespace, with a cable between them; and an image to send to them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

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


def archive(place: Path) -> str:
    os.environ["PYMINICON_STORE"] = str(place / "callers")
    shell = Path("/bin/busybox").read_bytes()
    members = [tars.directory("bin"), tars.directory("out"), tars.file("bin/busybox", shell, mode=0o755)]
    members += [tars.symlink(f"bin/{name}", "busybox") for name in ("sh", "echo", "mkdir", "sleep")]
    path = place / "app.tar"
    path.write_bytes(tars.tar(*members))
    return str(path)
