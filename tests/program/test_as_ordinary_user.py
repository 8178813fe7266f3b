"""The same tests once more as an ordinary user: what a program does with containers needs no root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

#: One run each: whatever is parametrised by moments is tried at all of them as root.
CHOSEN = [
    "test_aio.py", "test_aio_beside.py", "test_aio_streams.py", "test_communicate.py", "test_sigchld.py", "test_interrupt.py",
    "test_forks.py", "test_death.py::test_whatever_kind_it_is", "test_threads.py::test_32_threads_launch_at_once",
    "test_death.py::test_workers_that_hold_copies_of_the_programs_descriptors_keep_nothing_alive",
    "test_guards.py::test_a_guard_that_dies_is_replaced_at_once_and_nothing_ends",
    "test_threads.py::test_10_000_descriptors_and_a_thread_that_opens_more_leak_nothing",
]  # fmt: skip


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("which", CHOSEN)
@pytest.mark.slow
def test_it_holds_without_root(which: str, as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become an ordinary user")
    here = os.path.dirname(os.path.abspath(__file__))
    # The slow ones as well: these names were chosen.
    code = f"""
import os, sys, pytest
os.chdir({here!r})
options = ['-q', '-x', '-o', 'addopts=--strict-markers', '-p', 'no:cacheprovider', '--basetemp', os.path.join(os.environ.get('HOME', '/tmp'), 'base')]
sys.exit(pytest.main([*options, {which!r}]))
"""
    ran = as_user(code, timeout=240)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
