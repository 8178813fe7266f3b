"""What a killed program's containers had on the machine is gone within seconds, without anybody's next launch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program.conftest import Program, gone_after
from tests.support.waiting import soon

Start = Callable[..., Program]

BOXES = """
import pyminicon, time
sleep = ['/bin/sleep', MARK]
busy = ['/bin/sh', '-c', 'cd /tmp; while :; do mkdir -p a/b; echo x > a/b/c; mv a/b d; rm -r d; done; : ' + MARK]
boxes = [pyminicon.start(what, **options) for what, options in OPTIONS]
print('there', flush=True)
time.sleep(600)
"""
LIMITED = """
OPTIONS = [(sleep, {'memory': '64M'}), (sleep, {'pids': 20, 'cpus': 0.5}), (sleep, {'usage': True, 'init': True}),
           (sleep, {'memory': '64M', 'userns': 'private'}), (busy, {'pids': 50}), (sleep, {'memory': '64M', 'pid': 'host'}),
           (sleep, {'cpuset': '0'}), (busy, {'memory': '32M', 'user': '1000'})]
"""
ON_DISK = """
deep = ['/bin/sh', '-c', 'cd /tmp; i=0; while [ $i -lt 400 ]; do mkdir d; cd d; : > f; i=$((i+1)); done; '
        'mkdir /tmp/shut; : > /tmp/shut/in; chmod 0 /tmp/shut; ln -s /etc/hosts /tmp/link; echo ready; exec sleep ' + MARK]
OPTIONS = [(sleep, {'storage': 'disk'}), (busy, {'storage': 'disk'}), (sleep, {'storage': 'disk', 'init': True})]
"""


def cgroups_of(pid: int) -> list[str]:
    found = []
    for root, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{root}/{name}" for name in names if name.startswith("pyminicon-") and f"-{pid}-" in name]
    return found


def boxes(options: str, then: str = "") -> str:
    head, _, tail = BOXES.partition("boxes = ")
    return head + options + "boxes = " + tail.replace("print(", then + "print(", 1)


@pytest.mark.slow_in_vm
def test_cgroups_of_a_killed_program_go_by_themselves(program: Start, mark: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: cgroups may be nobody else's")
    running = program(boxes(LIMITED, "boxes[0].freeze()\n"))
    assert running.line() == "there"
    pid = running.process.pid
    assert len(cgroups_of(pid)) >= 8
    running.process.kill()
    running.process.wait()
    assert gone_after(mark, 3) is not None
    assert soon(lambda: not cgroups_of(pid), 30), cgroups_of(pid)


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("victim", ["nobody", "elder", "younger"])
def test_layers_of_a_killed_program_go_by_themselves(
    program: Start, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    from tests.support.guards import guards_of

    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "store"))
    made = "box = pyminicon.start(deep, storage='disk', stdout=pyminicon.PIPE)\nassert box.stdout.readline() == b'ready\\n'\n"
    running = program(boxes(ON_DISK, made))
    assert running.line() == "there"
    place = tmp_path / "store/scratch"
    assert len(list(place.iterdir())) == 4
    keeper = program(boxes("OPTIONS = [(sleep, {'storage': 'disk'})]\n"))  # another program's stays
    assert keeper.line() == "there"
    guards = guards_of(running.process.pid)
    parent = {int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]): one for one in guards}
    younger = next(child for above, child in parent.items() if above in guards)
    running.process.kill()
    if victim != "nobody":
        chosen = younger if victim == "younger" else next(one for one in guards if one != younger)
        os.kill(chosen, signal.SIGKILL)
    running.process.wait()
    assert soon(lambda: len(list(place.iterdir())) == 1, 60), list(place.iterdir())
    assert "hosts" in os.listdir("/etc")
    keeper.process.kill()
    keeper.process.wait()
    assert soon(lambda: not list(place.iterdir()), 60)
