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

from tests.program.conftest import Program
from tests.support.waiting import soon

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
deadline = time.monotonic() + 60
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
    print('the longest pause', round(longest, 2) if longest > 3.0 else 'short')
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
        pyminicon.run(['/bin/true'], volumes=[f'{mount}/below:/v'], cancel=cancel)
    except pyminicon.Cancelled:
        pass
cancel = pyminicon.Cancel()
thread = threading.Thread(target=hang)
thread.start()
time.sleep(0.3)
begun = time.monotonic()
for _ in range(5):
    assert pyminicon.run(['/bin/true']).returncode == 0
print('others ran', thread.is_alive())
cancel.cancel()
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
    assert soon(lambda: not os.path.exists(f"/proc/{server}"), 5)


#: What hangs, as run's options: each asks the server for something that it doesn't answer.
HANGING = {
    "image": "dict(image=mount + '/below')",
    "image root": "dict(image=mount)",
    "store": "dict(image='name')",
    "layer": "dict(storage='disk')",
    "volume": "dict(volumes=[mount + '/below:/v'])",
    "read-only volume": "dict(volumes=[mount + '/below:/v'], read_only=True)",
    "files": "dict(files={'/f': mount + '/below'})",
    "files in a volume": "dict(volumes=[mount + ':/v'], files={'/v/below/f': b'x'})",
    "filter": "dict(seccomp=mount + '/below')",
}

#: Each call within half a second of its time, and everybody else at his work meanwhile.
MEASURE = """
import threading
os.environ['PYMINICON_STORE'] = mount + '/store'
longest, worst, going = 0.0, 0.0, True
def beat():
    global longest
    last = time.monotonic()
    while going:
        time.sleep(0.01)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
beating = threading.Thread(target=beat)
beating.start()
def told(call):
    global longest, worst
    for turn in range(3):  # a machine with other work is late once, who hangs is late each time
        longest, begun = 0.0, time.monotonic()
        try:
            answer = call()
        except pyminicon.TimeoutExpired:
            answer = 'timeout'
        except pyminicon.LaunchError as error:
            answer = errno.errorcode[error.errno]
        except pyminicon.SpecError as error:
            answer = str(error)
        took = time.monotonic() - begun
        if took < 1.0 + SLACK and longest <= SLACK:
            break
    worst, longest = max(worst, longest), 0.0
    return answer if took < 1.0 + SLACK else (answer, took)
def ended():
    global going
    going = False
    beating.join()
    paused = worst if worst > SLACK else longest if longest > 3.0 else 0.0
    print('the longest pause', round(paused, 2) or 'short')
"""
#: Seconds beyond the time that was given; the machine may be busy with other tests.
SLACK = 0.5


def measured(code: str) -> str:
    return f"import errno\nSLACK = {SLACK}\n" + MEASURE + code + "ended()\n"


@BOTH
@pytest.mark.parametrize("what", HANGING)
def test_a_run_has_ended_at_its_timeout_whatever_hangs(program: Start, reads: bool, what: str) -> None:
    code = f"""
options = {HANGING[what]}
print(told(lambda: pyminicon.run(['/bin/true'], timeout=1, **options)))
def limited():
    r = pyminicon.run(['/bin/true'], wall_time=1, **options)
    return r.limit, r.returncode
print(told(limited))
"""
    running = run_with(program, reads, measured(code))
    assert running.end() == (
        0,
        "timeout\n('wall_time', -9)\nthe longest pause short\nleft []\n",
    )


@BOTH
@pytest.mark.parametrize("what", HANGING)
def test_a_start_has_ended_at_its_wall_time_whatever_hangs(program: Start, reads: bool, what: str) -> None:
    code = f"""
options = {HANGING[what]}
print(told(lambda: pyminicon.start(['/bin/true'], wall_time=1, **options)))
"""
    running = run_with(program, reads, measured(code))
    assert running.end() == (0, "ETIMEDOUT\nthe longest pause short\nleft []\n")


