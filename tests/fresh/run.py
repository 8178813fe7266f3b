#!/usr/bin/env python3
"""The README's two commands on a fresh, minimal Debian, as root or as a new user: what ``make fresh-test`` calls.

The machine is a root file system of mmdebstrap's smallest kind with what the README's own apt line names and nothing
else, entered with namespaces of its own: no file, process or account of this machine is seen there. The checkout is
copied into a home that nobody else may enter. The network, the kernel and the cgroup tree are this machine's.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

HERE = Path(__file__).resolve().parent
TREE = HERE.parent.parent
CACHE = Path(os.environ.get("PYMINICON_TEST_CACHE", "/var/cache/pyminicon-tests"))
USER, UID = "newcomer", 1000


class NotMade(RuntimeError):
    """The machine couldn't be made; the message says why."""


def readme_line(pattern: str) -> str:
    """The README's first line with ``pattern``, so that what it promises is what is tried."""
    for line in (TREE / "README.md").read_text().splitlines():
        if re.search(pattern, line):
            return line.strip()
    raise NotMade(f"README.md has no line with {pattern!r}")


def packages() -> list[str]:
    """What the README's apt line installs."""
    line = readme_line(r"apt(-get)? .*\binstall ").strip("`")
    words = re.split(r"\binstall\b", line, maxsplit=1)[1]
    words = re.split(r"&&|;|\||`", words)[0]
    return [word for word in shlex.split(words) if not word.startswith("-")]


def archive(suite: str, wanted: list[str]) -> Path:
    """The root file system as an archive, made once for each list of packages."""
    digest = hashlib.sha256(" ".join([suite, *wanted]).encode()).hexdigest()[:12]
    place = CACHE / f"fresh-{suite}-{digest}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "fresh.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # root's and the user's machine are made side by side
        if not place.exists():
            part = place.with_suffix(".part.tar")
            command = [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(wanted)}",
                suite,
                str(part),
            ]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                part.unlink(missing_ok=True)
                raise NotMade(f"mmdebstrap: {done.stderr.strip()[-500:]}")
            part.rename(place)
    return place


def furnish(root: Path, who: str) -> Path:
    """Accounts, addresses and the checkout; returns where the checkout lies inside."""
    for name in ("resolv.conf", "hosts"):
        if os.path.exists(f"/etc/{name}"):
            shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    (root / "etc/hostname").write_text("fresh\n")
    _configure_pip(root)
    _in_root(
        root, f"useradd --uid {UID} --create-home --shell /bin/bash {USER}; chmod 700 /root /home/{USER}"
    )
    home = Path("/root") if who == "root" else Path(f"/home/{USER}")
    target = home / "pyminicon"
    (root / target.relative_to("/")).mkdir()
    listing = ["git", "-C", str(TREE), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True).stdout
    there = b"\0".join(
        name for name in names.split(b"\0") if name and os.path.lexists(os.path.join(os.fsencode(TREE), name))
    )
    pack = ["tar", "-C", str(TREE), "--null", "-T", "-", "-c"]
    packed = subprocess.run(pack, input=there, check=True, capture_output=True).stdout
    subprocess.run(
        ["tar", "-C", str(root / target.relative_to("/")), "-x", "--no-same-owner"], input=packed, check=True
    )
    if who != "root":
        _in_root(root, f"chown -R {USER}:{USER} /home/{USER}")
    return target


