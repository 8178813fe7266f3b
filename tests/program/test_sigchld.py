"""A program that takes its children's statuses, or never sees them: an answer or an error, never a hang."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.program.conftest import Program

Start = Callable[..., Program]

KNOWN_OR_SAID = """
def answer(wanted, call):
    try:
        got = call()
    except pyminicon.Error as error:
        assert 'status was taken' in str(error), error
        return 'said'
    assert got == wanted, (got, wanted)
    return 'known'
"""


def test_sigchld_ignored(program: Start) -> None:
    running = program(f"""
import asyncio, pyminicon, signal
from pyminicon import aio
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
{KNOWN_OR_SAID}
told = set()
for _ in range(150):
    told.add(answer(3, lambda: pyminicon.run(['/bin/sh', '-c', 'exit 3']).returncode))
    told.add(answer(-9, lambda: pyminicon.run(['/bin/sh', '-c', 'kill -9 $$'], pid='private', init=True).returncode))
    with pyminicon.start(['/bin/sh', '-c', 'exit 4']) as box:
        told.add(answer(4, box.wait))
    told.add(answer(5, lambda: asyncio.run(aio.run(['/bin/sh', '-c', 'exit 5'])).returncode))
try:
    pyminicon.run(['/no/such'])
except pyminicon.LaunchError as error:
    assert error.stage == 'exec'
assert len(told) == 1 or told == {{'known', 'said'}}, told
print('well')
""")
    assert running.end() == (0, "well\n")


def test_init_tells_the_status_whoever_took_it(program: Start) -> None:
    running = program("""
import pyminicon, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print([pyminicon.run(['/bin/sh', '-c', line], init=True).returncode for line in ('exit 3', 'kill -SEGV $$', 'exit 139')])
""")
    assert running.end() == (0, "[3, -11, 139]\n")


@pytest.mark.parametrize("how", ["thread", "handler"])
def test_waitpid_for_any_child(program: Start, how: str) -> None:
    running = program(f"""
import pyminicon, signal, threading, time
{KNOWN_OR_SAID}
stolen = []
def take(*_):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        stolen.append(pid)
def taker():
    while going:
        take()
        time.sleep(0)
going = True
if {how!r} == 'handler':
    signal.signal(signal.SIGCHLD, take)
else:
    thread = threading.Thread(target=taker)
    thread.start()
for n in range(40):
    answer(n, lambda: pyminicon.run(['/bin/sh', '-c', f'exit {{n}}']).returncode)
    with pyminicon.start(['/bin/sh', '-c', 'sleep 0.02; exit 4']) as box:
        time.sleep(0.05)
        answer(4, box.wait)
going = False
print('well', bool(stolen))
""")
    code, out = running.end(timeout=120)
    assert (code, out.split()[0]) == (0, "well")


def test_waitpid_for_any_child_never_sees_the_guards(program: Start) -> None:
    running = program("""
import pyminicon
pyminicon.run(['/bin/true'])
try:
    print(os.waitpid(-1, 0))
except ChildProcessError:
    print('no children')
try:
    print(os.waitpid(-1, 0x40000000))  # __WALL
except ChildProcessError:
    print('none at all')
""")
    assert running.end() == (0, "no children\nnone at all\n")


def test_the_programs_own_children_keep_their_statuses(program: Start) -> None:
    running = program("""
import pyminicon, subprocess
own = [subprocess.Popen(['/bin/sh', '-c', f'sleep 0.2; exit {n}']) for n in range(5)]
for _ in range(10):
    assert pyminicon.run(['/bin/sh', '-c', 'exit 9']).returncode == 9
print([one.wait() for one in own])
""")
    assert running.end() == (0, "[0, 1, 2, 3, 4]\n")


TAKES = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "a thread": """
def taker():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0)
threading.Thread(target=taker, daemon=True).start()
""",
}


@pytest.mark.parametrize("how", TAKES)
def test_what_newuidmap_did_is_known_whoever_took_its_status(
    how: str, as_user: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = as_user(f"""
import os, signal, sys, threading, time, pyminicon, pyminicon.options.users
if not pyminicon.options.users.subordinate_range('/etc/subuid') or not os.path.exists('/usr/bin/newuidmap'):
    sys.exit('needs newuidmap and a range of ids')
{TAKES[how]}
maps = ['cat', '/proc/self/uid_map', '/proc/self/gid_map']
for _ in range(5):
    told = pyminicon.run(maps, userns='private', capture_output=True, init=True)
    assert (told.returncode, len(told.stdout.splitlines())) == (0, 4), told
for _ in range(5):
    try:
        print(pyminicon.run(['true'], userns=f'0:{{os.geteuid()}}:1,1:7:5', init=True))
    except pyminicon.LaunchError as error:
        assert (error.stage, error.subject) == ('userns', '/usr/bin/newgidmap'), error
        assert '/etc/subuid' in error.hint
os.write(1, b'well')
os._exit(0)
""")
    if done.stderr.startswith("needs"):
        pytest.skip(done.stderr.strip())
    assert (done.stdout, done.stderr) == ("well", "")


def test_a_map_of_the_callers_own_id_needs_no_newuidmap(
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_user("""
import os, pyminicon, pyminicon.plan.id_maps
pyminicon.plan.id_maps._has_mappers = lambda: False
print(pyminicon.run(['cat', '/proc/self/uid_map'], userns=f'0:{os.geteuid()}:1', capture_output=True, text=True).stdout)
try:
    pyminicon.run(['true'], userns=f'0:{os.geteuid()}:1', user='5')
except pyminicon.SpecError as error:
    print(error.option)
""")
    told = done.stdout.split()
    assert (told[0], told[2:]) == ("0", ["1", "userns"]), done.stderr
