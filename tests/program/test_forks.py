"""A program that forks: what a process didn't make it leaves alone, and it can make its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.program.conftest import Program, gone_after

Start = Callable[..., Program]


def test_a_forked_process_does_nothing_to_a_container(program: Start, mark: str) -> None:
    running = program("""
import gc, pyminicon, sys, time
box = pyminicon.start(['/bin/sh', '-c', 'read x; echo got $x; sleep ' + MARK], stdin=-1, stdout=-1)
pid = os.fork()
if pid == 0:
    told = [box.poll(), box.returncode]
    box.send_signal(9); box.terminate(); box.kill()
    box.usage
    with box:
        pass                # close
    try:
        box.wait()
    except pyminicon.Error:
        told.append('not ours')
    del box
    gc.collect()
    print(*told, flush=True)
    sys.exit(0)             # atexit and the interpreter's own tidying included
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
time.sleep(0.3)
print(box.poll(), flush=True)
box.stdin.write(b'word\\n'); box.stdin.flush()
print(box.stdout.readline().decode().strip(), flush=True)
box.close()
print(box.returncode, flush=True)
""")
    lines = running.end()[1].splitlines()
    assert lines == ["None None not ours", "0", "None", "got word", "-9"]


def test_a_forked_process_launches_its_own(program: Start, mark: str) -> None:
    running = program("""
import pyminicon
outer = pyminicon.start(['/bin/sleep', MARK])
pids = []
for n in range(5):
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            r = pyminicon.run(['/bin/echo', str(n)], capture_output=True, wall_time=30)
            assert r.stdout == b'%d\\n' % n, r
        with pyminicon.start(['/bin/sleep', MARK]) as box:
            assert box.poll() is None
        assert box.returncode == -9
        os._exit(0)
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], outer.poll())
outer.close()
""")
    assert running.end() == (0, "[0, 0, 0, 0, 0] None\n")


def test_fork_while_other_threads_launch(program: Start) -> None:
    running = program("""
import pyminicon, threading, warnings
warnings.simplefilter('ignore')
# What a first launch imports: CPython's import locks stay locked in a child forked in the middle of one.
pyminicon.run(['/bin/true'], wall_time=30, capture_output=True)
pyminicon.start(['/bin/true'], wall_time=30).close()
going = True
def launch():
    while going:
        assert pyminicon.run(['/bin/true'], wall_time=30).returncode == 0
        with pyminicon.start(['/bin/sleep', '60'], wall_time=30):
            pass
