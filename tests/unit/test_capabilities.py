"""Capability names, the default set, and cap_add with cap_drop."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pyminicon.errors import SpecError
from pyminicon.options import capabilities


def _resolved(add: list[str] | None = None, drop: list[str] | None = None) -> list[str]:
    return [name[4:] for name in capabilities.names(capabilities.resolve(add, drop))]


def test_the_default_is_dockers_fourteen() -> None:
    # The mask that docker's containers show as CapBnd in /proc/self/status.
    assert capabilities.DEFAULT_MASK == 0x00000000A80425FB
    assert len(capabilities.DEFAULT) == 14
    assert capabilities.resolve() == capabilities.resolve([], []) == capabilities.DEFAULT_MASK


def test_a_name_may_carry_its_prefix_and_any_case() -> None:
    for spelling in ("SYS_PTRACE", "CAP_SYS_PTRACE", "sys_ptrace", "Cap_Sys_Ptrace"):
        assert capabilities.resolve([spelling]) == capabilities.DEFAULT_MASK | 1 << 19


def test_all_less_one_and_nothing_but_one() -> None:
    every = (1 << capabilities.last_cap() + 1) - 1
    assert capabilities.resolve(["ALL"]) == every
    assert capabilities.resolve(["all"], ["SYS_ADMIN"]) == every & ~(1 << 21)
    assert _resolved(["NET_RAW"], ["ALL"]) == ["NET_RAW"]
    assert _resolved([], ["ALL"]) == []
    assert "MKNOD" not in _resolved(["SYS_NICE"], ["MKNOD"])
    assert "SYS_NICE" in _resolved(["SYS_NICE"], ["MKNOD"])


def test_numbers_are_the_kernels() -> None:
    header = "/usr/include/linux/capability.h"
    if not os.path.exists(header):
        pytest.skip("no kernel headers here")
    defined = {}
    with open(header, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if len(words) == 3 and words[0] == "#define" and words[1][:4] == "CAP_" and words[2].isdigit():
                defined[words[1][4:]] = int(words[2])
    assert len(defined) > 35
    assert defined == {name: number for name, number in capabilities.NUMBERS.items() if name in defined}


def test_the_last_capability_is_found_without_proc() -> None:
    assert capabilities._last_cap_by_asking() == capabilities.last_cap() >= 37


@pytest.mark.parametrize(
    "word", ["NET_ROW", "", "CAP_", "CAP_5", "5", "CAP_999", "CAP_041", "4_1", "٤١", "9" * 5000, "CHOWN KILL"]
)
def test_a_word_that_is_no_capability_is_refused(word: str) -> None:
    for add, drop, option in ((["CHOWN", word], [], "cap_add"), ([], [word], "cap_drop")):
        with pytest.raises(SpecError) as caught:
            capabilities.resolve(add, drop)
        assert caught.value.option == option
        assert "takes names of capabilities or ALL" in str(caught.value)


def test_a_mistyped_name_is_met_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"did you mean NET_RAW\?"):
        capabilities.resolve(["NET_ROW"])


@pytest.mark.parametrize("value", ["NET_RAW", b"NET_RAW", 5, [5], [None]])
def test_what_is_no_list_of_names_is_refused(value: object) -> None:
    with pytest.raises(SpecError):
        capabilities.resolve(value)  # type: ignore[arg-type]


def test_added_and_dropped_at_once_is_refused() -> None:
    for add, drop in ((["NET_RAW"], ["net_raw"]), (["ALL"], ["ALL"])):
        with pytest.raises(SpecError, match=r"cap_drop: .* is in cap_add as well"):
            capabilities.resolve(add, drop)


def test_a_capability_without_a_name_goes_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_last", 42)
    assert capabilities.resolve(["CAP_41"], ["ALL"]) == 1 << 41
    assert capabilities.names(1 << 41 | 1) == ["CAP_CHOWN", "CAP_41"]
    assert capabilities.resolve(["ALL"]) == (1 << 43) - 1


def test_a_capability_that_the_kernel_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_last", 37)
    with pytest.raises(SpecError, match="this kernel doesn't have CAP_BPF"):
        capabilities.resolve(["BPF"])


def test_it_imports_nothing_slow() -> None:
    code = (
        "import sys; before = set(sys.modules); import pyminicon.options.capabilities as c;"
        "c.resolve(['ALL'], ['CHOWN']);"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('pyminicon')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() in ([], ["__future__"])
