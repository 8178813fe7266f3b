"""sysctls=…: settings of the container's own network, written before its program starts, and of no other."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.support.python import environment

KEEPALIVE = "/proc/sys/net/ipv4/tcp_keepalive_time"
FORWARD = "/proc/sys/net/ipv4/ip_forward"
SET: dict[str, str | int] = {"net.ipv4.tcp_keepalive_time": 1234, "net.ipv4.ip_forward": "1"}
READ = ["cat", KEEPALIVE, FORWARD]
WRITTEN = "1234\n1\n"


def _of_this_machine() -> list[str]:
    return [Path(path).read_text() for path in (KEEPALIVE, FORWARD)]


@pytest.fixture(autouse=True)
def this_machines_stay() -> Iterator[None]:
    before = _of_this_machine()
    assert before[0] != "1234\n"
    yield
    assert _of_this_machine() == before


def _read(**options: Any) -> str:
    result = pyminicon.run(READ, sysctls=SET, capture_output=True, text=True, **options)
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize(
    "options",
    [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}, {"read_only": True}, {"pid": "host"}, {"network": "off"},
     {"time": "private"}, {"systempaths": "unconfined"}, {"publish": ["0:80"]}, {"egress": ["example.com"]}, {"tmpfs": ["/x"]}],
    ids=str,
)  # fmt: skip
def test_the_program_finds_them_set_and_this_machine_has_its_own(
    options: dict[str, Any], needs_root: None
) -> None:
    assert _read(**options) == WRITTEN


def test_every_way_of_starting_takes_them() -> None:
    with pyminicon.start(READ, sysctls=SET, stdout=pyminicon.PIPE, text=True) as c:
        assert c.communicate()[0] == WRITTEN
    with pyminicon.start(sysctls=SET) as c:
        assert c.run(READ, capture_output=True, text=True).stdout == WRITTEN
    assert asyncio.run(aio.run(READ, sysctls=SET, capture_output=True, text=True)).stdout == WRITTEN
    with pyminicon.Template(sysctls=SET) as t:
        for _ in range(3):
            assert t.run(READ, capture_output=True, text=True).stdout == WRITTEN


def test_the_next_container_has_none_of_them() -> None:
    own = "".join(_of_this_machine())
    fresh = pyminicon.run(READ, capture_output=True, text=True).stdout
    for _ in range(3):
        assert _read() == WRITTEN
        assert pyminicon.run(READ, capture_output=True, text=True).stdout == fresh != WRITTEN
    assert "".join(_of_this_machine()) == own


def test_they_stay_read_only_for_the_program() -> None:
    line = f"echo 7 > {KEEPALIVE}"
    assert pyminicon.run(["sh", "-c", line], sysctls=SET, stderr=pyminicon.DEVNULL).returncode != 0


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "none of that name": ({"net.ipv4.no_such": 1}, errno.ENOENT, "not a setting of a container's network"),
    "the whole machine's": ({"net.core.bpf_jit_enable": 1}, errno.ENOENT, "or it is the whole machine's"),
    "no number": ({"net.ipv4.ip_forward": "yes"}, errno.EINVAL, "doesn't take that value"),
    "two numbers": ({"net.ipv4.ip_forward": "1 2"}, errno.EINVAL, "doesn't take that value"),
    "a directory": ({"net.ipv4.conf": "1"}, errno.EISDIR, "directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_that_the_kernel_refuses_is_named(case: str) -> None:
    sysctls, number, hint = REFUSED[case]
    with pytest.raises(pyminicon.LaunchError, match=hint) as caught:
        pyminicon.run(["true"], sysctls={"net.ipv4.ip_default_ttl": 65, **sysctls})
    assert (caught.value.stage, caught.value.errno) == ("sysctl", number)
    assert caught.value.subject == next(iter(sysctls))


@pytest.mark.parametrize(
    "sysctls",
    [{"kernel.hostname": "x"}, {"net": "1"}, {"net.ipv4": "1"}, {"net..ipv4": "1"}, {"net.ipv4.ip_forward.": "1"},
     {".net.ipv4.x": "1"}, {"net/ipv4/ip_forward": "1"}, {"net.ipv4/../../kernel": "1"}, {"net.ipv4.a\nb": "1"},
     {"net.ipv4.a\0": "1"}, {"network.a.b": "1"}, {"net.ipv4.é": "1"}, {1: "1"}, {"net.ipv4.ip_forward": "1\n2"},
     {"net.ipv4.ip_forward": "1\0"}, {"net.ipv4.ip_forward": ""}, {"net.ipv4.ip_forward": True},
     {"net.ipv4.ip_forward": 1.5}, {"net.ipv4.ip_forward": None}, ["net.ipv4.ip_forward=1"], "net.ipv4.ip_forward=1"],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_setting_of_a_network_is_refused_before_anything_starts(sysctls: Any) -> None:
    with pytest.raises(pyminicon.SpecError, match=r"^sysctls: ") as caught:
        pyminicon.run(["true"], sysctls=sysctls)
    assert len(str(caught.value)) < 200


def test_this_machines_own_network_takes_none() -> None:
    with pytest.raises(pyminicon.SpecError, match="sysctls: can't be given with network='host'"):
        pyminicon.run(["true"], network="host", sysctls=SET)
    with pytest.raises(pyminicon.SpecError, match="sysctls"):
        pyminicon.Template(network="host", sysctls=SET)
    assert pyminicon.run(["true"], network="host", sysctls={}).returncode == 0


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyminicon", *words],
        capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=60,
    )  # fmt: skip


def test_the_command_line_takes_them_and_says_so() -> None:
    words = ["run", "--sysctl", "net.ipv4.tcp_keepalive_time=1234", "--sysctl=net.ipv4.ip_forward=1"]
    assert _command(*words, "host", *READ).stdout == WRITTEN
    assert "net.ipv4.tcp_keepalive_time = 1234" in _command(*words, "--dry-run", "host", "true").stdout
    for wrong in (["--sysctl", "net.ipv4.ip_forward"], ["--sysctl", "kernel.x.y=1"]):
        ran = _command("run", *wrong, "host", "true")
        assert ran.returncode == 125
        assert "--sysctl: takes" in ran.stderr


def test_an_ordinary_user_has_them_too(
    as_user: Callable[..., subprocess.CompletedProcess[str]], needs_root: None
) -> None:
    for options in ("", ", init=True", ", image='python'"):
        code = f"r = pyminicon.run({READ}, sysctls={SET}, capture_output=True, text=True{options})"
        ran = as_user(f"import pyminicon\n{code}\nprint(r.stdout, r.stderr, end='')")
        assert (ran.stdout.rstrip(" "), ran.stderr) == (WRITTEN, "")
