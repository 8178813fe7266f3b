"""Sizes and CPU lists under arbitrary input: nothing but an answer or a SpecError comes out."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from pyminicon import sizes
from pyminicon.cgroups import limits as cgroup_limits
from pyminicon.errors import SpecError

_NEARLY_SIZES = st.from_regex(r"[0-9.kKmMgGiIbB+\-_ e]{0,12}", fullmatch=True)


@given(st.text() | _NEARLY_SIZES)
def test_any_text_is_a_size_or_nothing(text: str) -> None:
    size = sizes.parse(text)
    assert size is None or size >= 0


@given(st.integers(0, 1 << 63))
def test_a_size_survives_being_written_and_read(size: int) -> None:
    assert sizes.parse(sizes.form(size)) == size
    assert sizes.parse(sizes.form(size).lower() + ("b" if size % 1024 == 0 and size else "")) == size


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers())
    )
)
def test_any_value_is_bytes_in_the_range_or_a_spec_error(value: object) -> None:
    try:
        size = sizes.check("memory", value, 4096, 1 << 40)
    except SpecError as error:
        assert str(error).startswith("memory: takes ")
    else:
        assert 4096 <= size <= 1 << 40


@given(st.lists(st.integers(0, 4095), min_size=1, unique=True).map(sorted))
def test_a_cpu_list_survives_being_written_and_read(cpus: list[int]) -> None:
    assert cgroup_limits.parse_cpus(cgroup_limits.form_cpus(cpus)) == cpus


@given(st.text() | st.from_regex(r"[0-9,\- ]{0,20}", fullmatch=True))
def test_any_text_is_a_cpu_list_or_nothing(text: str) -> None:
    cpus = cgroup_limits.parse_cpus(text)
    assert cpus is None or cpus == sorted(set(cpus))
