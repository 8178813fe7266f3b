"""CPython's own tests of subprocess, and of asyncio's, from the interpreter that runs this, with containers for
children.

``python -m tests.foreign [subprocess] [asyncio]``: every test that isn't listed as different must pass, and every one
that is must differ.
"""

from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
if not list((TOP / "pyminicon").glob("_core*.so")):  # not built in place: the installed one is meant
    sys.path[:] = [path for path in sys.path if path not in ("", str(TOP))]
    sys.path.append(str(TOP))

from tests.foreign import loop, popen  # noqa: E402

CLASSES = ("ProcessTestCase", "RunFuncTestCase", "POSIXProcessTestCase", "ContextManagerTests")

_INNER = "looks at Popen's inner parts, which a container doesn't have"
_MOCK = "replaces a stream or a function of Popen's by a mock"
#: What differs, and why; by the test's name.
DIFFERENT = {
    "test__use_vfork": _INNER,
    "test_repr": _INNER,
    "test_failed_child_execute_fd_leak": _INNER,
    "test_exception_errpipe_bad_data": _INNER,
    "test_exception_errpipe_normal": _INNER,
    "test_send_signal_race2": _INNER,
    "test_leak_fast_process_del_killed": _INNER,
    "test_zombie_fast_process_del": _INNER,
    "test_communicate_BrokenPipeError_stdin_close": _MOCK,
    "test_communicate_BrokenPipeError_stdin_close_with_timeout": _MOCK,
    "test_communicate_BrokenPipeError_stdin_flush": _MOCK,
    "test_communicate_BrokenPipeError_stdin_write": _MOCK,
    "test_run_with_pathlike_path": "a program's path may be a path object alone: more is taken, nothing less",
    "test_group": "an id beyond all ids is a SpecError, a ValueError, where subprocess has an OverflowError",
    "test_extra_groups": "a user's own group stays among the groups, as in docker since CVE-2022-36109",
    "test_user": "an id beyond all ids is a SpecError, a ValueError, where subprocess has an OverflowError",
    "test_stopped": "replaces os.waitpid, which a container isn't waited for by",
}

DIFFERENT_ON_A_LOOP = {
    "test_pause_reading": "looks at asyncio's own transport of a pipe, which a container's stream hasn't",
    "test_popen_error": "replaces subprocess.Popen by a mock that fails, and a container is no Popen",
    "test_popen_error_with_stdin_pipe": "replaces subprocess.Popen by a mock that fails, and a container is no Popen",
}
_TRANSPORT = "asks the loop for its own transport of a child process: passes, and no container is in it"
#: They would pass without us: not run, not counted.
NOT_OURS = {
    "test_cancel_post_init": _TRANSPORT,
    "test_close_kill_running": _TRANSPORT,
    "test_close_dont_kill_finished": _TRANSPORT,
}


class Result(unittest.TextTestResult):
    """Which tests passed, failed and were skipped, by name."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.passed: set[str] = set()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.add(test._testMethodName)


def bad_names(result: Result) -> set[str]:
    found = set()
    for test, _ in [*result.failures, *result.errors]:
        whole = getattr(test, "test_case", test)  # of a subtest
        found.add(getattr(whole, "_testMethodName", str(whole)))
    return found


def of_subprocess() -> unittest.TestSuite:
    popen.install()
    from test import test_subprocess

    suite = unittest.TestSuite()
    for name in CLASSES:
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(getattr(test_subprocess, name)))
    return suite


def of_asyncio() -> unittest.TestSuite:
    """Those of a child process's life, on a loop of each test's own. The classes for each kind of asyncio's child
    guard are this one once more: a container has a pidfd, and no guard."""
    import asyncio

    loop.install()
    from test.test_asyncio import test_subprocess, utils

    class OnALoop(test_subprocess.SubprocessMixin, utils.TestCase):  # type: ignore[misc]
        def setUp(self) -> None:
            super().setUp()
            self.loop = asyncio.new_event_loop()
            self.set_event_loop(self.loop)

    for name, why in NOT_OURS.items():
        print(f"left out:  {name}: {why}")
    names = unittest.defaultTestLoader.getTestCaseNames(OnALoop)
    return unittest.TestSuite(OnALoop(name) for name in names if name not in NOT_OURS)


def judge(what: str, suite: unittest.TestSuite, different: dict[str, str]) -> bool:
    """Runs it and prints what differs; whether all is as listed."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        result = unittest.TextTestRunner(verbosity=0, resultclass=Result).run(suite)
        os.chdir("/")
    bad = bad_names(result)
    skipped = {test.id().rpartition(".")[2]: reason for test, reason in result.skipped}
    for name in sorted(bad & different.keys()):
        print(f"different: {name}: {different[name]}")
    for name, reason in sorted(skipped.items()):
        print(f"skipped:   {name}: {reason}")
    wrong = sorted(bad - different.keys())
    alike = sorted((different.keys() & result.passed) - bad)
    counts = (
        f"{len(result.passed - bad)} passed, {len(bad & different.keys())} different, {len(skipped)} skipped"
    )
    print(f"{what}: {counts}")
    print(f"failed: {', '.join(wrong) or 'none'}; listed as different and pass: {', '.join(alike) or 'none'}")
    return not wrong and not alike


def main() -> int:
    chosen = sys.argv[1:] or ["subprocess", "asyncio"]
    good = True
    if "asyncio" in chosen:  # its tests need the real Popen
        good = judge("test_asyncio", of_asyncio(), DIFFERENT_ON_A_LOOP)
    if "subprocess" in chosen:
        good = judge("test_subprocess", of_subprocess(), DIFFERENT) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
