"""Boot an emulated machine over this machine's own file system and run jobs in it.

Software emulation (no KVM): slow, but it works anywhere, also where this machine is virtual itself. The
guest sees the host's root read-only; what it writes goes to a scratch disk that is thrown away. See
guest_init.sh for what is where inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

import host_clock
import initramfs
from kernels import Kernel

HERE = Path(__file__).resolve().parent
TREE = HERE.parent.parent
SCRATCH_BYTES = 8 << 30
# The ordinary user that the guest adds; high enough not to meet one that the host's /etc/passwd names.
TESTER = 4747


class MachineFailed(RuntimeError):
    """The machine didn't boot, or stopped before the jobs were done."""


class Job:
    """One command. ``uid`` 0 is root; ``cgroup`` "root" leaves it in the root cgroup, "delegated" gives it a
    subtree of its own; ``timeout`` is in seconds of real time."""

    __slots__ = ("argv", "cgroup", "cwd", "env", "timeout", "uid")

    def __init__(
        self,
        argv: list[str],
        *,
        uid: int = 0,
        timeout: float = 600.0,
        cwd: str = str(TREE),
        env: dict[str, str] | None = None,
        cgroup: str = "",
    ) -> None:
        self.argv = argv
        self.uid = uid
        self.timeout = timeout
        self.cwd = cwd
        self.env = env or {}
        self.cgroup = cgroup or ("delegated" if uid else "root")

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Ended:
    """How a job ended: ``returncode`` as subprocess has it (-N: signal N), 124 when it ran out of time."""

    __slots__ = ("returncode", "seconds", "timed_out")

    def __init__(self, answer: dict[str, Any]) -> None:
        self.timed_out = bool(answer["timed_out"])
        self.returncode = 124 if self.timed_out else int(answer["returncode"])
        self.seconds = float(answer["seconds"])


def boot(
    kernel: Kernel,
    jobs: list[Job],
    *,
    memory: str = "3G",
    cpus: int = 2,
    append: str = "",
    sysctls: list[str] | None = None,
    boot_timeout: float = 180.0,
    verbose: bool = False,
) -> list[Ended]:
    """Boot, run ``jobs`` in order, power off. Their output is copied to our stdout and stderr as it comes.

    Raises MachineFailed with the last lines of the console when the machine doesn't come up within
    ``boot_timeout`` seconds, or dies under a job.
    """
    with tempfile.TemporaryDirectory(prefix="pyminicon-vm-") as name:
        share = Path(name)
        _write_settings(share, kernel, jobs, sysctls or [])
        _scratch_disk(share / "scratch")
        initramfs.build(kernel, shlex.quote(str(HERE / "guest_init.sh")), share / "initrd")
        command = _qemu(kernel, share, memory, cpus, append)
        with (share / "console").open("wb") as console:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        try:
            return _follow(process, share, jobs, boot_timeout, verbose)
        finally:
            process.kill()
            process.wait()


def _write_settings(share: Path, kernel: Kernel, jobs: list[Job], sysctls: list[str]) -> None:
    (share / "jobs").write_text(json.dumps([job.as_dict() for job in jobs]))
    python = sys.executable
    shown: list[str] = []
    for path in (sys.base_prefix, sys.prefix):
        # /usr and what lies in the tree is there anyway; a prefix below /root or /home was covered.
        if path != "/usr" and not Path(path).is_relative_to(TREE):
            shown.append(path)
    single = {"TREE": TREE, "PYTHON": python, "KERNEL_BASE": kernel.base, "TESTER": TESTER}
    lines = [f"{key}={shlex.quote(str(value))}" for key, value in single.items()]
    for key, values in (("SHOWN", shown), ("SYSCTLS", sysctls)):
        lines.append(f"{key}=({' '.join(shlex.quote(value) for value in values)})")
    (share / "settings").write_text("\n".join(lines) + "\n")


