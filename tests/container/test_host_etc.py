"""What of this machine's /etc the images ``host`` and ``python`` show: what anybody may read, and no secret."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import SpecError, _core
from tests.support.python import environment, fresh
from tests.support.run import out, sh

KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def place(needs_root: None) -> Iterator[Path]:
    """A directory in this machine's /etc, as a package would make one."""
    made = Path(f"/etc/pyminicon-test-{os.getpid()}")
    made.mkdir()
    yield made
    shutil.rmtree(made)


def _make(path: Path, mode: int, text: str = "x\n") -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture(params=[{}, {"read_only": True}, {"init": True}, {"image": "python"}, {"userns": "private"}])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_secrets_are_not_inside_and_all_else_is(place: Path, options: dict[str, Any]) -> None:
    secrets = [
        _make(place / "password-of-root", 0o640),
        _make(place / "closed", 0o600),
        _make(place / "server.key", 0o644, KEY),
        _make(place / "deploy_key", 0o644, KEY),
        _make(place / "ssh_host_test_key", 0o644, KEY),
        _make(place / "both.pem", 0o644, f"-----BEGIN CERTIFICATE-----\n{KEY}"),
        _make(place / "client_secret.json", 0o644),
        _make(place / "group-only/inner", 0o644),
    ]
    (place / "group-only").chmod(0o750)
    os.mkfifo(place / "fifo", 0o644)
    shown = [
        _make(place / "settings.conf", 0o644),
        _make(place / "certificate.pem", 0o644, "-----BEGIN CERTIFICATE-----\n"),
        _make(place / "deep/er/keys.conf".replace("er/", ""), 0o644),
    ]
    (place / "link").symlink_to("settings.conf")
    words = " ".join(
        [*secrets, str(place / "fifo"), "/etc/shadow", "/etc/gshadow", "/etc/machine-id", "/etc/fstab"]
    )
    assert out(f"ls -d {words} 2>/dev/null | cat", **options) == ""
    assert out(f"cat {' '.join(shown)} {place}/link", **options).count("\n") >= 4
    listed = out(f"ls {place}", **options).split()
    assert listed == ["certificate.pem", "deep", "link", "settings.conf"]


def test_a_secret_that_comes_to_another_mode_or_name_is_judged_anew(place: Path) -> None:
    path = _make(place / "file", 0o644)
    assert out(f"cat {path}") == "x\n"
    os.chmod(path, 0o640)
    import time

    time.sleep(1.1)  # it is looked at once a second at most
    assert sh(f"cat {path}").returncode != 0


def test_a_secret_that_comes_between_two_launches_is_hidden_at_once(place: Path) -> None:
    out("true")
    for n in range(20):
        path = _make(place / f"new{n}", 0o640)
        assert sh(f"cat {path}").returncode != 0
        os.rename(path, place / f"moved{n}")
        assert sh(f"cat {place}/moved{n}").returncode != 0


