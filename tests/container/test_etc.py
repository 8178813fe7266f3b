"""hosts, hostname and resolv.conf, in every image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pyminicon import run
from tests.support.run import out, sh

IMAGES = ["host", "directory", "read-only directory", "host read-only"]


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest, rootfs: Path) -> dict[str, object]:
    name = str(rootfs) if "directory" in request.param else "host"
    return {"image": name, "read_only": "read-only" in request.param}


def test_the_hostname_is_in_etc_hostname_and_resolves_locally(image: dict[str, object]) -> None:
    text = out("uname -n; cat /etc/hostname; cat /etc/hosts", hostname="box-1.example", **image)
    lines = text.splitlines()
    assert lines[:2] == ["box-1.example", "box-1.example"]
    assert "127.0.0.1\tlocalhost" in lines
    assert any(
        line.split()[0].startswith("127.") and line.split()[1] == "box-1.example" for line in lines[2:]
    )


def test_without_a_hostname_each_container_has_its_own() -> None:
    names = {out("uname -n") for _ in range(3)}
    assert len(names) == 3


def test_the_hosts_network_comes_with_its_resolver_and_hosts(image: dict[str, object]) -> None:
    text = out("cat /etc/resolv.conf; echo --; cat /etc/hosts", network="host", **image)
    resolver, _, hosts = text.partition("--\n")
    assert resolver == (Path("/etc/resolv.conf").read_text() if os.path.exists("/etc/resolv.conf") else "")
    assert hosts.startswith(Path("/etc/hosts").read_text().rstrip("\n"))


@pytest.mark.parametrize("network", ["none", "host"])
@pytest.mark.parametrize("more", [{}, {"user": "1000"}, {"userns": "private"}, {"uts": "host"}], ids=repr)
def test_its_own_name_leads_somewhere(network: str, more: dict[str, str], needs_root: None) -> None:
    found = out("getent hosts $(uname -n)", network=network, **more).split()
    assert len(found) > 1
    if network == "host" and "uts" not in more:
        # Long and short, and one that this machine's file has is not given twice.
        assert out("getent hosts b", hostname="b.example", network="host", **more).split()[:2] == [
            "127.0.1.1",
            "b.example",
        ]
        assert out("grep -cw localhost /etc/hosts", hostname="localhost", network="host", **more) == (
            f"{sum('localhost' in line.split('#')[0].split() for line in Path('/etc/hosts').read_text().splitlines())}\n"
        )


def test_a_templates_containers_know_their_own_names(needs_root: None) -> None:
    import pyminicon

    with pyminicon.Template(network="host", stock=2) as template:
        line = ["sh", "-c", "uname -n; getent hosts $(uname -n)"]
        names = [template.run(line, capture_output=True, text=True).stdout.split() for _ in range(2)]
    assert all(words[1:3] == ["127.0.1.1", words[0]] for words in names) and names[0] != names[1]


def test_an_image_whose_resolv_conf_is_a_link_still_gets_one(own_rootfs: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (own_rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (own_rootfs / "etc/hosts").symlink_to(canary)
    text = out("cat /etc/resolv.conf", image=str(own_rootfs), network="host")
    assert text == Path("/etc/resolv.conf").read_text()
    assert canary.read_text() == "untouched"
    assert (own_rootfs / "etc/hosts").is_symlink()


def test_an_image_whose_etc_is_a_link_out_is_not_followed_out(own_rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (own_rootfs / "etc").rename(outside)
    before = sorted(os.listdir(outside))
    (own_rootfs / "etc").symlink_to(outside)
    import pyminicon

    try:
        sh("true", image=str(own_rootfs))
    except pyminicon.LaunchError as error:
        assert error.stage in ("rootfs", "mount")
    assert sorted(os.listdir(outside)) == before


def test_uts_host_keeps_the_hosts_name() -> None:
    assert out("uname -n", uts="host") == os.uname().nodename + "\n"
    assert out("cat /etc/hostname", uts="host") == os.uname().nodename + "\n"


def test_a_program_that_looks_for_a_container_finds_one_where_the_root_can_be_written(
    own_rootfs: Path,
) -> None:
    look = ["/bin/sh", "-c", "test -f /run/.containerenv && ! test -s /run/.containerenv"]
    (own_rootfs / "run").mkdir(exist_ok=True)
    for image in ("host", "python", str(own_rootfs)):
        assert run(look, image=image).returncode == 0
        assert run(look, image=image, read_only=True).returncode != 0
    assert not (own_rootfs / "run/.containerenv").exists()


def test_what_an_image_has_in_the_place_of_the_mark_is_neither_written_nor_followed(own_rootfs: Path) -> None:
    (own_rootfs / "run").mkdir(exist_ok=True)
    (own_rootfs / "precious").write_text("x")
    (own_rootfs / "run/.containerenv").symlink_to("/precious")
    script = "cat /precious; test -f /run/.containerenv && ! test -L /run/.containerenv && echo y"
    assert run(["/bin/sh", "-c", script], image=str(own_rootfs), capture_output=True).stdout == b"xy\n"
    assert (own_rootfs / "precious").read_text() == "x"


def test_an_image_gets_no_run_for_the_mark_if_it_has_none(own_rootfs: Path) -> None:
    shutil.rmtree(own_rootfs / "run", ignore_errors=True)
    assert run(["/bin/sh", "-c", "! test -e /run"], image=str(own_rootfs)).returncode == 0
    (own_rootfs / "elsewhere").mkdir()
    (own_rootfs / "run").symlink_to("elsewhere")
    assert (
        run(
            ["/bin/sh", "-c", "test -L /run && ! test -e /run/.containerenv"], image=str(own_rootfs)
        ).returncode
        == 0
    )
