"""A container started inside another: it works, or the error names the cause and the remedy. The table of
docs/nested.md is tried here as far as a machine of the tests can."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.support import ordinary
from tests.support.python import environment

HERE = str(Path(pyminicon.__file__).resolve().parents[1])
PAGE = Path(__file__).resolve().parents[2] / "docs" / "nested.md"
UNCONFINED = "--security-opt seccomp=unconfined"
INNER = ["-m", "pyminicon", "run", "host", "sh", "-c", "echo inner $$; echo > /dev/null"]
WORKS = (0, "inner 1\n", "")


@pytest.fixture(autouse=True)
def _for_root(needs_root: None) -> None:
    """What an ordinary user can give away to an inner container is not enough for it."""


def nested(*words: str, **options: Any) -> pyminicon.Result:
    """``python -m pyminicon`` with ``words`` in a container with ``options``."""
    return pyminicon.run(
        ["python", "-m", "pyminicon", *words],
        image="python", volumes=[f"{HERE}:{HERE}:ro"], env={"PYTHONPATH": HERE}, capture_output=True, text=True, **options,
    )  # fmt: skip


def line_for(outside: str) -> str:
    """The line of the page's table for this outer engine."""
    found = re.search(rf"^\| {re.escape(outside)}[^|]* \| `([^`]*)`", PAGE.read_text(), re.MULTILINE)
    assert found is not None, outside
    return found[1]


