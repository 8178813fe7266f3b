"""A FUSE server that never answers: nobody hangs with it, neither timeout= nor Ctrl-C nor an event loop.

Two kinds: one reads no request (whoever waits for it can be killed), one reads them and keeps quiet (whoever
waits then can't be killed until the server has gone: request_wait_answer in the kernel's fs/fuse/dev.c).
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable

import pytest

from tests.program.conftest import Program, eventually

Start = Callable[..., Program]

SERVER = """
import subprocess, sys, time
from tests.support import fuse
READS = {reads}
mount, device = fuse.mount()
server = os.fork()
if server == 0:
    os.setsid()
    sys.stdout.flush()
    os.close(1)
    while True:
        if not READS:
            time.sleep(600)
        request = fuse.read(device)
        # Its root can be mounted, and nothing below it be seen.
        if request[0] in (fuse.INIT, fuse.GETATTR):
            fuse.answer(device, *request, kept=1000)
os.close(device)
import atexit, signal
def stop():
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    subprocess.run(['umount', '-l', mount])
    os.rmdir(mount)
import asyncio, pyminicon
from pyminicon import aio
pyminicon.run(['/bin/true'])
"""

AFTERWARDS = """
stop()
pyminicon.run(['/bin/true'])       # buries what could not be killed before
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    children = open(f'/proc/self/task/{os.getpid()}/children').read().split()
    if not children:
        break
    time.sleep(0.05)
    pyminicon.run(['/bin/true'])
print('left', children, flush=True)
"""


@pytest.fixture(autouse=True)
def _fuse() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a FUSE file system with a server of its own")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    assert shutil.which("unshare")


def run_with(program: Start, reads: bool, code: str, **options: object) -> Program:
    return program(SERVER.format(reads=reads) + code + AFTERWARDS, before=["unshare", "-m"], **options)


BOTH = pytest.mark.parametrize("reads", [False, True], ids=["unread", "unanswered"])


@BOTH
def test_timeout_holds_while_the_volume_is_mounted(program: Start, reads: bool) -> None:
    running = run_with(program, reads, """
begun = time.monotonic()
try:
    pyminicon.run(['/bin/true'], volumes=[f'{mount}/below:/v'], timeout=0.5)
except pyminicon.TimeoutExpired:
    print('timeout', time.monotonic() - begun < 5)
r = pyminicon.run(['/bin/true'], volumes=[f'{mount}/below:/v'], wall_time=0.5)
print(r.limit, r.returncode)
""")  # fmt: skip
    assert running.end() == (0, "timeout True\nwall_time -9\nleft []\n")


@BOTH
def test_timeout_holds_while_the_program_hangs_in_it(program: Start, reads: bool) -> None:
    running = run_with(program, reads, """
begun = time.monotonic()
try:
    pyminicon.run(['/bin/sh', '-c', 'echo before; ls /v/x'], volumes=[f'{mount}:/v'], timeout=0.5, capture_output=True)
except pyminicon.TimeoutExpired as error:
    print('timeout', time.monotonic() - begun < 8, error.output)
except pyminicon.Error as error:
    print(error)
r = pyminicon.run(['/bin/sh', '-c', 'ls /v/x'], volumes=[f'{mount}:/v'], wall_time=0.5, init=True)
print(r.limit, r.returncode)
""")  # fmt: skip
    code, out = running.end()
    assert code == 0
    assert out.splitlines()[1:] == ["wall_time -9", "left []"]
    assert out.startswith("timeout True")


@BOTH
def test_ctrl_c_ends_a_launch_that_hangs(program: Start, reads: bool) -> None:
    running = run_with(program, reads, """
print('going', flush=True)
begun = time.monotonic()
try:
    pyminicon.run(['/bin/true'], volumes=[f'{mount}/below:/v'])
except KeyboardInterrupt:
    print('interrupted')
""")  # fmt: skip
    assert running.line() == "going"
    time.sleep(0.5)
    begun = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "interrupted"
    assert time.monotonic() - begun < 5
    assert running.end() == (0, "left []\n")


@BOTH
def test_an_event_loop_goes_on(program: Start, reads: bool) -> None:
    running = run_with(program, reads, """
async def main():
    longest, last = 0.0, time.monotonic()
    async def beat():
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    beating = asyncio.create_task(beat())
    async def timed(volume, *args):
        try:
            await aio.run([*args], volumes=[volume], timeout=0.5, capture_output=True)
        except pyminicon.TimeoutExpired:
            return 'timeout'
    print(await asyncio.gather(timed(f'{mount}/below:/v', '/bin/true'), timed(f'{mount}:/v', '/bin/ls', '/v/x')))
    task = asyncio.create_task(aio.run(['/bin/true'], volumes=[f'{mount}/below:/v']))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print('cancelled')
    others = await asyncio.gather(*(aio.run(['/bin/true']) for _ in range(10)))
    print([r.returncode for r in others] == [0] * 10)
    beating.cancel()
    print('the longest pause', round(longest, 2) if longest > 1.0 else 'short')
asyncio.run(main())
""")  # fmt: skip
    code, out = running.end()
    assert code == 0
    assert out.splitlines() == [
        "['timeout', 'timeout']",
        "cancelled",
        "True",
        "the longest pause short",
        "left []",
    ]


@BOTH
def test_other_threads_launch_meanwhile(program: Start, reads: bool) -> None:
    running = run_with(program, reads, """
import threading
def hang():
    try:
        pyminicon.run(['/bin/true'], volumes=[f'{mount}/below:/v'], timeout=3)
    except pyminicon.TimeoutExpired:
        pass
thread = threading.Thread(target=hang)
thread.start()
time.sleep(0.3)
begun = time.monotonic()
for _ in range(5):
    assert pyminicon.run(['/bin/true']).returncode == 0
print('others ran', thread.is_alive())
thread.join()
""")  # fmt: skip
    assert running.end() == (0, "others ran True\nleft []\n")


def test_an_image_may_be_served_by_a_thread_of_the_very_program(program: Start) -> None:
    """Whatever is asked of its file system, the interpreter's lock is the server's to take."""
    running = program("""
import threading, pyminicon
from tests.support import fuse
pyminicon.run(['/bin/true'])
mount, device = fuse.mount(",allow_other")
asked = set()
def serve():
    while True:
        request = fuse.read(device)
        asked.add(request[0])
        try:
            fuse.answer(device, *request)
        except OSError:  # whoever asked has gone
            continue
threading.Thread(target=serve, daemon=True).start()
for start in (pyminicon.run, pyminicon.start):
    try:
        start(['/bin/true'], image=mount)
    except pyminicon.LaunchError as error:
        print(error.stage, fuse.STATFS in asked, flush=True)
    asked.clear()
os._exit(0)
""", before=["unshare", "-m"])  # fmt: skip
    assert running.end() == (0, "exec True\nexec True\n")


def test_leaving_the_interpreter_doesn_t_hang(program: Start) -> None:
    running = program(
        SERVER.format(reads=True)
        + "box = pyminicon.start(['/bin/ls', '/v/x'], volumes=[f'{mount}:/v'])\n"
        + "print(server, flush=True)\ntime.sleep(0.5)\n",
        before=["unshare", "-m"],
    )
    server = int(running.line())
    try:
        assert running.process.wait(30) == 0
    finally:
        os.kill(server, signal.SIGKILL)
    assert eventually(lambda: not os.path.exists(f"/proc/{server}"), 5)
