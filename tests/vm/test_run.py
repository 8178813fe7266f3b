"""What of the emulated machines can be tried without booting one."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import host_clock
import initramfs
import kernels
import run
import sample


def test_several_commands_are_separated_by_three_colons() -> None:
    words = ["--", "a", "b", ":::", "c", "--", "d", ":::"]
    assert run.commands(words) == [["a", "b"], ["c", "--", "d"]]


@pytest.mark.parametrize(("returncode", "status"), [(0, 0), (7, 7), (-9, 137), (-11, 139), (124, 124)])
def test_a_signal_becomes_an_exit_status_as_in_a_shell(returncode: int, status: int) -> None:
    assert run.exit_status(returncode) == status


def test_the_counters_speed_is_found_however_busy_the_machine_is() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs a machine with x86-64's time stamp counter")
    found = [host_clock.tsc_khz(0.05) for _ in range(3)]
    assert found[0] is not None and 500_000 < found[0] < 10_000_000
    assert max(found) - min(found) < found[0] // 500  # type: ignore[type-var,operator]


def test_the_newest_kernel_is_chosen_by_number_not_by_letters() -> None:
    versions = ["7.2.9+deb14-amd64", "7.2.13+deb14-amd64", "6.19.12+deb14-amd64"]
    assert max(versions, key=kernels._order) == "7.2.13+deb14-amd64"


@pytest.mark.parametrize(
    ("package", "taken"),
    [
        ("linux-image-6.1.0-50-amd64", True),
        ("linux-image-7.2.13+deb14-amd64", True),
        ("linux-image-6.1.0-50-rt-amd64", False),
        ("linux-image-6.1.0-50-cloud-amd64", False),
        ("linux-image-6.1.0-50-amd64-dbg", False),
        ("linux-image-6.1.0-50-amd64-unsigned", False),
        ("linux-image-amd64", False),
    ],
)
def test_only_the_plain_flavour_is_a_candidate(package: str, taken: bool) -> None:
    assert kernels.is_candidate(package) is taken


def test_an_unknown_kernel_is_named_with_the_known_ones() -> None:
    with pytest.raises(kernels.KernelUnavailable, match=r"4\.2.*6\.1, newest"):
        kernels.get("4.2")


def test_dependencies_are_loaded_before_what_needs_them(tmp_path: Path) -> None:
    modules = tmp_path / "lib" / "modules" / "1"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text(
        "kernel/net/9pnet.ko.xz:\n"
        "kernel/net/9pnet_virtio.ko.xz: kernel/net/9pnet.ko.xz kernel/virtio.ko.xz\n"
        "kernel/virtio.ko.xz:\n"
        "kernel/fs/9p.ko: kernel/net/9pnet.ko.xz kernel/netfs.ko\n"
        "kernel/netfs.ko:\n"
    )
    kernel = kernels.Kernel("1", tmp_path, tmp_path)
    order = [path.name for path in initramfs._load_order(kernel, initramfs._NEEDED)]
    assert sorted(order) == ["9p.ko", "9pnet.ko.xz", "9pnet_virtio.ko.xz", "netfs.ko", "virtio.ko.xz"]
    for first, then in (
        ("9pnet.ko.xz", "9p.ko"),
        ("netfs.ko", "9p.ko"),
        ("virtio.ko.xz", "9pnet_virtio.ko.xz"),
    ):
        assert order.index(first) < order.index(then)


def test_four_samples_keep_every_test_and_together_four_variants_of_each() -> None:
    names = ["a.py::one", *(f"a.py::many[{i}]" for i in range(6)), "b.py::many[x]", "b.py::many[y]"]
    samples = [sample.chosen(names, number) for number in range(4)]
    assert all(
        {name.partition("[")[0] for name in kept} == {"a.py::one", "a.py::many", "b.py::many"}
        for kept in samples
    )
    assert all(len(kept) == 3 for kept in samples)
    assert len(set.union(*samples)) == 1 + 4 + 2
