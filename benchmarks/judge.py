"""``judge``: how soon the server of docs/judge.md answers a ping while it judges, beside one without containers.

The other one is the same server with ``asyncio.create_subprocess_exec`` in a directory of its own, and nothing of limits
but a time. Both get the same submissions at once and judge as many at a time; a client pings them meanwhile.

A turn takes minutes with all submissions, so one can be measured alone (``--only NAME --add``) and joins the turns that
the file has already; each figure is the median of its server's turns. Where even one is too long, ``--budget`` ends it:
all have been sent, the pings until then count, and how many were judged is said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import report
from .measure import figures

PAGE = Path(__file__).resolve().parents[1] / "docs" / "judge.md"
TESTS = [("1 2", "3"), ("5 6", "11")]
ADDS = {
    "c++": "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }",
    "java": "import java.util.*; public class Main { public static void main(String[] a) {"
    "Scanner s = new Scanner(System.in); System.out.println(s.nextInt() + s.nextInt()); } }",
    "python": "a, b = map(int, input().split())\nprint(a + b)",
}
#: What takes the place of the page's function `judge`.
PLAIN = """
import tempfile

async def call(words, place, given=""):
    process = await asyncio.create_subprocess_exec(*words, cwd=place, stdin=-1, stdout=-1, stderr=-1)
    out, err = await asyncio.wait_for(process.communicate(given.encode()), 60)
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

@app.post("/judge")
async def judge(sent: Submission) -> Verdict:
    file, compiling, running = LANGUAGES[sent.language]
    async with turn:
        with tempfile.TemporaryDirectory() as place:
            with open(f"{place}/{file}", "w") as source:
                source.write(sent.source)
            status, out, err = await call(compiling, place)
            if status:
                return Verdict(verdict="doesn't compile", told=out + err)
            for given, expected in sent.tests:
                status, out, err = await call(running, place, given)
                if status:
                    return Verdict(verdict="runtime error", told=err)
                if out.split() != expected.split():
                    return Verdict(verdict="wrong answer", told=out)
            return Verdict(verdict="accepted")
"""


PLAIN_NAME = "asyncio.subprocess"


def programs() -> dict[str, str]:
    """The two servers' sources."""
    (ours,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    head, found, _ = ours.partition('@app.post("/judge")')
    if not found:
        raise RuntimeError(f"{PAGE} has no function judge")
    return {"pyminicon.aio": ours, PLAIN_NAME: head + PLAIN}


@contextlib.contextmanager
def serving(source: str) -> Iterator[str]:
    """The address of a server that runs ``source``."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        (Path(place) / "judge.py").write_text(source)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port), "judge:app"]
        process = subprocess.Popen(words, cwd=place, env={**os.environ, "TMPDIR": place})
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                    break
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("the server didn't begin")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # it would judge what nobody waits for any more
                process.kill()
                process.wait()


async def judged(server: str, sent: list[tuple[str, str]], budget: float = 600) -> tuple[list[int], int]:
    """Sends all at once; the pings meanwhile, in nanoseconds, and how many were judged within ``budget`` seconds.
    Raises RuntimeError for a verdict that is wrong."""
    import httpx

    pings: list[int] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server, timeout=3600, limits=limits) as client:

        async def ping() -> None:
            while True:
                begun = time.perf_counter_ns()
                await client.get("/ping")
                pings.append(time.perf_counter_ns() - begun)
                await asyncio.sleep(0.02)

        async def judge(language: str, source: str) -> None:
            asked: dict[str, Any] = {"language": language, "source": source, "tests": TESTS}
            verdict = (await client.post("/judge", json=asked)).json()
            if verdict["verdict"] != "accepted":
                raise RuntimeError(f"{language}: {verdict}")

        pinging = asyncio.create_task(ping())
        judging = [asyncio.create_task(judge(*one)) for one in sent]
        done, left = await asyncio.wait(judging, timeout=budget, return_when=asyncio.FIRST_EXCEPTION)
        for task in (pinging, *left):
            task.cancel()
        for task in done:
            task.result()
        await asyncio.gather(pinging, *left, return_exceptions=True)
    return pings, len(done)


def turn(name: str, sent: list[tuple[str, str]], budget: float) -> dict[str, Any]:
    """One server's figures, from its start to the last verdict."""
    load = round(os.getloadavg()[0], 2)
    with serving(programs()[name]) as server:
        asyncio.run(judged(server, [*ADDS.items()]))  # what is slow the first time
        begun = time.perf_counter()
        pings, number = asyncio.run(judged(server, sent, budget))
        seconds = time.perf_counter() - begun
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = {
        "made": made,
        "load": load,
        "seconds": round(seconds, 1),
        "judged": number,
        **figures(pings).as_dict(),
    }
    return {"name": name, "commit": report.commit(), **found}


def rows_of(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each server that had a turn: medians, and its p99 beside that of the one without containers."""
    rows: list[dict[str, Any]] = []
    for name in programs():
        own = [one for one in turns if one["name"] == name]
        if own:
            middle = {
                what: round(statistics.median(one[what] for one in own), 2)
                for what in ("p50", "p90", "p99", "seconds", "judged")
            }
            pings = sum(one["number"] for one in own)
            rows.append({"name": name, **middle, "pings": pings, "turns": len(own)})
    plain = next((row["p99"] for row in rows if row["name"] == PLAIN_NAME), None)
    for row in rows:
        row["ratio"] = round(row["p99"] / plain, 3) if plain else None
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how many are sent, and to whom."""
    parser.add_argument("--submissions", type=int, default=300, help="at once; a third in each language")
    parser.add_argument("--budget", type=float, default=600, help="seconds of a turn, then it ends")
    parser.add_argument("--only", choices=[*programs()], help="a turn of this server alone")
    parser.add_argument(
        "--add", action="store_true", help="keep the turns of as many submissions in the file"
    )


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    number = 12 if options.quick else options.submissions
    sent = [*ADDS.items()] * (number // len(ADDS))
    random.Random(7).shuffle(sent)
    turns = _turns_before(options, len(sent)) if options.add else []
    turns += [turn(name, sent, options.budget) for name in programs() if options.only in (None, name)]
    rows = rows_of(turns)
    names = ("name", "turns", "p50", "p90", "p99", "ratio", "judged", "seconds")
    title = f"judge (a ping in microseconds, {len(sent)} submissions at once)"
    header = ("", "turns", "p50", "p90", "p99", "p99's ratio", "judged", "seconds")
    report.show(report.table(title, header, [[row[name] for name in names] for row in rows]))
    return {"unit": "us", "submissions": len(sent), "rows": rows, "turns": turns}


def _turns_before(options: argparse.Namespace, number: int) -> list[dict[str, Any]]:
    path = options.results / ("judge.quick.json" if options.quick else "judge.json")
    body: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return body["turns"] if body.get("submissions") == number and "turns" in body else []
