"""A path inside behaves as pathlib's on the same tree: results, errors, and what errors are about."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ODD = [
    "with space", "new\nline", "tab\t", "-dash", "star*", "[bracket]", "ünïcode", "back\\slash", "a" * 255,
    os.fsdecode(b"\xff\xfe not utf-8"), "...", "~", "$HOME", "a:b", "quote'\"",
]  # fmt: skip


def plant(top: Any) -> None:
    """The tree, made with the words that are tested."""
    for name in ("empty", "full", "full/inner", "full/inner/deep", "odd", "sticky"):
        (top / name).mkdir()
    for name in (
        "file",
        "full/a.py",
        "full/b.txt",
        "full/.hidden",
        "full/inner/c.py",
        "full/inner/deep/d.py",
    ):
        (top / name).write_text(f"this is {name}\n")
    for name in ODD:
        (top / "odd" / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    links = {
        "to_file": "file", "to_full": "full", "to_nothing": "nothing", "loop": "loop", "loop_a": "loop_b",
        "loop_b": "loop_a", "full/up": "..", "to_link": "to_file", "full/inner/back": "../../full", "odd/l\nk": "-dash",
        "chain": "to_link", "to_dir_slash": "full/",
    }  # fmt: skip
    for name, target in links.items():
        (top / name).symlink_to(target)
    (top / "sticky").chmod(0o1777)
    (top / "file").chmod(0o640)


def facts(info: os.stat_result) -> tuple[Any, ...]:
    size = info.st_size if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) else None
    links = info.st_nlink if not stat.S_ISDIR(info.st_mode) else None
    return stat.filemode(info.st_mode), size, links


def walked(top: Any, top_down: bool = True) -> list[Any]:
    if not hasattr(top, "walk"):  # pathlib before 3.12
        return own_walk(top, top_down)
    return [(str(where), sorted(a), sorted(b)) for where, a, b in top.walk(top_down)]


def own_walk(top: Any, top_down: bool) -> list[Any]:
    entries = list(os.scandir(top))
    inner = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    here = (str(top), sorted(inner), sorted(e.name for e in entries if e.name not in inner))
    below = [row for name in inner for row in own_walk(top / name, top_down)]
    return [here, *below] if top_down else [*below, here]


def lines_of(path: Any) -> list[str]:
    with path.open() as file:
        return list(file)


def appended(path: Any) -> str:
    with path.open("a") as file:
        file.write("more")
    return str(path.read_text())


def changed(path: Any) -> tuple[int, bytes]:
    with path.open("r+b") as file:
        file.seek(3)
        file.write(b"XYZ")
        file.truncate(8)
        place = file.tell()
    return place, path.read_bytes()


def new_only(path: Any) -> str:
    with path.open("x") as file:
        file.write("first")
    return str(path.read_text())


GLOBS = [
    "*", "*.py", "**/*.py", "**", "full/*", "*/*", "*/*/*", "**/inner", "**/inner/*", "full/**/*.py", "to_*", "to_full/*",
    "loop*", "odd/*", "odd/?tar*", "odd/[[]*", "*[!e]", "nothing/*", "file/*", ".*", "full/.*", "**/", "*/", "to_full",
    "to_nothing", "full/../file", "**/inner/**/*", "FILE", "**/d*", "full/inner/back/*", "empty/*", "empty/**",
]  # fmt: skip

NAMES = [
    "file", "full", "empty", "to_file", "to_full", "to_nothing", "loop", "loop_a", "nothing", "file/below", "nothing/below",
    "to_link", "chain", "full/up", "full/up/file", "to_full/a.py", "to_dir_slash", "full/inner/back/inner/c.py", "odd/new\nline",
    os.fsdecode(b"odd/\xff\xfe not utf-8"), "a" * 256, "/".join(["d" * 200] * 30), "full/../file", "sticky",
]  # fmt: skip

READS: dict[str, Callable[[Any], Any]] = {
    "stat": lambda p: facts(p.stat()),
    "lstat": lambda p: facts(p.lstat()),
    "exists": lambda p: p.exists(),
    "is_file": lambda p: p.is_file(),
    "is_dir": lambda p: p.is_dir(),
    "is_symlink": lambda p: p.is_symlink(),
    "readlink": lambda p: str(p.readlink()),
    "read_bytes": lambda p: p.read_bytes(),
    "read_text": lambda p: p.read_text(errors="replace"),
    "iterdir": lambda p: sorted(str(one) for one in p.iterdir()),
    "open": lambda p: (p.open("rb").close(), None)[1],
    "lines": lines_of,
}

CHANGES: dict[str, Callable[[Any], Any]] = {
    "write_text": lambda p: (p.write_text("new"), p.read_text()),
    "write_bytes": lambda p: (p.write_bytes(b"\0new"), p.read_bytes()),
    "append": appended,
    "change": changed,
    "new_only": new_only,
    "mkdir": lambda p: (p.mkdir(0o750), facts(p.stat())),
    "mkdir_exist_ok": lambda p: p.mkdir(exist_ok=True),
    "mkdir_parents": lambda p: (p.mkdir(parents=True), facts(p.stat())),
    "mkdir_both": lambda p: p.mkdir(parents=True, exist_ok=True),
    "unlink": lambda p: (p.unlink(), p.is_symlink()),
    "unlink_missing_ok": lambda p: p.unlink(missing_ok=True),
    "rmdir": lambda p: (p.rmdir(), p.exists()),
    "chmod": lambda p: (p.chmod(0o4711), facts(p.stat())),
    "touch": lambda p: (p.touch(0o600), facts(p.stat())),
    "touch_new_only": lambda p: p.touch(exist_ok=False),
    "symlink": lambda p: (p.symlink_to("some//where/../else"), str(p.readlink())),
}

NEW_NAMES = ["fresh", "fresh/below", "full/fresh", "to_full/fresh", "empty/x/y/z"]

#: Of two names each.
MOVES = [
    ("file", "fresh"), ("file", "full/b.txt"), ("file", "full"), ("file", "empty"), ("full", "empty"), ("full", "file"),
    ("full", "fresh"), ("full", "full/inner/new"), ("to_nothing", "fresh"), ("to_full", "file"), ("nothing", "fresh"),
    ("file", "nothing/x"), ("file", "file"), ("empty", "full"), ("file", "to_nothing"), ("full/inner", "fresh"),
    ("file", "file/x"), ("loop", "full/loop"),
]  # fmt: skip


def outcome(top: Any, work: Callable[[], Any]) -> Any:
    """What came of it, with all names told from the tree's top."""
    try:
        return told(top, work())
    except (OSError, ValueError, NotImplementedError) as error:
        names = (getattr(error, "filename", None), getattr(error, "filename2", None))
        return type(error).__name__, getattr(error, "errno", str(error)), told(top, names)


