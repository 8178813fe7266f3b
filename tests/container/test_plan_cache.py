"""A plan that was made before is used again, and never when it would be another one by now."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import _core
from pyminicon.options import parse as spec
from pyminicon.plan import Plan
from pyminicon.plan import build as plan
from pyminicon.plan import cache as plan_cache
from tests.support.run import out, sh
from tests.support.threads import in_threads

IDENTITY = "hostname; cat /etc/hostname; tail -n 1 /etc/hosts; echo $HOSTNAME"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is known yet; the images of the plans that are made."""
    images: list[str] = []
    build = plan.build

    def count(asked: Any) -> Plan:
        images.append(asked.image)
        return build(asked)

    monkeypatch.setattr(plan, "build", count)
    monkeypatch.setattr(plan_cache, "_known", _core.PlanCache(spec.ASIDE, spec.LIMITS))
    return images


def swap(path: Path, make: Callable[[Path], object]) -> None:
    """Puts what ``make`` makes in the place of ``path``."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


# ---- it is used again -------------------------------------------------------------------------------


def test_a_second_run_finds_the_plan_of_the_first(rootfs: Path, built: list[str]) -> None:
    for word in ("one", "two", "three"):
        assert out(f"echo {word}", image=str(rootfs)) == f"{word}\n"
    assert built == [str(rootfs)]


@pytest.mark.parametrize(
    "options",
    [{"read_only": True}, {"hostname": "box"}, {"init": True}, {"storage": "tmpfs:size=8m"}, {"time": "private"}, {"ipc": "host"}],
)  # fmt: skip
def test_so_it_is_with_options_that_are_a_plans_own(
    rootfs: Path, built: list[str], options: dict[str, Any], needs_root: None
) -> None:
    for _ in range(2):
        assert out("echo x", image=str(rootfs), **options) == "x\n"
    assert len(built) == 1
    assert out("echo x", image=str(rootfs)) == "x\n"
    assert len(built) == 2, "without the options it is another plan"


def test_run_start_and_both_on_a_loop_know_each_others_plans(rootfs: Path, built: list[str]) -> None:
    image = str(rootfs)

    async def on_a_loop() -> None:
        assert (await pyminicon.aio.run(["true"], image=image)).returncode == 0
        async with await pyminicon.aio.start(["true"], image=image) as box:
            assert await box.wait() == 0

    asyncio.run(on_a_loop())
    assert pyminicon.run(["true"], image=image).returncode == 0
    with pyminicon.start(["true"], image=image) as box:
        assert box.wait() == 0
    assert built == [image]


def test_each_run_has_an_environment_a_directory_and_words_of_its_own(rootfs: Path, built: list[str]) -> None:
    image = str(rootfs)
    assert out('echo "$A $PWD"; env', image=image, env={"A": "secret"}, cwd="/tmp").startswith(
        "secret /tmp\n"
    )
    again = out('echo "$A $PWD"; env', image=image)
    assert again.startswith(" /\n")
    assert "secret" not in again
    assert pyminicon.run(["/bin/true"], image=image, env={"PATH": "/nowhere"}).returncode == 0
    with pytest.raises(pyminicon.LaunchError, match="exec: sh"):
        sh("true", image=image, env={"PATH": "/nowhere"})
    assert len(built) == 1


def test_each_run_has_limits_of_its_own(rootfs: Path, built: list[str], needs_root: None) -> None:
    line = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    for size in (32 << 20, 64 << 20):
        assert out(f"{line} || true", image=str(rootfs), memory=size).split() == [str(size)]
    assert len(built) == 1
    assert sh("test -e /sys/fs/cgroup/memory", image=str(rootfs)).returncode == 1, (
        "without limits there is none"
    )
    assert len(built) == 2
    assert sh("true", image=str(rootfs), pids=32).returncode == 0
    assert len(built) == 2, "both are known"
    with pytest.raises(pyminicon.SpecError, match="memory"):
        sh("true", image=str(rootfs), memory=1)


def test_an_empty_limit_is_none_whatever_was_known(rootfs: Path, built: list[str], needs_root: None) -> None:
    line = "ls -A /sys/fs/cgroup"
    with_limit = {"image": str(rootfs), "memory": "32M", "usage": True}
    assert out(line, **with_limit) != ""
    none: dict[str, Any] = {"image": str(rootfs), "usage": 0}
    assert out(line, **none) == ""
    assert out(line, **with_limit) != ""


# ---- the id -----------------------------------------------------------------------------------------


def test_every_container_has_an_id_of_its_own_and_one_name_for_it(rootfs: Path, built: list[str]) -> None:
    seen = set()
    for _ in range(3):
        name, file, hosts, variable = out(IDENTITY, image=str(rootfs)).splitlines()
        assert name == file == variable == hosts.split()[-1]
        assert len(name) == 12
        assert int(name, 16) >= 0
        seen.add(name)
    assert len(seen) == 3
    assert len(built) == 1


def test_the_id_of_a_started_container_is_its_host_name(rootfs: Path, built: list[str]) -> None:
    for _ in range(2):
        with pyminicon.start(
            ["sh", "-c", IDENTITY], image=str(rootfs), stdout=pyminicon.PIPE, text=True
        ) as box:
            assert box.stdout is not None
            assert box.stdout.read().split("\n")[0] == box.id
    assert len(built) == 1


def test_an_id_that_was_shown_is_an_ordinary_word_for_the_next(rootfs: Path, built: list[str]) -> None:
    first = out("hostname", image=str(rootfs)).strip()
    assert out(f"echo $A {first}", image=str(rootfs), env={"A": first}) == f"{first} {first}\n"


def test_a_name_that_was_given_stays(rootfs: Path, built: list[str]) -> None:
    for _ in range(2):
        assert out(IDENTITY, image=str(rootfs), hostname="box").split("\n")[:2] == ["box", "box"]


# ---- it is made anew --------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "etc a link out": lambda root, away: swap(root / "etc", lambda p: p.symlink_to(away)),
    "etc a link in": lambda root, away: swap(root / "etc", lambda p: p.symlink_to("tmp")),
    "etc a file": lambda root, away: swap(root / "etc", Path.touch),
    "etc gone": lambda root, away: shutil.rmtree(root / "etc"),
    "etc closed": lambda root, away: (root / "etc").chmod(0o700),
    "proc a file": lambda root, away: swap(root / "proc", Path.touch),
    "proc a link": lambda root, away: swap(root / "proc", lambda p: p.symlink_to(away)),
    "dev gone": lambda root, away: shutil.rmtree(root / "dev"),
    "sys a pipe": lambda root, away: swap(root / "sys", os.mkfifo),
    "a layout": lambda root, away: (root / "oci-layout").write_text("{}"),
    "hosts a link": lambda root, away: swap(root / "etc/hosts", lambda p: p.symlink_to(away / "hosts")),
    "hosts gone": lambda root, away: swap(root / "etc/hosts", lambda p: None),
}


def outcome(**options: Any) -> str:
    line = "cat /etc/hostname /etc/hosts; stat -c '%n %A %F %U' /etc /proc /dev /sys /etc/hosts; ls /proc/self/status; wc -l </proc/self/mounts"
    try:
        r = sh(line, hostname="box", **options)
    except pyminicon.Error as error:
        return f"{type(error).__name__}: {error}"
    return f"{r.returncode} {r.stdout} {r.stderr}"


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_changed_is_planned_as_if_it_had_never_been_seen(
    own_rootfs: Path, tmp_path: Path, built: list[str], change: str, read_only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    away = tmp_path / "away"
    away.mkdir()
    (away / "hosts").write_text("the host's own\n")
    for name in ("hosts", "hostname"):
        (own_rootfs / "etc" / name).write_text("the image's\n")
    options = {"image": str(own_rootfs), "read_only": read_only}
    before = outcome(**options)
    assert outcome(**options) == before
    assert len(built) == 1
    CHANGES[change](own_rootfs, away)
    after = outcome(**options)
    # A writable root is an overlay, whose layer has the files; an ordinary user's read-only one is an overlay as well.
    if (read_only and os.geteuid() == 0) or not change.startswith("hosts"):
        assert len(built) == 2
    assert "the host's own" not in after
    monkeypatch.setattr(plan_cache, "_known", _core.PlanCache(spec.ASIDE, spec.LIMITS))
    assert after == outcome(**options)
    assert sorted(path.name for path in away.iterdir()) == ["hosts"]
    assert (away / "hosts").read_text() == "the host's own\n"


def test_another_directory_by_the_same_name_is_another_image(
    own_rootfs: Path, tmp_path: Path, built: list[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(own_rootfs)
    assert "from the image" in out("cat /etc/motd", image=str(link))
    other = tmp_path / "other"
    shutil.copytree(own_rootfs, other, symlinks=True)
    (other / "etc/motd").write_text("the other's\n")
    link.unlink()
    link.symlink_to(other)
    assert out("cat /etc/motd", image=str(link)) == "the other's\n"
    os.rename(own_rootfs, tmp_path / "old")
    os.rename(other, own_rootfs)
    assert len(built) == 2
    link.unlink()
    with pytest.raises(pyminicon.SpecError, match="image"):
        out("true", image=str(link))


def test_a_root_that_has_come_to_hold_the_callers_program_is_seen(
    own_rootfs: Path, built: list[str], needs_root: None
) -> None:
    """Which directories these are is found once a process, and goes by what they are."""
    for name in ("hosts", "hostname"):
        (own_rootfs / "etc" / name).write_text("the image's\n")
    out("true", image=str(own_rootfs), read_only=True)
    about = own_rootfs.stat()
    os.rename(own_rootfs, own_rootfs.with_name("old"))
    shutil.copytree(own_rootfs.with_name("old"), own_rootfs, symlinks=True)
    assert own_rootfs.stat().st_ino != about.st_ino
    out("true", image=str(own_rootfs), read_only=True)
    assert len(built) == 2


def spied(real: Callable[..., Any], looked: set[str]) -> Callable[..., Any]:
    def spy(path: Any, *args: Any, **options: Any) -> Any:
        looked.add(os.fspath(path))
        return real(path, *args, **options)

    return spy


def test_all_that_a_plan_looks_at_is_among_its_fingerprints(
    own_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new question to the file system needs a new fingerprint."""
    for name in ("hosts", "hostname"):
        (own_rootfs / "etc" / name).write_text("the image's\n")
    for options in ({}, {"read_only": True}, {"init": True, "time": "private"}):
        asked = spec.parse(["x"], {"image": str(own_rootfs), **options})
        plan.build(asked)  # what is asked once a process has been asked
        looked: set[str] = set()
        with monkeypatch.context() as patch:
            for name in "stat lstat open access readlink listdir scandir getxattr statvfs".split():
                patch.setattr(os, name, spied(getattr(os, name), looked))
            made = plan.build(asked)
        seen = made.rootfs.fingerprints()
        assert seen is not None
        assert looked == {row[0] for row in seen}
        assert str(own_rootfs / "etc") in looked


