"""Jobs on a Ray cluster of two nodes. Run by ``make adapters``, in an environment that has ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.adapters.clusters import JOBS
from tests.support.processes import marked

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make networks")
@pytest.mark.skipif(not shutil.which("ip"), reason="needs ip")
def test_each_job_has_its_result_once_though_a_worker_of_two_nodes_is_killed() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # short: Ray's sockets lie in it
        done = subprocess.run(
            ["unshare", "-n", "--", sys.executable, "-m", "tests.adapters.two_ray_nodes", place],
            cwd=TOP, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["killed"] == 1, "no worker was killed"
        assert (sorted(told["jobs"]), told["wrong"]) == ([*range(JOBS)], [])
        first, second = told["stores"]
        assert len(first) == 1 and first == second, "each node worked, with the very image that was meant"
        assert not marked(place), "all processes have ended"