def told(top: Any, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [told(top, one) for one in value]
    return value.replace(str(top), "TOP") if isinstance(value, str) else value


@pytest.fixture
def trees(living: Any, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """The same tree outside and inside."""
    outside, inside = tmp_path / "tree", living.path(f"/tmp/{tmp_path.name}-tree")
    for top in (outside, inside):
        top.mkdir()
        plant(top)
    yield outside, inside
    inside.rmtree()


def test_looking_at_files(trees: tuple[Path, Any]) -> None:
    outside, inside = trees
    for name in NAMES:
        for word, work in READS.items():
            wanted = outcome(outside, lambda w=work, n=name: w(outside / n))  # type: ignore[misc]
            assert outcome(inside, lambda w=work, n=name: w(inside / n)) == wanted, (word, name)  # type: ignore[misc]


def test_every_odd_name_comes_back_as_it_is(trees: tuple[Path, Any]) -> None:
    outside, inside = trees
    names = {path.name for path in (inside / "odd").iterdir()}
    assert names == {path.name for path in (outside / "odd").iterdir()} >= set(ODD)
    for name in ODD:
        assert (inside / "odd" / name).read_bytes() == name.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("pattern", GLOBS)
def test_glob_and_rglob(trees: tuple[Path, Any], pattern: str) -> None:
    def found(top: Any, word: str) -> Any:
        return outcome(top, lambda: sorted(str(path) for path in getattr(top, word)(pattern)))

    for below in ("", "full"):
        for word in ("glob", "rglob"):
            wanted, came = (found(top / below, word) for top in trees)
            assert told(trees[1], came) == told(trees[0], wanted), (below, word)


@pytest.mark.parametrize("pattern", ["", "/abs", "/"])
def test_patterns_that_mean_nothing_are_refused_alike(trees: tuple[Path, Any], pattern: str) -> None:
    kinds = []
    for top in trees:
        with pytest.raises((ValueError, NotImplementedError)) as caught:
            list(top.glob(pattern))
        kinds.append((caught.type, str(caught.value)))
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(
    "work",
    [
        lambda top: list(top.glob(5)),
        lambda top: list(top.rglob(None)),
        lambda top: (top / "new").touch(mode="a"),
        lambda top: (top / "new").touch(mode=2**40),
        lambda top: (top / "new").mkdir(mode="a"),
    ],
)
def test_what_is_no_pattern_or_number_is_a_type_error(trees: tuple[Path, Any], work: Any) -> None:
    with pytest.raises(TypeError):
        work(trees[1])
    assert not (trees[1] / "new").exists()


def test_walk(trees: tuple[Path, Any]) -> None:
    inside = trees[1]
    for top_down in (True, False):
        rows = [sorted(told(top, walked(top, top_down))) for top in trees]
        assert rows[0] == rows[1]
    order = [str(where) for where, _, _ in inside.walk(top_down=False)]
    assert order[-1] == str(inside) and order.index(f"{inside}/full/inner") < order.index(f"{inside}/full")
    pruned = []
    for where, directories, _ in inside.walk():
        pruned.append(str(where))
        directories[:] = [name for name in directories if name != "full"]
    assert f"{inside}/full" not in pruned and f"{inside}/odd" in pruned
    errors: list[OSError] = []
    assert list((inside / "nothing").walk(on_error=errors.append)) == []
    assert [error.filename for error in errors] == [f"{inside}/nothing"]


def both_sides(living: Any, tmp_path: Path, work: Callable[[Any], Any]) -> list[Any]:
    """What came of it and what the tree is like then, outside and inside, each in a tree of its own."""
    results = []
    for top in (tmp_path / "tree", living.path(f"/tmp/{tmp_path.name}-tree")):
        top.mkdir()
        plant(top)
        came = outcome(top, lambda top=top: work(top))  # type: ignore[misc]
        results.append((came, sorted((told(top, str(p)), facts(p.lstat())) for p in top.rglob("*"))))
        shutil.rmtree(top) if isinstance(top, Path) else top.rmtree()
    return results


@pytest.mark.parametrize("word", CHANGES)
def test_changing_files(living: Any, tmp_path: Path, word: str) -> None:
    for name in (*NAMES, *NEW_NAMES):
        outside, inside = both_sides(living, tmp_path, lambda top, name=name: CHANGES[word](top / name))
        assert inside == outside, name


@pytest.mark.parametrize("word", ["rename", "replace"])
def test_moving_files(living: Any, tmp_path: Path, word: str) -> None:
    for name, to in MOVES:
        outside, inside = both_sides(
            living, tmp_path, lambda top, name=name, to=to: str(getattr(top / name, word)(top / to))
        )
        assert inside == outside, (name, to)


LEXICAL: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "name": lambda p: p.name,
    "stem": lambda p: p.stem,
    "suffix": lambda p: p.suffix,
    "suffixes": lambda p: p.suffixes,
    "parts": lambda p: p.parts,
    "parent": lambda p: str(p.parent),
    "parents": lambda p: [str(one) for one in p.parents],
    "absolute": lambda p: p.is_absolute(),
    "as_posix": lambda p: p.as_posix(),
    "join": lambda p: [str(p / "x"), str(p / "/x"), str(p / "../x"), str(p.joinpath("a", "b"))],
    "rjoin": lambda p: str("before" / p),
    "with_name": lambda p: str(p.with_name("other")),
    "with_stem": lambda p: str(p.with_stem("other")),
    "with_suffix": lambda p: str(p.with_suffix(".other")),
    "no_suffix": lambda p: str(p.with_suffix("")),
    "relative": lambda p: str(p.relative_to("/a")),
    "is_relative": lambda p: p.is_relative_to("/a"),
    "match": lambda p: p.match("*.gz"),
}


@pytest.mark.parametrize(
    "text", ["/a/b.tar.gz", "a", "", ".", "/", "//x", "/a//b/./c/", "../up", "a/..", ".hidden", "x."]
)
def test_the_lexical_part_is_pure_posix_paths(living: Any, text: str) -> None:
    for word, work in LEXICAL.items():
        wanted = outcome("", lambda w=work: w(PurePosixPath(text)))  # type: ignore[misc]
        assert outcome("", lambda w=work: w(living.path(text))) == wanted, word  # type: ignore[misc]
