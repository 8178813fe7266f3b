#!/usr/bin/env python3
"""Run a command on a Debian that systemd booted: ``boot.py run --way user-session -- 'python3 -m pyminicon doctor'``.

The code is this tree's, as it is built now. The machine can be kept (``--keep``) for the next command, whose code is
then sent anew if it has changed; ``boot.py stop`` ends it. The exit status is the command's (124 out of time, 125 the
machine itself failed), its output comes on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import agent  # noqa: E402
import image  # noqa: E402
import initramfs  # noqa: E402
import kernels  # noqa: E402
import machine  # noqa: E402

#: Suite -> its kernel (kernels.SUITES) and the Python it has.
SUITES = {"bookworm": ("6.1", (3, 11)), "trixie": ("6.12", (3, 13))}
# What the tests import beside pyminicon: pure Python, so it is taken from the interpreter that runs this.
LIBRARIES = (
    "pytest",
    "_pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "hypothesis",
    "sortedcontainers",
    "pexpect",
    "ptyprocess",
)


class Booted:
    """One machine; its jobs, their output and its state lie in ``share``."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.share = machine.TREE / "build" / f"systemd-{suite}"
        self._number = 0
        self._built: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, memory: str = "2G", cpus: int = 2, boot_timeout: float = 300.0) -> None:
        kernel = kernels.get(SUITES[self.suite][0])
        disk = image.get(self.suite)
        shutil.rmtree(self.share, ignore_errors=True)
        self.share.mkdir(parents=True)
        shutil.copy(HERE / "agent.py", self.share)
        initramfs.build_for_disk(kernel, self.share / "initrd")
        command = machine.qemu(kernel, self.share, memory, cpus, "root=/dev/vda rw systemd.show_status=no")
        command += [
            # A terminal to log in on; nobody listens at its other end.
            "-serial", "null",
            # snapshot=on: what the machine writes goes to a file that has no name.
            "-drive", f"file={disk},format=raw,if=none,id=disk,snapshot=on,cache=unsafe",
            "-device", "virtio-blk-pci,drive=disk",
            "-fsdev", f"local,id=modules,path={kernel.modules.parent.resolve()},security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=modules,mount_tag=modules",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip
        with (self.share / "console").open("wb") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        (self.share / "pid").write_text(str(self._process.pid))
        self._await(self.share / "booted", time.monotonic() + boot_timeout)

    def attach(self) -> bool:
        """Go on with a machine that was kept; False if there is none."""
        try:
            pid = int((self.share / "pid").read_text())
            if str(self.share) not in Path(f"/proc/{pid}/cmdline").read_text():
                return False
        except (OSError, ValueError):
            return False
        self._number = len(list(self.share.glob("*.job")))
        return (self.share / "booted").exists()

    def run(self, command: str, way: str, *, timeout: float = 300.0, env: dict[str, str] | None = None,
            output: Any = None) -> machine.Ended:  # fmt: skip
        """Run the shell command in that way; what it prints is copied to ``output`` (our stdout) as it comes."""
        number, self._number = self._number, self._number + 1
        environment = {
            "PYTHONPATH": f"{agent.CODE}:{agent.CODE}/site",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        job = {"command": command, "way": way, "timeout": timeout, "env": environment, "code": self._send()}
        aside = self.share / f"{number}.part"
        aside.write_text(json.dumps(job))
        aside.rename(self.share / f"{number}.job")
        copy = machine._Copy(self.share / f"{number}.out", output or sys.stdout.buffer)
        answer = self._await(self.share / f"{number}.json", time.monotonic() + timeout + 120, [copy])
        return machine.Ended(json.loads(answer))

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.share / "pid").read_text())
            if str(self.share) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)  # nothing it wrote is kept
        if self._process is not None:
            self._process.wait()

    def _await(self, path: Path, deadline: float, copies: list[machine._Copy] | None = None) -> str:
        process: Any = self._process or _Other(int((self.share / "pid").read_text()))
        return machine._await(process, path, deadline, self.share, copies or [])

    def _package(self) -> Path:
        """pyminicon as it is built for the machine's Python: this one's if they are the same."""
        if sys.version_info[:2] == SUITES[self.suite][1]:
            return _package()
        if self._built is None:
            self._built = _built_in(self.suite)
        return self._built

    def _send(self) -> str:
        """Put the tree's code into the share, if it isn't there; returns its name."""
        chosen = _code(self._package())
        digest = hashlib.sha256()
        for name, path in chosen:
            found = path.stat()
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode())
        name = f"code-{digest.hexdigest()[:16]}.tar"
        if not (self.share / name).exists():
            with tarfile.open(self.share / f"{name}.part", "w") as tar:
                for inside, path in chosen:
                    tar.add(path, inside, filter=_anybodys)
            (self.share / f"{name}.part").rename(self.share / name)
        return name


