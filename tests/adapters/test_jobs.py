"""What the clusters' adapters share, on a cluster that is this process: batches, losses, templates and images."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.adapters import job_images, jobs
from tests.images import tars

Entry = jobs.Entry


class Here:
    """A cluster of one slot. ``lose``: says of a batch whether its worker is lost."""

    def __init__(self, lose: Callable[[list[Entry]], bool] = lambda batch: False) -> None:
        self.slots = 1
        self.lose = lose
        self.batches: list[list[int]] = []
        self.sent: list[str] = []
        self.dropped: list[Any] = []
        self._going: dict[int, bytes] = {}

    def send(self, path: str) -> str:
        self.sent.append(path)
        return path

    def submit(self, batch: list[Entry]) -> int:
        self.batches.append([entry.job for entry in batch])
        self._going[len(self.batches)] = pickle.dumps(batch)
        return len(self.batches)

    def ended(self, seconds: float) -> list[int]:
        return [next(iter(self._going))]

    def answer(self, ticket: int) -> Any:
        batch = pickle.loads(self._going.pop(ticket))
        if self.lose(batch):
            raise jobs.Lost("by the test")
        return jobs.work(batch, None, lambda path: Path(path).read_bytes())

    def drop(self, tickets: list[Any]) -> None:
        self.dropped += tickets


def spread(cluster: Here, work: Any, **options: Any) -> Iterator[Any]:
    own: dict[str, Any] = {
        "ordered": False, "retries": 3, "progress": False, "cancel": None, "return_exceptions": False, "stock": 1
    }  # fmt: skip
    own |= {name: options.pop(name) for name in list(options) if name in own}
    return jobs.Spread(cluster, work, options, **own).results()


@pytest.fixture(autouse=True)
def no_templates_left() -> Iterator[None]:
    yield
    jobs.close_idle()


def test_batches_grow_while_jobs_are_short() -> None:
    cluster = Here()
    results = [*spread(cluster, [["echo", str(n)] for n in range(120)], text=True)]
    assert [r.stdout for r in results] == [f"{n}\n" for n in range(120)]
    assert cluster.batches[0] == [0] and max(map(len, cluster.batches)) > 1
    assert sorted(n for batch in cluster.batches for n in batch) == list(range(120))


def test_jobs_are_taken_as_there_is_room_for_them() -> None:
    def endless() -> Iterator[list[str]]:
        while True:
            yield ["true"]

    cluster = Here()
    results = spread(cluster, endless())
    assert next(results).job == 0
    assert len(cluster.batches) <= 4
    results.close()  # type: ignore[attr-defined]
    assert len(cluster.dropped) in (1, 2), "what was going on was ended"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_how_far_it_is_and_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    assert len([*spread(Here(), [["true"]] * 4, progress=True)]) == 4
    shown = screen.getvalue().split("\r")
    assert shown[1:] == [f"[{'#' * (30 * n // 4):30}] {n}/4" for n in range(1, 4)] + [f"[{'#' * 30}] 4/4\n"]


def test_a_bar_of_a_generators_jobs_counts_them_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    assert len([*spread(Here(), (["true"] for _ in range(3)), progress=True)]) == 3
    assert screen.getvalue() == "\r1 done\r3 done\n"


def test_a_bar_that_is_left_in_the_middle_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with pytest.raises(FileNotFoundError):
        list(spread(Here(), [["true"], ["no-such-program"]], progress=True))
    assert screen.getvalue().endswith("/2\n")


def test_no_bar_goes_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    list(spread(Here(), [["true"]] * 3, progress=True))
    assert told.getvalue() == ""


def test_the_jobs_of_a_lost_worker_are_given_out_alone_and_once_more() -> None:
    cluster = Here(lose=lambda batch: len(batch) > 1 and 30 in {entry.job for entry in batch})
    results = [*spread(cluster, [["echo", str(n)] for n in range(60)], text=True)]
    assert sorted(r.job for r in results) == list(range(60))
    assert all(r.stdout == f"{r.job}\n" for r in results)
    first = next(batch for batch in cluster.batches if 30 in batch)
    assert cluster.batches.count([30]) == 1
    if len(first) > 1:
        assert all(cluster.batches.count([number]) == 1 for number in first)


def test_a_job_that_takes_its_worker_along_is_given_up_and_no_other() -> None:
    cluster = Here(lose=lambda batch: 3 in {entry.job for entry in batch})
    results = [*spread(cluster, [["true"]] * 8, retries=2, return_exceptions=True, ordered=True)]
    lost = results.pop(3)
    assert isinstance(lost, jobs.WorkerLost) and (lost.job, lost.told) == (3, (3, "by the test"))
    assert str(pickle.loads(pickle.dumps(lost))) == str(lost)
    assert [r.job for r in results] == [0, 1, 2, 4, 5, 6, 7] and {r.returncode for r in results} == {0}


def test_a_job_that_never_began_loses_no_try_by_it() -> None:
    class Queue(Here):
        """Its worker is lost five times with the batch of job 1 in its queue."""

        lost = 0

        def answer(self, ticket: int) -> Any:
            if 1 in self.batches[ticket - 1] and self.lost < 5:
                self.lost += 1
                del self._going[ticket]
                raise jobs.Lost("by the test", begun=False)
            return super().answer(ticket)

    results = [*spread(Queue(), [["true"]] * 3, retries=1, ordered=True)]
    assert [r.returncode for r in results] == [0, 0, 0]
    results = [*spread(Queue(), [["true"]] * 3, retries=0, return_exceptions=True, ordered=True)]
    assert isinstance(results[1], jobs.WorkerLost), "who wants one try alone gets one"


def test_a_job_that_never_seems_to_begin_is_given_up_some_day() -> None:
    class Gone(Here):
        def answer(self, ticket: int) -> Any:
            del self._going[ticket]
            raise jobs.Lost("by the test", begun=False)

    cluster = Gone()
    (lost,) = spread(cluster, [["true"]], return_exceptions=True)
    assert isinstance(lost, jobs.WorkerLost) and len(cluster.batches) == 101


def test_a_failure_is_a_result_and_an_error_is_raised() -> None:
    work = [["sh", "-c", "exit 3"], (["sh", "-c", "exit 4"], {"check": True})]
    results = spread(Here(), work)
    assert next(results).returncode == 3
    with pytest.raises(pyminicon.CalledProcessError) as caught:
        next(results)
    assert (caught.value.job, caught.value.returncode) == (1, 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memroy": "1G"}, "memory"),
        ({"stdout": 1}, "PIPE, STDOUT or DEVNULL"),
        ({"stdin": open(os.devnull)}, "PIPE, STDOUT or DEVNULL"),  # noqa: SIM115
        ({"pass_fds": [0]}, "one process"),
        ({"tty": True}, "tty"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_asked(options: dict[str, Any], said: str) -> None:
    cluster = Here()
    with pytest.raises(pyminicon.SpecError, match=said):
        spread(cluster, [["true"]], **options)
    assert cluster.batches == []


def test_what_a_limit_may_be_is_for_the_node_to_say() -> None:
    (error,) = spread(Here(), [["true"]], cpus=10_000, return_exceptions=True)
    assert isinstance(error, pyminicon.SpecError) and "cpus" in str(error)


def test_a_process_keeps_one_template_for_a_recipe_and_a_bounded_number() -> None:
    work = [(["uname", "-n"], {"hostname": f"host{n % 12}"}) for n in range(24)]
    results = [*spread(Here(), work, text=True, ordered=True)]
    assert [r.stdout for r in results] == [f"host{n % 12}\n" for n in range(24)]
    assert len(jobs._kept) <= 8
    [*spread(Here(), [["true"]] * 3, hostname="one")]
    kept = [kept.template for key, kept in jobs._kept.items() if "'one'" in key]
    [*spread(Here(), [["true"]] * 3, hostname="one")]
    assert [kept.template for key, kept in jobs._kept.items() if "'one'" in key] == kept and len(kept) == 1


def test_a_forked_process_makes_templates_of_its_own() -> None:
    [*spread(Here(), [["true"]])]
    child = os.fork()
    if not child:
        status = 1
        try:
            status = next(spread(Here(), [["sh", "-c", "exit 7"]])).returncode
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


# ---- images ---------------------------------------------------------------------------------------------


def archive(path: Path, text: bytes) -> str:
    if not os.path.exists("/bin/busybox"):
        pytest.skip("needs busybox")
    shell = Path("/bin/busybox").read_bytes()
    members = [tars.directory("bin"), tars.file("bin/busybox", shell, mode=0o755), tars.file("marker", text)]
    path.write_bytes(tars.tar(*members))
    return str(path)


class Elsewhere(Here):
    """A node with a store of its own."""

    def __init__(self, store: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._use = lambda path: monkeypatch.setenv("PYMINICON_STORE", str(path))
        self._stores = mine, store
        self._use(mine)

    def answer(self, ticket: int) -> Any:
        self._use(self._stores[1])
        try:
            return super().answer(ticket)
        finally:
            self._use(self._stores[0])


SAY = ["/bin/busybox", "cat", "/marker"]


def test_an_archive_comes_to_a_node_that_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "app.tar", b"first\n")
    cluster = Elsewhere(tmp_path / "node", tmp_path / "mine", monkeypatch)
    assert [r.stdout for r in spread(cluster, [SAY] * 3, image=path, text=True)] == ["first\n"] * 3
    assert cluster.sent == [path]


def test_the_image_is_the_one_that_was_meant_or_the_job_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was replaced after its digest was taken."""
    path = archive(tmp_path / "app.tar", b"first\n")
    cluster = Elsewhere(tmp_path / "node", tmp_path / "mine", monkeypatch)
    results = spread(cluster, [SAY], image=path, return_exceptions=True)
    archive(tmp_path / "app.tar", b"other\n")
    (error,) = results
    assert isinstance(error, pyminicon.SpecError) and "on this node, not sha256:" in str(error)


