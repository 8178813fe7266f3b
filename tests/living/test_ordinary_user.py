"""The same without root: in a user namespace, in which one id is mapped, or ranges are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

CODE = """
import pyminicon, asyncio
from pyminicon import aio
with pyminicon.start() as c:
    r = c.run(["sh", "-c", "id -u; exit 3"], capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (3, "0\\n"), r
    try:
        c.run(["sh", "-c", "setsid sleep 70 & (setsid sleep 71 &); sleep 72"], timeout=0.5)
        raise SystemExit("no timeout")
    except pyminicon.TimeoutExpired:
        pass
    assert c.processes() == [], c.processes()
    with c.start(["sh"], tty=True) as p:
        p.terminal.write(b"exit 4\\n")
        assert p.wait(10) == 4
    with c.start(["sleep", "100"]) as p:
        p.terminate()
        assert p.wait(10) == -15
    assert c.run(["sh", "-c", "kill -9 $PPID; sleep 9"]).returncode == -9
    assert c.run(["true"], user="0").returncode == 0
assert c.returncode == 0
async def work():
    async with await aio.start() as c:
        assert (await c.run(["true"])).returncode == 0
asyncio.run(work())
print("all of it")
"""


def test_commands_need_no_root(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become an ordinary user")
    ran = as_user(CODE, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-2000:]
