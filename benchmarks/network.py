"""``network``: what egress and published ports cost a start, and how fast the bytes of a published port are."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyminicon

from . import report, rootfs
from .measure import Case, in_turns, timed

#: Sends as many bytes as it is asked for, to each that connects.
_SERVER = """
import socket, sys
piece = memoryview(bytes(1 << 20))
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as s:
    for control in sys.argv[2:]:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    print(s.getsockname()[1], flush=True)
    while True:
        with s.accept()[0] as c:
            left = int(c.recv(99))
            while left > 0:
                left -= c.send(piece[:min(left, 1 << 20)])
"""
_PORT = 9000


def _fetch(where: tuple[str, int], size: int) -> None:
    into = bytearray(1 << 20)
    with socket.create_connection(where) as s:
        s.sendall(str(size).encode())
        got = 0
        while count := s.recv_into(into):
            got += count
    if got != size:
        raise RuntimeError(f"{got} bytes of {size} have come")


def _throughput(size: int, rounds: int) -> list[dict[str, Any]]:
    """The same bytes from the same program, over this machine's loopback and out of a container, in turns.

    A machine's usual congestion control may pace (bbr), which a published port's doesn't: the loopback without is
    the third.
    """
    words = [sys.executable, "-c", _SERVER]
    with contextlib.ExitStack() as stack:

        def served(*control: str) -> tuple[int, tuple[str, int]]:
            server = stack.enter_context(
                subprocess.Popen([*words, "0", *control], stdout=subprocess.PIPE, text=True)
            )
            stack.callback(server.kill)
            assert server.stdout is not None
            return server.pid, ("127.0.0.1", int(server.stdout.readline()))

        here, unpaced = served(), served("reno")
        with pyminicon.start(
            ["python", "-c", _SERVER, str(_PORT)],
            image="python",
            publish=[f"0:{_PORT}"],
            stdout=subprocess.DEVNULL,
        ) as c:
            c.wait_port(_PORT, 30)
            both = {
                "this machine's loopback": here,
                "a published port": (c.pid, c.ports[_PORT]),
                "this machine's loopback, by reno": unpaced,
            }
            ways = {name: way for name, (_, way) in both.items()}
            cases = [Case(name, timed(lambda way=way: _fetch(way, size))) for name, way in ways.items()]  # type: ignore[misc]
            found = in_turns(cases, rounds, budget=60.0, warm_up=2)
            price = {name: _processor_seconds(way, size, pid) for name, (pid, way) in both.items()}
    least = found["this machine's loopback"].p50
    return [
        {
            "name": name,
            "gib_per_second": round(size / (1 << 30) / (one.p50 / 1e6), 2),
            "times_loopback": round(least / one.p50, 2),
            "processor_seconds_per_gib": price[name],
            **one.as_dict(),
        }
        for name, one in found.items()
    ]


def _processor_seconds(way: tuple[str, int], size: int, server: int) -> float:
    """Of both ends and of what carries the bytes between them, for a GiB; other programs' load changes it little."""

    def used() -> float:
        words = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
        ours = resource.getrusage(resource.RUSAGE_SELF)
        return ours.ru_utime + ours.ru_stime + sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")

    before, times = used(), 4
    for _ in range(times):
        _fetch(way, size)
    return round((used() - before) * (1 << 30) / (size * times), 3)


def _one(image: str, **options: Any) -> Callable[[], int]:
    def run() -> None:
        with pyminicon.start([rootfs.PROGRAM], image=image, **options) as c:
            c.wait()

    return timed(run)


def _podman(root: str) -> Case:
    """Raises OSError, CalledProcessError where it has no pasta."""
    command = ["podman", "run", "--rm", "--network", "pasta", "--rootfs", root, rootfs.PROGRAM]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Case("podman, pasta", timed(lambda: subprocess.run(command, check=True, capture_output=True)))


def _docker() -> None:
    subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    rounds, budget = (60, 20.0) if options.quick else (1000, 120.0)
    root = str(rootfs.minimal())
    missing: dict[str, str] = {}
    served: dict[str, Any] = {"egress": ["example.com"], "publish": ["0:80", "0:81"]}
    cases = [
        Case("no network to serve", _one(root)),
        Case("two published ports", _one(root, publish=served["publish"])),
        Case("egress and two published ports", _one(root, **served)),
    ]
    plain = in_turns(cases, rounds, budget=budget)
    slow: list[Case] = []
    if shutil.which("pasta") is None:
        missing["pasta"] = "isn't installed"
    else:
        slow.append(Case("pasta", _one(root, network="pasta")))
        try:
            slow.append(_podman(root))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or b""
            missing["podman, pasta"] = said.decode(errors="replace").strip()[-120:] or str(error)
    try:
        _docker()
        missing["docker, bridge"] = "isn't measured: its daemon starts the container"
    except (OSError, subprocess.SubprocessError):
        missing["docker, bridge"] = "no daemon answers"
    if slow:
        plain |= in_turns(slow, 20 if options.quick else 100, budget=budget)
    least = plain["no network to serve"].p50
    rows = [
        {"name": name, **one.as_dict(), "more_ms": round((one.p50 - least) / 1e3, 3)}
        for name, one in plain.items()
    ]
    size = (256 if options.quick else 1024) << 20
    throughput = _throughput(size, 20 if options.quick else 40)
    header = ("start, until its end", "p50", "p99", "ms more")
    cells = [[row["name"], row["p50"], row["p99"], row["more_ms"]] for row in rows]
    report.show(report.table("network (microseconds)", header, cells))
    columns = ("name", "gib_per_second", "times_loopback", "processor_seconds_per_gib")
    header = ("way", "GiB/s", "x loopback", "processor s/GiB")
    cells = [[row[name] for name in columns] for row in throughput]
    report.show(report.table(f"{size >> 20} MiB out of a server", header, cells))
    for name, why in missing.items():
        report.show(f"  {name} could not run: {why}")
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {
        "unit": "us",
        "congestion_control": control,
        "rows": rows,
        "throughput": throughput,
        "bytes": size,
        "missing": missing,
    }
