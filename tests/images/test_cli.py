"""`pyminicon image`, as people and scripts see it."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import resource
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import pyminicon
from pyminicon.cli.image import main
from pyminicon.images import progress, resolve
from pyminicon.images.errors import ImageError
from pyminicon.images.store import Store

from .tars import Layout, directory, file, hardlink, symlink, tar
from .test_archive import docker_archive

Out = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "Ubuntu-base.tar"
    path.write_bytes(tar(directory("bin", mode=0o1777), file("bin/su", b"x" * 5000, mode=0o4755)))
    return path


def test_import_names_the_image_after_its_file_or_as_told(store: Store, archive: Path, capsys: Out) -> None:
    assert main(["import", str(archive)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("sha256:")
    assert "in the store as ubuntu-base:latest" in err
    resolve("ubuntu-base").close()
    assert main(["import", "-q", str(archive), "mine:1"]) == 0
    assert capsys.readouterr().err == ""
    resolve("mine:1").close()


def test_a_log_gets_lines_and_no_control_characters(store: Store, archive: Path, capsys: Out) -> None:
    main(["import", str(archive)])
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\r" not in err
    assert err.splitlines()[0].startswith("Ubuntu-base.tar  done  ")


def test_ls_inspect_and_rm(store: Store, archive: Path, capsys: Out) -> None:
    main(["import", "-q", str(archive), "mine"])
    digest = capsys.readouterr().out.strip()
    assert main(["ls"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["NAME", "DIGEST", "PLATFORM", "SIZE", "SINCE"]
    assert table[1].split()[:2] == ["mine:latest", digest[7:19]]
    assert main(["ls", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["digest"] == digest
    assert listed["names"] == ["localhost/mine:latest"]
    assert main(["ls", "-q"]) == 0
    assert capsys.readouterr().out == f"{digest}\n"
    assert main(["inspect", "--json", "mine"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert len(shown["diff_ids"]) == 1
    assert main(["inspect", "mine"]) == 0
    assert f"Digest:     {digest}" in capsys.readouterr().out
    assert main(["rm", "mine"]) == 0
    assert capsys.readouterr().out.split() == ["localhost/mine:latest", digest]
    assert main(["ls", "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_inspect_shows_what_the_image_asks_for(store: Store, tmp_path: Path, capsys: Out) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(tar(file("a")), Entrypoint=["/e"], User="me", Volumes={"/v": {}}))
    main(["import", "-q", str(layout.path), "x"])
    capsys.readouterr()
    main(["inspect", "x"])
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert json.loads(lines["Entrypoint"]) == ["/e"]
    assert lines["User"].strip() == "me"
    assert json.loads(lines["Volumes"]) == ["/v"]


def test_what_is_in_use_is_not_removed(store: Store, archive: Path, capsys: Out) -> None:
    main(["import", "-q", str(archive), "mine"])
    found = resolve("mine")
    capsys.readouterr()
    assert main(["rm", "mine"]) == 125
    assert "in use" in capsys.readouterr().err
    assert main(["prune", "--all"]) == 0
    assert capsys.readouterr().out == ""
    found.close()
    assert main(["rm", "mine", "other"]) == 125
    assert "other" in capsys.readouterr().err


@pytest.mark.usefixtures("user_attributes")
def test_export_gives_the_merged_tree(store: Store, tmp_path: Path, capsys: Out) -> None:
    below = tar(
        directory("./", mode=0o711),
        directory("d"),
        file("d/gone"),
        file("d/stays", b"one", mode=0o4711),
        hardlink("d/again", "d/stays"),
        symlink("l", "/abs"),
        directory("o"),
        file("o/hidden"),
        file("f", b"file"),
        file("tagged", pax_headers={"SCHILY.xattr.user.a": "\udcff\u00e4"}),
    )
    above = tar(
        file("d/.wh.gone"), file("o/.wh..wh..opq"), file("o/new"), directory("f"), file("f/now", b"dir")
    )
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(below, above))
    main(["import", "-q", str(layout.path), "x"])
    out = tmp_path / "out.tar"
    assert main(["export", "-q", "x", "-o", str(out)]) == 0
    with tarfile.open(out) as archive:
        names = archive.getnames()
        assert sorted(names) == [
            ".",
            "./d",
            "./d/again",
            "./d/stays",
            "./f",
            "./f/now",
            "./l",
            "./o",
            "./o/new",
            "./tagged",
        ]
        assert archive.getmember(".").mode == 0o755  # the upper layer made it anew, without saying how
        assert archive.getmember("./d/stays").linkname == "./d/again"
        assert archive.getmember("./d/again").mode == 0o4711
        assert archive.getmember("./l").linkname == "/abs"
        assert archive.getmember("./tagged").pax_headers["SCHILY.xattr.user.a"] == "\udcff\u00e4"
    # And it comes back as it was.
    assert main(["import", "-q", str(out), "again"]) == 0
    again = resolve("again")
    assert Path(again.layers[0], "f/now").read_bytes() == b"dir"
    assert os.getxattr(f"{again.layers[0]}/tagged", "user.a") == b"\xff\xc3\xa4"
    assert os.stat(f"{again.layers[0]}/d/stays").st_nlink == 2
    again.close()


def two_images(tmp_path: Path, capsys: Out) -> tuple[str, str]:
    digests = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.tar").write_bytes(tar(file(name)))
        assert main(["import", "-q", str(tmp_path / f"{name}.tar"), name]) == 0
        digests.append(capsys.readouterr().out.strip())
        (tmp_path / f"{name}.tar").unlink()
    return digests[0], digests[1]


def test_ls_leaves_out_what_is_removed_meanwhile(
    store: Store, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = two_images(tmp_path, capsys)
    monkeypatch.setattr(Store, "digests", lambda self: [one, "sha256:" + "0" * 64, two])
    assert main(["ls", "-q"]) == 0
    assert capsys.readouterr().out.split() == [one, two]


DAMAGED = [b"", b"{", b"[]", b"{}", b"[" * 100_000, b'{"digest": 5}', b"\xff\0"]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("way", [["rm", "one"], ["prune", "--all"]])
def test_a_damaged_description_is_named_and_can_be_cleaned_up(
    store: Store, tmp_path: Path, capsys: Out, content: bytes, way: list[str]
) -> None:
    one, two = two_images(tmp_path, capsys)
    path = Path(f"{store.path}/images/{one[7:]}.json")
    path.write_bytes(content)
    assert main(["ls", "-q"]) == 125
    out, err = capsys.readouterr()
    assert out.split() == [two]
    assert str(path) in err
    assert len(err.splitlines()) == 1
    assert main(["inspect", "one"]) == 125
    assert str(path) in capsys.readouterr().err
    assert main(way) == 0
    assert not path.exists()
    assert main(["ls"]) == 0


@pytest.mark.parametrize("content", [b"", b"{", b"pyminicon image 1\0sha256:", b"\xff" * 100])
@pytest.mark.parametrize("way", [["rm", "one"], ["prune"], ["prune", "--all"]])
def test_a_damaged_record_can_be_cleaned_up(
    store: Store, tmp_path: Path, capsys: Out, content: bytes, way: list[str]
) -> None:
    one, two = two_images(tmp_path, capsys)
    Path(f"{store.path}/images/{one[7:]}").write_bytes(content)
    with pytest.raises(ImageError, match="can't be read"):
        resolve("one")
    if way[0] == "rm":
        assert main(["rm", "two"]) == 0
        # While nobody knows what the damaged one needs, no layer goes.
        assert len(os.listdir(f"{store.path}/layers")) == 2
    assert main(way) == 0
    assert one in capsys.readouterr().out
    assert main(["ls", "-q"]) == 0
    kept = [two] if way == ["prune"] else []
    assert capsys.readouterr().out.split() == kept
    assert len(os.listdir(f"{store.path}/layers")) == len(kept)


def test_prune_removes_the_writable_layers_of_the_killed_and_no_other(store: Store, capsys: Out) -> None:
    pipe = -1
    with pyminicon.start(["/bin/cat"], storage="disk", stdin=pipe) as running:
        scratch = Path(store.path, "scratch")
        (held,) = os.listdir(scratch)
        (scratch / "layer-killed/root/deep").mkdir(parents=True)
        (scratch / "layer-killed/root/deep/file").write_text("x")
        (scratch / "layer-killed/root").chmod(0)
        assert main(["prune"]) == 0
        assert os.listdir(scratch) == [held]
        assert running.poll() is None


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_export_writes_into_what_is_no_file(store: Store, archive: Path, tmp_path: Path) -> None:
    main(["import", "-q", str(archive), "mine"])
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    fcntl.fcntl(held, 1031, 1 << 20)  # F_SETPIPE_SZ: all of it fits
    assert main(["export", "-q", "mine", "-o", str(fifo)]) == 0
    data = os.read(held, 1 << 20)
    os.close(held)
    assert names_in(data) == [".", "./bin", "./bin/su"]
    assert fifo.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["Ubuntu-base.tar", "fifo", "store"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can make devices")
def test_export_leaves_a_device_a_device(store: Store, archive: Path, tmp_path: Path) -> None:
    main(["import", "-q", str(archive), "mine"])
    null = tmp_path / "null"
    os.mknod(null, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert main(["export", "-q", "mine", "-o", str(null)]) == 0
    assert null.is_char_device()


def test_export_to_dash_is_standard_output(store: Store, archive: Path, tmp_path: Path) -> None:
    main(["import", "-q", str(archive), "mine"])
    code = "import sys; from pyminicon.cli.image import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "export", "-q", "mine"]
    for more in ([], ["-o", "-"]):
        environment = {**os.environ, "PYTHONPATH": str(Path(pyminicon.__file__).parents[1])}
        done = subprocess.run([*words, *more], capture_output=True, check=True, cwd=tmp_path, env=environment)
        assert names_in(done.stdout) == [".", "./bin", "./bin/su"]
    assert sorted(os.listdir(tmp_path)) == ["Ubuntu-base.tar", "store"]


def test_export_replaces_a_file_as_a_whole_and_keeps_its_mode(
    store: Store, archive: Path, tmp_path: Path
) -> None:
    main(["import", "-q", str(archive), "mine"])
    out, other, link = tmp_path / "out.tar", tmp_path / "other", tmp_path / "link"
    out.write_bytes(b"before")
    out.chmod(0o600)
    os.link(out, other)
    link.symlink_to("out.tar")
    # Whoever guesses the name of the draft finds it taken: nothing is written through a link.
    (tmp_path / "out.tar.part").symlink_to(tmp_path / "victim")
    assert main(["export", "-q", "mine", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert tarfile.is_tarfile(out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert other.read_bytes() == b"before"
    assert not (tmp_path / "victim").exists()


def test_an_export_that_fails_leaves_the_file_as_it_was(
    store: Store, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    main(["import", "-q", str(archive), "mine"])
    out = tmp_path / "out.tar"
    out.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise ImageError("the export failed")

    monkeypatch.setattr("pyminicon.images.export.export", fail)
    assert main(["export", "-q", "mine", "-o", str(out)]) == 125
    assert out.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["Ubuntu-base.tar", "out.tar", "store"]


@pytest.mark.parametrize("name", ["no/such/out.tar", "store", "Ubuntu-base.tar/x"])
def test_an_output_that_cannot_be_is_named_as_it_was_given(
    store: Store, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out, name: str
) -> None:
    main(["import", "-q", str(archive), "mine"])
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert main(["export", "-q", "mine", "-o", name]) == 125
    assert capsys.readouterr().err.startswith(f"pyminicon: --output: {name}: ")


def test_export_takes_few_descriptors_for_many_layers_and_deep_trees(store: Store, tmp_path: Path) -> None:
    chain = ["/".join(["d"] * depth) for depth in range(1, 25)]
    members = [directory(path) for path in chain]
    layers = [tar(*members, file(f"{chain[-1]}/f{n}"), file(f"d/f{n}")) for n in range(20)]
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image(*layers))
    main(["import", "-q", str(layout.path), "x"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        assert main(["export", "-q", "x", "-o", str(tmp_path / "out.tar")]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    names = names_in((tmp_path / "out.tar").read_bytes())
    assert len(names) == len(set(names)) == 1 + 24 + 20 + 20
    assert [name for name in names if "f" not in name] == [".", *(f"./{path}" for path in chain)]


def test_export_goes_deeper_than_a_path_or_a_recursion_can(store: Store, tmp_path: Path) -> None:
    """Through links an archive nests deeper than one of its names may be."""
    deep = "/".join(["d" * 20] * 180)
    members = [directory(deep), symlink("one", deep), directory(f"one/{deep}"), symlink("two", f"one/{deep}")]
    members += [directory(f"two/{deep}"), symlink("three", f"two/{deep}"), directory(f"three/{deep}")]
    (tmp_path / "deep.tar").write_bytes(tar(*members, file(f"three/{deep}/f"), format=tarfile.GNU_FORMAT))
    assert main(["import", "-q", str(tmp_path / "deep.tar"), "x"]) == 0
    assert main(["export", "-q", "x", "-o", str(tmp_path / "out.tar")]) == 0
    assert max(name.count("/") for name in names_in((tmp_path / "out.tar").read_bytes())) == 4 * 180 + 1


def test_import_reads_a_tar_from_standard_input(store: Store, archive: Path) -> None:
    words = [
        sys.executable,
        "-c",
        "import sys; from pyminicon.cli.image import main; sys.exit(main(sys.argv[1:]))",
    ]
    done = subprocess.run(
        [*words, "import", "-", "piped"], input=archive.read_bytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = resolve("piped")
    assert (Path(found.layers[0]) / "bin/su").stat().st_mode & 0o7777 == 0o4755
    found.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_import_reads_a_docker_archive_from_standard_input(store: Store, pack: type[bytes]) -> None:
    """`docker save x | pyminicon image import -`"""
    data = pack(tar(*docker_archive(tar(file("a")), tags=("saved:1",))))
    code = "import sys; from pyminicon.cli.image import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "import", "-"], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = resolve("saved:1")
    assert os.listdir(found.layers[0]) == ["a"]
    found.close()


@pytest.mark.parametrize(
    "words",
    [
        ["import"],
        ["import", "/nonexistent"],
        ["import", "/dev/null"],
        ["bogus"],
        [],
        ["rm"],
        ["pull", "UPPER"],
        ["inspect", "nothing"],
        ["export", "nothing"],
        ["ls", "--bogus"],
        ["import", "x.tar", "Not A Name"],
        ["pull", "--platform", "bogus", "x"],
        ["import", "--max-bytes", "lots", "/etc/passwd"],
    ],
)
def test_bad_usage_is_one_line_and_125(store: Store, words: list[str], capsys: Out) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    err = capsys.readouterr().err
    assert status == 125
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_limits_can_be_given(store: Store, archive: Path, capsys: Out) -> None:
    assert main(["import", "-q", "--max-entries", "1", str(archive)]) == 125
    assert main(["import", "-q", "--max-bytes", "1K", str(archive)]) == 125
    assert main(["import", "-q", "--max-bytes", "1M", str(archive)]) == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_a_layer_and_keeps_one_line_of_each() -> None:
    out = Terminal()
    shown = progress.for_terminal(out=out)
    with shown.task("one", 1000) as one, shown.task("two", 0) as two:
        for _ in range(4):
            shown._last = 0.0  # type: ignore[attr-defined]
            one.add(250)
            shown._last = 0.0  # type: ignore[attr-defined]
            two.add(1_000_000)
    text = out.getvalue()
    assert "one  [============>           ]  50%  500 B/1.0 kB" in text
    assert "two  4.0 MB" in text
    assert _screen(text)[:2] == ["two  done  4.0 MB", "one  done  1.0 kB"]


def _screen(text: str) -> list[str]:
    """What a terminal shows in the end (rates cut off)."""
    lines: list[str] = [""]
    row = 0
    i = 0
    while i < len(text):
        if text.startswith("\x1b[", i):
            end = i + 2
            while text[end].isdigit():
                end += 1
            if text[end] == "A":
                row -= int(text[i + 2 : end])
            elif text[end] == "K":
                lines[row] = ""
            elif text[end] == "J":
                del lines[row:]
                lines.append("")
            i = end + 1
            continue
        if text[i] == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif text[i] != "\r":
            lines[row] += text[i]
        i += 1
    return [line.split("B  ")[0] + "B" if "B  " in line else line for line in lines if line]


def test_quiet_says_nothing() -> None:
    out = Terminal()
    with progress.for_terminal(True, out).task("one", 10) as task:
        task.add(10)
    assert out.getvalue() == ""


def test_sizes_are_for_people() -> None:
    shown = [progress.size(n) for n in (0, 999, 1000, 1500, 99_900, 123_456, 999_600, 5 * 10**9, 10**13)]
    assert shown == ["0 B", "999 B", "1.0 kB", "1.5 kB", "99.9 kB", "123 kB", "1.0 MB", "5.0 GB", "10.0 TB"]


def test_a_failure_is_one_line_whatever_the_name(store: Store, capsys: Out) -> None:
    for words in (["import", "/no\nsuch\x1b[31m"], ["rm", "no\nsuch"]):
        assert main(words) == 125
        err = capsys.readouterr().err
        assert err.startswith("pyminicon: ") and err.count("\n") == 1 and "\x1b" not in err