def test_who_launches_often_is_told_of_every_change(place: Path) -> None:
    path, deep = _make(place / "file", 0o644), _make(place / "sub/file", 0o644)
    certificate = _make(place / "sub/one.pem", 0o644, "-----BEGIN CERTIFICATE-----\n")
    for _ in range(20):
        assert pyminicon.run(["true"]).returncode == 0
    from pyminicon.plan import host

    assert host._seen is not None and host._seen[2].watched
    assert out(f"cat {path} {deep}") == "x\nx\n"
    for _ in range(50):  # others may change something in it meanwhile
        seen = host._seen
        assert out("true") == ""
        if host._seen is seen:
            break
    assert host._seen is seen  # nothing has changed, and nothing was looked through
    for change in (lambda: os.chmod(path, 0o640), lambda: os.chmod(deep, 0o600)):
        change()
        assert sh(f"cat {path} && cat {deep}").returncode != 0
        os.chmod(path, 0o644), os.chmod(deep, 0o644)
        assert out(f"cat {path} {deep}") == "x\nx\n"
    Path(certificate).write_text(f"-----BEGIN CERTIFICATE-----\n{KEY}")
    assert sh(f"cat {certificate}").returncode != 0
    (place / "sub").chmod(0o700)
    assert sh(f"ls {place}/sub").returncode != 0
    (place / "sub").chmod(0o755)
    (place / "new/sub").mkdir(parents=True)
    assert out(f"ls {place}/new") == "sub\n"
    late = _make(place / "new/sub/late", 0o600)
    assert sh(f"cat {late}").returncode != 0
    pid = os.fork()
    if pid == 0:  # a worker has none of it, and sees the same
        os.chmod(late, 0o644)
        shown = sh(f"cat {late}").returncode == 0
        os.chmod(late, 0o600)
        os._exit(0 if shown and sh(f"cat {late}").returncode != 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert sh(f"cat {late}").returncode != 0


OTHERS = """
import ctypes, os, pyminicon
from pyminicon.plan import host
from tests.support import deny
libc = ctypes.CDLL(None, use_errno=True)
taken = TAKEN
if taken == "refused":
    deny.deny("inotify_init1", None)
for _ in range(20):
    pyminicon.run(["true"])
there = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
watches = [os.path.basename(fd) for fd in there if os.path.islink(fd) and "inotify" in os.readlink(fd)]
assert host._seen[2].watched == (taken != "refused") and len(watches) == (taken != "refused"), watches
own = None
for fd in map(int, watches):
    os.close(fd)
    if taken != "closed":
        own = libc.eventfd(5, 0) if taken == "an eventfd" else libc.inotify_init1(os.O_NONBLOCK)
        own = os.dup2(own, fd) if own != fd else own
print(pyminicon.run(["cat", SECRET], stderr=pyminicon.DEVNULL).returncode != 0)
os.chmod(SECRET, 0o644)
if taken == "refused":
    import time
    time.sleep(1.1)
print(pyminicon.run(["cat", SECRET], stdout=pyminicon.DEVNULL).returncode == 0)
os.chmod(SECRET, 0o600)
if taken == "refused":
    time.sleep(1.1)
print(pyminicon.run(["cat", SECRET], stderr=pyminicon.DEVNULL).returncode != 0)
if taken == "an eventfd":
    print(os.read(own, 8)[0] == 5)  # nobody has read it
elif taken == "a watch of its own":
    print(libc.inotify_add_watch(own, b"/tmp", 0x100) == 1)  # its first
else:
    print(True)
"""


@pytest.mark.parametrize("taken", ["closed", "an eventfd", "a watch of its own", "refused"])
def test_a_watch_that_is_gone_is_missed_and_nobody_elses_descriptor_is_used(place: Path, taken: str) -> None:
    code = OTHERS.replace("TAKEN", repr(taken)).replace("SECRET", repr(_make(place / "file", 0o600)))
    assert fresh(code).stdout == "True\n" * 4


def test_what_is_named_is_shown_all_the_same(place: Path, options: dict[str, Any]) -> None:
    key = _make(place / "closed/server.key", 0o600, KEY)
    beside = _make(place / "closed/other.key", 0o600, KEY)
    (place / "closed").chmod(0o700)
    name = key.removeprefix("/etc/")
    for words in ([name], [key], [f"{place.name}/closed"]):
        text = out(f"cat {key}", host_etc=words, **options) if "userns" not in options else KEY
        assert text == KEY
    assert sh(f"cat {beside}", host_etc=[name], **options).returncode != 0
    assert sh(f"cat {key}", **options).returncode != 0


def test_a_template_and_the_command_line_take_the_names_too(place: Path) -> None:
    key = _make(place / "server.key", 0o600, KEY)
    with pyminicon.Template(host_etc=[key]) as template:
        assert template.run(["cat", key], capture_output=True, text=True).stdout == KEY
    words = ["run", "--host-etc", key, "host", "cat", key]
    said = subprocess.run(
        [sys.executable, "-m", "pyminicon", *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        cwd="/",
    )
    assert said.stdout == KEY


@pytest.mark.parametrize(
    "word", ["../root/x", "/root/x", "", "/etc", ".", "/etc/..", "no-such-file", 5, b"\xff\0"]
)
def test_what_is_no_name_in_etc_is_refused(word: Any) -> None:
    with pytest.raises(SpecError, match="host_etc"):
        pyminicon.run(["true"], host_etc=[word])


def test_another_image_has_an_etc_of_its_own(rootfs: Path) -> None:
    with pytest.raises(SpecError, match="host_etc"):
        pyminicon.run(["true"], image=str(rootfs), host_etc=["passwd"])


def test_what_anybody_may_read_is_what_is_shown(tmp_path: Path) -> None:
    """Over this machine's whole /etc: nothing is inside that uid 65534 couldn't read."""
    rows = _core.Hidden("/etc", [], None, False).rows
    hidden = {path for path, whole, *_ in rows if whole}
    for top, names, files in os.walk("/etc"):
        for name in [*names, *files]:
            path = os.path.join(top, name).removeprefix("/etc/")
            above = {path.rsplit("/", n)[0] for n in range(path.count("/") + 1)}
            if path.startswith("pyminicon-test-"):  # another test's, at work beside this one
                continue
            about = os.lstat(f"/etc/{path}")
            readable = 0o5 if stat.S_ISDIR(about.st_mode) else 0o4
            if not stat.S_ISLNK(about.st_mode) and about.st_mode & readable != readable:
                assert above & hidden or path in hidden, path


def test_the_containers_own_names_stand_before_the_hosts() -> None:
    assert out("cat /etc/hostname", hostname="box") == "box\n"
    assert sh("cat /etc/resolv.conf").returncode != 0
    assert "127.0.0.1\tlocalhost" in out("cat /etc/hosts")


@pytest.mark.parametrize("options", [{}, {"init": True}])
def test_it_can_be_written_and_the_host_keeps_its_own(options: dict[str, Any], needs_root: None) -> None:
    before = Path("/etc/passwd").read_bytes()
    script = "echo new:x:7:7::/: >> /etc/passwd && mkdir /etc/mine /etc/ssl/mine && echo x > /etc/mine/x && tail -1 /etc/passwd"
    assert out(script, **options) == "new:x:7:7::/:\n"
    assert Path("/etc/passwd").read_bytes() == before and not os.path.exists("/etc/mine")
    assert sh("echo x > /etc/passwd", read_only=True, **options).returncode != 0


def test_files_and_volumes_find_their_place_in_it(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/x").write_text("volume\n")
    for more in ({}, {"read_only": True}):
        text = out(
            "cat /etc/mine/a /etc/profile.d/b /etc/vol/x",
            files={"/etc/mine/a": b"a\n", "/etc/profile.d/b": b"b\n"},
            volumes=[f"{tmp_path}/v:/etc/vol:ro"],
            **more,
        )
        assert text == "a\nb\nvolume\n"


PROGRAMS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "java": ("java -version 2>&1", lambda text: "ersion" in text and "rror" not in text),
    "fc-match": ("fc-match sans 2>&1", lambda text: '"' in text and "Cannot load" not in text),
    "man": ("man -w ls 2>&1; manpath 2>&1", lambda text: "can't" not in text and "/usr/share/man" in text),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_find_their_settings(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    command, good = PROGRAMS[program]
    text = out(command) if program != "man" else sh(command).stdout
    assert good(text), text


def test_a_look_that_fails_leaves_the_watch_and_is_repeated(place: Path) -> None:
    code = f"""
import os, resource, pyminicon
from pyminicon.plan import host
def watches():
    return sum("inotify" in os.readlink(path) for path in
               (f"/proc/self/fd/{{fd}}" for fd in os.listdir("/proc/self/fd")) if os.path.islink(path))
pyminicon.run(["true"])
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
top = max(held)
open("{place}/secret", "w").close(); os.chmod("{place}/secret", 0o600)
resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for room in range(3):  # the directory above is open, one below it can't be
    try:
        host.hidden_etc((), False)
        print("looked")
    except (pyminicon.LaunchError, OSError):
        print("failed")
    os.close(held.pop())
resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(pyminicon.run(["cat", "{place}/secret"], stderr=pyminicon.DEVNULL).returncode != 0, host._seen[2].watched)
"""
    lines = fresh(code).stdout.splitlines()
    assert lines[:2] == ["failed", "failed"] and lines[-1] == "True True"
