"""``--in-container``: each test runs in a container of its own, by the pytest that is installed here.

Inside, the same pytest runs the one test and writes its reports; outside they are told as if the test had run here.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pyminicon

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where the pytest inside puts its reports; it is told so by its environment.
_REPORTS = "/tmp/.pyminicon-reports.json"
_VARIABLE = "PYMINICON_REPORTS"
#: What says how pytest starts. Nothing else of the caller's environment is inside.
_KEPT = ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS")


class Plugin:
    """On both sides: it stands in for pytest's own way to run a test."""

    def __init__(self, config: pytest.Config, options: Callable[[pytest.Item], dict[str, Any]]) -> None:
        self._config = config
        self._options = options
        self._inside = os.environ.get(_VARIABLE)
        self._reports: list[Any] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._inside:
            self._reports.append(
                self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
            )

    def pytest_sessionfinish(self) -> None:
        if self._inside:
            with open(self._inside, "w", encoding="utf-8") as file:
                json.dump(self._reports, file)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if self._inside:
            return None  # the real way
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._run(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, item: pytest.Item) -> list[pytest.TestReport]:
        result = pyminicon.run(self._words(item), **self._box(item))
        data = (result.files or {}).get(_REPORTS)
        if data is None:
            return [_crashed(item, result)]
        return [self._restored(row) for row in json.loads(data)]

    def _restored(self, row: dict[str, Any]) -> pytest.TestReport:
        report: pytest.TestReport
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=row)
        if isinstance(report.longrepr, list):  # where and why it was skipped: JSON has no tuples
            path, line, reason = report.longrepr
            report.longrepr = (path, line, reason)
        return report

    def _words(self, item: pytest.Item) -> list[str]:
        words = [sys.executable, "-m", "pytest", "--in-container", "-p", "no:cacheprovider"]
        plugins = self._config.pluginmanager
        if not plugins.has_plugin("pyminicon"):  # it was named, not found by its entry point
            words += ["-p", "pyminicon.adapters.pytest"]
        if plugins.has_plugin("xdist"):
            words += ["-n0"]
        if self._config.inipath is not None:
            words += ["-c", str(self._config.inipath)]
        return [*words, "--rootdir", str(self._config.rootpath), item.nodeid]

    def _box(self, item: pytest.Item) -> dict[str, Any]:
        options = {"image": "python", **self._options(item)}
        root = str(self._config.rootpath)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env = {"PYTHONDONTWRITEBYTECODE": "1", **kept, **options.pop("env", {}), _VARIABLE: _REPORTS}
        options["volumes"] = [*options.get("volumes", ()), (root, root, "ro")]
        options["collect"] = [*options.get("collect", ()), _REPORTS]
        return {**options, "env": env, "cwd": root, "capture_output": True, "text": True, "errors": "replace"}


def _crashed(item: pytest.Item, result: pyminicon.Result[str]) -> pytest.TestReport:
    """The test took its interpreter with it, or a limit ended the container."""
    how = f"limit {result.limit}" if result.limit else f"returncode {result.returncode}"
    told = f"{item.nodeid}: its container ended without a report ({how})\n{result.stdout}{result.stderr}"
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=told,
        when="call",
    )
