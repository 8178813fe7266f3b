"""Commands in a container that lives: subprocess's words, inside."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL, PIPE, STDOUT
from tests.living.conftest import names
from tests.support.placement import needs_limit
from tests.support.waiting import soon

Home = Any


def test_a_command_gives_a_result_of_its_own(home: Home) -> None:
    r = home.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr, r.limit) == (3, "out\n", "err\n", None)
    assert r.usage.wall > 0 and r.startup > 0 and r.usage.user is not None
    assert home.run(["sh", "-c", "kill -15 $$"]).returncode == -15
    assert home.poll() is None


def test_what_one_leaves_the_next_one_finds(home: Home) -> None:
    home.run(["sh", "-c", "echo kept > /tmp/file"], check=True)
    assert home.run(["cat", "/tmp/file"], capture_output=True).stdout == b"kept\n"


def test_input_goes_in_and_output_comes_out_whole(home: Home) -> None:
    data = os.urandom(3 << 20)
    assert home.run(["cat"], input=data, capture_output=True).stdout == data
    r = home.run(["sh", "-c", "echo a; echo b >&2"], stdout=PIPE, stderr=STDOUT)
    assert r.stdout == b"a\nb\n"
    assert home.run(["cat"], stdin=DEVNULL, capture_output=True).stdout == b""


def test_files_and_descriptors_go_in(home: Home, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        assert home.run(["echo", "to a file"], stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes() == b"to a file\n"
    with open(tmp_path / "deep", "wb") as deep:
        fd = deep.fileno()
        r = home.run(
            ["sh", "-c", f"echo deep > /proc/self/fd/{fd}; ls /proc/self/fd"],
            pass_fds=[fd],
            capture_output=True,
        )
    assert str(fd).encode() in r.stdout.split()
    assert (tmp_path / "deep").read_bytes() == b"deep\n"


def test_what_is_not_given_comes_from_the_container() -> None:
    with pyminicon.start(env={"A": "1", "B": "1"}, cwd="/usr", hostname="here") as c:
        script = "echo $A$B$C $HOSTNAME $HOME; pwd"
        assert c.run(["sh", "-c", script], capture_output=True, text=True).stdout == "11 here /root\n/usr\n"
        r = c.run(["sh", "-c", script], env={"B": "2", "C": "3"}, cwd="/tmp", capture_output=True, text=True)
        assert r.stdout == "123 here /root\n/tmp\n"


def test_the_host_name_is_the_id_where_none_is_given(home: Home) -> None:
    r = home.run(["sh", "-c", "echo $HOSTNAME; cat /etc/hostname"], capture_output=True, text=True)
    assert r.stdout.split() == [home.id, home.id]


def test_what_cannot_be_begun_says_so_and_harms_nobody(home: Home) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        home.run(["no-such-program"])
    assert isinstance(missing.value, pyminicon.LaunchError)
    assert (missing.value.stage, missing.value.filename) == ("exec", "no-such-program")
    for cwd, kind in (("/nowhere", FileNotFoundError), ("/etc/hostname", NotADirectoryError)):
        with pytest.raises(kind) as caught:
            home.run(["true"], cwd=cwd)
        assert caught.value.stage == "cwd"  # type: ignore[attr-defined]
    with pytest.raises(PermissionError):
        home.run(["/etc/hostname"])
    with pytest.raises(pyminicon.SpecError, match="user: 'nobody-there'"):
        home.run(["true"], user="nobody-there")
    with pytest.raises(pyminicon.LaunchError) as closed:
        home.run(["true"], stdout=9999)
    assert (closed.value.stage, closed.value.errno) == ("stdio", 9)
    assert home.run(["true"]).returncode == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"memory": "1G"}, "memory"),
        ({"image": "host"}, "image"),
        ({"collect": ["/x"]}, "collect"),
        ({"tty": True}, "tty"),
        ({"mispelt": 1}, "mispelt"),
        ({"cwd": "relative"}, "cwd"),
    ],
)
def test_what_is_no_commands_option_is_refused_by_name(
    home: Home, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(pyminicon.SpecError) as caught:
        home.run(["true"], **options)
    assert caught.value.option == name


@pytest.mark.parametrize("args", [[], "true", ["a\0b"], 3])
def test_args_that_are_none_are_refused(home: Home, args: Any) -> None:
    with pytest.raises(pyminicon.SpecError, match="args"):
        home.run(args)


def test_long_arguments_go_in(home: Home) -> None:
    words = [str(number) * 20 for number in range(10_000)]
    r = home.run(["sh", "-c", 'echo $# "$1" "${10000}"', "sh", *words], capture_output=True, text=True)
    assert r.stdout.split() == ["10000", words[0], words[-1]]
    with pytest.raises(pyminicon.LaunchError) as caught:
        home.run(["true", "x" * (20 << 20)])
    assert (caught.value.stage, caught.value.errno) == ("exec", 7)


def test_a_timeout_tells_what_was_captured(home: Home) -> None:
    with pytest.raises(pyminicon.TimeoutExpired) as caught:
        home.run(["sh", "-c", "echo so far; sleep 100"], capture_output=True, timeout=2)
    assert caught.value.output == b"so far\n"
    assert names(home) == []


def test_limits_that_need_no_cgroup_hold(home: Home) -> None:
    assert home.run(["sleep", "100"], wall_time=0.2).limit == "wall_time"
    r = home.run(["sh", "-c", "while :; do echo line; done"], max_output=1000, capture_output=True)
    assert (r.limit, len(r.stdout)) == ("output", 1000)
    with home.start(["sleep", "100"], wall_time=0.2) as p:
        assert (p.wait(10), p.limit) == (-9, "wall_time")


def test_check_raises(home: Home) -> None:
    with pytest.raises(pyminicon.CalledProcessError) as caught:
        home.run(["sh", "-c", "exit 4"], check=True)
    assert caught.value.returncode == 4


def test_a_process_has_popens_words(home: Home) -> None:
    with home.start(["cat"], stdin=PIPE, stdout=PIPE, text=True) as p:
        assert p.poll() is None and p.pid > 1 and p.args == ["cat"]
        assert p.host_pid is not None
        assert soon(lambda: Path(f"/proc/{p.host_pid}/comm").read_text() == "cat\n")
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(0.05)
        assert p.communicate("words") == ("words", None)
        assert p.returncode == 0
    with home.start(["sleep", "100"]) as p:
        p.terminate()
        assert p.wait(10) == -15
        p.send_signal(signal.SIGTERM)  # it has ended: nothing
    with home.start(["sleep", "100"]) as p:
        pass
    assert p.returncode == -9
    with pytest.raises(TypeError):
        pickle.dumps(p)


def test_a_process_has_a_descriptor_that_is_readable_from_its_end_on(home: Home) -> None:
    import select

    with home.start(["cat"], stdin=PIPE) as p:
        assert select.select([p], [], [], 0.05)[0] == []
        p.stdin.close()
        assert select.select([p], [], [], 10)[0] == [p]
        assert p.wait() == 0
        assert select.select([p], [], [], 0)[0] == [p]


def test_what_it_leaves_in_the_background_lives_on_and_holds_nobody_up(home: Home) -> None:
    r = home.run(["sh", "-c", "sleep 1000 & echo started"], capture_output=True, timeout=20)
    assert (r.returncode, r.stdout) == (0, b"started\n")
    with home.start(["sh", "-c", "(while :; do echo more; done) & exec sleep 0.1"], stdout=PIPE) as p:
        assert p.communicate(timeout=20)[0].startswith(b"more\n") or p.returncode == 0
    assert soon(lambda: "sleep" in names(home))


def test_several_run_at_once_each_with_its_own_streams(home: Home) -> None:
    found: dict[int, Any] = {}

    def go(number: int) -> None:
        found[number] = home.run(
            ["sh", "-c", f"read x; echo {number} $x"], input=b"%d\n" % number, capture_output=True
        )

    threads = [threading.Thread(target=go, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n].stdout for n in range(100)] == [b"%d %d\n" % (n, n) for n in range(100)]


def test_a_terminal_of_its_own(home: Home) -> None:
    with home.start(["sh", "-c", "stty size; read word; echo got $word; ps -o tty= -p $$"], tty=True) as p:
        p.terminal.write(b"typed\n")
        assert p.wait(20) == 0
        text = b""
        while piece := p.terminal.read():
            text += piece
    assert b"24 80" in text and b"got typed" in text


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"userns": "private"}])
def test_a_terminal_has_a_name_inside_by_which_it_can_be_opened(options: Any) -> None:
    script = "tty; echo opened by its name >$(tty); echo by dev tty >/dev/tty; stat -c %U $(tty)"
    users = [None, "nobody"] if os.geteuid() == 0 else [None]
    with pyminicon.start(**options) as c:
        for user in users:
            with c.start(["sh", "-c", script], tty=True, **({"user": user} if user else {})) as p:
                text = b""
                while piece := p.terminal.read():
                    text += piece
            lines = text.decode().split("\r\n")
            assert lines[0].startswith("/dev/pts/")
            assert lines[1:4] == ["opened by its name", "by dev tty", user or "root"]


def test_who_has_covered_dev_pts_gets_a_terminal_all_the_same() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with pyminicon.start(cap_add=["SYS_ADMIN"], seccomp="unconfined") as c:
        c.run(["mount", "-t", "tmpfs", "none", "/dev/pts"], check=True)
        c.run(["sh", "-c", "mkfifo /dev/pts/ptmx"], check=True)
        with c.start(["sh", "-c", "stty size"], tty=True) as p:
            text = b""
            while piece := p.terminal.read():
                text += piece
        assert text == b"24 80\r\n"


def test_users_are_the_containers_own_as_they_are_now(home: Home) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user inside")
    add = "echo worker:x:4321:99:W:/home/worker:/bin/sh >> /etc/passwd; echo crew:x:77:worker >> /etc/group"
    home.run(["sh", "-c", f"{add}; mkdir -m 700 -p /home/worker; chown 4321 /home/worker"], check=True)
    script = "id -u; id -g; id -G; echo $HOME; pwd; grep -E '^(CapEff|CapPrm|CapInh|CapAmb)' /proc/self/status | cut -f2 | sort -u"
    r = home.run(["sh", "-c", script], user="worker", cwd="/home/worker", capture_output=True, text=True)
    assert r.stdout.split("\n")[:5] == ["4321", "99", "99 77", "/home/worker", "/home/worker"]
    assert r.stdout.split("\n")[5] == "0" * 16
    assert home.run(["id", "-u"], user="1234:5", capture_output=True).stdout == b"1234\n"
    assert home.run(["id", "-u"], capture_output=True).stdout == b"0\n"


def test_another_user_needs_no_capability_of_the_containers() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user inside")
    with pyminicon.start(cap_drop=["ALL"]) as c:
        script = "id -u; grep CapBnd /proc/self/status; grep -c . /proc/1/maps"
        for user in ("0", "1000"):
            r = c.run(["sh", "-c", script], user=user, capture_output=True, text=True)
            assert r.stdout.split()[:3] == [user, "CapBnd:", "0" * 16]


def test_a_command_has_what_the_program_of_a_container_has() -> None:
    lines = "^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|SigBlk|SigIgn|Umask)"
    script = f"grep -E '{lines}' /proc/self/status; ulimit -a; cat /proc/self/limits"
    for options in (
        {},
        {"userns": "private"},
        {"cap_drop": ["ALL"]},
        {"no_new_privileges": False},
        {"seccomp": "unconfined"},
        {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}},
        {"umask": 0o077, "rlimits": {"nofile": (100, 200), "nproc": (500, 500), "core": 0}},
        {"read_only": True},
    ):
        once = pyminicon.run(["sh", "-c", script], init=True, capture_output=True, text=True, **options)  # type: ignore[arg-type]
        with pyminicon.start(**options) as c:  # type: ignore[call-overload]
            assert c.run(["sh", "-c", script], capture_output=True, text=True).stdout == once.stdout, options


def test_a_profile_of_ones_own_holds_for_commands_and_binds_no_init() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["ppoll", "getdents64", "recvmsg", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
        ],
    }
    with pyminicon.start(seccomp=profile) as c:
        assert c.run(["true"]).returncode == 0
        r = c.run(["mkdir", "/tmp/x"], capture_output=True, text=True)
        assert r.returncode == 1 and "not permitted" in r.stderr
        with pytest.raises(pyminicon.TimeoutExpired):
            c.run(["sh", "-c", "(sleep 100 &) ; sleep 100"], timeout=0.3)
        assert c.run(["true"]).returncode == 0


def test_a_profile_without_no_new_privileges_takes_a_private_user_namespace() -> None:
    profile: Any = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    with pytest.raises(pyminicon.SpecError, match="userns"):
        pyminicon.start(seccomp=profile, no_new_privileges=False, userns="host")
    with pyminicon.start(seccomp=profile, no_new_privileges=False, userns="private") as c:
        assert c.run(["mkdir", "/tmp/x"], stderr=pyminicon.DEVNULL).returncode == 1


def test_an_init_has_a_filter_whatever_its_commands_load() -> None:
    from pyminicon.seccomp import init_filter

    few: Any = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    # What a command may by a profile of its own, though the default refuses it, init's filter leaves to it.
    more: Any = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO"}],
    }
    call = "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True)\nfor n in (321, 250):\n libc.syscall(n, -1, 0, 0); print(errno.errorcode[ctypes.get_errno()])"
    for profile in (few, more):
        with pyminicon.start(image="python", seccomp=profile) as c:
            with open(f"/proc/{c.pid}/status") as status:
                assert "Seccomp:\t2" in status.read()
            told = c.run(["python", "-c", call], capture_output=True, text=True).stdout.split()
        once = pyminicon.run(
            ["python", "-c", call], image="python", seccomp=profile, capture_output=True, text=True
        )
        assert told == once.stdout.split()
        assert (told[0] == "EPERM") == (profile is more)
    with pyminicon.start(seccomp="unconfined") as c, open(f"/proc/{c.pid}/status") as status:
        assert "Seccomp:\t0" in status.read()
    assert init_filter.program(few, 0) != init_filter.program(more, 0)


def test_a_container_with_args_and_an_init_takes_commands_too() -> None:
    with pyminicon.start(["sh", "-c", "echo mine > /tmp/f; exec sleep 100"], init=True) as c:
        assert soon(lambda: c.run(["cat", "/tmp/f"], capture_output=True).stdout == b"mine\n")
        assert soon(lambda: names(c) == ["sleep"])
        with pytest.raises(pyminicon.TimeoutExpired):
            c.run(["sh", "-c", "setsid sleep 50 & sleep 50"], timeout=0.2)
        assert names(c) == ["sleep"]
        c.terminate()
        assert c.wait(10) == -15
    with pyminicon.start(["sleep", "100"]) as c:
        for call in (c.run, c.start):
            with pytest.raises(pyminicon.SpecError, match="init"):
                call(["true"])


@pytest.mark.parametrize(
    "options",
    [
        {"stdin": PIPE},
        {"text": True},
        {"tty": True},
        {"pass_fds": [5]},
        {"max_output": 1},
        {"init": False},
        {"timeout": 1},
    ],
)
def test_what_is_a_programs_is_refused_without_args(options: dict[str, Any]) -> None:
    with pytest.raises(pyminicon.SpecError) as caught:
        pyminicon.start(**options)
    assert caught.value.option in options


@pytest.mark.parametrize(
    "options", [{"init": True}, {}, {"init": True, "memory": "64M"}, {"read_only": True}], ids=str
)
def test_a_template_has_containers_to_live_in(options: dict[str, Any]) -> None:
    if "memory" in options:
        needs_limit("memory", options["memory"])
    with pyminicon.Template(stock=1, **options) as t:
        for _ in range(3):
            with t.start(env={"A": "1"}) as c:
                assert c.args is None
                r = c.run(["sh", "-c", "echo $A $HOSTNAME"], capture_output=True, text=True)
                assert r.stdout.split() == ["1", c.id]
            assert c.returncode == 0
        with pytest.raises(pyminicon.SpecError, match="stdin"):
            t.start(stdin=PIPE)
        with pytest.raises(pyminicon.SpecError, match="memory"):
            t.start(memory="1G")
        with t.start(["sleep", "100"]) as c:
            if "init" in options:
                assert c.run(["true"]).returncode == 0


def test_without_init_true_is_what_it_is_anyway() -> None:
    with pyminicon.start(init=True) as c:
        assert c.run(["true"]).returncode == 0
    with pytest.raises(pyminicon.SpecError, match="args"):
        pyminicon.start([])


def test_options_that_were_given_before_mean_the_same_again(home: Home) -> None:
    for turn in range(3):
        r = home.run(["sh", "-c", f"echo {turn}; exit {turn}"], capture_output=True, text=True)
        assert (r.returncode, r.stdout, r.args[-1]) == (turn, f"{turn}\n", f"echo {turn}; exit {turn}")
        assert home.run(["pwd"], cwd="/tmp", capture_output=True).stdout == b"/tmp\n"
        assert home.run(["pwd"], capture_output=True).stdout == b"/\n"
        with pytest.raises(pyminicon.CalledProcessError):
            home.run(["false"], check=True)
        with pytest.raises(pyminicon.TimeoutExpired):
            home.run(["sleep", "300"], timeout=0.1)
        assert home.run(["true"], timeout=30).returncode == 0
    outside = [home.run(["env"], capture_output=True).stdout for _ in range(2)]
    assert outside[0] == outside[1] and b"PATH=" in outside[0]


def test_options_that_were_given_before_are_checked_all_the_same(home: Home) -> None:
    for _ in range(2):
        home.run(["true"], timeout=1)
        with pytest.raises(pyminicon.SpecError, match="timeout"):
            home.run(["true"], timeout=True)
        home.run(["true"], check=True)
        with pytest.raises(pyminicon.SpecError, match="check"):
            home.start(["true"], check=True)
        for args, error in (
            (["a\0b"], pyminicon.SpecError),
            ([], pyminicon.SpecError),
            ("true", pyminicon.SpecError),
        ):
            with pytest.raises(error, match="args"):
                home.run(args, check=True)
        with pytest.raises(pyminicon.LaunchError):
            home.run([""], check=True)
        with pytest.raises(pyminicon.LaunchError):
            home.run(["/there/is/none"], check=True)


def test_each_command_has_its_own_groups_and_directory_whoever_came_before(needs_root: None) -> None:
    with pyminicon.start(cwd="/tmp", user="0") as c:
        for _ in range(2):
            for user, groups in (("0", b"0\n"), ("1234:77", b"77\n"), (None, b"0\n")):
                own = {} if user is None else {"user": user}
                assert c.run(["id", "-G"], capture_output=True, **own).stdout == groups
            for cwd in ("/", "/tmp", "/", "/etc"):
                assert c.run(["pwd"], cwd=cwd, capture_output=True).stdout == f"{cwd}\n".encode()
            assert c.run(["pwd"], capture_output=True).stdout == b"/tmp\n"
        sets = c.run(["grep", "^Cap[IA]", "/proc/self/status"], capture_output=True, text=True).stdout
        assert [int(row.split()[1], 16) for row in sets.splitlines()] == [0, 0]
