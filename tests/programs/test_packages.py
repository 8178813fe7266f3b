"""An ordinary user installs packages in a Debian image, from Debian's own servers, by the way out that pasta makes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import roots
from tests.support import ordinary
from tests.support.python import environment

INSTALL = """
import pyminicon, sys
line = "apt-get update -q && apt-get install -qy --no-install-recommends hello && hello"
def install(line, **more):
    r = pyminicon.run(["sh", "-ec", line], image=sys.argv[1], network="pasta", stdout=-1, stderr=-2, text=True, timeout=300, **more)
    assert (r.returncode, r.stdout.splitlines()[-1:]) == (0, ["Hello, world!"]), r.stdout[-2000:]
install(line, userns="private")
# With one id alone there is nobody whom apt could become.
install("echo 'APT::Sandbox::User \\"root\\";' > /etc/apt/apt.conf.d/one; " + line)
print("both")
"""

#: This machine's /dev/net/tun may be root's alone; in here it is anybody's, as with udev.
SETUP = """
set -e
mount --make-rprivate /
mkdir {hold}/tun; mount -t tmpfs -o mode=755 none {hold}/tun
mkdir -p /dev/net; touch /dev/net/tun 2>/dev/null || true
mknod -m 666 {hold}/tun/tun c 10 200; mount --bind {hold}/tun/tun /dev/net/tun
exec {command}
"""


def test_an_ordinary_user_installs_a_package(tmp_path: Path, needs_root: None) -> None:
    for tool in ("pasta", "newuidmap"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    try:
        archive = roots.archive()
    except roots.CannotMake as error:
        pytest.skip(str(error))
    home, hold, image = tmp_path / "home", tmp_path / "hold", tmp_path / "debian.tar"
    for made in (home, hold):
        made.mkdir()
    shutil.copy(archive, image)
    image.chmod(0o644)
    shutil.chown(home, ordinary.UID, ordinary.UID)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(above.stat().st_mode | 0o011)
    words = ordinary.command([sys.executable, "-c", INSTALL, str(image)], hold)
    script = SETUP.format(hold=tmp_path, command=shlex.join(words))
    ran = subprocess.run(
        ["unshare", "-m", "--", "timeout", "-s", "KILL", "700", "sh", "-c", script],
        capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL, timeout=720,
        env={**environment(), "HOME": str(home), "PYMINICON_STORE": str(home / "store")},
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "both\n"), ran.stderr[-3000:]