def _pip_settings() -> dict[str, list[str]]:
    """This machine's settings for pip, wherever they come from."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[str, list[str]] = {}
    for line in listing.stdout.splitlines():
        key, _, shown = line.partition("=")
        name = key.removeprefix(":env:.").removeprefix("global.")
        if "." not in name and shown:  # else a setting for one command
            found[name] = str(ast.literal_eval(shown)).split()
    return found


def _configure_pip(root: Path) -> None:
    """The same settings as one file, and the files that they name."""
    lines = ["[global]"]
    for name, values in _pip_settings().items():
        lines.append(f"{name} = " + "\n    ".join(values))
        for path in map(_local, values):
            # Also what a package brought: this machine's may trust authorities of its own.
            if path is not None and path.is_file():
                (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, root / path.relative_to("/"))
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def _local(value: str) -> Path | None:
    """What a setting of pip's names on this machine's disk."""
    path = Path(unquote(urlparse(value).path) if value.startswith("file:") else value)
    return path if path.is_absolute() and path.exists() else None


def local_indexes() -> list[str]:
    """Directories in which pip is to look; an index refers to files beside itself."""
    found = set()
    for value in (value for values in _pip_settings().values() for value in values):
        path = _local(value)
        if path is not None and path.is_dir():
            found.add(str(path.parent if value.startswith("file:") and path.parent != Path("/") else path))
    return sorted(found)


def _in_root(root: Path, script: str) -> None:
    subprocess.run(["chroot", str(root), "sh", "-ec", script], check=True, stdin=subprocess.DEVNULL)


def enter(root: Path, who: str, command: str, timeout: float, also: list[str]) -> int:
    """Run the shell command as a login of ``who`` would, in a machine that ends with it."""
    machine = [
        "unshare",
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]
    words = [*machine, "bash", str(HERE / "enter.sh"), str(root), who, command, *local_indexes(), *also]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        print(f"fresh: out of time after {timeout:.0f} s", flush=True)
        return 124
    finally:
        process.kill()
        process.wait()


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    add = parser.add_argument
    add(
        "--as",
        dest="who",
        action="append",
        choices=("root", "user"),
        help="default: both, one after the other",
    )
    add("--suite", default="bookworm")
    add("--timeout", type=float, default=2400.0, metavar="SECONDS", help="for each command")
    add("--command", help="instead of the README's two commands")
    add("--packages", help="instead of what the README's apt line names")
    add("--also", action="append", default=[], metavar="DIRECTORY", help="of this machine, there as well")
    add(
        "--keep",
        metavar="DIRECTORY",
        help="make the machine there and leave it; go on with the one that is there",
    )
    return parser.parse_args(argv)


def one(who: str, options: argparse.Namespace) -> list[str]:
    account = "root" if who == "root" else USER
    keep = Path(options.keep).resolve() / who if options.keep else None
    root = keep or Path(f"/var/tmp/pyminicon-fresh-{os.getpid()}-{who}")
    commands = (
        [options.command]
        if options.command
        else [readme_line(r"-m pyminicon run host"), readme_line(r"-m pytest")]
    )
    wanted = options.packages.split() if options.packages else packages()
    lines = []
    try:
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            subprocess.run(
                ["tar", "-xpf", archive(options.suite, wanted), "-C", part, "--exclude=./dev/*"], check=True
            )
            furnish(part, who)
            part.rename(root)
        for command in commands:
            started = time.monotonic()
            print(f"fresh: as {who}: {command}", flush=True)
            inside = f"cd ~/pyminicon && {command}"
            status = enter(root, account, inside, options.timeout, options.also)
            mark = "passed" if status == 0 else "FAILED"
            lines.append(
                f"{mark} as {who}: exit status {status} after {time.monotonic() - started:.0f} s: {command}"
            )
    finally:
        if keep is None:
            shutil.rmtree(root, ignore_errors=True)
    return lines


def main(argv: list[str]) -> int:
    options = parse(argv)
    if os.geteuid() != 0:
        print("fresh: only root can make the machine", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    lines: list[str] = []
    for who in options.who or ["root", "user"]:
        try:
            lines += one(who, options)
        except (NotMade, subprocess.CalledProcessError, OSError) as error:
            lines.append(f"FAILED as {who}: {error}")
    print("\n".join(f"fresh: {line}" for line in lines), flush=True)
    return 1 if any(line.startswith("FAILED") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
