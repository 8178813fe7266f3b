"""Template: what can be made ahead is, once; what a run gets was never anybody else's."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

import pyminicon
from pyminicon import PIPE, Template
from tests.support import leftovers as account
from tests.support.placement import needs_limit
from tests.support.waiting import soon


def children() -> set[str]:
    return {entry.split()[0] for entry in account.children()}


def may_have_a_clock(options: dict[str, object]) -> None:
    if "time" not in options:
        return
    try:
        pyminicon.run(["true"], time="private")
    except pyminicon.LaunchError as error:
        assert error.stage == "timens"
        pytest.skip("needs Linux 6.2 (a time namespace that counts at exec)")


def say(template: Template, line: str, **options: object) -> str:
    r = template.run(["sh", "-c", line], capture_output=True, text=True, check=True, **options)
    return str(r.stdout).strip()


def test_a_run_is_told_everything_that_a_run_may_say(tmp_path: Path) -> None:
    with Template() as t:
        r = t.run(
            ["sh", "-c", "cat; echo $WORD; pwd; cat /tmp/in; echo made > /tmp/out; echo no >&2; exit 3"],
            input="fed\n", env={"WORD": "said"}, cwd="/tmp", files={"/tmp/in": b"put\n"}, collect=["/tmp/out"],
            capture_output=True, text=True,
        )  # fmt: skip
    assert (r.returncode, r.stderr, r.files) == (3, "no\n", {"/tmp/out": b"made\n"})
    assert r.stdout == "fed\nsaid\n/tmp\nput\n"


def test_what_describes_the_container_is_the_templates() -> None:
    with Template() as t:
        for option, value in {
            "image": "host",
            "memory": "64M",
            "user": "1",
            "network": "host",
            "init": True,
        }.items():
            with pytest.raises(pyminicon.SpecError, match=option):
                t.run(["true"], **{option: value})
    with pytest.raises(pyminicon.SpecError, match="wall_time"):
        Template(wall_time=3)
    with pytest.raises(pyminicon.SpecError, match="stock"):
        Template(stock=0)


def test_start_takes_what_start_takes() -> None:
    with Template() as t, t.start(["cat"], stdin=PIPE, stdout=PIPE, text=True) as box:
        assert box.communicate("there\n") == ("there\n", None)
        assert box.returncode == 0
        with pytest.raises(pyminicon.SpecError, match="timeout"):
            t.start(["true"], timeout=3)


def test_no_two_runs_have_the_same_container() -> None:
    with Template(stock=3) as t:
        names = [
            say(t, "hostname; readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/net")
            for _ in range(9)
        ]
        # A namespace's number is free again when it has ended: neighbours are alive at the same time.
        boxes = [t.start(["hostname"], stdout=PIPE, text=True) for _ in range(6)]
        told = [box.communicate()[0].strip() for box in boxes]
    assert len({name.split()[0] for name in names}) == len(names)
    assert told == [box.id for box in boxes]
    assert len(set(told)) == len(told)


def test_nothing_of_a_run_is_seen_by_the_next() -> None:
    write = "echo mine > /tmp/mark; echo mine > /dev/shm/mark; hostname other 2> /dev/null; sleep 60 & true"
    look = "ls -A /tmp /dev/shm /run; cat /proc/[0-9]*/comm"
    with Template(stock=1) as t:
        before = say(t, look)
        say(t, write)
        assert say(t, look) == before


def test_the_stock_is_filled_and_bounded_and_filled_again_after_a_run() -> None:
    with Template(stock=3) as t:
        assert soon(lambda: t.ready == 3, 20)
        time.sleep(0.1)
        assert t.ready == 3
        t.run(["true"])
        assert soon(lambda: t.ready == 3, 20)


def test_the_stock_is_filled_again_while_a_run_lasts() -> None:
    before = children()
    with Template(stock=2) as t:
        assert soon(lambda: t.ready == 2, 20)
        release, held = os.pipe()
        long = threading.Thread(target=lambda: t.run(["cat"], stdin=release), daemon=True)
        long.start()
        # The one that runs, and two that wait.
        filled = soon(lambda: t.ready == 2 and len(children() - before) == 3, 20)
        os.close(held)
        long.join()
        os.close(release)
        assert filled, "nobody made what the run has taken"
        with t.start(["sleep", "60"]):
            assert soon(lambda: t.ready == 2, 20)


def test_the_stock_is_filled_again_after_runs_that_failed() -> None:
    with Template(stock=2) as t:
        for _ in range(5):
            with pytest.raises(pyminicon.LaunchError, match="missing") as found:
                t.run(["/missing"])
            assert found.value.stage == "exec"
        assert soon(lambda: t.ready == 2, 20)


def test_a_full_stock_uses_no_processor() -> None:
    with Template(stock=4) as t:
        assert soon(lambda: t.ready == 4, 20)
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.05


def test_closing_ends_what_waits_and_nothing_that_runs() -> None:
    before = children()
    t = Template(stock=3)
    assert soon(lambda: t.ready == 3, 20)
    box = t.start(["sleep", "60"])
    assert soon(lambda: len(children() - before) == 4, 20)
    t.close()
    assert children() - before == {str(box.pid)}
    with pytest.raises(pyminicon.Error, match="closed"):
        t.run(["true"])
    box.close()
    assert children() - before == set()


def test_a_waiting_container_that_is_killed_is_a_failed_run_at_most() -> None:
    before = children()
    with Template(stock=1) as t:
        assert soon(lambda: t.ready == 1, 20)
        (waiting,) = children() - before
        os.kill(int(waiting), signal.SIGKILL)
        with pytest.raises(pyminicon.LaunchError, match="park"):
            t.run(["true"])
        assert t.run(["true"]).returncode == 0
        assert soon(lambda: t.ready == 1, 20)
        (waiting,) = children() - before
        os.kill(int(waiting), signal.SIGKILL)
        with pytest.raises(pyminicon.LaunchError, match="park"):
            t.start(["true"])


def test_a_run_whose_output_cant_be_counted_is_refused() -> None:
    with Template() as t, pytest.raises(pyminicon.SpecError, match="max_output"):
        t.run(["yes"], stdout=PIPE, max_output=1000)


def test_universal_newlines_are_each_runs() -> None:
    with Template() as t:
        assert t.run(["echo", "a"], capture_output=True, universal_newlines=True).stdout == "a\n"


def test_a_terminal_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(pyminicon.SpecError, match=r"tty: .*pyminicon\.start\(tty=True\)"):
        Template(tty=True)
    with Template() as t, pytest.raises(pyminicon.SpecError, match=r"tty: .*pyminicon\.start\(tty=True\)"):
        t.start(["true"], tty=True)


def test_limits_of_a_run_and_of_the_template_hold() -> None:
    needs_limit("pids", 20)
    with Template(pids=20, usage=True) as t:
        assert t.run(["sleep", "60"], wall_time=0.2).limit == "wall_time"
        assert t.run(["sh", "-c", "while :; do :; done"], cpu_time=0.2).limit == "cpu_time"
        assert t.run(["yes"], capture_output=True, max_output=1000).limit == "output"
        with pytest.raises(pyminicon.TimeoutExpired) as found:
            t.run(["sh", "-c", "echo so far; sleep 60"], capture_output=True, timeout=2)
        assert found.value.stdout == b"so far\n"
        r = t.run(["true"])
        assert (r.returncode, r.limit) == (0, None)
        assert r.usage.pids_peak is None or r.usage.pids_peak >= 1


def test_many_threads_share_one_template() -> None:
    failures: list[BaseException] = []

    def work(t: Template, number: int) -> None:
        try:
            for turn in range(4):
                word = f"{number}.{turn}"
                assert t.run(["echo", word], capture_output=True, text=True).stdout == f"{word}\n"
        except BaseException as error:
            failures.append(error)

    with Template(stock=4) as t:
        threads = [threading.Thread(target=work, args=(t, n)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_passed_descriptors_keep_their_numbers() -> None:
    code = "import os; os.write(100, b'through'); print(*sorted(map(int, os.listdir('/proc/self/fd'))))"
    ours, theirs = socket.socketpair()
    with ours, theirs, Template(image="python", stock=1) as t:
        high = os.dup2(theirs.fileno(), 100, inheritable=False)
        r = t.run(["python", "-c", code], pass_fds=[high], capture_output=True, text=True)
        os.close(high)
        ours.settimeout(10)
        assert ours.recv(20) == b"through"
    assert r.stdout.split() == ["0", "1", "2", "3", "100"], "3 is what listdir reads"


@pytest.mark.parametrize(
    "options",
    [{"read_only": True}, {"init": True}, {"user": "1000"}, {"userns": "private"}, {"network": "host"},
     {"time": "private"}, {"tmpfs": ["/data"]}, {"seccomp": "unconfined"}, {"storage": "disk"}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_every_kind_of_container_has_templates(options: dict[str, object]) -> None:
    if os.geteuid() != 0 and "user" in options:
        pytest.skip("needs root: one id is mapped")
    may_have_a_clock(options)
    with Template(**options) as t:
        for word in ("one", "two"):
            assert say(t, f"echo {word}") == word


@pytest.mark.parametrize(
    "options", [{}, {"userns": "private"}, {"time": "private"}], ids=["plain", "mapped", "cold"]
)
def test_a_volume_is_what_its_source_was_when_the_template_was_made(
    tmp_path: Path, options: dict[str, object]
) -> None:
    may_have_a_clock(options)
    tmp_path.chmod(0o755)
    source = tmp_path / "source"
    source.mkdir()
    source.chmod(0o777)
    with Template(volumes=[f"{source}:/data"], **options) as t:
        (source / "later").write_text("seen")
        source.rename(tmp_path / "moved")
        source.mkdir()
        for turn in range(6):  # more than the stock had when it was moved
            assert say(t, f"cat /data/later; echo {turn} > /data/answer") == "seen"
    assert (tmp_path / "moved/answer").read_text() == "5\n"
    assert list(source.iterdir()) == []


def test_a_volume_whose_source_is_gone_fails_the_run_that_needs_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with Template(volumes=[f"{source}:/data"], stock=1) as t:
        assert soon(lambda: t.ready == 1, 20)
        source.rmdir()
        t.run(["true"])  # this one's was bound before
        with pytest.raises(pyminicon.LaunchError, match="source"):
            for _ in range(3):
                t.run(["true"])
    with pytest.raises(pyminicon.LaunchError, match="gone"):
        Template(volumes=[f"{tmp_path}/gone:/data"])


def test_runs_that_find_the_stock_empty_are_as_any_other(tmp_path: Path) -> None:
    line = "hostname; cat /etc/hostname; readlink /proc/self/ns/net /proc/self/ns/mnt; echo $0 > /kept; touch /mine; ls / | grep -c mine"
    done: list[pyminicon.Result] = []
    needs_limit("memory", "64M")
    with Template(stock=1, volumes=[f"{tmp_path}:/v"], memory="64M") as t:

        def run(number: int) -> None:
            for turn in range(6):
                done.append(
                    t.run(
                        ["sh", "-c", line, f"{number}.{turn}"],
                        capture_output=True,
                        text=True,
                        collect=["/kept"],
                    )
                )

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        slow = [threading.Thread(target=t.run, args=(["sleep", "0.5"],)) for _ in range(6)]
        for thread in slow:
            thread.start()
        with pytest.raises(pyminicon.LaunchError) as caught:
            for _ in range(20):
                t.run(["/no/such/program"])
        for thread in slow:
            thread.join()
    assert caught.value.stage == "exec"
    seen = [r.stdout.split() for r in done]
    assert len(seen) == 48
    assert all(host == name and files == "1" for host, name, _, _, files in seen)
    assert len({words[0] for words in seen}) == 48
    # Only while they run are namespaces' numbers their own.
    assert not {os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt")} & {
        word for words in seen for word in words
    }
    assert sorted(r.files["/kept"] for r in done) == sorted(
        f"{number}.{turn}\n".encode() for number in range(8) for turn in range(6)
    )
