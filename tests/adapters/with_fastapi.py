"""docs/judge.md's program, behind a real server. Run by ``make adapters``, in an environment that has fastapi.

PYMINICON_TEST_SUBMISSIONS=300 is for by hand.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.judge import ADDS, PAGE, TESTS
from tests.support.python import environment

NUMBER = int(os.environ.get("PYMINICON_TEST_SUBMISSIONS", "9"))
JAVA = shutil.which("javac")
#: What else people send, and what they are told.
OTHERS = [
    ("python", "while True: pass", "time limit"),
    ("c++", "#include <vector>\nint main() { std::vector<char*> v; for (;;) { v.push_back(new char[1 << 20]()); } }", "memory limit"),
    ("python", "print('x' * 100_000_000)", "wrong answer"),
    ("python", "import time; time.sleep(1000)", "time limit"),
    ("c++", "int main() { return x; }", "doesn't compile"),
    ("python", "1 / 0", "runtime error"),
    ("python", "import os\nwhile True: os.fork()", "runtime error"),
    ("python", "print(4)", "wrong answer"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 60
    place = tmp_path_factory.mktemp("judge")
    (place / "judge.py").write_text(code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port), "judge:app"]
    process = subprocess.Popen(words, cwd=place, env=environment())
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(60) in (0, -15)


async def answers(server: str, sent: list[tuple[str, str]]) -> tuple[list[str], list[float]]:
    """The verdicts on ``sent``, asked for at once, and how long each ping took meanwhile."""
    limits = httpx.Limits(max_connections=None)
    pings: list[float] = []
    async with httpx.AsyncClient(base_url=server, timeout=1800, limits=limits) as client:

        async def ping() -> None:
            while True:
                begun = time.perf_counter()
                assert (await client.get("/ping")).json() == "pong"
                pings.append(time.perf_counter() - begun)
                await asyncio.sleep(0.02)

        async def judge(language: str, source: str) -> str:
            asked: dict[str, Any] = {"language": language, "source": source, "tests": TESTS}
            verdict: str = (await client.post("/judge", json=asked)).json()["verdict"]
            return verdict

        pinging = asyncio.create_task(ping())
        verdicts = await asyncio.gather(*(judge(*one) for one in sent))
        pinging.cancel()
    return verdicts, sorted(pings)


def test_all_that_are_sent_at_once_have_their_verdicts(server: str) -> None:
    there = [(language, source) for language, source in ADDS.items() if language != "java" or JAVA]
    sent = [(language, source, "accepted") for language, source in there * (NUMBER // 3)]
    random.shuffle(sent)
    verdicts, pings = asyncio.run(answers(server, [one[:2] for one in sent]))
    assert verdicts == [one[2] for one in sent]
    if pings:
        told = f"{len(pings)} pings, p50 {pings[len(pings) // 2] * 1e3:.1f} ms, p99 {pings[len(pings) * 99 // 100] * 1e3:.1f} ms"
        print(told)
    assert len(pings) > 10


@pytest.mark.skipif(not JAVA, reason="needs a JDK")
def test_java_is_compiled_and_judged(server: str) -> None:
    wrong = ADDS["java"].replace("+ s.nextInt()", "- s.nextInt()")
    sent = [("java", ADDS["java"]), ("java", wrong), ("java", "class")]
    verdicts, _ = asyncio.run(answers(server, sent))
    assert verdicts == ["accepted", "wrong answer", "doesn't compile"]


def test_each_verdict_says_what_happened(server: str) -> None:
    verdicts, _ = asyncio.run(answers(server, [one[:2] for one in OTHERS]))
    assert verdicts == [one[2] for one in OTHERS]