# ---- it is not known at all -------------------------------------------------------------------------


def test_a_value_of_another_type_is_not_the_same(rootfs: Path, built: list[str]) -> None:
    image = str(rootfs)
    assert sh("true", image=image, read_only=True).returncode == 0
    for value in (1, 1.0):
        with pytest.raises(pyminicon.SpecError, match="read_only: takes True or False"):
            sh("true", image=image, read_only=value)
    assert sh("touch /x", image=image, read_only=False).returncode == 0
    assert sh("touch /x", image=image, read_only=True).returncode == 1
    assert sh("true", image=rootfs, read_only=True).returncode == 0, "a path object is looked at anew"
    assert len(built) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"cap_add": ["SYS_PTRACE"]}, {"cap_drop": ("ALL",)}, {"volumes": ["/tmp:/v"]}, {"tmpfs": ["/v"]}, {"user": "1000"},
        {"rlimits": {"nofile": 64}}, {"files": {"/f": b"x"}}, {"collect": ["/etc/motd"]}, {"userns": "private"},
        {"network": "host"}, {"uts": "host"}, {"storage": "disk"}, {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
        {"entrypoint": ["/bin/sh"]}, {"entrypoint": "/bin/sh"}, {"pid": "host"}, {"cpu_time": 5.0}, {"user": b"1000"},
    ],
    ids="-".join,
)  # fmt: skip
def test_what_depends_on_more_is_planned_each_time(
    rootfs: Path, built: list[str], options: dict[str, Any], needs_root: None
) -> None:
    for _ in range(2):
        pyminicon.run(["/bin/true"], image=str(rootfs), **options)
    assert len(built) == 2
    assert len(plan_cache._known) == 0


