"""Where containers' cgroups are, on a machine arranged as systemd arranges it (tests/support/manager.py).

The kernel's trees are real, and so are processes, births and permissions; systemd is a stand-in, which tests/vm/systemd
replaces by the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support import manager
from tests.support.python import environment

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make cgroups and users"),
    pytest.mark.skipif(manager.unified_mount() is None, reason="needs cgroup v2"),
]

PRELUDE = """
import os, pyminicon
from pathlib import Path
from pyminicon.cgroups import tree

def inside(path="/proc/self/cgroup"):
    return Path(path).read_text().split("0::")[1].split()[0]

def born(**more):
    words = dict(cpu_time=20, cgroupns="host", capture_output=True, text=True) | more
    return pyminicon.run(["cat", "/proc/self/cgroup"], **words).stdout.split("0::")[1].split()[0]

def asked():
    return [eval(line) for line in open(os.environ["ASKED"])]

own = inside()
"""


def run(way: str, program: str) -> list[str]:
    """The lines that ``program`` prints when it is started in ``way``; nothing may be left of it."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.manager", way, PRELUDE + program],
        capture_output=True, text=True, timeout=120, env=environment(), check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()


SCOPES = {
    "root session": "/user.slice/user-0.slice/",
    "service": "/system.slice/",
    "session": f"/{manager.MANAGER}/app.slice/",
    "cron": f"/{manager.MANAGER}/app.slice/",
    "user service": f"/{manager.MANAGER}/app.slice/",
}


@pytest.mark.parametrize("way", SCOPES)
def test_systemd_lends_a_scope_once_and_the_caller_stays_where_it_is(way: str) -> None:
    first, second, own, where, asked = run(
        way,
        "print(born()); print(born()); print(own == inside()); print(tree.trees().place.directory);"
        "print([words[words.index('--scope')] for words in asked() if '--scope' in words])",
    )
    scope = where.removeprefix("/sys/fs/cgroup")
    assert scope.startswith(SCOPES[way] + "pyminicon-") and scope.endswith(".scope")
    assert os.path.dirname(first) == os.path.dirname(second) == scope
    assert own == "True"
    assert asked == "['--scope']"


@pytest.mark.parametrize(
    ("way", "moved"),
    [
        ("delegated service", True),
        ("delegated user scope", True),
        ("delegated service of a user", True),
        ("subgroup of a delegated service", False),
    ],
)
def test_in_a_delegated_unit_all_its_processes_move_to_a_leaf(way: str, moved: bool) -> None:
    other, before, after, container, asked = run(
        way,
        "import subprocess; other = subprocess.Popen(['sleep', '60']); box = born()\n"
        "print(inside(f'/proc/{other.pid}/cgroup')); print(own); print(inside()); print(box); print(asked())\n"
        "other.kill(); other.wait()",
    )
    unit = "/" + manager.WAYS[way][0].removesuffix("/main")
    assert os.path.dirname(container) == unit
    assert other == after == (f"{unit}/pyminicon-leaf" if moved else before)
    assert asked == "[]"


def test_a_forked_child_finds_a_place_of_its_own() -> None:
    parent, child = run(
        "session",
        "print(born(), flush=True)\n"
        "if not (pid := os.fork()):\n    print(born(), flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0)",
    )
    assert os.path.dirname(parent) != os.path.dirname(child)


def test_a_place_that_has_vanished_is_replaced() -> None:
    lines = run(
        "root session",
        """
import time
first = born()
leaf = Path(tree.trees().place.leaf)
os.kill(int((leaf / "cgroup.procs").read_text()), 9)
while (leaf / "cgroup.procs").read_text():
    time.sleep(0.01)
leaf.rmdir(); leaf.parent.rmdir()
print(os.path.dirname(first) != os.path.dirname(born()))
""",
    )
    assert lines == ["True"]


