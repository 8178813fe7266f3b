"""Subinterpreters, and a build without the GIL: containers from each, none disturbed by the others."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable

import pytest

from tests.program.conftest import Program

Start = Callable[..., Program]

# The low-level module has had three names; its isolated configuration is the one with a GIL of its own.
COMMON = """
import sys, threading
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters
def in_one(code):
    one = interpreters.create()
    try:
        if sys.version_info >= (3, 13):
            failed = interpreters.exec(one, code)
        else:
            failed = interpreters.run_string(one, code)
        assert not failed, failed
    finally:
        interpreters.destroy(one)
RUN = f'''
import sys
sys.path[:] = {sys.path!r}
import pyminicon
for n in range(3):
    r = pyminicon.run(['/bin/echo', str(n)], capture_output=True, text=True)
    assert r.stdout == f'{{n}}\\\\n', r
try:
    pyminicon.run(['/no/such'])
    raise AssertionError
except pyminicon.LaunchError as error:
    assert error.stage == 'exec'
with pyminicon.start(['/bin/sleep', '600'], wall_time=600) as box:
    assert box.poll() is None
assert box.returncode == -9
'''
"""


@pytest.fixture(autouse=True)
def _has_interpreters(request: pytest.FixtureRequest) -> None:
    if "GIL" not in request.node.name and sys.version_info < (3, 12):
        pytest.skip("needs Python 3.12 for interpreters with a GIL of their own")


def test_containers_from_one_interpreter_after_another(program: Start) -> None:
    running = program(
        COMMON
        + "import pyminicon; pyminicon.run(['/bin/true'])\nfor _ in range(3): in_one(RUN)\nin_one(RUN)\nprint('well')"
    )
    assert running.end() == (0, "well\n")


def test_containers_from_interpreters_that_never_met_the_main_one(program: Start) -> None:
    running = program(
        COMMON
        + "in_one(RUN)\nimport pyminicon\nassert pyminicon.run(['/bin/true']).returncode == 0\nprint('well')"
    )
    assert running.end() == (0, "well\n")


def test_interpreters_launch_side_by_side(program: Start) -> None:
    running = program(COMMON + """
failures = []
def work():
    try:
        in_one(RUN)
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failures, failures
print('well')
""")  # fmt: skip
    assert running.end() == (0, "well\n")


def test_an_interpreter_that_ends_takes_its_containers_along(program: Start, mark: str) -> None:
    running = program(COMMON + """
in_one(RUN + f"box = pyminicon.start(['/bin/sleep', {MARK!r}])\\n")
print('ended', flush=True)
input()
""", stdin=-1)  # fmt: skip
    from tests.program.conftest import gone_after

    assert running.line() == "ended"
    assert gone_after(mark) is not None


def test_without_the_GIL_it_stays_off(program: Start) -> None:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("needs Python 3.13t or later, built without the GIL")
    running = program("""
import sys, threading, pyminicon
def work():
    for n in range(20):
        assert pyminicon.run(['/bin/echo', str(n)], capture_output=True, text=True).stdout == f'{n}\\n'
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sys._is_gil_enabled())
""")  # fmt: skip
    assert running.end() == (0, "False\n")