def test_images_that_are_no_plain_directory_are_planned_each_time(
    rootfs: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rootfs.parent)
    for image in ("host", "python", f"./{rootfs.name}"):
        for _ in range(2):
            pyminicon.run(["/bin/true"], image=image)
    assert len(built) == 6
    assert len(plan_cache._known) == 0


def test_options_that_a_call_does_not_take_are_refused_whatever_is_known(
    rootfs: Path, built: list[str]
) -> None:
    image = str(rootfs)
    assert sh("true", image=image).returncode == 0
    with pytest.raises(pyminicon.SpecError, match="timeout: not an option of this call"):
        pyminicon.start(["true"], image=image, timeout=1)
    with pytest.raises(pyminicon.SpecError, match="tty: not an option of this call"):
        pyminicon.run(["true"], image=image, tty=False)
    with pytest.raises(pyminicon.SpecError, match="no such option; did you mean image"):
        pyminicon.run(["true"], image=image, imag=1)
    with pytest.raises(pyminicon.SpecError, match="args: is empty"):
        pyminicon.run([], image=image)
    with pytest.raises(pyminicon.SpecError, match="cwd"):
        pyminicon.run(["true"], image=image, cwd="tmp")
    assert len(built) == 1


def become(euid: int) -> None:
    """With a change of the uid a process stops to be dumpable, and couldn't write its own maps."""
    os.seteuid(0)
    os.setegid(euid)
    os.seteuid(euid)
    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE


def test_other_ids_of_the_process_are_seen(
    own_rootfs: Path, tmp_path: Path, built: list[str], needs_root: None
) -> None:
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o711)
    image = str(own_rootfs)
    line = "cat /proc/self/uid_map; grep NoNewPrivs /proc/self/status"
    before = out(line, image=image)
    become(4242)
    try:
        own = out(line, image=image)
        assert own.split()[1] == "4242"
        assert own == out(line, image=image)
    finally:
        become(0)
    assert len(built) == 2
    assert out(line, image=image) == before
    assert len(built) == 2, "the plan of before holds again"


# ---- what is kept -----------------------------------------------------------------------------------


def test_no_more_than_sixteen_are_kept_and_the_latest_of_them(rootfs: Path, built: list[str]) -> None:
    for number in range(20):
        pyminicon.run(["/bin/true"], image=str(rootfs), hostname=f"box{number}")
    assert len(plan_cache._known) == 16
    pyminicon.run(["/bin/true"], image=str(rootfs), hostname="box19")
    assert len(built) == 20
    pyminicon.run(["/bin/true"], image=str(rootfs), hostname="box0")
    assert len(built) == 21
    assert len(plan_cache._known) == 16


def test_nothing_of_a_run_is_kept(rootfs: Path, built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Plan] = []
    real = plan_cache._to_keep
    monkeypatch.setattr(plan_cache, "_to_keep", lambda *a: kept.append(real(*a)) or kept[-1])  # type: ignore[func-returns-value, arg-type]
    out("true", image=str(rootfs), env={"TOKEN": "secret"}, cwd="/tmp")
    assert len(plan_cache._known) == 1
    assert kept[0].exec_spec == ([], [], [], "/")
    assert "TOKEN" not in kept[0].environment
    assert kept[0].rootfs.lock_fds == []


# ---- many at once -----------------------------------------------------------------------------------


def test_threads_share_plans(rootfs: Path, own_rootfs: Path, built: list[str]) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(6):
            image = rootfs if (number + turn) % 2 else own_rootfs
            word = f"{number}-{turn}"
            told = out(f"echo {word} $A; hostname", image=str(image), env={"A": word}).split()
            if told[:2] != [word, word]:
                wrong.append(told)
            names.append(told[2])

    names: list[str] = []
    in_threads(8, work)
    assert wrong == []
    assert len(set(names)) == 48
    assert len(built) <= 16


def test_a_forked_process_knows_the_plans_and_launches_its_own(rootfs: Path, built: list[str]) -> None:
    first = out("hostname", image=str(rootfs))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            names = {first, out("hostname", image=str(rootfs)), out("hostname", image=str(rootfs))}
            code = 0 if len(names) == 3 and len(built) == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert out("hostname", image=str(rootfs)) != first
    assert len(built) == 1