@pytest.mark.parametrize("way", ["service", "user service"])
def test_who_kills_the_callers_whole_cgroup_at_once_leaves_no_container(way: str) -> None:
    """The guards go with the caller, and what a thread that has ended launched has no death signal of the kernel's."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.manager", way, PRELUDE + KILLED_WHOLE],
        capture_output=True, text=True, timeout=120, env=environment(), check=False,
    )  # fmt: skip
    said = ran.stdout.split()
    assert len(said) == 5, ran.stdout + ran.stderr  # it killed itself, and of the rest no word
    before, *containers = said
    assert ran.returncode == 256 - signal.SIGKILL
    assert all(os.path.dirname(one) != before for one in containers)


KILLED_WHOLE = """
import threading
boxes = []
def one(**more):
    boxes.append(pyminicon.start(["sleep", "600"], usage=True, **more))
for more in ({}, {"init": True}):
    thread = threading.Thread(target=one, kwargs=more); thread.start(); thread.join()
template = pyminicon.Template(usage=True)
boxes.append(template.start(["sleep", "600"]))
boxes.append(template.start(["sleep", "600"]))
print(own, *(inside(f"/proc/{box.pid}/cgroup") for box in boxes), flush=True)
mine = Path("/sys/fs/cgroup" + own)
(mine / "cgroup.kill").write_text("1")
while True: pass
"""


def test_without_a_manager_the_error_is_a_sentence_with_one_command() -> None:
    error, without = run(
        "cron without a manager",
        "try: born()\nexcept pyminicon.LaunchError as error: print(error)\n"
        "print(pyminicon.run(['true'], usage=True).usage.memory_peak)",
    )
    assert "loginctl enable-linger" in error and "docs/cgroups.md#no-manager" in error
    assert len(error) < 150
    assert without == "None"  # accounting alone fails no launch


def test_without_systemd_containers_stand_beside_the_caller() -> None:
    container, how = run("no systemd", "print(born()); print(tree.trees().place.how)")
    assert os.path.dirname(container) == "/"
    assert how == "beside the caller's own cgroup"


@pytest.mark.parametrize("way", ["session", "service", "delegated service", "no systemd"])
def test_who_only_looks_is_told_the_place_and_nothing_is_made(way: str) -> None:
    told, unmoved, asked, same = run(
        way,
        "from pyminicon.cgroups import place\nfound = tree.trees(); told = place.foreseen(found); print(told)\n"
        "print(inside() == own and found.place is None); print(asked())\n"
        "made = place.find(found).directory\n"
        "print(made == told or os.path.dirname(made) == os.path.dirname(told) and made.endswith('.scope'))",
    )
    assert told.startswith("/sys/fs/cgroup")
    assert [unmoved, asked, same] == ["True", "[]", "True"]


def test_nothing_is_asked_of_systemd_where_no_limit_is_given() -> None:
    assert run("session", "pyminicon.run(['true']); print(asked(), tree.trees().place)") == ["[] None"]


# The launcher: an ordinary user in a login session


def test_the_launchers_containers_are_the_callers_children_and_its_own_are_not_seen() -> None:
    lines = run(
        "session",
        """
c = pyminicon.start(["sh", "-c", "sleep 60"], cpu_time=20)
launcher = tree.trees().place.launcher
print(inside(f"/proc/{c.pid}/cgroup") != own, open(f"/proc/{c.pid}/stat").read().split()[3] == str(os.getpid()))
print(os.path.basename(inside(f"/proc/{launcher}/cgroup")))
c.kill(); print(c.wait())
try: os.waitpid(-1, 0)
except ChildProcessError: print("no child")
""",
    )
    assert lines == ["True True", "pyminicon-leaf", "-9", "no child"]


def test_by_the_launcher_streams_descriptors_limits_and_scheduling_are_the_callers() -> None:
    lines = run(
        "session",
        """
import resource, sys
born()
readers, written = [], []
for number in range(300):
    r, w = os.pipe(); readers.append(r); written.append(w)
