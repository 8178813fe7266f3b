"""What the child's objects call: only each other. They run in the memory of the program that launches, where
libc's errno, locks and buffers belong to somebody else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "csrc"

#: The compiler turns loops and initialisers into these; they touch nothing but the bytes they are given.
ALLOWED = {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}

FLAGS = (
    "-std=gnu++20 -O2 -fPIC -fno-exceptions -fno-rtti -fno-stack-protector -fno-asynchronous-unwind-tables "
    "-fno-threadsafe-statics -fno-tree-loop-distribute-patterns -U_FORTIFY_SOURCE -D_GNU_SOURCE -fvisibility=hidden"
).split()


def compiler() -> str:
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    pytest.skip("needs the internet: no C++ compiler is installed")


def undefined(objects: list[Path]) -> set[str]:
    text = subprocess.run(["nm", "-u", *objects], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in text.splitlines() if line.strip() and not line.endswith(":")}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("objects")
    made = []
    for source in sorted((SOURCES / "child").rglob("*.cc")):
        made.append(place / f"{source.stem}.o")
        subprocess.run([compiler(), *FLAGS, f"-I{SOURCES}", "-c", source, "-o", made[-1]], check=True)
    return made


def test_the_childs_objects_need_nothing_but_each_other(objects: list[Path]) -> None:
    text = subprocess.run(
        ["nm", "--defined-only", *objects], capture_output=True, text=True, check=True
    ).stdout
    own = {line.split()[-1] for line in text.splitlines() if len(line.split()) == 3}
    assert len(objects) > 20
    assert len(own) > 20
    assert undefined(objects) - own - ALLOWED == set()


def test_the_flags_are_those_of_the_build() -> None:
    build = (SOURCES.parent / "CMakeLists.txt").read_text()
    declared = build.split("set(CHILD_FLAGS")[1].split(")")[0].split()
    assert {flag for flag in FLAGS if flag.startswith(("-fno", "-U"))} <= set(declared)


def test_a_call_into_libc_would_be_seen(objects: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "bad.cc"
    source.write_text(
        "#include <unistd.h>\n#include <errno.h>\nint bad() { return setuid(1) < 0 ? errno : 0; }\n"
    )
    subprocess.run([compiler(), *FLAGS, "-c", source, "-o", tmp_path / "bad.o"], check=True)
    assert {"setuid", "__errno_location"} <= undefined([tmp_path / "bad.o"])


@pytest.mark.parametrize("folder", ["child", "base"])
def test_nothing_of_the_parents_is_included_on_the_childs_side(folder: str) -> None:
    for source in [*(SOURCES / folder).rglob("*.cc"), *(SOURCES / folder).rglob("*.h")]:
        text = source.read_text()
        assert '#include "parent/' not in text, source
        assert "Python.h" not in text, source
        for banned in (
            "<string>",
            "<vector>",
            "<memory>",
            "<iostream>",
            "<errno.h>",
            "<unistd.h>",
            "<stdlib.h>",
        ):
            assert f"#include {banned}" not in text, source


#: What glibc or new headers of Linux have, and musl or those of Linux 4.18 (manylinux_2_28) don't.
UNCOMMON = (
    "<linux/stat.h>", "<linux/openat2.h>", "<linux/landlock.h>", "<linux/mount.h>", " gettid()", "__rlimit_resource ",
    "stx_mnt_id", "EROFS_SUPER_MAGIC_V1", "struct open_how", "<execinfo.h>",
)  # fmt: skip


def test_no_source_needs_what_musl_or_old_headers_lack() -> None:
    for source in [*SOURCES.rglob("*.cc"), *SOURCES.rglob("*.h")]:
        text = source.read_text()
        assert [word for word in UNCOMMON if word in text] == [], source
