"""Jobs on a Ray cluster of two processors. Run by ``make adapters``, in an environment that has ray."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import pyminicon
from pyminicon.adapters import ray as boxes
from tests.adapters.clusters import *  # noqa: F403
from tests.adapters.clusters import Spread, marked, new_mark, wait_for
from tests.adapters.page import programs


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    kept = {name: os.environ.get(name) for name in ("HOME", "PYMINICON_STORE")}
    os.environ.update(HOME=str(home), PYMINICON_STORE=str(home / "node"), RAY_AUTH_MODE="disabled")
    ray.init(
        num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False, object_store_memory=100 << 20
    )  # fmt: skip
    for name, value in kept.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    yield
    ray.shutdown()


@pytest.fixture
def spread() -> Spread:
    return boxes.map


def test_a_task_and_an_actors_method_say_a_job() -> None:
    @ray.remote
    @boxes.job(memory="64M", text=True)
    def judge(name: str, more: str = "") -> list[str]:
        return ["echo", name + more]

    @ray.remote(num_cpus=0)
    class Judge:
        @boxes.job(hostname="actor", text=True)
        def judge(self, line: str) -> object:
            return ["sh", "-c", line], {"env": {"A": "b"}}

    results = ray.get([judge.remote(str(n), more="!") for n in range(3)])
    assert [r.stdout for r in results] == ["0!\n", "1!\n", "2!\n"]
    assert ray.get(Judge.remote().judge.remote("uname -n; echo $A")).stdout == "actor\nb\n"


def test_rays_cancel_ends_the_container() -> None:
    mark = new_mark()

    @ray.remote
    @boxes.job()
    def sleep() -> list[str]:
        return ["sleep", mark]

    task = sleep.remote()
    assert wait_for(lambda: marked(mark))
    ray.cancel(task, force=False)
    assert wait_for(lambda: not marked(mark))
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(task)


def test_a_cancel_in_the_moment_of_the_start_ends_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(cancel: pyminicon.Cancel) -> None:
        begun.set()
        wait_for(lambda: cancel.cancelled)
        if cancel.cancelled:
            ended.set()

    class Slow(threading.Thread):
        def start(self) -> None:
            super().start()
            begun.wait()
            raise KeyboardInterrupt  # as Ray's interrupt comes there

    monkeypatch.setattr(threading, "Thread", Slow)
    with pytest.raises(KeyboardInterrupt):
        boxes._interruptible(work)
    assert ended.wait(60)


def test_what_is_no_option_is_refused_where_it_stands() -> None:
    with pytest.raises(pyminicon.SpecError, match="memory"):
        boxes.job(memroy="1G")


def test_an_async_function_is_no_job() -> None:
    with pytest.raises(TypeError, match="plain function"):

        @boxes.job()
        async def judge() -> list[str]:
            return ["true"]


def test_memory_and_cpus_are_asked_of_the_scheduler(tmp_path: Path) -> None:
    cancel = boxes.Cancel()
    results = boxes.map([["true"]], cpus=64, cancel=cancel)  # more than there are
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    cancel.cancel()
    with pytest.raises(Exception, match="cancelled"):
        list(results)


def test_the_pages_program_prints_every_square(tmp_path: Path) -> None:
    _, program = programs("Dask and Ray")
    (tmp_path / "squares.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "squares.py"], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    told = done.stdout.splitlines()
    assert sorted(told[:100]) == sorted(f"{n} 0 {n * n}" for n in range(100)), done.stderr
    assert told[100:] == ["0 10201", "0 10404"]
