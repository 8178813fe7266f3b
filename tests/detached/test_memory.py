"""What a keeper has in memory for itself, beside what all keepers share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.detached.conftest import Place, soon

MOST = 4 << 10  # KiB


def _own(pid: int) -> int:
    """KiB that nobody else has: of what is mapped from files, others of its kind share all."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))


def _bare() -> int:
    """The same of an interpreter that does nothing, where another one runs."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    two = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for one in two:
            assert one.stdout is not None and one.stdout.readline()
        return _own(two[0].pid)
    finally:
        for one in two:
            one.communicate()


def test_a_keeper_has_less_than_four_mebibytes_of_its_own(place: Place) -> None:
    for name in ("one", "two"):
        place.ok("run", "-d", "--name", name, "host", "sleep", "1000")
    pid = place.about("one")["KeeperPid"]
    for _ in range(3):
        place.ok("exec", "one", "true")
    # An interpreter that takes more by itself than CPython 3.11 does (2.8 MiB) is given that.
    most = MOST + max(_bare() - 2900, 0)
    assert _own(pid) <= most, Path(f"/proc/{pid}/smaps_rollup").read_text()


def test_nothing_that_plans_is_left_in_a_keeper(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    keeper = place.about("web")["KeeperPid"]

    def names() -> list[str]:
        found = []
        for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(Path(f"/proc/{child}/comm").read_text().strip())
        return found

    soon(lambda: "pyminicon-keep" not in names(), left=names)
    assert os.path.exists(f"/proc/{keeper}")
