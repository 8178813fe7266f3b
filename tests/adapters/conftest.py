"""Says what of a framework's own suite was collected, passed and skipped, and why."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

_foreign = pytest.StashKey[dict[str, str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    suites = {}
    for item in session.items:
        function = getattr(item, "function", None)
        code = getattr(function, "__code__", None)
        if code is not None and "site-packages" in Path(code.co_filename).parts:
            suites[item.nodeid] = function.__module__
    session.config.stash[_foreign] = suites


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    suites = config.stash.get(_foreign, {})
    counts: dict[str, collections.Counter[str]] = {}
    reasons: list[str] = []
    for module in suites.values():
        counts.setdefault(module, collections.Counter())["collected"] += 1
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            module = suites.get(report.nodeid)
            if module is not None:
                counts[module][outcome] += 1
                if outcome == "skipped":
                    reasons.append(f"{report.nodeid}: {report.longrepr}")
    for module, count in counts.items():
        told = ", ".join(f"{count[name]} {name}" for name in ("collected", "passed", "failed", "skipped"))
        terminalreporter.write_line(f"{module}: {told}")
    for reason in reasons:
        terminalreporter.write_line(f"  skipped: {reason}")