def said(r: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return r.returncode, r.stdout, r.stderr


# ---- in a container of ours -----------------------------------------------------------------------------


def test_it_works_with_all_that_it_takes() -> None:
    r = nested("run", "host", "echo", "inner", seccomp="unconfined", cap_add=["ALL"])
    assert (r.returncode, r.stdout) == (0, "inner\n"), r.stderr


@pytest.mark.parametrize("user", [None, "1000"])
def test_it_works_with_what_the_page_names(user: str | None) -> None:
    line = line_for("pyminicon")
    assert (
        line.count("--security-opt") == 2
        and "systempaths=unconfined" in line
        and "seccomp=unconfined" in line
    )
    r = nested("run", "host", "echo", "inner", seccomp="unconfined", systempaths="unconfined", user=user)
    assert (r.returncode, r.stdout, r.stderr) == (0, "inner\n", "")


@pytest.mark.parametrize("user", [None, "1000"])
def test_each_error_on_the_way_names_what_is_missing(user: str | None) -> None:
    r = nested("run", "host", "true", user=user)
    assert r.returncode == 125
    assert "Function not implemented (a seccomp filter forbids it" in r.stderr
    assert UNCONFINED in r.stderr
    r = nested("run", "host", "true", user=user, seccomp="unconfined")
    assert r.stderr.startswith(
        "pyminicon: mount: /proc: Operation not permitted (hidden by the outer container"
    ), r.stderr
    assert "--security-opt systempaths=unconfined" in r.stderr


def test_a_core_limit_that_is_kept_low_is_no_obstacle() -> None:
    for words in ([], ["--network", "host"]):
        r = nested("run", "--userns", "host", *words, "host", "true", cap_add=["SYS_ADMIN"])
        assert r.stderr.startswith("pyminicon: pivot_root: Operation not permitted (a seccomp filter"), (
            r.stderr
        )
        assert UNCONFINED in r.stderr


def test_a_loopback_that_may_not_be_brought_up_is_named_with_what_goes_without() -> None:
    r = nested("run", "--userns", "host", "host", "true", cap_add=["SYS_ADMIN"], seccomp="unconfined")
    assert r.stderr.startswith("pyminicon: loopback: Operation not permitted (a loopback"), r.stderr
    assert 'network="host" goes without' in r.stderr


def test_doctor_names_the_profile_too() -> None:
    r = nested("doctor")
    assert r.returncode == 1
    after = r.stdout.partition("NO  clone3")[2]
    assert "remedy: a seccomp filter forbids it" in after.partition("\nok")[0]
    assert "pid namespace" in after


def test_system_paths_are_hidden_unless_they_are_asked_for() -> None:
    hidden = ["sh", "-c", "wc -c < /proc/keys; echo 1 > /proc/sys/net/ipv4/ip_default_ttl || echo refused"]
    r = pyminicon.run(hidden, capture_output=True, text=True)
    assert r.stdout == "0\nrefused\n"
    r = pyminicon.run(hidden, capture_output=True, text=True, systempaths="unconfined", cap_add=["NET_ADMIN"])
    assert "refused" not in r.stdout
    with pytest.raises(pyminicon.SpecError, match="takes 'default' or 'unconfined'"):
        pyminicon.run(hidden, systempaths="all")


# ---- in podman ------------------------------------------------------------------------------------------


class Podman:
    """Debian's, with a store of its own, as root or as an ordinary user with ranges of ids; its containers have a
    root of this machine's programs, which come by volumes."""

    def __init__(self, base: Path, rootless: bool) -> None:
        self.base, self.rootless = base, rootless
        self.root, self.home, self.hold = base / "root", base / "home", base / "hold"
        for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        for name in ("passwd", "group", "ld.so.cache"):
            shutil.copy(f"/etc/{name}", self.root / "etc")
        self.home.mkdir()
        self.hold.mkdir()
        base.chmod(0o711)
        if rootless and os.geteuid() == 0:
            for path in (self.home, self.root, *self.root.rglob("*")):
                os.lchown(path, ordinary.UID, ordinary.UID)

    def run(self, options: list[str], *words: str) -> subprocess.CompletedProcess[str]:
        volumes = {"/usr", sys.prefix, sys.base_prefix, HERE}
        mine = [word for path in sorted(volumes) for word in ("-v", f"{path}:{path}:ro")]
        # What isn't the container's own affair: neither a network nor limits above this machine's.
        quiet = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        call = [
            "podman", "--log-level", "error", "--runtime", shutil.which("runc", path=path) or "crun", "--cgroup-manager", "cgroupfs",
            "--storage-driver", "vfs", "--root", f"{self.home}/store", "--runroot", f"{self.home}/run",
            "run", "--rm", *quiet, *mine, *options, "-e", f"PYTHONPATH={HERE}", "-e", "PYTHONDONTWRITEBYTECODE=1",
            "--rootfs", str(self.root), *words,
        ]  # fmt: skip
        return subprocess.run(
            ordinary.command(call, self.hold) if self.rootless else call,
            env={"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home), "PATH": path},
            cwd="/", capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module", params=["root", "rootless"])
def podman(request: pytest.FixtureRequest) -> Iterator[Podman]:
    if shutil.which("podman") is None:
        pytest.skip("needs a machine with podman")
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    base = Path(tempfile.mkdtemp(prefix="podman-"))  # podman takes paths of at most 50 characters
    yield Podman(base, request.param == "rootless")
    shutil.rmtree(base, ignore_errors=True)


def test_podman_works_with_what_the_page_names(podman: Podman) -> None:
    options = [word for word in shlex.split(line_for("podman")) if word not in ("podman", "run", "IMAGE")]
    r = podman.run(options, sys.executable, *INNER)
    assert said(r) == WORKS


def test_podman_by_default_is_told_that_line(podman: Podman) -> None:
    r = podman.run([], sys.executable, *INNER)
    assert r.returncode == 125
    assert r.stderr.startswith("pyminicon: hostname: "), r.stderr
    assert "(a seccomp filter forbids it" in r.stderr and UNCONFINED in r.stderr
    r = podman.run(UNCONFINED.split(), sys.executable, *INNER)
    assert r.stderr.startswith(
        "pyminicon: mount: /proc: Operation not permitted (hidden by the outer container"
    )
    assert "(podman: unmask=ALL)" in r.stderr and len(r.stderr) < 161


@pytest.mark.parametrize("more", [[], ["--cap-add", "SYS_ADMIN"], ["--cap-drop", "MKNOD"]], ids=" ".join)
def test_podman_may_have_other_capabilities(podman: Podman, more: list[str]) -> None:
    more = [*UNCONFINED.split(), "--security-opt", "unmask=ALL", *more]
    assert said(podman.run(more, sys.executable, *INNER)) == WORKS
    ids = [word.replace("echo inner", "cat /proc/self/uid_map; echo inner") for word in INNER]
    r = podman.run(more, sys.executable, *ids)
    rows = [line.split() for line in r.stdout.splitlines()[:-1]]
    assert sum(int(count) for _, _, count in rows) > 1, r  # all ids there are, not the caller's one


def test_a_uid_0_that_may_not_be_mapped_is_told_by_which_capability(podman: Podman) -> None:
    more = [*UNCONFINED.split(), "--security-opt", "unmask=ALL", "--cap-drop", "SETFCAP"]
    r = podman.run(more, sys.executable, *INNER)
    assert r.stderr == (
        "pyminicon: userns: Operation not permitted (a uid 0 is mapped only with CAP_SETFCAP, which the caller lacks)\n"
    )


# ---- under unshare, with less than root has, in a chroot ------------------------------------------------


def python(words: list[str], *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, *words], cwd="/", env=environment(), capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip


def test_root_of_a_user_namespace_of_one_id_is_like_an_ordinary_user() -> None:
    assert said(python(INNER, "unshare", "--map-root-user")) == WORKS
    assert (
        said(python(INNER, "unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"))
        == WORKS
    )


def test_a_uid_that_no_map_names_is_said_to_be_the_reason() -> None:
    r = python(INNER, "unshare", "--user")
    assert r.returncode == 125
    assert "the caller's own uid isn't mapped in its user namespace: unshare --map-root-user" in r.stderr


def test_the_ids_of_a_stranger_are_never_mapped_by_a_foreign_proc() -> None:
    """In a PID namespace without a procfs of its own a child's number is another's in /proc."""
    private = [*INNER[:3], "--userns", "private", *INNER[3:]]
    r = python(private, "unshare", "--pid", "--fork")
    assert r.stderr == (
        "pyminicon: userns: /proc: No such file or directory (it is another PID namespace's, or none: unshare --mount-proc)\n"
    )
    assert said(python(private, "unshare", "--pid", "--fork", "--mount-proc")) == WORKS


IN_RANGES = """
import ctypes, os, sys
ready, told, go, going = *os.pipe(), *os.pipe()
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).unshare(0x10000000)
    os.write(told, b".")
    os.read(go, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
os.read(ready, 1)
for kind in "uid", "gid":
    with open(f"/proc/{pid}/{kind}_map", "w") as file:
        file.write(f"0 {sys.argv[1]} 65536")
os.write(going, b".")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_root_of_a_user_namespace_hands_on_the_ids_it_has() -> None:
    # The checkout and its environment may lie below a home that is closed to others, the interpreter as well.
    needed = (sys.base_prefix, sys.prefix, pyminicon.__file__)
    closed = not os.stat("/root").st_mode & 0o001 and any(path.startswith("/root/") for path in needed)
    outside = "0" if closed else "100000"  # who is nobody outside couldn't reach this interpreter
    code = [word.replace("echo inner", "chown 7:7 /tmp && stat -c %u /tmp; echo inner") for word in INNER]
    assert said(python(["-c", IN_RANGES, outside, *code])) == (0, "7\ninner 1\n", "")


@pytest.mark.parametrize(
    "dropped", ["mknod", "sys_admin", "net_admin", "setfcap", "sys_admin,sys_chroot,mknod", "setuid,setgid"], ids=lambda value: value.replace(",", "_")
)  # fmt: skip
def test_a_bounding_set_cut_short_is_enough(dropped: str) -> None:
    cut = ",".join(f"-{name}" for name in dropped.split(","))
    words = ["setpriv", f"--bounding-set={cut}", f"--inh-caps={cut}"]
    assert said(python(INNER, *words)) == WORKS


def test_the_error_says_that_a_capability_is_lacking_only_where_it_is() -> None:
    words = ["-m", "pyminicon", "run", "--userns", "host", "host", "true"]
    r = python(words, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert r.stderr.startswith("pyminicon: clone: Operation not permitted (the caller lacks CAP_SYS_ADMIN")
    r = python(words, "setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod")
    assert (r.returncode, r.stderr) == (0, "")


WALK_OUT = """
import os, sys
os.mkdir("/x"); fd = os.open("/", os.O_RDONLY); os.chroot("/x"); os.fchdir(fd)
for _ in range(64): os.chdir("..")
os.chroot(".")
print(os.path.exists(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", ["directory", "mount"])
def test_in_a_chroot_it_works_and_nobody_walks_out_of_it(tmp_path: Path, kind: str) -> None:
    """A container's root can walk up from its own root: above it there must be nothing."""
    code, machine = tmp_path / "code", tmp_path / "machine"
    code.mkdir()
    (code / "walk.py").write_text(WALK_OUT)
    walk = [
        "-m",
        "pyminicon",
        "run",
        "-v",
        "/code:/code:ro",
        "host",
        "python3",
        "/code/walk.py",
        str(machine),
    ]
    calls = " && ".join(shlex.join([sys.executable, *words]) for words in (INNER, walk))
    (code / "go.sh").write_text(f"cd /; {calls}\n")
    wanted = sorted({"/usr", sys.prefix, sys.base_prefix, HERE})
    binds = "\n".join(f"mkdir -p new{path}; mount --rbind {path} new{path}" for path in wanted)
    # What is there outside, and neither in the directory nor in the container, is this very place.
    script = f"""
set -e
mount -t tmpfs none {machine}; cd {machine}
mkdir new
{"mount --bind new new" if kind == "mount" else ""}
cd {machine}; mkdir -p new/proc new/tmp new/etc new/dev new/run new/code new/sys
{binds}
cp /etc/passwd /etc/group new/etc; cp -r {code}/. new/code
for name in bin sbin lib lib64; do ln -s usr/$name new/$name; done
for name in null zero full random urandom tty; do touch new/dev/$name; mount --bind /dev/$name new/dev/$name; done
mount -t proc proc new/proc; mount --rbind /sys new/sys
exec chroot new sh /code/go.sh
"""
    machine.mkdir()
    r = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert said(r) == (0, "inner 1\nFalse\n", "")
