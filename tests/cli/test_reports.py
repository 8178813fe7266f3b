"""--json, --trace and --dry-run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from pyminicon import _core
from pyminicon.cgroups import sweep
from pyminicon.cli import dry_run
from tests.cli.conftest import Cli, environment
from tests.images.tars import file, tar


def test_json_tells_the_result_on_stderr(anybody: Cli) -> None:
    r = anybody("run", "--json", "--name", "box", "host", "sh", "-c", "echo out; exit 4")
    assert (r.returncode, r.stdout, r.stderr.count("\n")) == (4, "out\n", 1)
    result = json.loads(r.stderr)
    assert result["args"] == ["sh", "-c", "echo out; exit 4"]
    assert (result["name"], result["returncode"], result["limit"]) == ("box", 4, None)
    assert 0 < result["startup"] < 60
    assert result["usage"]["wall"] > 0
    assert result["usage"]["memory_peak"] is None, "not known without --usage"


def test_json_tells_signals_as_subprocess_does(cli: Cli) -> None:
    r = cli("run", "--json", "--init", "host", "sh", "-c", "kill -9 $$")
    assert r.returncode == 137
    assert json.loads(r.stderr)["returncode"] == -9


def test_json_tells_the_limit_that_struck(cli: Cli) -> None:
    r = cli("run", "--json", "--timeout", "0.1", "host", "sleep", "9")
    assert json.loads(r.stderr)["limit"] == "wall_time"


def test_usage_makes_the_figures_known(cli: Cli, needs_root: None) -> None:
    usage = json.loads(cli("run", "--json", "--usage", "host", "true").stderr)["usage"]
    assert usage["memory_peak"] > 0
    assert usage["pids_peak"] >= 1


def test_trace_has_a_line_a_stage_that_adds_up(anybody: Cli) -> None:
    r = anybody("run", "--trace", "host", "echo", "out")
    assert (r.returncode, r.stdout) == (0, "out\n")
    rows = [line.split() for line in r.stderr.splitlines()]
    stages = [row[0] for row in rows[1:-1]]
    assert set(stages) <= set(_core.STAGES)
    assert {"prepare", "rootfs", "mount", "pivot_root", "exec"} <= set(stages)
    assert stages == sorted(stages, key=_core.STAGES.index)
    total = float(rows[-1][-1])
    assert abs(sum(float(row[2]) for row in rows[1:-1]) - total) < 0.05 * total + 5


def test_a_served_network_has_a_stage_of_its_own_in_the_trace(anybody: Cli) -> None:
    r = anybody("run", "--trace", "--egress", "example.com", "-p", "0:80", "host", "true")
    rows = [line.split() for line in r.stderr.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["publish", "prepare"]
    assert float(rows[1][1]) == 0.0 and float(rows[1][2]) == float(rows[2][1]) > 0
    total = float(rows[-1][-1])
    assert abs(sum(float(row[2]) for row in rows[1:-1]) - total) < 0.05 * total + 5


def test_json_tells_what_the_proxy_refused(anybody: Cli) -> None:
    code = "import socket; s = socket.create_connection(('127.0.0.1', 61080)); s.sendall(b'CONNECT a.test:443 HTTP/1.1\\r\\n\\r\\n'); s.recv(9)"
    r = anybody("run", "--json", "--egress", "example.com", "host", "python3", "-c", code)
    (refused,) = json.loads(r.stderr)["refused"]
    assert (refused["host"], refused["port"]) == ("a.test", 443)
    assert "egress='a.test' would" in refused["reason"]
    assert "refused" not in json.loads(anybody("run", "--json", "host", "true").stderr)


def test_trace_goes_into_a_file_for_perfetto(cli: Cli, tmp_path: Path) -> None:
    r = cli("run", f"--trace={tmp_path}/t.json", "host", "echo", "out")
    assert (r.returncode, r.stdout, r.stderr) == (0, "out\n", "")
    found = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    spans = [event for event in found if event["ph"] == "X"]
    assert [event["ph"] for event in found if event not in spans] == ["M"]
    assert {"prepare", "mount", "exec", "echo"} <= {event["name"] for event in spans}
    for earlier, later in itertools.pairwise(spans):
        assert abs(earlier["ts"] + earlier["dur"] - later["ts"]) < 0.01, "one begins where the other ends"
    assert spans[-1]["name"] == "echo" and spans[-1]["dur"] > 0


def test_a_trace_takes_no_other_file(cli: Cli, tmp_path: Path) -> None:
    r = cli("run", "--trace=flase", "host", "true")
    assert (r.returncode, r.stderr) == (125, "pyminicon: --trace: takes a FILE.json, not 'flase'\n")
    r = cli("run", f"--trace={tmp_path}/none/t.json", "host", "true")
    assert r.returncode == 125 and "--trace" in r.stderr and "No such file" in r.stderr
    assert cli("run", "--trace=false", "host", "true").stderr == ""


def test_trace_draws_bars_on_a_terminal_alone(cli: Cli) -> None:
    terminal, inner = os.openpty()
    words = [sys.executable, "-m", "pyminicon", "run", "--trace", "host", "true"]
    with open(terminal, "rb", buffering=0) as screen:
        done = subprocess.Popen(words, stderr=inner, env=environment())
        os.close(inner)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := screen.read(4096):
                shown += data
        assert done.wait(60) == 0
    rows = [line.rstrip("\r") for line in shown.decode().splitlines()][1:-1]
    assert len(rows) > 5 and all(row.endswith("#") for row in rows)
    starts = [row.index("#") for row in rows]
    assert starts == sorted(starts), "each begins where the earlier ones have ended"
    assert "#" not in cli("run", "--trace", "host", "true").stderr


def test_a_dry_run_runs_nothing_and_tells_the_steps_in_their_order(anybody: Cli) -> None:
    words = [
        "-u",
        "1:2",
        "--tmpfs",
        "/t",
        "-v",
        "/tmp:/v:ro",
        "--hostname",
        "box",
        "--init",
        "--ulimit",
        "nofile=5",
    ]
    r = anybody("run", "--dry-run", *words, "host", "no-such-program", "two words")
    assert (r.returncode, r.stderr) == (0, "")
    steps = [line.split(maxsplit=1) for line in r.stdout.splitlines()]
    stages = [step[0] for step in steps]
    assert stages == sorted(stages, key=_core.STAGES.index)
    for stage, text in (
        ("clone", "mount, pid"),
        ("hostname", "box"),
        ("network", "loopback up"),
        ("mount", "tmpfs at /t"),
        ("mount", "bind /tmp to /v read-only"),
        ("pivot_root", ""),
        ("init", "pid 1"),
        ("rlimit", "nofile 5 (hard 5)"),
        ("seccomp", ""),
        ("exec", "no-such-program 'two words'"),
        ("exec", "with HOSTNAME=box"),
    ):
        assert any(row[0] == stage and text in row[1] for row in steps), (stage, text)


def test_a_dry_run_refuses_what_the_run_would_refuse(cli: Cli) -> None:
    r = cli("run", "--dry-run", "--hostname", "h" * 65, "host", "true")
    assert (r.returncode, r.stdout) == (125, "")


def test_a_dry_run_with_a_limit_makes_no_cgroup(cli: Cli, needs_root: None) -> None:
    r = cli("run", "--dry-run", "-m", "64m", "--timeout", "5", "host", "true")
    assert "write 67108864 to its memory." in r.stdout
    assert "end it after 5.0 s" in r.stdout


def test_a_dry_run_sweeps_no_cgroup_of_a_dead_owner(cli: Cli, needs_root: None) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    trees = [
        place for place in Path("/sys/fs/cgroup").iterdir() if (place / "memory.usage_in_bytes").exists()
    ]
    base = (trees or [Path("/sys/fs/cgroup")])[0] / f"test-dry-{os.getpid()}"
    dead = base / f"pyminicon-{sweep._boot()}-{sweep._namespace('self', 'pid')}-{gone.pid}-1-1"
    base.mkdir()
    try:
        dead.mkdir()
        words = ("-m", "64m", "--cgroup-parent", f"/{base.name}", "host", "true")
        assert cli("run", "--dry-run", *words).returncode == 0
        assert dead.exists()
        cli("run", *words)
        assert not dead.exists(), "a run sweeps what the dry one left"
    finally:
        for place in (dead, base):
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()


def test_a_dry_run_imports_nothing_and_asks_no_registry(cli: Cli, tmp_path: Path) -> None:
    archive, store = tmp_path / "image.tar", tmp_path / "store"
    archive.write_bytes(tar(file("bin/x")))
    env = environment(PYMINICON_STORE=str(store))
    r = cli("run", "--dry-run", str(archive), "x", env=env)
    assert r.returncode == 125 and "a dry run imports nothing" in r.stderr
    r = cli("run", "--dry-run", "--pull", "missing", "no.such.example/x", env=env)
    assert r.returncode == 125 and "in the store" in r.stderr
    assert not store.exists()
    assert cli("image", "import", str(archive), env=env).returncode == 0
    assert cli("run", "--dry-run", str(archive), "x", env=env).returncode == 0


def test_the_dry_run_knows_only_stages_that_there_are() -> None:
    assert set(dry_run._STAGES) <= set(_core.STAGES)
