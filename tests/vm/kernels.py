"""Fetch a Debian kernel package and unpack it into a cache directory.

The machine's own package sources are never changed: apt gets a state directory of its own, with one source
whose address is read from the machine's configuration (``apt-get indextargets``), so that whatever mirror,
proxy or certificate the machine uses serves here too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

SUITES = {"6.1": "bookworm", "newest": "sid"}
# Not among those that `make vm-test` tries: the kernel of a release that is tried whole (systemd/).
OTHERS = {"6.12": "trixie"}
_IMAGE = re.compile(r"^linux-image-[0-9][^ ]*-amd64$")
# Flavours that boot on fewer machines (cloud), behave differently (rt) or only carry symbols (dbg).
_OTHER_FLAVOURS = re.compile(r"-(rt|cloud|dbg|unsigned)\b")


class KernelUnavailable(RuntimeError):
    """No such kernel could be fetched; the message says what was tried."""


class Kernel:
    """An unpacked kernel: ``version`` (uname -r), ``image`` (the vmlinuz file) and ``base`` (depmod -b)."""

    __slots__ = ("base", "image", "version")

    def __init__(self, version: str, image: Path, base: Path) -> None:
        self.version = version
        self.image = image
        self.base = base

    @property
    def busybox(self) -> Path:
        """A statically linked busybox (bookworm has it in bin, sid in usr/bin)."""
        found = next(self.base.glob("**/bin/busybox"), None)
        if found is None:
            raise KernelUnavailable(f"no busybox below {self.base}")
        return found

    @property
    def modules(self) -> Path:
        return self.base / "lib" / "modules" / self.version


def cache_dir() -> Path:
    """Where kernels are kept: $XDG_CACHE_HOME, else /var/cache for root and ~/.cache for everybody else."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "pyminicon-vm"
    if os.geteuid() == 0:
        return Path("/var/cache/pyminicon-vm")
    return Path.home() / ".cache" / "pyminicon-vm"


def get(name: str, refresh: bool = False) -> Kernel:
    """The kernel called ``name``: "6.1" (bookworm's), "newest" (the highest version that sid offers).

    It is fetched when the cache doesn't hold it, or when ``refresh`` is set. Raises KernelUnavailable.
    """
    suites = {**SUITES, **OTHERS}
    if name not in suites:
        raise KernelUnavailable(f"unknown kernel {name!r}: choose one of {', '.join(SUITES)}")
    place = cache_dir() / name
    stamp = place / "ready"
    if refresh or not stamp.exists():
        _fetch(suites[name], place)
    version, image = stamp.read_text().split("\n")[:2]
    return Kernel(version, place / image, place)


def _fetch(suite: str, place: Path) -> None:
    apt = _private_apt(place.parent / f"apt-{suite}", suite)
    version = _choose(apt)
    fresh = place.with_name(place.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    debs = fresh / "debs"
    debs.mkdir(parents=True)
    # Bookworm has everything in linux-image-*; sid's is empty and its files are in the other three.
    wanted = [f"linux-{part}-{version}" for part in ("image", "binary", "modules", "base")]
    # With the kernel comes a static busybox for the first file system, whatever the machine itself has.
    wanted.append("busybox-static")
    known = set(_apt(["apt-cache", *apt, "pkgnames"]).split())
    _apt(["apt-get", *apt, "download", "-q", *[p for p in wanted if p in known]], cwd=debs, tries=3)
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(deb), str(fresh)], check=True)
    shutil.rmtree(debs)
    _finish(fresh, version)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)
    print(f"vm: unpacked Linux {version} ({suite}) into {place}", file=sys.stderr)


def _finish(base: Path, version: str) -> None:
    """Bring both package layouts into one shape, run depmod and leave the stamp that validates the cache."""
    if not (base / "lib" / "modules").exists():
        (base / "lib").mkdir(exist_ok=True)
        (base / "lib" / "modules").symlink_to("../usr/lib/modules")
    candidates = [f"boot/vmlinuz-{version}", f"usr/lib/modules/{version}/vmlinuz"]
    image = next((c for c in candidates if (base / c).exists()), None)
    if image is None:
        raise KernelUnavailable(f"linux-image-{version}: no vmlinuz in the package")
    subprocess.run([_depmod(), "-b", str(base), version], check=True)
    (base / "ready").write_text(f"{version}\n{image}\n")


def _depmod() -> str:
    found = shutil.which("depmod") or shutil.which("depmod", path="/usr/sbin:/sbin")
    if found is None:
        raise KernelUnavailable("depmod is missing: install kmod")
    return found


def _choose(apt: list[str]) -> str:
    names = _apt(["apt-cache", *apt, "pkgnames", "linux-image-"]).split()
    versions = [name.removeprefix("linux-image-") for name in names if is_candidate(name)]
    if not versions:
        raise KernelUnavailable("the package lists hold no linux-image-*-amd64")
    return max(versions, key=_order)


def is_candidate(package: str) -> bool:
    """Whether this is a kernel of the plain flavour."""
    return bool(_IMAGE.match(package)) and not _OTHER_FLAVOURS.search(package)


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.removesuffix("-amd64"))]


def _private_apt(state: Path, suite: str) -> list[str]:
    """Make a state directory for apt with one source; returns the options that make apt use it."""
    for part in ("state/lists/partial", "cache/archives/partial", "etc"):
        (state / part).mkdir(parents=True, exist_ok=True)
    address, signed_by = _debian_mirror()
    source = state / "etc" / "vm.sources"
    lines = ["Types: deb", f"URIs: {address}", f"Suites: {suite}", "Components: main"]
    if signed_by:
        lines.append(f"Signed-By: {signed_by}")
    source.write_text("\n".join(lines) + "\n")
    settings = {
        "Dir::State": state / "state",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "/dev/null",
        # A mirror's copy of sid may be older than its Release file allows.
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        # The user _apt can't write into a cache directory of ours.
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    _apt(["apt-get", *options, "update", "-q"], tries=3)
    return options


def _debian_mirror() -> tuple[str, str]:
    """Address and keyring of the Debian archive that this machine uses.

    $PYMINICON_VM_MIRROR overrides it, for machines that aren't Debian.
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    signed_by = keyring if os.path.exists(keyring) else ""
    chosen = os.environ.get("PYMINICON_VM_MIRROR")
    if chosen:
        return chosen, signed_by
    form = "$(SITE)|$(CODENAME)|$(RELEASE)"
    listing = _apt(["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Component: main"])
    codename = _os_release().get("VERSION_CODENAME", "")
    for line in listing.splitlines():
        site, found, release = line.split("|", 2)
        # Not bookworm-security nor bookworm-updates, and not a third party's archive: those have no sid.
        if codename in (found, release) and "-" not in release:
            return site, signed_by
    raise KernelUnavailable("no Debian archive among this machine's apt sources: set PYMINICON_VM_MIRROR")


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _apt(command: list[str], cwd: Path | None = None, tries: int = 1) -> str:
    for attempt in range(1, tries + 1):
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
        if attempt < tries:
            time.sleep(5 * attempt)
    tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
    raise KernelUnavailable(f"{command[0]} {command[-1]}: exit status {done.returncode}\n{tail}")
