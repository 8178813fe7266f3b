"""The same containers for somebody who isn't root: a user namespace, made without asking for it."""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.python import fresh

AsUser = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
import json, os, sys, pyminicon
from tests.support import leftovers, roots
assert os.geteuid() != 0
def sh(line, **options):
    return pyminicon.run(["sh", "-c", line], capture_output=True, text=True, **options)
def out(line, **options):
    r = sh(line, **options)
    assert (r.returncode, r.stderr) == (0, ""), r
    return r.stdout
def fails(line, **options):
    try:
        return repr(sh(line, **options))
    except pyminicon.Error as error:
        return str(error)
home = os.environ["HOME"]
pyminicon.run(["true"]); pyminicon.run(["true"], init=True)
before = leftovers.count()
told = {}
"""
TAIL = """
told["left"] = leftovers.appeared(before)
print(json.dumps(told))
"""


def ask(as_user: AsUser, code: str) -> dict[str, Any]:
    """Runs ``code`` as the user; it fills ``told``. Nothing may be left behind."""
    done = as_user(HEAD + textwrap.dedent(code) + TAIL)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told.pop("left") == {}
    return told


def test_what_is_known_of_time_without_a_cgroup_is_known_with_usage_too(as_user: AsUser) -> None:
    done = as_user("""
import json, pyminicon
told = {}
burn = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"]
def seen(usage):
    return usage.user is not None and usage.system is not None and usage.user + usage.system > 0.005
for name, options in (("plain", {}), ("usage", {"usage": True})):
    told[name] = seen(pyminicon.run(burn, **options).usage)
    with pyminicon.start(burn, **options) as box:
        box.wait()
    told[name + " started"] = seen(box.usage)
    with pyminicon.start(**options) as box:
        told[name + " command"] = seen(box.run(burn).usage)
print(json.dumps(told))
""")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == dict.fromkeys(told, True) and len(told) == 6


def test_an_ordinary_user_is_root_inside_and_himself_outside(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        told["lines"] = out("id -u; cat /proc/self/uid_map; cat /proc/self/setgroups").split("\\n")
        told["uid"] = os.geteuid()
        """,
    )
    assert told["lines"][0] == "0"
    inside, outside, _ = told["lines"][1].split()
    assert (inside, int(outside)) == ("0", told["uid"])
    assert told["lines"][2] in ("deny", "allow")


def test_root_inside_can_do_nothing_outside(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        told["text"] = sh("echo x > /proc/sys/kernel/core_pattern; mount -t tmpfs none /mnt; mknod /tmp/n c 1 1").stderr
        """,
    )
    for words in ("core_pattern: Read-only file system", "mount: ", "mknod: "):
        assert words in told["text"]


def test_the_usual_world_is_there(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        told["text"] = out("echo $$; uname -n; cat /proc/self/cgroup | head -1; ls /sys/class/net; stat -c %F /dev/null; "
            "echo x > /dev/null; ls /dev/pts; touch /dev/shm/x /x /usr/x; head -c1 /dev/urandom | wc -c", hostname="box").split()
        """,
    )
    assert told["text"][:2] == ["1", "box"]
    assert told["text"][-1] == "1"
    assert "lo" in told["text"]


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
def test_a_directory_is_an_image_writable_and_untouched(as_user: AsUser, storage: str) -> None:
    told = ask(
        as_user,
        f"""
        from pathlib import Path
        root = roots.minimal(Path(home) / "root")
        before_root = roots.fingerprint(root)
        told["text"] = out("echo new > /etc/motd; rm /etc/group; mkdir /d; cat /etc/motd", image=str(root), storage={storage!r})
        told["same"] = roots.fingerprint(root) == before_root
        told["read_only"] = sh("touch /x", image=str(root), read_only=True).stderr
        """,
    )
    assert (told["text"], told["same"]) == ("new\n", True)
    assert "Read-only file system" in told["read_only"]


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
def test_what_anybody_writes_can_be_written_in_an_image_of_roots(
    as_user: AsUser, own_rootfs: Path, storage: str, needs_root: None
) -> None:
    """Nothing of root's can be copied into the private layer, which is what a first file in a directory takes."""
    (own_rootfs / "tmp").mkdir(exist_ok=True)
    (own_rootfs / "tmp").chmod(0o1777)
    (own_rootfs / "root").mkdir(exist_ok=True)
    (own_rootfs / "root").chmod(0o755)
    told = ask(
        as_user,
        f"""
        options = {{"image": {str(own_rootfs)!r}, "storage": {storage!r}}}
        told["text"] = out("echo x > /tmp/x; echo y > ~/y; cat /tmp/x ~/y; stat -c %a /tmp ~", **options)
        told["usr"] = sh("echo > /usr/y", **options).stderr
        """,
    )
    assert told["text"].split() == ["x", "y", "1777", "755"]
    assert "Permission denied" in told["usr"]
    assert not (own_rootfs / "tmp/x").exists()


@pytest.mark.parametrize("image", ["root's", "host"])
def test_what_is_brought_goes_into_directories_of_roots(
    as_user: AsUser, own_rootfs: Path, image: str, needs_root: None
) -> None:
    """Not even root of a user namespace may make something in a directory whose owner has no name there."""
    (own_rootfs / "etc/profile.d").mkdir()
    told = ask(
        as_user,
        f"""
        os.makedirs(home + "/data"); open(home + "/data/in", "w").write("volume")
        for more in ({{}}, {{"read_only": True}}, {{"init": True}}, {{"storage": "disk"}}, {{"make_cwd": True, "cwd": "/etc/profile.d/w"}}):
            told[repr(more)] = out(
                "cat /etc/profile.d/f /etc/profile.d/new/f /etc/profile.d/v/in; stat -f -c %T /etc/profile.d/t",
                image={str(own_rootfs) if image != "host" else "host"!r}, **more, tmpfs=["/etc/profile.d/t"],
                files={{"/etc/profile.d/f": b"file", "/etc/profile.d/new/f": b"file"}}, volumes=[home + "/data:/etc/profile.d/v"])
        """,
    )
    assert set(told.values()) == {"filefilevolumetmpfs\n"} and len(told) == 5


