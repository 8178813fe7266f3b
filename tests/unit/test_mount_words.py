"""docker's words for volumes, tmpfs, storage and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyminicon.errors import SpecError
from pyminicon.options.mounts import inside, mount_point, storage, tmpfs, volume


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("/a:/b", ("/a", "/b", "rw")),
        ("/a:/b:ro", ("/a", "/b", "ro")),
        ("/a:/b:rw", ("/a", "/b", "rw")),
        ("/a/../c:/b//x/./y/", ("/c", "/b/x/y", "rw")),
        ("/a:/dev/shm", ("/a", "/dev/shm", "rw")),
        ("/a:/process", ("/a", "/process", "rw")),
        ("/a:/developers", ("/a", "/developers", "rw")),
    ],
)
def test_a_volume_is_source_target_and_mode(words: str, want: tuple[str, str, str]) -> None:
    assert volume(words) == want


def test_a_volume_is_not_read_only_and_writable_at_once() -> None:
    for words in ("/a:/b:rw,ro", "/a:/b:ro,z,rw"):
        with pytest.raises(SpecError, match="either ro or rw"):
            volume(words)
    assert volume("/a:/b:ro,z,ro")[2] == "ro"


def test_a_relative_source_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert volume("x:/y")[0] == str(tmp_path / "x")


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev", "/dev/null", "//dev/./null", "/"]
)
def test_what_the_launch_mounts_itself_cannot_be_covered(target: str) -> None:
    with pytest.raises(SpecError):
        mount_point("volumes", target)


@given(st.text())
def test_a_place_inside_is_normal_or_refused(path: str) -> None:
    try:
        found = inside("files", path)
    except SpecError:
        return
    assert found.startswith("/")
    assert ".." not in found.split("/")
    assert "//" not in found
    assert inside("files", found) == found


@given(st.text(alphabet="/.:prosyevd\\x00"))
def test_no_way_of_writing_it_leads_a_mount_onto_proc_sys_or_dev(path: str) -> None:
    try:
        found = mount_point("tmpfs", path)
    except SpecError:
        return
    assert found not in ("/", "/proc", "/sys", "/dev")
    assert not found.startswith(("/proc/", "/sys/"))


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("/t", ("/t", {"size": "512m", "mode": "1777", "nr_inodes": "1m"}, True)),
        ("/t:size=64m", ("/t", {"size": str(64 << 20), "mode": "1777", "nr_inodes": "1m"}, True)),
        (
            "/t:size=1g,mode=755,uid=5,exec",
            ("/t", {"size": str(1 << 30), "mode": "755", "uid": "5", "nr_inodes": "1m"}, False),
        ),
        ("/t:rw,nosuid,nodev,noexec", ("/t", {"size": "512m", "mode": "1777", "nr_inodes": "1m"}, True)),
    ],
)
def test_a_tmpfs_has_a_place_options_and_exec(words: str, want: tuple[str, dict[str, str], bool]) -> None:
    place, options, noexec = tmpfs(words)
    assert (place, dict(pair.split("=") for pair in options.split(",")), noexec) == want


@pytest.mark.parametrize(
    "words", ["/t:size=", "/t:mode=9", "/t:mode=", "/t:uid=-1", "/t:huge=always", "/t:size=1x", "t"]
)
def test_a_tmpfs_with_other_words_is_refused(words: str) -> None:
    with pytest.raises(SpecError):
        tmpfs(words)


def test_storage_is_tmpfs_with_a_size_or_disk() -> None:
    assert storage("tmpfs") == ("tmpfs", "")
    assert storage("tmpfs:size=1g") == ("tmpfs", str(1 << 30))
    assert storage("disk") == ("disk", "")
    for words in ("", "disk:size=1g", "tmpfs:1g", "ram", "tmpfs:size="):
        with pytest.raises(SpecError):
            storage(words)
