"""What is left of a container at its end, whoever is the first to learn of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pyminicon
from tests.detached.conftest import Place, soon

_WROTE = "echo it > /tmp/it; echo ready; "


@pytest.mark.parametrize(
    ("options", "script", "ending"),
    [
        ((), "sleep 1000", ("kill", "web")),
        ((), "trap '' TERM; sleep 1000", ("stop", "-t", "0", "web")),
        ((), "until [ -e /tmp/go ]; do sleep 0.05; done", ("exec", "web", "touch", "/tmp/go")),
        (
            ("--max-output", "64k"),
            "until [ -e /tmp/go ]; do sleep 0.05; done; yes",
            ("exec", "web", "touch", "/tmp/go"),
        ),
    ],
    ids=["killed", "stopped", "by-itself", "limit"],
)
def test_the_layer_stays_though_a_command_was_running_at_the_end(
    place: Place, options: tuple[str, ...], script: str, ending: tuple[str, ...]
) -> None:
    place.ok("run", "-d", "--name", "web", *options, "host", "sh", "-c", _WROTE + script)
    soon(lambda: place("logs", "web").stdout == "ready\n")
    for _ in range(3):
        place.ok("exec", "-d", "web", "sleep", "1000")
    place(*ending)
    place.ok("wait", "web")
    assert "it\n" in place.ok("cp", "web:/tmp/it", "-")
    place.ok("rm", "web")
    assert place.layers() == []


def test_it_stays_where_the_command_was_somebodys_in_python(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    with pyminicon.start(detach=True, name="web") as c:
        c.path("/tmp/it").write_text("it\n")
        process = c.start(["sleep", "1000"])
        c.kill()
        assert (process.wait(60), c.wait(60)) == (-9, -9)
    assert "it\n" in place.ok("cp", "web:/tmp/it", "-")


def test_a_layer_that_can_not_be_kept_is_lost_with_the_reason(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    (file,) = place.state.glob("containers/*/state")
    fields = json.loads(file.read_text())
    in_the_way = place.store / "scratch" / f"kept-{fields['boot']}-{fields['id']}"
    (in_the_way / "full").mkdir(parents=True)
    try:
        place.ok("kill", "web")
        r = place("cp", "web:/etc/hostname", "-")
        assert (r.returncode, r.stdout) == (125, "")
        assert r.stderr.endswith(f"no layer is left of it: {in_the_way}: Directory not empty\n"), r.stderr
    finally:
        shutil.rmtree(in_the_way)


def test_what_was_asked_to_leave_nothing_leaves_no_layer(place: Place, tmp_path: Path) -> None:
    for options, removing in (((), ("rm", "-f", "web")), (("--rm", "--storage", "disk"), ("kill", "web"))):
        place.ok("run", "-d", "--name", "web", *options, "host", "sleep", "1000")
        place.ok("exec", "-d", "web", "sleep", "1000")
        place.ok(*removing)
        soon(lambda: place.ps("-a") == [])
        assert place.layers() == []