def test_a_name_that_means_another_image_now_has_another_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Elsewhere(tmp_path / "node", tmp_path / "mine", monkeypatch)
    for told in ("first\n", "other\n"):
        path = archive(tmp_path / "app.tar", told.encode())
        assert [r.stdout for r in spread(cluster, [SAY], image=path, text=True)] == [told]


def test_what_sends_nothing_means_the_image_that_it_has_or_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "app.tar", b"first\n")
    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "mine"))
    assert job_images.known({"image": "app"}) == ("app", None, None)
    digest = job_images.unpacked(Path(path).read_bytes())
    job_images.store.Store().tag(digest, ["app:latest"])
    assert job_images.known({"image": "app"}) == ("app", digest, None)
    for image in ("host", "python", path, str(tmp_path)):
        assert job_images.known({"image": image}) == (image, None, None)


def test_a_node_pulls_a_name_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pull(name: str) -> str:
        asked.append(name)
        return job_images.unpacked(Path(path).read_bytes())

    path = archive(tmp_path / "app.tar", b"first\n")
    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "node"))
    monkeypatch.setattr("pyminicon.images.pulling.pull", pull)
    own: dict[str, Any] = {"image": "app"}
    made = jobs.recipe(own, 1, job_images.known(own))
    assert jobs.run(made, SAY, {"capture_output": True}, None, bytes).stdout == b"first\n"
    assert asked == ["app"]


def test_a_name_that_only_the_caller_has_is_said_with_the_way_round_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "app.tar", b"first\n")
    cluster = Elsewhere(tmp_path / "node", tmp_path / "mine", monkeypatch)
    digest = job_images.unpacked(Path(path).read_bytes())
    job_images.store.Store().tag(digest, ["127.0.0.1:9/app:latest"])
    (error,) = spread(cluster, [SAY], image="127.0.0.1:9/app", return_exceptions=True)
    assert "isn't on this node" in str(error) and "an archive's path is sent" in str(error)
    monkeypatch.setenv("PYMINICON_STORE", str(tmp_path / "node"))
    job_images.unpacked(Path(path).read_bytes())
    cluster._use(tmp_path / "mine")
    (result,) = spread(cluster, [SAY], image="127.0.0.1:9/app", text=True)
    assert result.stdout == "first\n", "found by its digest, whatever it is called there"
