"""How long is fuzzed: FUZZ_SECONDS in all, each test its share of them and once at least."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Calls a test again and again: hypothesis makes new examples at every call."""
    tests = sum(item.path.parent == HERE for item in pyfuncitem.session.items)
    deadline = time.monotonic() + SECONDS / tests
    result = yield
    fixtures = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    while time.monotonic() < deadline:
        pyfuncitem.obj(**fixtures)
    return result
