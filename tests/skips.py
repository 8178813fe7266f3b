"""A pytest plugin: where everything should be there, a skipped test is a failed one.

Loaded with ``-p tests.skips`` (or from the top conftest) it does nothing unless
``PYMINICON_STRICT_SKIPS=1``. Then every skip, of a test or of a whole module, fails the run unless its reason
matches a line of KNOWN. That list is the only place where a missing test, in CI or on the emulated machines,
can be excused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

# (kernel release, who runs it, reason): the release as `uname -r` gives it and the text given to pytest.skip
# are regular expressions matched from the beginning; who is "root", "user" or "" for both.
KNOWN: tuple[tuple[str, str, str], ...] = (
    # What a kernel doesn't have can't be tested on it; the other kernel's run has it.
    (r"6\.1\.", "", r"needs Linux ([6-9]\.([2-9]|\d\d)|7\.\d+)"),
    (r"", "", r"needs cgroup v1"),
    # What a machine that isn't one of the emulated ones may lack; they have it.
    (r"(?!.*-amd64$)", "", r"needs (cgroup v2|CAP_SYS_RESOURCE|a machine)"),
    (r"", "", r"needs Python 3\.1[23]"),
    (r"", "", r"needs x32 calls"),
    (r"", "", r"needs (fish|zsh|groff or mandoc)"),
    # `make types` has it, in the environment that the other tools are in.
    (r"", "", r"needs basedpyright"),
    (r"", "user", r"needs root"),
    # Nor does anything give an ordinary user a cgroup where no systemd runs; the emulated machines do.
    (r"(?!.*-amd64$)", "user", r"needs a cgroup of the user's own"),
    (r"", "root", r"needs an ordinary user"),
    # Parts that the README doesn't name.
    (r"", "", r"needs (pasta|ip)$"),
    # The machine has no way out by design.
    (r"", "", r"needs the internet"),
)


def excused(reason: str, release: str, who: str) -> bool:
    """Whether KNOWN has a line for this reason, on this kernel, for "root" or "user"."""
    return any(
        re.match(kernel, release) and who_pattern in ("", who) and re.match(text, reason)
        for kernel, who_pattern, text in KNOWN
    )


def _here(reason: str) -> bool:
    return excused(reason, os.uname().release, "user" if os.geteuid() else "root")


def _strict() -> bool:
    return os.environ.get("PYMINICON_STRICT_SKIPS") == "1"


def _reason(report: Any) -> str:
    # A skip's longrepr is (path, line, "Skipped: reason").
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix("Skipped: ")


def _judge(report: Any) -> Any:
    if _strict() and report.skipped and not hasattr(report, "wasxfail"):
        reason = _reason(report)
        if not _here(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, and tests/skips.py doesn't know this reason: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _judge((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _judge((yield))