threads = [threading.Thread(target=launch) for _ in range(4)]
for thread in threads: thread.start()
codes = []
for n in range(30):
    pid = os.fork()
    if pid == 0:
        with pyminicon.start(['/bin/sleep', '60'], wall_time=30, stdout=-1) as box:
            pass
        r = pyminicon.run(['/bin/echo', 'x'], capture_output=True)
        os._exit(0 if r.stdout == b'x\\n' and box.returncode == -9 else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
going = False
for thread in threads: thread.join()
print(set(codes))
""")
    assert running.end(timeout=120) == (0, "{0}\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers(program: Start, mark: str, method: str, tmp_path: object) -> None:
    script = f"""
import multiprocessing, os, sys, pyminicon
def work(n):
    return pyminicon.run(['/bin/echo', str(n)], capture_output=True, text=True).stdout
if __name__ == '__main__':
    context = multiprocessing.get_context({method!r})
    with pyminicon.start(['/bin/sleep', {mark!r}]) as box:
        with context.Pool(4) as pool:
            assert pool.map(work, range(20)) == [f'{{n}}\\n' for n in range(20)]
        assert box.poll() is None, 'a worker has ended it'
    print('well')
"""
    path = f"{tmp_path}/main.py"
    with open(path, "w") as file:
        file.write(script)
    running = program(
        f"import sys, runpy; sys.argv = [{path!r}]; runpy.run_path({path!r}, run_name='__main__')"
    )
    assert running.end(timeout=120) == (0, "well\n")


def test_preforked_workers_as_in_gunicorn(program: Start, mark: str) -> None:
    """The master imports and launches, forks workers that launch, one dies and is replaced; SIGTERM ends all."""
    running = program("""
import pyminicon, signal, sys, time
pyminicon.run(['/bin/true'])
held = pyminicon.start(['/bin/sleep', MARK])
def worker(n):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    box = pyminicon.start(['/bin/sleep', MARK])     # left running: ends with the worker
    r = pyminicon.run(['/bin/echo', 'served'], capture_output=True)
    os.write(1, r.stdout)
    os.write(tell, bytes([n]))
    while True:  # a signal that comes just before a sleep is heard after it
        time.sleep(0.2)
def fork(n):
    pid = os.fork()
    if pid == 0:
        try:
            worker(n)
        finally:
            os._exit(0)
    return pid
hear, tell = os.pipe()
workers = [fork(n) for n in range(4)]
os.kill(workers[0], signal.SIGKILL)
os.waitpid(workers[0], 0)
workers[0] = fork(4)
served = set()
while not {1, 2, 3, 4} <= served:
    served |= set(os.read(hear, 16))
for pid in workers:
    os.kill(pid, signal.SIGTERM)
for pid in workers:
    os.waitpid(pid, 0)
time.sleep(1)
assert held.poll() is None, 'a worker took the master\\'s container along'
held.close()
print('well')
""")
    code, out = running.end(timeout=60)
    assert (code, out.splitlines()[-1]) == (0, "well")
    assert out.count("served") >= 4
    assert gone_after(mark) is not None


def test_a_forked_process_leaves_the_loop_of_its_parent_alone(program: Start, mark: str) -> None:
    """A child that drops our coroutines must not unregister anything: it shares the loop's epoll."""
    running = program("""
import asyncio, gc, pyminicon, sys
from pyminicon import aio
async def main():
    job = asyncio.create_task(aio.run(['/bin/sh', '-c', 'sleep 1; echo done'], capture_output=True))
    box = await aio.start(['/bin/sh', '-c', 'sleep 1; echo done'], stdout=-1)
    await asyncio.sleep(0.2)
    pid = os.fork()
    if pid == 0:
        job.cancel()
        box.kill()
        job.get_coro().close()
        del job, box
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    print((await job).stdout, await box.communicate(), flush=True)
asyncio.run(asyncio.wait_for(main(), 20))
""")
    assert running.end() == (0, "b'done\\n' (b'done\\n', None)\n")


def test_templates_after_a_fork(program: Start, mark: str) -> None:
    running = program("""
import pyminicon, sys
with pyminicon.Template() as template:
    assert template.run(['/bin/echo', 'a'], capture_output=True).stdout == b'a\\n'
    pid = os.fork()
    if pid == 0:
        try:
            template.run(['/bin/true'])
            print('ran', flush=True)
        except pyminicon.Error as error:
            print('refused', flush=True)
        template.close()
        sys.exit(0)
    os.waitpid(pid, 0)
    for _ in range(20):
        assert template.run(['/bin/echo', 'b'], capture_output=True).stdout == b'b\\n'
print('well')
""")
    code, out = running.end()
    assert code == 0
    assert out.splitlines()[0] in ("ran", "refused")
    assert out.splitlines()[-1] == "well"


def test_a_child_that_execs_inherits_no_descriptor(program: Start) -> None:
    running = program("""
import pyminicon, subprocess, sys
box = pyminicon.start(['/bin/sleep', '60'], stdin=-1, stdout=-1, stderr=-1, wall_time=60)
out = subprocess.run(['/bin/ls', '/proc/self/fd'], close_fds=False, capture_output=True, text=True).stdout
box.close()
print(sorted(out.split(), key=int))
""")
    assert running.end() == (0, "['0', '1', '2', '3']\n")
