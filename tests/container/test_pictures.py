"""What a notebook shows."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

import pyminicon
from pyminicon import pictures
from tests.support.python import environment

SVG = "{http://www.w3.org/2000/svg}"


def test_a_trace_is_a_timeline_with_a_bar_for_each_stage() -> None:
    trace = pyminicon.run(["true"], trace=True).trace
    assert trace is not None
    drawn = ElementTree.fromstring(trace._repr_html_())  # type: ignore[attr-defined]
    bars = drawn.findall(f".//{SVG}rect")
    assert len(bars) == len(trace) - 1, "the last one is the program's start"
    places = [float(bar.attrib["x"]) for bar in bars]
    assert places == sorted(places) and places[0] < places[-1]
    titles = [title.text or "" for title in drawn.iter(f"{SVG}title")]
    assert [title.partition(":")[0] for title in titles] == [stage for stage, _ in trace[:-1]]


def test_a_trace_is_a_list_as_before() -> None:
    trace = pyminicon.run(["true"], trace=True).trace
    assert trace == list(trace or ()) and isinstance(trace, list)
    assert pickle.loads(pickle.dumps(trace)) == trace
    with pyminicon.start(["true"], trace=True) as box:
        assert isinstance(box.trace, pictures.Trace)
    with pyminicon.start(["true"]) as box:
        assert box.trace is None


def test_an_empty_trace_is_drawn_as_well() -> None:
    ElementTree.fromstring(pictures.Trace()._repr_html_())
    ElementTree.fromstring(pictures.Trace([("prepare", 0)])._repr_html_())
    ElementTree.fromstring(pictures.Trace([("prepare", 0), ("started", 0)])._repr_html_())


def test_a_result_is_a_table_and_what_programs_print_stays_text() -> None:
    r = pyminicon.run(
        ["sh", "-c", "echo '<script>alert(1)</script>'; exit 3"], capture_output=True, text=True, trace=True
    )
    shown = r._repr_html_()
    table = ElementTree.fromstring(shown)
    assert "<script>" not in shown
    rows = {row.find("th").text: row.find("td") for row in table.findall("tr")}  # type: ignore[union-attr]
    assert rows["stdout"].findtext("pre") == "<script>alert(1)</script>\n"  # type: ignore[union-attr]
    assert rows["returncode"].text == "3"  # type: ignore[union-attr]
    assert rows["usage"].find("table") is not None  # type: ignore[union-attr]
    assert rows["trace"].find(f"{SVG}svg") is not None  # type: ignore[union-attr]
    assert "limit" not in rows, "what isn't known or isn't there isn't shown"


@pytest.mark.parametrize(
    "text", [{}, {"text": True, "errors": "surrogateescape"}, {"text": True, "encoding": "latin-1"}]
)
def test_whatever_bytes_a_program_prints_can_be_shown_and_saved(text: dict[str, Any]) -> None:
    code = "import os; os.write(1, bytes(range(256)) + b'</pre><script>'); os.write(2, b'\\xed\\xa0\\x80\\x00<img onerror=x>')"
    r = pyminicon.run(["python3", "-c", code, "<b>"], capture_output=True, **text)
    shown = r._repr_html_().encode()  # as a notebook saves it
    printed = ElementTree.fromstring(shown).findall(".//pre")
    assert b"<script" not in shown and b"<img" not in shown and b"<b>" not in shown
    assert any("\u2400\u2401\u2402" in (pre.text or "") for pre in printed), "control characters are pictures"
    assert b"\x00" not in shown and b"\x1b" not in shown


def test_hostile_names_are_text_as_well() -> None:
    hostile = "/tmp/\x01<script>\udcff"
    r = pyminicon.run(["true", hostile], env={"A": "<b>"}, collect=["/tmp/<script>"], capture_output=True)
    rows = {row.findtext("th"): row for row in ElementTree.fromstring(r._repr_html_().encode()).findall("tr")}
    assert "<script>" in "".join(rows["not collected"].itertext())
    shown = pictures.timeline([(hostile, 0), ("started", 5)])
    assert "<script>" not in shown and ElementTree.fromstring(shown.encode()) is not None


def test_long_output_is_cut() -> None:
    long = pyminicon.run(["true", *["x" * 1000] * 100])
    assert len(long._repr_html_()) < 10_000
    r = pyminicon.run(["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"], capture_output=True)
    assert len(r._repr_html_()) < 10_000 and "1000000 in all" in r._repr_html_()


@pytest.mark.parametrize("figures", [(1.5, 0.25, None, 1 << 20, 3, None, None)])
def test_usage_is_a_table_of_what_is_known(figures: tuple[object, ...]) -> None:
    from pyminicon.result import Usage

    rows = ElementTree.fromstring(Usage(figures)._repr_html_()).findall("tr")
    assert [(row.findtext("th"), "".join(row.find("td").itertext())) for row in rows] == [  # type: ignore[union-attr]
        ("wall", "1.500 s"), ("user", "0.250 s"), ("memory peak", "1M"), ("pids peak", "3")
    ]  # fmt: skip


def test_a_container_shows_what_it_is_doing() -> None:
    with pyminicon.start() as box:
        table = ElementTree.fromstring(box._repr_html_())
        assert table.findtext("caption") == f"container {box.id}"
        assert "running" in "".join(table.itertext())
    assert "ended with 0" in "".join(ElementTree.fromstring(box._repr_html_()).itertext())


def test_nothing_of_it_is_loaded_until_somebody_looks() -> None:
    code = (
        "import sys, pyminicon; pyminicon.run(['true']); pyminicon.start(['true']).close()\n"
        "assert 'pyminicon.pictures' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd="/", check=False)
    assert done.returncode == 0
