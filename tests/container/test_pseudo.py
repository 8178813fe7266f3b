"""/proc, /sys and /dev: what is there, what is hidden, what can't be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.run import out, sh


def test_proc_shows_only_the_containers_processes() -> None:
    pids = [name for name in out("ls /proc").split() if name.isdigit()]
    assert "1" in pids
    assert len(pids) <= 2
    assert out("cat /proc/1/comm") == "sh\n" or out("cat /proc/1/comm") == "cat\n"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/interrupts",
        "/proc/latency_stats",
    ],
)
def test_what_tells_of_the_host_reads_as_empty(path: str) -> None:
    if not os.path.exists(path):
        assert sh(f"test -e {path}").returncode == 1
        return
    assert out(f"cat {path}") == ""
    # So there is something to hide; an ordinary user may have no keys.
    if os.access(path, os.R_OK) and (path != "/proc/keys" or os.geteuid() == 0):
        assert os.path.getsize(path) > 0 or Path(path).read_bytes() != b""


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware"])
def test_hidden_directories_are_empty(path: str) -> None:
    if os.path.isdir(path):
        assert out(f"ls -A {path}") == ""


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/swappiness",
        "/proc/irq/default_smp_affinity",
        "/proc/sysrq-trigger",
    ],
)
def test_settings_of_the_kernel_cannot_be_written(path: str) -> None:
    if not os.path.exists(path):
        return
    before = Path(path).read_text() if os.access(path, os.R_OK) and "sysrq" not in path else ""
    r = sh(f"echo 1 > {path}")
    assert r.returncode != 0
    assert "Read-only file system" in r.stderr or "Permission denied" in r.stderr
    if before:
        assert Path(path).read_text() == before


def test_a_process_can_still_set_its_own_oom_score() -> None:
    assert out("echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj") == "500\n"


def test_sys_is_there_and_read_only() -> None:
    assert "lo" in out("ls /sys/class/net").split()
    r = sh("echo 1500 > /sys/class/net/lo/mtu")
    assert r.returncode != 0
    assert "Read-only file system" in r.stderr


def test_sys_shows_the_containers_network_only() -> None:
    assert out("ls /sys/class/net") == "lo\n"
    assert set(out("ls /sys/class/net", network="host").split()) == set(os.listdir("/sys/class/net"))


@pytest.mark.parametrize(
    ("node", "number"),
    [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ],
)
def test_the_usual_device_nodes_are_the_real_ones(node: str, number: str) -> None:
    assert out(f"stat -c '%F %Hr:%Lr %a' /dev/{node}") == f"character special file {number} 666\n"


def test_the_device_nodes_work_for_everybody() -> None:
    line = "echo x > /dev/null; head -c2 /dev/zero | od -An -tx1; head -c4 /dev/urandom | wc -c; echo x > /dev/full || echo full"
    for user in ("0", "12345"):
        r = sh(line, user=user)
        assert r.stdout.split() == ["00", "00", "4", "full"], r


def test_dev_has_nothing_of_the_hosts() -> None:
    names = set(out("ls /dev").split())
    assert names == set(
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    )


def test_no_node_can_be_made_in_dev_nor_work_elsewhere() -> None:
    r = sh("mknod /dev/evil c 1 11; mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg")
    assert r.returncode != 0
    assert "Read-only file system" in r.stderr


def test_links_in_dev_lead_to_the_own_descriptors() -> None:
    assert out("readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx").split() == [
        "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx",
    ]  # fmt: skip
    assert out("echo through > /dev/stdout") == "through\n"


def test_pseudo_terminals_are_the_containers_own() -> None:
    import pyminicon

    code = "import os; m, s = os.openpty(); print(os.ttyname(s), sorted(os.listdir('/dev/pts')))"
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True, text=True)
    assert (r.stdout, r.stderr) == ("/dev/pts/0 ['0', 'ptmx']\n", "")


def test_shm_is_empty_writable_and_its_own() -> None:
    mark = Path(f"/dev/shm/pyminicon-test-{os.getpid()}")
    mark.write_text("outside")
    try:
        assert out("ls -A /dev/shm; touch /dev/shm/inside; stat -c %a /dev/shm") == "1777\n"
        assert not os.path.exists("/dev/shm/inside")
        assert mark.name in out("ls -A /dev/shm", ipc="host")
    finally:
        mark.unlink()


def test_mqueue_is_mounted() -> None:
    assert " /dev/mqueue " in out("cat /proc/self/mountinfo")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_cannot_lead_the_mounts_of_proc_sys_and_dev_away(
    own_rootfs: Path, tmp_path: Path, name: str
) -> None:
    import pyminicon

    canary = tmp_path / "canary"
    canary.mkdir()
    (own_rootfs / name).rmdir()
    (own_rootfs / name).symlink_to(canary)
    for read_only in (False, True):
        with pytest.raises(pyminicon.LaunchError) as caught:
            pyminicon.run(["/bin/true"], image=str(own_rootfs), read_only=read_only)
        assert caught.value.subject == f"/{name}"
        assert caught.value.stage in ("mount", "sysfs", "rootfs")
    assert os.listdir(canary) == []


def test_an_image_with_its_own_dev_null_cannot_replace_the_mask(own_rootfs: Path) -> None:
    (own_rootfs / "dev/null").write_text("not a device")
    (own_rootfs / "dev/evil").write_text("x")
    assert out(
        "stat -c %F /dev/null; cat /proc/timer_list; ls /dev/evil 2>&1 || true", image=str(own_rootfs)
    ).startswith("character special file\n")
