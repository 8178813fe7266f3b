"""The pytest plugin, in sessions of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.page import programs
from tests.support.placement import needs_limit
from tests.support.processes import marked_soon, unmarked_soon
from tests.support.python import environment

TOP = Path(__file__).resolve().parents[2]
Session = Callable[..., subprocess.CompletedProcess[str]]
WORDS = [sys.executable, "-m", "pytest", "-p", "pyminicon.adapters.pytest", "-p", "no:cacheprovider"]


def names() -> dict[str, str]:
    return {**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """``session(tests, *words, ini=…)``: pytest over one file of tests, as a user runs it."""

    def run(tests: str, *words: str, ini: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}")
        return subprocess.run(
            [*WORDS, *words], cwd=tmp_path, env=names(), capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip

    return run


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    last = done.stdout.strip().splitlines()[-1]
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}


def test_it_is_found_by_its_entry_point() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"pyminicon": "pyminicon.adapters.pytest"}
    assert project["optional-dependencies"]["pytest"] == ["pytest>=8"]


def test_an_installed_pytest_has_its_fixtures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--fixtures"],
        cwd=tmp_path, env={**environment(), "PYTEST_ADDOPTS": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    for name in ("container", "container_factory", "container_template"):
        assert re.search(rf"^{name} -- ", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_the_pages_tests_pass(session: Session) -> None:
    needs_limit("memory", "64M")
    (tests,) = programs("pytest")
    done = session(tests)
    assert outcome(done) == {"passed": 2}, done.stdout


def test_nothing_is_imported_until_a_fixture_is_used(session: Session) -> None:
    done = session("""
import sys
def test_before(): assert {m for m in sys.modules if m.startswith('pyminicon.')} - {'pyminicon._checkout'} == {
    'pyminicon.adapters', 'pyminicon.adapters.pytest'}
def test_used(container): assert 'pyminicon._core' in sys.modules
""")
    assert outcome(done) == {"passed": 2}, done.stdout


def test_each_test_has_a_container_of_its_own(session: Session) -> None:
    done = session("""
def test_writes(container):
    assert container.run(['sh', '-c', 'echo x > /tmp/f']).returncode == 0
    assert container.run(['cat', '/tmp/f'], capture_output=True).stdout == b'x\\n'
def test_is_fresh(container):
    assert container.run(['test', '-e', '/tmp/f']).returncode == 1
def test_shares_the_template(container, container_template):
    assert container_template.run(['true']).returncode == 0
""")
    assert outcome(done) == {"passed": 3}, done.stdout


def test_a_container_ends_with_its_test_though_the_next_one_does_not_wait(session: Session) -> None:
    mark = f"{os.getpid()}.26"
    tests = f"""
import os, pathlib, pytest, time
kept = []
def alive():
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try: found += [path] * (b'{mark}' in path.read_bytes())
        except OSError: pass
    return found
def soon(what):
    until = time.monotonic() + 60
    while not what() and time.monotonic() < until: time.sleep(0.01)
    return what()
def sleep(box):
    kept.append(box)
    box.start(['sleep', '{mark}'])
    assert soon(alive)
def test_sleeps(container): sleep(container)
def test_it_has_been_killed(): assert soon(lambda: not alive())
def test_sleeps_again(container): sleep(container)
def test_the_one_before_has_been_put_away(container):
    assert [box.returncode for box in kept] == [-9, None]
@pytest.mark.container(volumes=['/usr:/out:ro'])
def test_sleeps_with_a_volume(container): sleep(container)
def test_what_outside_sees_it_is_gone_at_once():
    assert kept[-1].returncode is not None and not alive()
"""
    done = session(tests)
    assert outcome(done) == {"passed": 6}, done.stdout
    assert unmarked_soon(mark)


def test_ports_and_a_proxy_come_from_the_marker(session: Session) -> None:
    done = session("""
import pytest, socket
@pytest.mark.container(publish=['0:80'], egress=['example.com'])
def test_ports(container):
    with container.listen(80) as inner, socket.create_connection(container.ports[80]) as out:
        inner.accept()[0].sendall(b'hi')
        assert out.recv(9) == b'hi'
    assert b'http_proxy=' in container.run(['env'], capture_output=True).stdout
def test_factory(container_factory):
    assert container_factory(publish=['0:80']).ports.keys() == {80}
""")
    assert outcome(done) == {"passed": 2}, done.stdout


def test_ports_and_a_proxy_come_from_the_ini_file(session: Session) -> None:
    done = session(
        """
import pytest, socket
def test_ports(container):
    with container.listen(80) as inner, socket.create_connection(container.ports[80]) as out:
        inner.accept()[0].sendall(b'hi')
        assert out.recv(9) == b'hi'
    assert container.ports.keys() == {80, 443}
    assert b'http_proxy=' in container.run(['env'], capture_output=True).stdout
@pytest.mark.container(publish=['0:81'])
def test_the_marker_takes_their_place(container): assert container.ports.keys() == {81}
def test_template(container_template): pass
""",
        ini="container_publish = 0:80 0:443\ncontainer_egress = example.com\n",
    )
    assert outcome(done) == {"passed": 2, "error": 1}, done.stdout
    assert "container_template takes no egress and no publish" in done.stdout


def test_a_network_comes_from_the_ini_file(session: Session) -> None:
    tests = """