class _Other:
    """A process that isn't our child, in the words of Popen that _await uses."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        return None if os.path.exists(f"/proc/{self.pid}") else 0


def _anybodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.mode |= 0o444 | (0o111 if entry.isdir() else 0)
    return entry


def _code(package: Path) -> list[tuple[str, Path]]:
    """(name inside, file) of everything a test needs, with the compiled files that Python made of them."""
    chosen: list[tuple[str, Path]] = []
    roots = [("pyminicon", package), ("tests", machine.TREE / "tests")]
    for library in LIBRARIES:
        found = importlib.util.find_spec(library)
        if found is not None and found.origin is not None:
            roots.append((f"site/{library}", Path(found.origin).parent))
    for name, root in roots:
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", str(root)], check=False, capture_output=True
        )
        for path in sorted(root.rglob("*")):
            if path.is_file() and "-pytest-" not in path.name:
                chosen.append((f"{name}/{path.relative_to(root)}", path))
    for name in ("pyproject.toml", "README.md"):
        chosen.append((name, machine.TREE / name))
    return chosen


def _package() -> Path:
    """The built package: in place in the tree, else where this interpreter has it installed."""
    here = machine.TREE / "pyminicon"
    if list(here.glob("_core*.so")):
        return here
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != machine.TREE]
    found = importlib.util.find_spec("pyminicon")
    if found is None or found.origin is None:
        raise machine.MachineFailed("pyminicon isn't built: pip install . first")
    return Path(found.origin).parent


def _built_in(suite: str) -> Path:
    """The package built from this tree on a minimal machine of that release (tests/fresh), kept until it changes."""
    place = kernels.cache_dir() / f"built-{suite}-{_sources()}"
    if found := _installed_in(place):
        return found
    for old in kernels.cache_dir().glob(f"built-{suite}*"):
        shutil.rmtree(old)
    part = place.with_suffix(".part")
    build = "python3 -m venv .venv && .venv/bin/pip install -q ."
    fresh = [sys.executable, str(machine.TREE / "tests/fresh/run.py"), "--as", "root", "--suite", suite]
    done = subprocess.run([*fresh, "--keep", str(part), "--command", build], stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise machine.MachineFailed(f"it couldn't be built for {suite}")
    part.rename(place)
    found = _installed_in(place)
    if found is None:
        raise machine.MachineFailed(f"nothing was installed for {suite}")
    return found


def _installed_in(place: Path) -> Path | None:
    return next(place.glob("root/root/pyminicon/.venv/lib/python*/site-packages/pyminicon"), None)


def _sources() -> str:
    """A name for all that is compiled or installed."""
    digest = hashlib.sha256()
    for name in ("csrc", "pyminicon", "tools", "CMakeLists.txt", "pyproject.toml"):
        top = machine.TREE / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.suffix in (".cc", ".h", ".py", ".pyi", ".txt", ".toml"):
                digest.update(f"{path.relative_to(machine.TREE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="boot.py", usage="boot.py run|stop [options] [-- SHELL COMMAND]", description=__doc__
    )
    add = parser.add_argument
    add("verb", choices=("run", "stop"))
    add("--suite", default="bookworm", choices=list(SUITES))
    add("--way", default="session", choices=list(agent.WAYS))
    add("--timeout", type=float, default=300.0, metavar="SECONDS")
    add("--keep", action="store_true", help="leave the machine running, for the next command")
    add("--memory", default="2G")
    cut = argv.index("--") if "--" in argv else len(argv)
    options, command = parser.parse_args(argv[:cut]), " ".join(argv[cut + 1 :])
    booted = Booted(options.suite)
    if options.verb == "stop":
        booted.stop()
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    started = time.monotonic()
    try:
        if not booted.attach():
            booted.start(options.memory)
            print(f"vm: {options.suite} is up after {time.monotonic() - started:.0f} s", file=sys.stderr)
        ended = booted.run(command, options.way, timeout=options.timeout)
    except (kernels.KernelUnavailable, machine.MachineFailed, image.ImageFailed) as error:
        print(f"vm: {error}", file=sys.stderr)
        booted.stop()
        return 125
    finally:
        if not options.keep:
            booted.stop()
    print(f"vm: exit status {ended.returncode} after {ended.seconds} s", file=sys.stderr)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
