"""What holds on any cluster; `with_dask` and `with_ray` bring one, as the fixture ``spread``."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.adapters.jobs import WorkerLost
from tests.images import tars
from tests.support.processes import marked

Spread = Callable[..., Iterator[Any]]
#: 10,000 by hand.
JOBS = int(os.environ.get("PYMINICON_TEST_JOBS", "400"))
PATIENCE = float(os.environ.get("PATIENCE", "60"))

_marks = iter(range(1, 1000))


def new_mark() -> str:
    """A word for sleep(1) that no other process of this machine has."""
    return f"97.{os.getpid()}{next(_marks):03}"


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def words_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def alive(pid: int) -> bool:
    """A zombie isn't: it has lost its parent, and how soon a machine's own init looks after such is its affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def losing_workers_of(*marks: str) -> Iterator[None]:
    """Whatever worker runs a program with one of these marks is killed, again and again."""
    going = True

    def kill() -> None:
        while going:
            for pid in [pid for mark in marks for pid in marked(mark)]:
                try:
                    os.kill(parent_of(pid), 9)
                except (OSError, ValueError):
                    continue
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        going = False
        killer.join()


def cgroups_of(pid: int) -> list[str]:
    return [
        f"{root}/{name}" for root, names, _ in os.walk("/sys/fs/cgroup") for name in names
        if name.startswith("pyminicon-") and f"-{pid}-" in name
    ]  # fmt: skip


def kill_the_worker_of(mark: str) -> tuple[int, list[int]]:
    """Kills the worker whose container shows ``mark``; its pid and those of its containers."""
    # Not the shell that has the word in its line: what it does before the sleep is still to come.
    (inside, *_) = wait_for(lambda: [pid for pid in marked(mark) if words_of(pid)[:1] == [b"sleep"]])
    worker = parent_of(inside)
    own = [pid for pid in marked(mark) if parent_of(pid) == worker]
    os.kill(worker, 9)
    return worker, own


def test_each_job_has_its_result_once_though_a_worker_is_killed(spread: Spread, tmp_path: Path) -> None:
    mark = new_mark()
    os.chmod(tmp_path, 0o777)
    jobs = [["echo", str(number)] for number in range(JOBS)]
    jobs[40] = ["sh", "-c", f"mkdir /out/first && exec sleep {mark}; echo 40"]
    killed: list[Any] = []
    killer = threading.Thread(target=lambda: killed.append(kill_the_worker_of(mark)))
    killer.start()
    results = list(spread(jobs, text=True, volumes=[f"{tmp_path}:/out"]))
    killer.join()
    assert killed, "no worker was killed"
    assert sorted(r.job for r in results) == list(range(JOBS))
    assert [r for r in results if r.stdout != f"{r.job}\n"] == []


def test_a_killed_workers_containers_are_gone_and_its_cgroups(spread: Spread) -> None:
    mark = new_mark()
    cancel = pyminicon.Cancel()
    seen: dict[str, Any] = {}

    def end() -> None:
        worker, inside = kill_the_worker_of(mark)
        seen["gone"] = wait_for(lambda: not any(map(alive, inside)))
        seen["cgroups"] = wait_for(lambda: not cgroups_of(worker))
        seen["again"] = wait_for(lambda: marked(mark))
        cancel.cancel()

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(pyminicon.Cancelled):
        list(spread([["sleep", mark]], memory="64M", cancel=cancel))
    ender.join()
    assert seen["gone"] and seen["cgroups"] and seen["again"]
    assert wait_for(lambda: not marked(mark))


def test_a_job_that_loses_its_worker_each_time_is_given_up(spread: Spread) -> None:
    mark = new_mark()
    with losing_workers_of(mark):
        results = spread(
            [["sleep", mark], ["echo", "x"]], text=True, retries=1, return_exceptions=True, ordered=True
        )
        first, second = results
    assert isinstance(first, WorkerLost) and first.job == 0
    assert "job 0: its worker was lost 2 times" in str(first)
    assert second.stdout == "x\n" and second.job == 1


def test_a_program_that_failed_is_not_tried_again(spread: Spread, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    job = ["sh", "-c", "echo ran >> /out/log; exit 3"]
    (result,) = spread([job], volumes=[f"{tmp_path}:/out"])
    assert result.returncode == 3
    (error,) = spread([job], volumes=[f"{tmp_path}:/out"], check=True, return_exceptions=True)
    assert isinstance(error, pyminicon.CalledProcessError) and error.returncode == 3
    assert (tmp_path / "log").read_text() == "ran\n" * 2


def test_an_error_is_raised_and_the_rest_ends(spread: Spread) -> None:
    mark = new_mark()
    with pytest.raises(FileNotFoundError, match="no-such-program") as caught:
        list(spread([["no-such-program"], ["sleep", mark]]))
    assert caught.value.job == 0  # type: ignore[attr-defined]
    assert wait_for(lambda: not marked(mark))


def test_leaving_the_iterator_ends_the_containers(spread: Spread) -> None:
    mark = new_mark()
    results = spread([["true"], ["sleep", mark], ["sleep", mark]])
    assert next(results).job == 0
    assert wait_for(lambda: marked(mark))
    results.close()  # type: ignore[attr-defined]
    assert wait_for(lambda: not marked(mark))


def test_results_come_in_order_on_request(spread: Spread) -> None:
    jobs = [(["cat"], {"input": str(n), "env": {"SLOW": str(n % 7)}}) for n in range(60)]
    assert [r.stdout for r in spread(jobs, text=True, ordered=True)] == [str(n) for n in range(60)]


def test_a_jobs_own_options_are_added(spread: Spread) -> None:
    jobs = [["uname", "-n"], (["uname", "-n"], {"hostname": "second"})]
    first, second = spread(jobs, hostname="first", text=True, ordered=True)
    assert (first.stdout, second.stdout) == ("first\n", "second\n")


def test_progress_is_told(spread: Spread) -> None:
    told: list[Any] = []
    list(spread([["true"]] * 20, progress=lambda done, total: told.append((done, total))))
    assert told == [(n, 20) for n in range(1, 21)]
    list(spread((["true"] for _ in range(2)), progress=lambda done, total: told.append((done, total))))
    assert told[20:] == [(1, None), (2, None)]


def test_an_archive_is_sent_to_stores_that_do_not_have_it(
    spread: Spread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' store is another one than the caller's: the fixture says which."""
    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "callers"))
    shell = Path("/bin/busybox").read_bytes()
    members = [
        tars.directory("bin"),
        tars.file("bin/busybox", shell, mode=0o755),
        tars.file("marker", b"sent\n"),
    ]
    (tmp_path / "app.tar").write_bytes(tars.tar(*members))
    jobs = [["/bin/busybox", "cat", "/marker"]] * 6
    results = list(spread(jobs, image=str(tmp_path / "app.tar"), text=True))
    assert [r.stdout for r in results] == ["sent\n"] * 6