high = 600
os.dup2(written[0], high)
resource.setrlimit(resource.RLIMIT_NOFILE, (700, 700))
usual = os.getpriority(os.PRIO_PROCESS, 0)
os.setpriority(os.PRIO_PROCESS, 0, usual + 3)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
script = "echo out; echo err >&2; ulimit -n; nice; grep Cpus_allowed_list /proc/self/status; ls /proc/self/fd | wc -l; echo there >/proc/self/fd/600"
r = pyminicon.run(["sh", "-c", script], cpu_time=20, capture_output=True, text=True, pass_fds=[*written, high])
out = r.stdout.split()
print(out[0], r.stderr.strip(), out[1], int(out[2]) - usual, int(out[4]) == max(os.sched_getaffinity(0)), int(out[5]) > 300)
print(os.read(readers[0], 10))
print(pyminicon.run(["cat"], input="in", cpu_time=20, capture_output=True, text=True).stdout)
""",
    )
    assert lines == ["out err 700 3 True True", "b'there\\n'", "in"]


def test_a_failed_launch_by_the_launcher_leaves_no_child() -> None:
    lines = run(
        "session",
        """
try: pyminicon.run(["/nope"], cpu_time=20)
except pyminicon.LaunchError as error: print(error.stage)
print(os.waitpid(-1, os.WNOHANG | 0x40000000))  # __WALL: the launcher, which runs, and no other
print(sorted(name for name in os.listdir(tree.trees().place.directory) if name.startswith("pyminicon")))
""",
    )
    assert lines == ["exec", "(0, 0)", "['pyminicon-leaf']"]


def test_a_killed_launcher_is_replaced() -> None:
    lines = run(
        "session",
        """
import time
first = born(); old = tree.trees().place.launcher; os.kill(old, 9)
while open(f"/proc/{old}/stat").read().split()[2] != "Z": time.sleep(0.01)
print(os.path.dirname(born()) == os.path.dirname(first), tree.trees().place.launcher != old)
""",
    )
    assert lines == ["True True"]


OTHER_PROGRAM = """
import sys, time
for _ in range(6000):
    state = open(f"/proc/{sys.argv[1]}/stat").read().split()[2]
    if state == "Z": break
    time.sleep(0.01)
print(state)
"""


def test_the_launcher_ends_when_the_caller_becomes_another_program() -> None:
    lines = run(
        "session",
        f"""
import sys
born()
os.execv(sys.executable, [sys.executable, "-c", {OTHER_PROGRAM!r}, str(tree.trees().place.launcher)])
""",
    )
    assert lines == ["Z"]  # nobody but a parent that asks for all kinds of children can see it


def test_a_thread_that_is_sandboxed_gets_a_launcher_that_is() -> None:
    lines = run(
        "session",
        """
import ctypes
born(); old = tree.trees().place.launcher
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
born(); new = tree.trees().place.launcher
print(old != new, "NoNewPrivs:\\t1" in open(f"/proc/{new}/status").read())
""",
    )
    assert lines == ["True True"]


def test_templates_threads_and_loops_launch_by_the_launcher() -> None:
    lines = run(
        "session",
        """
import asyncio
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    print(len({os.path.dirname(where) for where in pool.map(lambda _: born(), range(32))}))
with pyminicon.Template(usage=True, cgroupns="host") as t:
    print(os.path.dirname(t.run(["cat", "/proc/self/cgroup"], capture_output=True, text=True).stdout.split("0::")[1].split()[0]) == tree.trees().place.directory.removeprefix("/sys/fs/cgroup"))
async def several():
    ran = await asyncio.gather(*(pyminicon.aio.run(["echo", str(n)], cpu_time=20, capture_output=True, text=True) for n in range(8)))
    return sorted(int(r.stdout) for r in ran) == list(range(8))
import pyminicon.aio
print(asyncio.run(several()))
""",
    )
    assert lines == ["1", "True", "True"]


@pytest.mark.parametrize("way", ["root session", "delegated service", "session", "no systemd"])
def test_a_dry_run_asks_for_no_scope_and_moves_nobody(way: str) -> None:
    before, after, places, asked = run(
        way,
        "from pyminicon.plan import build; from pyminicon.options.parse import parse\n"
        "print(inside()); made = build.build(parse(['true'], {'memory': '64M'}), dry=True); print(inside())\n"
        "print([os.fsdecode(row[0]) for row in made.fields['cgroup'][1]]); print(asked())",
    )
    assert before == after
    assert "/sys/fs/cgroup" in places
    assert asked == "[]"
