"""Bad input: a SpecError or LaunchError whose sentence helps, with nothing started or everything undone."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.images import errors as image_errors

ARGS = ["/bin/true"]


def refused(args: Any = ARGS, **options: Any) -> str:
    with pytest.raises(pyminicon.SpecError) as caught:
        pyminicon.run(args, **options)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert text.startswith(caught.value.option + ": ")
    assert len(text) > len(caught.value.option) + 8, "a sentence that helps"
    assert "\n" not in text
    return text


# option, value, words that the sentence has
TABLE: list[tuple[str, Any, str]] = [
    ("image", "", "image"),
    ("image", "no-such-image", "no-such-image"),
    ("image", "/no/such/directory", "No such file"),
    ("image", "./missing.tar", "No such file"),
    ("image", "/dev/null", "/dev/null"),
    ("image", 5, "string"),
    ("image", "a\0b", "NUL"),
    ("timeout", -1, "-1"),
    ("timeout", "5", "seconds"),
    ("timeout", float("nan"), "nan"),
    ("timeout", True, "seconds"),
    ("wall_time", 0, "above 0"),
    ("cpu_time", -0.1, "above 0"),
    ("max_output", -1, "-1"),
    ("hostname", "x" * 65, "64"),
    ("hostname", "", "64"),
    ("hostname", "a b", "letters"),
    ("hostname", "a\nb", "letters"),
    ("env", {"A=B": "x"}, "="),
    ("env", {"": "x"}, "empty"),
    ("env", {"A": "x\0y"}, "NUL"),
    ("env", {"A": 1}, "string"),
    ("env", ["A=B"], "dict"),
    ("cwd", "relative", "absolute"),
    ("cwd", "/proc/self/fd/5", "descriptor"),
    ("cwd", "/a\0b", "NUL"),
    ("user", "1:2:3", "uid"),
    ("user", "no-such-user", "passwd"),
    ("volumes", ["/tmp"], "source:target"),
    ("volumes", "/tmp:/x", "list"),
    ("volumes", ["/tmp:/proc"], "/proc"),
    ("volumes", ["/tmp:/proc/self/attr"], "/proc"),
    ("volumes", ["/tmp:/sys"], "/sys"),
    ("volumes", ["/tmp:/dev"], "/dev"),
    ("volumes", ["/tmp://proc/./"], "/proc"),
    ("volumes", ["/tmp:/"], "/"),
    ("volumes", ["/tmp:/x/../proc"], ".."),
    ("volumes", ["/tmp:relative"], "absolute"),
    ("volumes", ["/tmp:/x:rx"], "ro"),
    ("volumes", ["/tmp:/x:ro:z"], "source:target"),
    ("volumes", ["/tmp:/" + "x" * 300], "longer"),
    ("volumes", ["/tmp:" + "/x" * 3000], "longer"),
    ("tmpfs", ["/x:size=-1"], "size"),
    ("tmpfs", ["/x:size=lots"], "lots"),
    ("tmpfs", ["/x:colour=red"], "colour"),
    ("tmpfs", ["/proc"], "/proc"),
    ("tmpfs", "/x", "list"),
    ("storage", "nfs", "disk"),
    ("storage", "tmpfs:size=x", "x"),
    ("files", {"relative": b""}, "absolute"),
    ("files", {"/../x": b""}, ".."),
    ("files", {"/x": 5}, "bytes"),
    ("files", {"/x": "/no/such/file"}, "No such file"),
    ("files", ["/x"], "dict"),
    ("collect", ["relative"], "absolute"),
    ("collect", ["/../x"], ".."),
    ("collect", "/x", "list"),
    ("network", "bridge", "none"),
    ("pid", "container:x", "host"),
    ("ipc", True, "host"),
    ("time", "zero", "private"),
    ("userns", "keep-id", "auto"),
    ("rlimits", {"nofiles": 5}, "nofile"),
    ("rlimits", {"nofile": (5, 4)}, "above"),
    ("rlimits", {"nofile": -5}, "0"),
    ("rlimits", {"nofile": "many"}, "whole"),
    ("rlimits", [("nofile", 5)], "dict"),
    ("cap_add", ["SYS_EVERYTHING"], "SYS_EVERYTHING"),
    ("cap_drop", "ALL", "list"),
    ("seccomp", "/no/such/profile.json", "profile"),
    ("seccomp", {"defaultAction": "SCMP_ACT_NONSENSE"}, "SCMP_ACT_NONSENSE"),
    ("read_only", "yes", "True"),
    ("init", 1, "True"),
    ("pass_fds", [-1], "0"),
    ("pass_fds", [987654], "987654"),
    ("stdin", -9, "descriptor"),
    ("stdout", "file", "descriptor"),
    ("stdout", True, "descriptor"),
    ("input", 5, "bytes"),
    ("memory", "lots", "lots"),
    ("memory", -1, "-1"),
    ("cpus", 0, "cpus"),
    ("pids", 0, "pids"),
    ("cpu_weight", 0, "10000"),
    ("cpuset", "a-b", "cpuset"),
]


@pytest.mark.parametrize(("option", "value", "words"), TABLE, ids=lambda value: repr(value)[:40])
def test_a_bad_value_is_refused_with_a_sentence_that_helps(option: str, value: Any, words: str) -> None:
    text = refused(**{option: value})
    assert text.startswith(f"{option}: "), text
    assert words in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "empty"),
        (["a\0b"], "NUL"),
        (["true", "x\0"], "NUL"),
        ("true", "list"),
        (b"true", "list"),
        (None, "list"),
        (["true", 5], "string"),
        (5, "list"),
    ],
    ids=repr,
)
def test_bad_args_are_refused(args: Any, words: str) -> None:
    assert words in refused(args)


def test_bytes_and_paths_are_fine_where_strings_are(rootfs: Path, tmp_path: Path) -> None:
    r = pyminicon.run(
        [b"/bin/echo", Path("/x"), "y"],
        image=os.fsencode(rootfs),
        cwd=b"/tmp",
        env={b"A": b"B"},
        capture_output=True,
    )  # type: ignore[dict-item]
    assert r.stdout == b"/x y\n"


def test_an_unknown_option_is_refused_and_the_nearest_is_named() -> None:
    assert "did you mean memory" in refused(memmory="64M")
    assert "no such option" in refused(zzzzzz=1)


def test_a_socket_and_a_fifo_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "neither" in refused(image=str(tmp_path / "fifo"))


def test_a_directory_that_may_not_be_read_is_no_image(as_user: Callable[..., Any], tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "root").mkdir()
    if os.geteuid() != 0:
        closed.chmod(0)
    done = as_user(f"import pyminicon; pyminicon.run(['x'], image='{closed}/root')")
    assert "Permission denied" in done.stderr
    assert "SpecError" in done.stderr


def archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))
    return path


def test_an_archive_that_ends_early_is_refused_and_leaves_nothing(tmp_path: Path, own_store: Path) -> None:
    path = archive(tmp_path / "cut.tar", [f"f{number}" for number in range(20)])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(pyminicon.Error) as caught:
        pyminicon.run(ARGS, image=str(path))
    assert "ends early" in str(caught.value)
    assert not own_store.exists() or [*own_store.glob("tmp/*"), *own_store.glob("layers/*")] == []


def test_an_archive_with_dots_cannot_write_outside(tmp_path: Path, own_store: Path) -> None:
    path = archive(
        tmp_path / "up.tar",
        ["../../../../../../../../../../../../../../" + str(tmp_path).lstrip("/") + "/escaped", "bin/x"],
    )
    with pytest.raises(pyminicon.Error):
        pyminicon.run(ARGS, image=str(path))
    assert not (tmp_path / "escaped").exists()


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, own_store: Path) -> None:
    path = tmp_path / "text.tar"
    path.write_text("this is no archive\n" * 100)
    with pytest.raises(pyminicon.Error) as caught:
        pyminicon.run(ARGS, image=str(path))
    assert "archive" in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path, own_store: Path) -> None:
    (tmp_path / "empty.tar").touch()
    with pytest.raises(pyminicon.Error):
        pyminicon.run(ARGS, image=str(tmp_path / "empty.tar"))


@pytest.mark.parametrize(
    "error",
    [
        pyminicon.Error("words"),
        pyminicon.SpecError("memory", "takes a size: memory: more"),
        pyminicon.LaunchError(2, "mount", "/data", "look there"),
        pyminicon.TimeoutExpired(["x"], 1.5, output=b"o", stderr=b"e"),
        pyminicon.CalledProcessError(3, ["x"], output=b"o", stderr=b"e"),
        image_errors.ImageError("not there"),
        image_errors.RegistryError("not now", 503),
        image_errors.Busy("in use"),
        image_errors.Missing("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_can_be_pickled(error: pyminicon.Error) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


def test_the_error_classes_tested_are_all() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(
            *(
                below(one)
                for one in kind.__subclasses__()
                if not one.__module__.startswith(("pyminicon.adapters", "pyminicon.detached"))
            )
        )

    names = {"Error", "SpecError", "LaunchError", "TimeoutExpired", "CalledProcessError"}
    assert {kind.__name__ for kind in below(pyminicon.Error)} == names | {
        "ContainerEnded",
        "Cancelled",
        "ImageError",
        "RegistryError",
        "Busy",
        "Missing",
    }


def test_a_worker_of_a_pool_hands_a_refusal_back() -> None:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(pyminicon.SpecError) as caught:
            pool.submit(refuse_me).result(timeout=30)
        assert caught.value.option == "pids"
        assert pool.submit(len, "ab").result(timeout=30) == 2


def refuse_me() -> None:
    pyminicon.run(["true"], pids=0)


def test_an_error_of_a_launch_can_be_pickled() -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["no-such-program"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.errno, copy.stage, copy.subject, str(copy)) == (
        caught.value.errno, caught.value.stage, caught.value.subject, str(caught.value),
    )  # fmt: skip
    assert isinstance(copy, OSError)


def test_hundreds_of_mounts_work() -> None:
    tmpfs = [f"/t/{number}" for number in range(300)]
    r = pyminicon.run(["sh", "-c", "ls /t | wc -l"], tmpfs=tmpfs, capture_output=True)
    assert r.stdout.strip() == b"300"


def test_more_words_than_a_launch_can_carry_are_said_to_be_too_many() -> None:
    with pytest.raises(pyminicon.LaunchError, match="prepare: Argument list too long"):
        pyminicon.run(["true", "x" * (65 << 20)], init=True)