def test_volumes_files_and_collect_work(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        os.makedirs(home + "/data"); open(home + "/data/in", "w").write("in")
        r = sh("cat /v/in /f; echo o > /v/out; echo c > /c; touch /r/x", volumes=[home + "/data:/v", home + "/data:/r:ro"],
               files={"/f": b"file"}, collect=["/c"], tmpfs=["/t"])
        told["text"], told["error"], told["files"] = r.stdout, r.stderr, {k: v.decode() for k, v in r.files.items()}
        told["out"], told["owner"] = open(home + "/data/out").read(), os.stat(home + "/data/out").st_uid == os.geteuid()
        """,
    )
    assert (told["text"], told["files"], told["out"], told["owner"]) == ("infile", {"/c": "c\n"}, "o\n", True)
    assert "Read-only file system" in told["error"]


def test_what_the_user_may_not_read_stays_unreadable(as_user: AsUser, tmp_path: Path) -> None:
    told = ask(
        as_user,
        """
        told["text"] = fails("cat /v/shadow; ls /v/ssl/private", volumes=["/etc:/v:ro"])
        """,
    )
    assert "Permission denied" in told["text"]


def test_a_single_other_uid_is_himself_under_another_number(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        told["ids"] = out("id -u; id -g; touch /tmp/x; stat -c %u /tmp/x", user="1234:56").split()
        told["init"] = out("id -u", user="7", init=True).strip()
        """,
    )
    assert told["ids"][0] == "1234"
    assert told["init"] == "7"


def test_the_python_image_works(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        r = pyminicon.run(["python", "-c", "import json, os; print(os.getuid())"], image="python", capture_output=True, text=True)
        told["result"] = [r.returncode, r.stdout, r.stderr]
        """,
    )
    assert told["result"] == [0, "0\n", ""]


def test_each_option_of_a_namespace_works_or_is_a_clear_error(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        for options in ({"network": "host"}, {"ipc": "host"}, {"uts": "host"}, {"cgroupns": "host"}, {"time": "private"},
                        {"userns": "private"}, {"init": True}, {"read_only": True}):
            told[repr(options)] = fails("echo fine", **options)
        told["host"] = fails("true", userns="host")
        told["pid"] = fails("true", pid="host")
        """,
    )
    assert "root" in told.pop("host")
    told.pop("pid")
    clock = told.pop("{'time': 'private'}")
    assert "fine" in clock or "timens" in clock
    for options, text in told.items():
        assert "'fine\\n'" in text, (options, text)


def test_a_timeout_and_a_dead_parent_leave_nothing(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        import subprocess
        try:
            sh("sleep 4242 & sleep 4242", timeout=0.3)
        except pyminicon.TimeoutExpired:
            told["expired"] = True
        """,
    )
    assert told["expired"]


def test_errors_are_the_same_as_for_root(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        told["image"] = fails("x", image="/no/such")
        for args, options in ((["no-such"], {}), (["true"], {"cwd": "/nowhere"}), (["true"], {"volumes": ["/no/such:/v"]})):
            try:
                pyminicon.run(args, **options)
            except pyminicon.LaunchError as error:
                told[error.stage] = [error.errno, error.subject]
        """,
    )
    assert told.pop("image").startswith("image: ")
    assert told == {"cwd": [2, "/nowhere"], "mount": [2, "/no/such"], "exec": [2, "no-such"]}


def test_a_hard_limit_of_no_core_files_is_no_obstacle(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        told["text"] = out("ulimit -Hc")
        told["init"] = out("ulimit -Hc", init=True)
        """,
    )
    assert told == {"text": "0\n", "init": "0\n"}


def test_many_threads_launch_at_once(as_user: AsUser) -> None:
    told = ask(
        as_user,
        """
        import threading
        wrong = []
        def work(number):
            for _ in range(3):
                r = sh(f"echo {number}; id -u", user=str(number))
                if r.stdout != f"{number}\\n{number}\\n":
                    wrong.append(repr(r))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        told["wrong"] = wrong
        """,
    )
    assert told["wrong"] == []


def test_a_worker_that_has_changed_its_uid_starts_containers(needs_root: None) -> None:
    """As a daemon does for its workers: the change of uid makes it undumpable until it execs."""
    code = """
import ctypes, os, pyminicon
pyminicon.load()
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(1234, 1234, 1234)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
for options in ({}, {"init": True}, {"read_only": True}): print(pyminicon.run(["true"], **options).returncode)
"""
    assert fresh(code).stdout.split() == ["0", "0", "0", "0"]


def test_a_worker_that_can_go_back_is_told_what_it_lacks(needs_root: None) -> None:
    """Whose real and effective ids differ stays undumpable over exec."""
    code = """
import ctypes, os, pyminicon
pyminicon.load()
prctl = ctypes.CDLL(None).prctl
os.setgroups([]); os.setresgid(0, 65534, 0); os.setresuid(0, 1234, 0)
try: pyminicon.run(["true"])
except pyminicon.LaunchError as error: print(error.stage, error.hint)
prctl(4, 1, 0, 0, 0)
print(pyminicon.run(["true"]).returncode)
"""
    refused, made = fresh(code).stdout.splitlines()
    assert refused.startswith("userns ") and "PR_SET_DUMPABLE" in refused
    assert made == "0"
