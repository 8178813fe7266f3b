"""Jobs on a Dask cluster of two nodes. Run by ``make adapters``, in an environment that has distributed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.clusters import JOBS
from tests.adapters.two_nodes import ADDRESSES
from tests.support.processes import marked

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make networks")
@pytest.mark.skipif(not shutil.which("ip"), reason="needs ip")
def test_each_job_has_its_result_once_though_a_worker_of_two_nodes_is_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-n", "--", sys.executable, "-m", "tests.adapters.two_nodes", str(tmp_path)],
        cwd=TOP, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["killed"] == 1, "no worker was killed"
    assert (sorted(told["jobs"]), told["wrong"]) == ([*range(JOBS)], [])
    assert told["batches"].keys() == {*ADDRESSES}, "both nodes had work"
    assert told["sent"] == dict.fromkeys(ADDRESSES, 1), "the image went to each node once"
    first, second = told["stores"]
    assert len(first) == 1 and first == second, "each has the very image that was meant"
    assert not marked(str(tmp_path)), "all processes have ended"