@pytest.mark.hour  # its pauses are those of the machine as well: alone on it they are short
@BOTH
@pytest.mark.parametrize("what", HANGING)
def test_a_loop_goes_on_whatever_hangs(program: Start, reads: bool, what: str) -> None:
    code = f"""
options = {HANGING[what]}
async def main():
    longest, last = 0.0, time.monotonic()
    async def beat():
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    beating = asyncio.create_task(beat())
    begun = time.monotonic()
    try:
        await aio.run(['/bin/true'], timeout=1, **options)
    except pyminicon.TimeoutExpired:
        print('timeout', time.monotonic() - begun < 1 + SLACK)
    begun = time.monotonic()
    try:
        await aio.start(['/bin/true'], wall_time=1, **options)
    except pyminicon.LaunchError as error:
        print(errno.errorcode[error.errno], time.monotonic() - begun < 1 + SLACK)
    beating.cancel()
    print('of the loop', round(longest, 2) if longest > SLACK else 'short')
asyncio.run(main())
"""
    running = run_with(program, reads, measured(code))
    assert running.end() == (
        0,
        "timeout True\nETIMEDOUT True\nof the loop short\nthe longest pause short\nleft []\n",
    )


COLLECT = "['/t/good', '/v/below', '/good']"


def test_what_hangs_is_not_collected_and_all_else_is(program: Start) -> None:
    code = f"""
options = dict(volumes=[mount + ':/v'], tmpfs=['/t'], collect={COLLECT}, timeout=1, capture_output=True)
args = ['/bin/sh', '-c', 'echo x > /good; echo y > /t/good; echo said; exit 3']
def facts(r):
    return r.returncode, r.stdout, sorted(r.files), {{p: errno.errorcode[e.errno] for p, e in r.collect_errors.items()}}
print(told(lambda: facts(pyminicon.run(args, **options))))
with pyminicon.Template(volumes=[mount + ':/v'], tmpfs=['/t']) as template:
    mine = {{name: options[name] for name in ('collect', 'timeout', 'capture_output')}}
    print(told(lambda: facts(template.run(args, **mine))))
print(told(lambda: facts(asyncio.run(aio.run(args, **options)))))
"""
    running = run_with(program, True, measured(code))
    line = "(3, b'said\\n', ['/good', '/t/good'], {'/v/below': 'ETIMEDOUT'})\n"
    assert running.end() == (0, 3 * line + "the longest pause short\nleft []\n")


def test_a_template_keeps_its_time_and_is_let_go_of(program: Start) -> None:
    code = """
template = pyminicon.Template(volumes=[mount + ':/v'])
into, of = {'/v/below/f': b'x'}, {'/f': mount + '/below'}
for files in (into, of):
    print(told(lambda: template.run(['/bin/true'], files=files, timeout=1)))
    print(told(lambda: template.start(['/bin/true'], files=files, wall_time=1)))
print(told(lambda: template.run(['/v/below'], timeout=1)))
print(told(lambda: template.start(['/v/below'], wall_time=1)))
del template
"""
    running = run_with(program, True, measured(code))
    assert running.end() == (
        0,
        3 * "timeout\nETIMEDOUT\n" + "the longest pause short\nleft []\n",
    )


def test_others_work_while_a_container_that_cannot_die_is_closed(program: Start) -> None:
    code = """
def closed():
    with pyminicon.start(['/bin/ls', '/v/x'], volumes=[mount + ':/v']) as box:
        time.sleep(0.3)
    return box.returncode
closed()
box = pyminicon.start(['/bin/ls', '/v/x'], volumes=[mount + ':/v'])
seen = []
waiting = threading.Thread(target=lambda: seen.append(box.wait()))
waiting.start()
time.sleep(0.3)
box.close()
waiting.join(60)
print(seen)
del box
"""
    running = run_with(program, True, measured(code))
    assert running.end() == (0, "[-9]\nthe longest pause short\nleft []\n")


def test_what_cannot_die_after_too_much_output_is_given_up_at_rest(program: Start) -> None:
    code = """
line = 'ls /v/x & while :; do echo more; done'
begun, busy = time.monotonic(), time.process_time()
r = pyminicon.run(['/bin/sh', '-c', line], volumes=[mount + ':/v'], max_output=1000, capture_output=True)
print(r.limit, len(r.stdout), time.monotonic() - begun < 8, time.process_time() - busy < 0.5)
begun, busy = time.monotonic(), time.process_time()
with pyminicon.start(['/bin/sh', '-c', line], volumes=[mount + ':/v'], max_output=1000, stdout=-1, stderr=-2) as box:
    print(len(box.stdout.read(1000)))
print(box.returncode, time.monotonic() - begun < 8, time.process_time() - busy < 0.5)
del box
"""
    running = run_with(program, True, code)
    assert running.end() == (0, "output 1000 True True\n1000\n-9 True True\nleft []\n")