def _scratch_disk(path: Path) -> None:
    """An ext4 disk for what the guest writes; sparse, so that it costs what is written."""
    with path.open("wb") as disk:
        disk.truncate(SCRATCH_BYTES)
    mke2fs = shutil.which("mke2fs") or shutil.which("mke2fs", path="/usr/sbin:/sbin") or "mke2fs"
    # No journal: nobody will ever recover this disk, and writing twice costs emulated time.
    subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-O", "^has_journal", str(path)], check=True)


def _qemu(kernel: Kernel, share: Path, memory: str, cpus: int, append: str) -> list[str]:
    return [
        *qemu(kernel, share, memory, cpus, append),
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
        "-drive", f"file={share / 'scratch'},format=raw,if=none,id=scratch,cache=unsafe,discard=unmap",
        "-device", "virtio-blk-pci,drive=scratch",
    ]  # fmt: skip


def qemu(kernel: Kernel, share: Path, memory: str, cpus: int, append: str) -> list[str]:
    """What all machines have in common: the processor, the console, and ``share`` as the 9p tag "vm"."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise MachineFailed("qemu-system-x86_64 is missing: install qemu-system-x86")
    # mitigations=off: on an emulated processor they protect nothing, and it is slowest at retpolines.
    # tsc=reliable: on a busy host the watchdog finds the emulated time stamp counter unsteady and falls back
    # to the HPET, every reading of which is a trip out of the machine: the same work took half as long again.
    line = f"console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off tsc=reliable clocksource=tsc {append}"
    khz = host_clock.tsc_khz()
    line += f" tsc_early_khz={khz}" if khz else ""
    return [
        program, "-nodefaults", "-no-reboot", "-no-user-config", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512",
        # la57=off: five-level page tables only make every miss of the emulated TLB dearer.
        "-cpu", "max,la57=off", "-smp", str(cpus), "-m", memory,
        "-serial", "stdio", "-nic", "none",
        "-kernel", str(kernel.image), "-initrd", str(share / "initrd"), "-append", line,
        "-fsdev", f"local,id=vm,path={share},security_model=none,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=vm,mount_tag=vm",
    ]  # fmt: skip


def _follow(
    process: subprocess.Popen[bytes], share: Path, jobs: list[Job], boot_timeout: float, verbose: bool
) -> list[Ended]:
    started = time.monotonic()
    _await(process, share / "booted", started + boot_timeout, share, [])
    if verbose:
        release = (share / "booted").read_text().strip()
        took = time.monotonic() - started
        print(f"vm: Linux {release} is up after {took:.1f} s", file=sys.stderr, flush=True)
    ended = []
    for number, job in enumerate(jobs):
        ends = (("out", sys.stdout.buffer), ("err", sys.stderr.buffer))
        copies = [_Copy(share / f"{number}.{kind}", target) for kind, target in ends]
        # The agent itself keeps the time; this is for a machine that hangs.
        deadline = time.monotonic() + job.timeout + 60
        answer = _await(process, share / f"{number}.json", deadline, share, copies)
        ended.append(Ended(json.loads(answer)))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    return ended


def _await(
    process: subprocess.Popen[bytes], path: Path, deadline: float, share: Path, copies: list[_Copy]
) -> str:
    """Wait for ``path`` to appear, copying output meanwhile; returns what it holds."""
    while True:
        gone = process.poll() is not None
        there = path.exists()
        for copy in copies:
            copy.more()
        if there:
            return path.read_text()
        if gone or time.monotonic() > deadline:
            tail = (share / "console").read_bytes()[-4000:].decode(errors="replace")
            state = f"ended with status {process.returncode}" if gone else "ran out of time"
            raise MachineFailed(f"the machine {state} before {path.name} was there; its console:\n{tail}")
        time.sleep(0.05)


class _Copy:
    """Copies what a growing file has gained since the last look."""

    def __init__(self, source: Path, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._file: BinaryIO | None = None

    def more(self) -> None:
        if self._file is None:
            if not os.path.exists(self._source):
                return
            self._file = self._source.open("rb")
        shutil.copyfileobj(self._file, self._target)
        self._target.flush()
