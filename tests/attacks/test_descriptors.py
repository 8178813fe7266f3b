"""Descriptors and working directories that lead out (CVE-2024-21626, CVE-2016-9962)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


@pytest.fixture
def open_doors(tmp_path: Path) -> Any:
    """Directories of the host, open and inheritable, at low and high numbers, as a careless caller has them."""
    fds = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(12)]
    fds.append(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY))
    high = 900
    os.dup2(fds[0], high)
    for fd in (*fds, high):
        os.set_inheritable(fd, True)
    yield [*fds, high]
    for fd in (*fds, high):
        os.close(fd)


LIST = ["sh", "-c", "for n in /proc/self/fd/*; do echo ${n##*/}; done"]


def test_a_container_cannot_use_descriptors_the_caller_left_inheritable(
    open_doors: list[int], inside: Run
) -> None:
    plain = subprocess.run(LIST, capture_output=True, text=True, close_fds=False, check=True).stdout.split()
    assert {str(fd) for fd in open_doors} <= set(plain)  # they do leak where nobody closes them
    for options in ({}, {"init": True}, {"user": "1000"}):
        # The shell opens the directory to expand the pattern: one more, its own.
        assert set(inside(LIST, **options).stdout.split()) <= {"0", "1", "2", "3"}, options


def test_a_container_cannot_reach_the_host_by_a_descriptor_number_in_a_path(
    open_doors: list[int], inside: Run
) -> None:
    script = "for n in $(seq 0 1000); do [ -e /proc/self/fd/$n/work -o -d /proc/self/fd/$n/proc ] && echo $n; done; :"
    assert inside(["sh", "-c", script]).stdout == ""
    code = subprocess.run(["sh", "-c", script], capture_output=True, text=True, close_fds=False, check=False)
    assert code.stdout.split()


@pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc/self/fd/900", "/proc/thread-self/fd/7"])
def test_a_container_cannot_start_in_a_descriptor_of_the_setup(cwd: str, open_doors: list[int]) -> None:
    with pytest.raises((pyminicon.LaunchError, pyminicon.SpecError), match=r"cwd|descriptor"):
        pyminicon.run(["sh", "-c", "pwd -P"], cwd=cwd)


def test_a_template_refuses_such_a_directory_as_well(open_doors: list[int]) -> None:
    with pyminicon.Template(stock=1) as template:
        for number in open_doors:
            with pytest.raises(pyminicon.Error):
                template.run(["pwd"], cwd=f"/proc/self/fd/{number}")
        assert template.run(["pwd"], cwd="/usr", capture_output=True).stdout == b"/usr\n"


@pytest.mark.parametrize("way", ["/dev/fd", "/proc/1/fd", "/usr/../proc/self/task/1/fd"])
@pytest.mark.parametrize("options", [{}, {"init": True}])
def test_whatever_descriptor_is_named_the_working_directory_is_inside(
    way: str, options: dict[str, Any], open_doors: list[int], tmp_path: Path, inside: Run
) -> None:
    (tmp_path / "canary").write_text("")
    script = f"pwd -P; for up in . .. ../.. ../../../../../..; do ls -d $up{tmp_path}/canary $up/canary; done 2>/dev/null"
    for number in (*range(3, 14), 900):
        try:
            seen = inside(["sh", "-c", script], cwd=f"{way}/{number}", **options).stdout
        except pyminicon.LaunchError as error:
            assert error.stage == "cwd"
        else:  # a descriptor of the container's own root
            assert seen.strip() in ("/", "/proc", "/sys", "/dev", "/dev/pts"), seen


def test_an_image_cannot_choose_a_descriptor_as_working_directory_by_a_link(
    own_rootfs: Path, open_doors: list[int]
) -> None:
    for number in (3, 5, 7, 8, 9, 10, 11):
        trap = own_rootfs / f"trap{number}"
        trap.symlink_to(f"/proc/self/fd/{number}")
        try:
            r = pyminicon.run(
                ["sh", "-c", "pwd -P; ls"], image=str(own_rootfs), cwd=f"/trap{number}", capture_output=True
            )
        except pyminicon.LaunchError as error:
            assert error.stage == "cwd"
        else:
            assert r.stdout.splitlines()[0] in (b"/", b"/proc", b"/sys", b"/dev") and b"boot" not in r.stdout
    (own_rootfs / "way").symlink_to("/home")
    r = pyminicon.run(["pwd", "-P"], image=str(own_rootfs), cwd="/way", capture_output=True)
    assert r.stdout == b"/home\n"


def test_a_descriptor_that_was_passed_on_purpose_is_the_only_one(
    tmp_path: Path, open_doors: list[int], inside: Run
) -> None:
    (tmp_path / "gift").write_text("given\n")
    with open(tmp_path / "gift", "rb") as gift:
        number = str(gift.fileno())
        r = inside(
            ["sh", "-c", f"cat /proc/self/fd/{number}; for n in /proc/self/fd/*; do echo ${{n##*/}}; done"],
            pass_fds=[gift.fileno()],
        )
    given, *numbers = r.stdout.split()
    assert given == "given"
    # The shell has one more open while it looks: its own directory.
    assert number in numbers and len(set(numbers) - {"0", "1", "2", number}) <= 1
