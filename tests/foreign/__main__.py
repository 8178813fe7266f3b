"""CPython's own tests of subprocess, from the interpreter that runs this, with containers for children.

``python -m tests.foreign``: every test that isn't listed in DIFFERENT must pass, and every one that is must differ.
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

from tests.foreign import popen  # noqa: E402

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
    "test_user": "an id beyond all ids is a SpecError, a ValueError, where subprocess has an OverflowError",
    "test_stopped": "replaces os.waitpid, which a container isn't waited for by",
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


def main() -> int:
    popen.install()
    from test import test_subprocess

    suite = unittest.TestSuite()
    for name in CLASSES:
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(getattr(test_subprocess, name)))
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        result = unittest.TextTestRunner(verbosity=0, resultclass=Result).run(suite)
        os.chdir("/")
    bad = bad_names(result)
    skipped = {test.id().rpartition(".")[2]: reason for test, reason in result.skipped}
    for name in sorted(bad & DIFFERENT.keys()):
        print(f"different: {name}: {DIFFERENT[name]}")
    for name, reason in sorted(skipped.items()):
        print(f"skipped:   {name}: {reason}")
    wrong = sorted(bad - DIFFERENT.keys())
    alike = sorted((DIFFERENT.keys() & result.passed) - bad)
    print(
        f"{len(result.passed - bad)} passed, {len(bad & DIFFERENT.keys())} different, {len(skipped)} skipped"
    )
    print(f"failed: {', '.join(wrong) or 'none'}; listed as different and pass: {', '.join(alike) or 'none'}")
    return 1 if wrong or alike else 0


if __name__ == "__main__":
    sys.exit(main())