import pytest
LINE = 'import socket; socket.socket(); print("sockets")'
def told(box): return box.run(['python3', '-c', LINE], capture_output=True, text=True).stdout
def test_off(container): assert told(container) == ''
@pytest.mark.container(network='none')
def test_marker(container): assert told(container) == 'sockets\\n'
"""
    done = session(tests, ini="container_network = off\n")
    assert outcome(done) == {"passed": 2}, done.stdout


def test_options_come_from_the_ini_file_and_the_closest_marker(session: Session) -> None:
    done = session(
        """
import pytest
pytestmark = pytest.mark.container(hostname='module', env={'A': 'b'})
def told(box, line): return box.run(['sh', '-c', line], capture_output=True, text=True).stdout.split()
def test_module(container): assert told(container, 'uname -n; echo $A; id -u') == ['module', 'b', '65534']
@pytest.mark.container(hostname='test', user='65533')
def test_function(container): assert told(container, 'uname -n; echo $A; id -u') == ['test', 'b', '65533']
def test_factory(container_factory):
    one, two = container_factory(hostname='one'), container_factory(hostname='two')
    assert told(one, 'uname -n; id -u') == ['one', '65534'] and told(two, 'uname -n') == ['two']
""",
        ini="container_user = 65534\n",
    )
    assert outcome(done) == {"passed": 3}, done.stdout


@pytest.mark.parametrize(
    ("tests", "ini", "said"),
    [
        ("import pytest\n@pytest.mark.container('x')\ndef test(container): pass", "", "takes keywords"),
        ("import pytest\n@pytest.mark.container(memroy='1G')\ndef test(container): pass", "", "memory?"),
        ("def test(container): pass", "container_pids = many", "container_pids takes int"),
    ],
)
def test_what_is_no_option_is_refused_by_its_name(session: Session, tests: str, ini: str, said: str) -> None:
    done = session(tests, ini=ini)
    assert done.returncode == 1 and said in done.stdout, done.stdout


def test_a_failed_tests_report_shows_what_its_commands_printed(session: Session) -> None:
    tests = """
import pytest
def test_fails(container):
    container.run(['sh', '-c', 'echo seen; echo told >&2; exit 3'], capture_output=True)
    with pytest.raises(Exception): container.run(['no-such-program'])
    assert False
def test_passes(container): container.run(['echo', 'unseen'], capture_output=True)
"""
    done = session(tests)
    assert outcome(done) == {"failed": 1, "passed": 1}
    section = done.stdout.partition("container: call")[2]
    assert "[returncode 3]\nseen\ntold\n" in section
    assert "$ no-such-program    [LaunchError: exec: no-such-program" in section
    assert "unseen" not in done.stdout


def test_under_xdist_each_process_has_its_own_template(session: Session) -> None:
    done = session(
        "import pytest\n@pytest.mark.parametrize('n', range(8))\n"
        "def test(container, n): assert container.run(['true']).returncode == 0",
        *("-p", "xdist", "-n", "2"),
    )
    assert outcome(done) == {"passed": 8}, done.stdout + done.stderr


def test_nothing_is_left_after_an_interrupt(tmp_path: Path) -> None:
    mark = f"{os.getpid()}.25"
    (tmp_path / "test_it.py").write_text(
        f"def test(container):\n    open('there', 'w').close()\n    container.run(['sleep', '{mark}'])\n"
    )
    running = subprocess.Popen(WORDS, cwd=tmp_path, env=names(), stdout=subprocess.PIPE, text=True)
    assert marked_soon(mark, 60), "the command wasn't there to begin with"
    os.kill(running.pid, signal.SIGINT)
    told, _ = running.communicate(timeout=60)
    assert running.returncode == 2 and "KeyboardInterrupt" in told
    assert unmarked_soon(mark)


INSIDE = """
import os, sys, pytest
@pytest.fixture
def place(tmp_path): return tmp_path
def test_passes(place): (place / 'f').write_text('x'); assert os.getpid() < 10
def test_fails(): print('printed inside'); assert 1 == 2
def test_is_skipped(): pytest.skip('for a reason')
def test_dies(): os._exit(9)
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
def test_writes_nothing_here():
    with pytest.raises(OSError): open(os.path.join(os.path.dirname(__file__), 'f'), 'w')
"""


def test_in_container_each_test_runs_in_one(session: Session) -> None:
    done = session(INSIDE, "--in-container", "-rs")
    assert outcome(done) == {"passed": 2, "failed": 2, "skipped": 1}, done.stdout
    assert "printed inside" in done.stdout and "assert 1 == 2" in done.stdout
    assert "for a reason" in done.stdout
    assert "its container ended without a report (returncode 9)" in done.stdout
    outside = session(INSIDE, "--deselect", "test_it.py::test_dies")
    assert outcome(outside)["failed"] == 3, "it is here that they run otherwise"


def test_in_container_limits_come_from_the_marker(session: Session) -> None:
    done = session(
        "import pytest, time\n@pytest.mark.container(wall_time=2)\ndef test(): time.sleep(60)",
        "--in-container",
    )
    assert outcome(done) == {"failed": 1}
    assert "ended without a report (limit wall_time)" in done.stdout
