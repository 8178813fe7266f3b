"""Jobs on a Dask cluster of two processes. Run by ``make adapters``, in an environment that has distributed."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask import config as dask_config
from distributed import Client, LocalCluster

from pyminicon.adapters import dask
from tests.adapters.clusters import *  # noqa: F403
from tests.adapters.clusters import Spread, losing_workers_of, marked, new_mark, wait_for
from tests.adapters.page import programs


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    # Dask's own tries would take a restart each before the adapter's begin.
    dask_config.set({"distributed.scheduler.allowed-failures": 0})
    made = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        local_directory=str(tmp_path_factory.mktemp("dask")), resources={"memory": 1 << 30},
        env={"PYMINICON_STORE": str(tmp_path_factory.mktemp("node") / "store")},
    )  # fmt: skip
    with made:
        yield made


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as made:
        made.wait_for_workers(2, timeout=120)  # the test before may have killed one
        yield made


@pytest.fixture
def spread(client: Client) -> Spread:
    return functools.partial(dask.map, client)


def test_a_client_that_goes_takes_its_containers_along(cluster: LocalCluster) -> None:
    mark = new_mark()
    client = Client(cluster)
    results = dask.map(client, [["true"], ["sleep", mark]])
    next(results)
    assert wait_for(lambda: marked(mark))
    client.close()
    assert wait_for(lambda: not marked(mark))


def test_what_waits_in_a_lost_workers_queue_has_not_begun(client: Client) -> None:
    """All workers are lost, again and again, with the second half of the jobs in their queues."""
    marks = [new_mark(), new_mark()]
    jobs = [["sleep", mark] for mark in marks] + [["echo", str(number)] for number in range(20)]
    with losing_workers_of(*marks):
        results = [*dask.map(client, jobs, text=True, retries=1, return_exceptions=True, ordered=True)]
    assert [type(r) for r in results[:2]] == [dask.WorkerLost] * 2
    assert [r.stdout for r in results[2:]] == [f"{number}\n" for number in range(20)]


def test_memory_is_asked_of_workers_that_declare_it(client: Client) -> None:
    (result,) = dask.map(client, [["true"]], memory="512M")
    assert result.returncode == 0
    results = dask.map(client, [["true"]] * 2, memory="2G", cancel=(cancel := dask.Cancel()))
    threads = client.submit(lambda: 1)
    assert threads.result() == 1
    cancel.cancel()
    with pytest.raises(Exception, match="cancelled"):
        list(results)


def test_what_is_no_option_is_refused_before_anything_is_asked(client: Client) -> None:
    for options, said in (
        ({"memroy": "1G"}, "memory"), ({"stdout": 1}, "PIPE, STDOUT or DEVNULL"), ({"pass_fds": [0]}, "one process"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            dask.map(client, [["true"]], **options)


def test_the_pages_program_prints_every_square(tmp_path: Path) -> None:
    program, _ = programs("Dask and Ray")
    (tmp_path / "squares.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "squares.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(f"{n} 0 {n * n}" for n in range(100)), done.stderr
