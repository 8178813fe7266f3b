"""Images whose directories are links out, and a second process that swaps them meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host where nothing may ever arrive: no file, no mount."""
    made = tmp_path / "canary"
    made.mkdir()
    (made / "inner").mkdir()
    yield made
    assert sorted(path.name for path in made.rglob("*")) == ["inner"], "something arrived"
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(made) not in mounts


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"init": True}, {"userns": "private"}])
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc"])
def test_an_image_cannot_have_proc_sys_dev_or_etc_elsewhere(
    name: str, options: dict[str, Any], own_rootfs: Path, canary: Path, needs_root: None, inside: Run
) -> None:
    for target in (str(canary), "../../../../../../../../.." + str(canary), "/tmp", "/proc/self/fd/5"):
        place = own_rootfs / name
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        place.symlink_to(target)
        try:
            inside(["true"], image=str(own_rootfs), **options)
        except pyminicon.LaunchError as error:
            assert error.stage, error
    place.unlink()
    place.mkdir()
    assert inside(["true"], image=str(own_rootfs), **options).returncode == 0


@pytest.mark.parametrize("kind", ["volume", "tmpfs", "files"])
@pytest.mark.parametrize(
    "trap",
    [
        "{canary}",
        "../../../../../../../../..{canary}",
        "/proc/1/root{canary}",
        "/proc/self/fd/4/..{canary}",
        "loop",
    ],
)
def test_a_target_behind_a_link_stays_inside(
    kind: str, trap: str, own_rootfs: Path, canary: Path, tmp_path: Path, inside: Run, needs_root: None
) -> None:
    (own_rootfs / "loop").symlink_to("loop")
    (own_rootfs / "trap").symlink_to(trap.format(canary=canary))
    source = tmp_path / "source"
    source.mkdir()
    option: dict[str, Any] = {"volume": {"volumes": [f"{source}:/trap/inner"]}, "tmpfs": {"tmpfs": ["/trap/inner"]},
              "files": {"files": {"/trap/inner/made": b"x"}}}[kind]  # fmt: skip
    try:
        inside(["true"], image=str(own_rootfs), **option)
    except pyminicon.LaunchError:
        pass
    (own_rootfs / "way").symlink_to("/home")
    plain: dict[str, Any] = {
        "volume": {"volumes": [f"{source}:/way/x"]},
        "tmpfs": {"tmpfs": ["/way/x"]},
        "files": {"files": {"/way/x": b""}},
    }[kind]
    assert inside(["test", "-e", "/home/x"], image=str(own_rootfs), **plain).returncode == 0


@pytest.mark.parametrize("launch", ["cold", "template"])
def test_a_swapper_never_gets_a_mount_out(
    launch: str, own_rootfs: Path, canary: Path, tmp_path: Path, running: Run, needs_root: None
) -> None:
    """renameat2(RENAME_EXCHANGE) of a directory and a link, all the time, while 200 containers start (CVE-2021-30465)."""
    honest, lure = own_rootfs / "data", own_rootfs / "lure"
    (honest / "inner").mkdir(parents=True)
    lure.symlink_to("../../../../../../../../../../.." + str(canary))
    source = tmp_path / "source"
    source.mkdir()
    (source / "arrived").write_text("")
    running("swap", honest, lure)
    options: dict[str, Any] = {"image": str(own_rootfs), "volumes": [f"{source}:/data/inner"]}
    files = {"/data/file": b"x"}
    started = failed = 0
    seen_link = False
    until = time.monotonic() + 4
    for _ in range(200):
        seen_link |= honest.is_symlink()
        try:
            if launch == "cold":
                pyminicon.run(["true"], files=files, **options)
            else:
                with pyminicon.Template(stock=1, **options) as template:
                    template.run(["true"], files=files)
            started += 1
        except pyminicon.LaunchError:
            failed += 1
        assert os.listdir(canary) == ["inner"] and not os.listdir(canary / "inner")
        if time.monotonic() > until and started + failed >= 40:
            break
    assert started and seen_link, (started, failed)


def test_the_swapper_does_fool_one_who_goes_by_name(own_rootfs: Path, tmp_path: Path, running: Run) -> None:
    honest, lure, outside = own_rootfs / "data", own_rootfs / "lure", tmp_path / "outside"
    honest.mkdir()
    outside.mkdir()
    lure.symlink_to(outside)
    running("swap", honest, lure)
    until = time.monotonic() + 60
    while not list(outside.iterdir()) and time.monotonic() < until:
        if honest.is_dir() and not honest.is_symlink():
            (honest / "made").write_text("")  # checked, then used
    assert list(outside.iterdir())


@pytest.mark.parametrize(
    "make, path",
    [
        ("ln -s {secret} /tmp/x", "/tmp/x"), ("ln -s / /tmp/x", "/tmp/x{secret}"), ("ln -s /proc/self/environ /tmp/x", "/tmp/x"),
        ("mkfifo /tmp/x", "/tmp/x"), ("mkdir /tmp/x", "/tmp/x"), ("mkdir /tmp/x; mount --bind / /tmp/x; :", "/tmp/x{secret}"),
        (":", "/dev/zero"), (":", "/proc/1/root{secret}"), ("truncate -s 1T /tmp/x", "/tmp/x"),
    ],
)  # fmt: skip
def test_nothing_but_a_regular_file_of_bounded_size_is_collected(
    make: str, path: str, tmp_path: Path, inside: Run
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    where = path.format(secret=secret)
    r = inside(["sh", "-c", make.format(secret=secret)], collect=[where], collect_max="1M")
    assert r.files == {} and list(r.collect_errors) == [where]
    assert inside(["sh", "-c", "echo fine > /tmp/x"], collect=["/tmp/x"]).files == {"/tmp/x": b"fine\n"}


@pytest.mark.parametrize("source", ["/proc/slabinfo", "/proc/version", "/sys/kernel/profiling"])
def test_a_file_of_the_kernels_laid_over_a_result_is_not_read_by_the_caller(
    source: str, inside: Run, needs_root: None
) -> None:
    """Inside it belongs to somebody else; whoever collects is root on the host."""
    options: dict[str, Any] = {"userns": "private", "cap_add": ["SYS_ADMIN"], "collect": ["/out"]}
    script = "echo mine > /tmp/x; : > /out; mount --bind {} /out && echo mounted"
    r = inside(["sh", "-c", script.format(source)], **options)
    assert r.files == {} and "file of the kernel's" in str(r.collect_errors["/out"])
    r = inside(["sh", "-c", script.format("/tmp/x")], **options)
    assert (r.stdout, r.files) == ("mounted\n", {"/out": b"mine\n"})
