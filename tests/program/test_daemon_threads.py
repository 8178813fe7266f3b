"""A program ends while daemon threads of its are in the core: its exit status is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.program.conftest import environment

CODE = """
import pyminicon, sys, threading, time
template = pyminicon.Template(stock=1) if {what!r} == 'template' else None
def wait():
    pyminicon.start(['/bin/sleep', '0.{ends}']).wait()
def run():
    while True:
        pyminicon.run(['/bin/true'])
def timed():
    while True:
        pyminicon.run(['/payload'], capture_output=True, timeout=60, image={image!r})
def template_run():
    while True:
        template.run(['/bin/true'])
pyminicon.run(['/bin/true'])
work = {{'wait': wait, 'run': run, 'timed': timed, 'template': template_run}}[{what!r}]
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1{ends})
sys.exit(7)
"""


def ends_well(what: str, times: int, image: Path) -> None:
    for number in range(times):
        made = subprocess.run(
            [sys.executable, "-c", CODE.format(what=what, ends=number % 12, image=str(image))],
            capture_output=True,
            env=environment(),
            text=True,
            timeout=60,
            check=False,
        )
        assert (made.returncode, made.stderr) == (7, ""), number


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("what", ["wait", "run", "timed", "template"])
def test_daemon_threads_in_the_core_don_t_change_the_exit_status(what: str, bare_rootfs: Path) -> None:
    ends_well(what, 8, bare_rootfs)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["wait", "run"])
def test_the_same_two_hundred_times(what: str, bare_rootfs: Path) -> None:
    ends_well(what, 200, bare_rootfs)
