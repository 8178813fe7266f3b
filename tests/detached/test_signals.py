"""A signal that comes just before a wait, which it doesn't interrupt: its handler is run soon all the same.

Here it comes to another thread, which is the same for whoever waits.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.detached.conftest import Place

BESIDE = """
import signal, sys, threading, time
def other():
    time.sleep(1)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)
threading.Thread(target=other, daemon=True).start()
"""


@pytest.fixture
def web(place: Place) -> Place:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    return place


def ended(place: Place, code: str) -> int:
    """How a program of these lines does, within the time that its signal takes and some."""
    return subprocess.run(
        [sys.executable, "-c", BESIDE + code],
        env=place.env,
        timeout=30,
        check=False,
        stdin=subprocess.PIPE,
    ).returncode


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "web", "sleep", "60"),
        ("exec", "-i", "web", "sleep", "60"),
        ("attach", "web"),
        ("run", "host", "sleep", "60"),
        ("run", "-i", "host", "sleep", "60"),
    ],
    ids=" ".join,
)
def test_the_command_line_passes_it_on(web: Place, words: tuple[str, ...]) -> None:
    code = f"sys.argv = ['pyminicon', *{words}]\nfrom pyminicon.cli.main import main\nmain()"
    assert ended(web, code) == 143


@pytest.mark.parametrize(
    "call",
    [
        "wait()",
        "run(['sleep', '60'])",
        "run(['sleep', '60'], capture_output=True)",
        "start(['sleep', '60']).wait()",
        "start(['sleep', '60'], stdout=-1).communicate()",
    ],
)
def test_a_handler_of_the_callers_may_raise_where_another_process_keeps_it(web: Place, call: str) -> None:
    code = f"""
import pyminicon
def heard(number, frame): raise SystemExit(7)
signal.signal(signal.SIGTERM, heard)
pyminicon.attach('web').{call}
"""
    assert ended(web, code) == 7
    assert web("ps", "-q").stdout != ""
