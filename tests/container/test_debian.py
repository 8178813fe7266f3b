"""A real Debian root file system: what people do in one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pyminicon
from tests.support import roots
from tests.support.run import out, sh

pytestmark = pytest.mark.slow_in_vm


def test_its_tools_see_their_own_world(debian_root: Path) -> None:
    line = (
        "hostname; ps -e -o pid=,comm= | head -3; mount | grep -c ' on / '; dpkg --version | head -1; id -un"
    )
    lines = out(line, image=str(debian_root), hostname="bookworm-box").splitlines()
    assert lines[0] == "bookworm-box"
    assert lines[1].split() == ["1", "sh"]
    assert "1" in lines
    assert any("Debian" in text for text in lines)
    assert lines[-1] == "root"


def test_a_compiler_run_inside_makes_a_program_that_runs(debian_root: Path) -> None:
    source = b'#include <stdio.h>\nint main(void) { puts("compiled inside"); return 0; }\n'
    r = sh(
        "gcc -O1 -o /tmp/a /src/a.c && /tmp/a",
        image=str(debian_root),
        files={"/src/a.c": source},
        collect=["/tmp/a"],
    )
    assert (r.returncode, r.stdout) == (0, "compiled inside\n"), r.stderr
    assert r.files["/tmp/a"].startswith(b"\x7fELF")


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
def test_a_package_can_be_built_installed_and_removed(debian_root: Path, storage: str) -> None:
    control = b"Package: hello-inside\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    line = """
        cd /work && mkdir -p p/usr/bin p/DEBIAN && cp control p/DEBIAN && printf '#!/bin/sh\\necho hello' > p/usr/bin/hello-inside &&
        chmod +x p/usr/bin/hello-inside && dpkg-deb -b p hello.deb >&2 && dpkg -i hello.deb >&2 && hello-inside &&
        dpkg -s hello-inside | grep -c 'ok installed' && dpkg -r hello-inside >&2 && test ! -e /usr/bin/hello-inside && echo gone
    """
    r = sh(line, image=str(debian_root), storage=storage, files={"/work/control": control})
    assert (r.returncode, r.stdout) == (0, "hello\n1\ngone\n"), r.stderr
    assert not os.path.exists(debian_root / "usr/bin/hello-inside")


def test_accounts_can_be_made_and_used_inside(debian_root: Path) -> None:
    line = (
        "useradd -m carol && HOME=/home/carol setpriv --reuid=carol --regid=carol --init-groups "
        "sh -c 'id -un; echo $HOME; touch ~/x && stat -c %U ~/x'"
    )
    r = sh(line, image=str(debian_root), init=True)
    assert r.stdout.split() == ["carol", "/home/carol", "carol"], r.stderr


def test_the_image_stays_as_it_was(debian_root: Path) -> None:
    before = roots.fingerprint(debian_root / "etc"), roots.fingerprint(debian_root / "var/lib/dpkg")
    assert sh(
        "rm -rf /etc/* /var/lib/dpkg /usr/bin/gcc*; echo x > /new", image=str(debian_root)
    ).returncode in (0, 1)
    assert (roots.fingerprint(debian_root / "etc"), roots.fingerprint(debian_root / "var/lib/dpkg")) == before
    assert not os.path.exists(debian_root / "new")


def test_it_works_in_a_private_user_namespace_and_read_only(debian_root: Path) -> None:
    line = "id -un; hostname; touch /etc/x && echo wrote"
    for options, wrote in (
        ({"userns": "private"}, True),
        ({"read_only": True}, False),
        ({"userns": "private", "read_only": True}, False),
    ):
        r = pyminicon.run(
            ["sh", "-c", line],
            image=str(debian_root),
            hostname="h",
            capture_output=True,
            text=True,
            **options,
        )
        assert r.stdout.split()[:2] == ["root", "h"], (options, r)
        assert ("wrote" in r.stdout) is wrote, (options, r)
