"""For who watches: audit events, the log of a program that has one, warnings for what was dropped."""

from __future__ import annotations

import gc
import warnings

import pytest

import pyminicon
from pyminicon import container
from tests.support.python import fresh

HOOK = """
import asyncio, sys
heard = []
sys.addaudithook(lambda event, args: heard.append((event, *args)) if event.startswith("pyminicon.") else None)
import pyminicon
pyminicon.run(["true"])
with pyminicon.start(["true"], image="host") as box:
    box.wait()
with pyminicon.Template(image="host") as template:
    template.run(["true"])
    template.start(["true"]).close()
asyncio.run(pyminicon.aio.run(["true"]))
async def started():
    async with await pyminicon.aio.start(["true"]) as box:
        await box.wait()
asyncio.run(started())
print(heard == [("pyminicon.run", ["true"], "host")] * 6)
"""


def test_each_launch_is_an_audit_event() -> None:
    assert fresh(HOOK).stdout.splitlines()[0] == "True"


def test_a_hook_that_raises_forbids_it() -> None:
    code = """
import sys, pyminicon
def hook(event, args):
    if event == "pyminicon.run":
        raise PermissionError(args[0][0])
sys.addaudithook(hook)
try:
    pyminicon.run(["true"])
except PermissionError as error:
    print(error)
"""
    assert fresh(code).stdout == "true\n"


def test_a_pull_is_an_audit_event() -> None:
    code = """
import sys
heard = []
sys.addaudithook(lambda event, args: heard.append(args) if event == "pyminicon.pull" else None)
from pyminicon.images.puller import pull
try:
    pull(None, "localhost:1/none:1")
except Exception:
    pass
print(heard)
"""
    assert fresh(code).stdout == "[('localhost:1/none:1',)]\n"
    # Once, by whichever way.
    by_name = code.replace("from pyminicon.images.puller import pull", "from pyminicon import pull").replace(
        "None, ", ""
    )
    assert fresh(by_name).stdout == "[('localhost:1/none:1',)]\n"


def test_a_program_that_logs_is_told_and_no_other_loads_the_module() -> None:
    code = """
import sys, pyminicon
pyminicon.run(["true"])
print("logging" in sys.modules)
import logging
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s: %(message)s")
pyminicon.run(["true"])
"""
    assert fresh(code).stdout == "False\npyminicon: run ['true'] in 'host'\n"


def test_who_drops_a_running_container_is_warned_and_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    box = pyminicon.start(["sleep", "60"])
    handle, name = box._handle, box.id
    with pytest.warns(ResourceWarning, match=f"{name} is still running"):
        del box
        gc.collect()
    assert handle.poll() is None
    handle.end()
    monkeypatch.setattr(container, "_burial", 0)
    container._bury()
    assert handle.poll() == (-9, None)


def test_who_has_ended_or_closed_it_is_not_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pyminicon.start(["sleep", "60"]):
            pass
        box = pyminicon.start(["true"])
        box.wait()
        del box
        pyminicon.start(["true"]).close()
        gc.collect()


def test_leaving_the_interpreter_is_no_reason_to_warn() -> None:
    r = fresh("import pyminicon\nbox = pyminicon.start(['sleep', '60'])\n")
    assert (r.returncode, r.stderr) == (0, "")
