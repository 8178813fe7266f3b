"""A program of gevent's: while one greenlet waits for a container, the others run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.program.conftest import Program, gone_after

pytest.importorskip("gevent", reason="needs gevent, a package of PyPI")

Start = Callable[..., Program]

PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent, pyminicon, time
rounds = 0
def beat():
    global rounds
    while True:
        gevent.sleep(0.01)
        rounds += 1
beating = gevent.spawn(beat)
def meanwhile(call):
    before, begun = rounds, time.monotonic()
    answer = call()
    took = time.monotonic() - begun
    return answer, rounds - before > took / 0.01 / 10
"""


def test_other_greenlets_run_while_one_waits(program: Start) -> None:
    running = program(PATCHED + """
sleep = ["/bin/sleep", "0.5"]
print(meanwhile(lambda: pyminicon.run(sleep).returncode))
with pyminicon.Template() as template:
    print(meanwhile(lambda: template.run(sleep).returncode))
with pyminicon.start(sleep, stdout=-1) as box:
    print(meanwhile(box.wait))
with pyminicon.start(sleep, stdout=-1) as box:
    print(meanwhile(box.communicate))
with pyminicon.start(["/bin/sleep", "60"]) as box:
    try:
        box.wait(0.1)
    except pyminicon.TimeoutExpired:
        print("timeout")
try:
    pyminicon.run(["/nope"])
except pyminicon.LaunchError as error:
    print(error.stage)
""")  # fmt: skip
    assert running.end() == (0, "(0, True)\n" * 3 + "((b'', None), True)\ntimeout\nexec\n")


@pytest.mark.parametrize("way", ["pyminicon", "template"])
def test_whose_greenlet_is_killed_has_its_container_ended(program: Start, mark: str, way: str) -> None:
    running = program(PATCHED + f"""
template = pyminicon.Template()
one = gevent.spawn({way}.run, ["/bin/sleep", MARK])
gevent.sleep(0.5)
begun = time.monotonic()
one.kill()
print(time.monotonic() - begun < 5, flush=True)
gevent.sleep(1)
print("here", flush=True)
input()
""", stdin=-1)  # fmt: skip
    assert (running.line(), running.line()) == ("True", "here")
    assert gone_after(mark) is not None


def test_a_cancel_ends_what_a_greenlet_waits_for(program: Start, mark: str) -> None:
    running = program(PATCHED + f"""
cancel = pyminicon.Cancel()
gevent.spawn_later(0.3, cancel.cancel)
try:
    pyminicon.run(["/bin/sleep", {mark!r}], cancel=cancel)
except pyminicon.Cancelled:
    print("cancelled")
again = pyminicon.Cancel()
print(pyminicon.run(["/bin/true"], cancel=again).returncode)
""")  # fmt: skip
    assert running.end() == (0, "cancelled\n0\n")
    assert gone_after(mark) is not None
