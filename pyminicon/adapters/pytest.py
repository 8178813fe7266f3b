"""Containers as fixtures of pytest, and tests that run in one.

The plugin is found by its entry point (``pytest11``). Until a test asks for a fixture of its it imports nothing more
of this package. Fixtures:

``container``
    A container to live in (``pyminicon.start`` without args), new for each test, from a template that all tests with
    the same options share.
``container_factory``
    ``container_factory(**options)``: as many as a test wants, with other options; all end with the test.
``container_template``
    A :class:`pyminicon.Template` with the same options, for ``container_template.run(args)``.

Their options come from the ini file (``container_image``, ``container_memory`` …), then from the marker
``@pytest.mark.container(image="python", memory="64M")``, the closest last; all of ``pyminicon.start``'s are taken there.
A failed test's report shows what the commands of its containers printed.

``--in-container`` runs each test whole, its fixtures too, in a container of ``image="python"`` of its own.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pyminicon import Container, Result, Template

#: What the ini file may say: pyminicon's option, how its text is read.
_INI: dict[str, tuple[Callable[[str], Any], str]] = {
    "image": (str, "image of the container fixtures"),
    "memory": (str, "memory of each container, '256M'"),
    "cpus": (float, "processors of each container, 1.5"),
    "pids": (int, "processes of each container"),
    "network": (str, "network of the container fixtures"),
    "egress": (str.split, "what the container fixtures may reach, 'pypi.org:443 10.0.0.7'"),
    "publish": (str.split, "ports that lead inside, '0:80 0:443'"),
    "user": (str, "user of the container fixtures"),
    "wall_time": (float, "seconds that each container may take"),
}
#: A container with one of these is seen from outside: it is gone when its test is.
_OUTWARD = frozenset("volumes publish egress egress_headers cgroup_parent".split())
_MOST_TOLD = 50  # commands of a failed test that its report shows


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("container", "containers (pyminicon)")
    group.addoption(
        "--in-container",
        action="store_true",
        help="run each test in a container of its own (image='python'), the root directory read-only",
    )
    for name, (_, told) in _INI.items():
        parser.addini(f"container_{name}", f"{told}, as in pyminicon.start({name}=)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "container(**options): options of pyminicon.start for the container fixtures of a test"
    )
    if config.getoption("--in-container"):
        from pyminicon.adapters import pytest_inside

        config.pluginmanager.register(pytest_inside.Plugin(config, _options), "pyminicon-inside")


def _options(item: pytest.Item) -> dict[str, Any]:
    """What ini file and markers say of this test's containers, the closest marker last."""
    options: dict[str, Any] = {}
    for name, (read, _) in _INI.items():
        text = str(item.config.getini(f"container_{name}") or "")
        if text:
            try:
                options[name] = read(text)
            except ValueError:
                raise pytest.UsageError(f"container_{name} takes {read.__name__}, not {text!r}") from None
    for marker in reversed([*item.iter_markers("container")]):
        if marker.args:
            raise pytest.UsageError(
                f"{item.nodeid}: the marker container takes keywords, not {marker.args[0]!r}"
            )
        options.update(marker.kwargs)
    return options


# ---- what a test's containers printed, for its report -------------------------------------------------------


class _Told:
    """The commands that were run in the containers of one test."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def watch(self, box: Container[Any]) -> Container[Any]:
        run = box.run

        def run_and_tell(args: Any, **options: Any) -> Result[Any]:
            try:
                result = run(args, **options)
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
                self._add(args, outcome, getattr(error, "stdout", None), getattr(error, "stderr", None))
                raise
            outcome = f"limit {result.limit}" if result.limit else f"returncode {result.returncode}"
            self._add(args, outcome, result.stdout, result.stderr)
            return result

        box.run = run_and_tell  # type: ignore[method-assign]
        return box

    def _add(self, args: Any, outcome: str, *streams: object) -> None:
        if len(self.lines) >= _MOST_TOLD:
            return
        words = [args] if isinstance(args, (str, bytes)) else args
        told = [f"$ {' '.join(os.fsdecode(word) for word in words)}    [{outcome}]"]
        for stream in streams:
            text = stream.decode(errors="replace") if isinstance(stream, bytes) else stream
            if isinstance(text, str) and text:
                told.append(text.rstrip("\n"))
        self.lines.append("\n".join(told))


_told = pytest.StashKey[_Told]()
_templates = pytest.StashKey["dict[str, Template]"]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    told = item.stash.get(_told, None)
    if told is not None and told.lines and report.failed:
        report.sections.append((f"container: {call.when}", "\n".join(told.lines)))
        told.lines.clear()
    return report


def _watched(request: pytest.FixtureRequest, box: Container[Any]) -> Container[Any]:
    told: _Told = request.node.stash.setdefault(_told, _Told())
    return told.watch(box)


# ---- how a test's container ends ----------------------------------------------------------------------------


class _Ending:
    """Ends the tests' containers, the last one beside the next test: it is killed at once, and what is left of it is
    put away when the next one has been killed, or with the session. So no test waits for the kernel's part of it."""

    def __init__(self) -> None:
        self._last: Container[Any] | None = None

    def end(self, box: Container[Any]) -> None:
        box.kill()
        before, self._last = self._last, box
        if before is not None:
            before.close()

    def close(self) -> None:
        if self._last is not None:
            self._last.close()


@pytest.fixture(scope="session")
def _container_ending() -> Iterator[_Ending]:
    ending = _Ending()
    yield ending
    ending.close()


# ---- fixtures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _container_templates() -> Iterator[dict[str, Template]]:
    """Templates by what they are made of: each is made once, and each process of pytest-xdist has its own."""
    made: dict[str, Template] = {}
    yield made
    for template in made.values():
        template.close()


def _template(made: dict[str, Template], options: dict[str, Any]) -> Template:
    import pyminicon

    recipe = repr(sorted(options.items()))
    if recipe not in made:
        made[recipe] = pyminicon.Template(**options)
    return made[recipe]


def _divided(item: pytest.Item) -> tuple[dict[str, Any], dict[str, Any]]:
    """This test's options: those of its template, and those that each container of it is given."""
    from pyminicon.options import EACH_RUN

    options = _options(item)
    own = {name: options.pop(name) for name in list(options) if name in EACH_RUN}
    return options, own


@pytest.fixture
def container_template(request: pytest.FixtureRequest, _container_templates: dict[str, Template]) -> Template:
    """A template with the options of this test's ``container``: for ``container_template.run(args)``."""
    from pyminicon.options import SERVED

    options, _ = _divided(request.node)
    if served := sorted(SERVED & options.keys()):
        raise pytest.UsageError(
            f"container_template takes no {' and no '.join(served)}: the fixture container has a network of its own"
        )
    return _template(_container_templates, options)


@pytest.fixture
def container(
    request: pytest.FixtureRequest, _container_templates: dict[str, Template], _container_ending: _Ending
) -> Iterator[Container[bytes]]:
    """A container to live in, this test's own: ``container.run(["sh", "-c", "…"])``."""
    from pyminicon.options import SERVED

    options, own = _divided(request.node)
    if SERVED & options.keys():  # ports and a proxy, which no template's container has
        import pyminicon

        started: Container[bytes] = pyminicon.start(**options, **own)
    else:
        # With an init, or none would wait in the warm pool for commands.
        started = _template(_container_templates, {**options, "init": True}).start(**own)
    with contextlib.ExitStack() as stack:
        stack.enter_context(started)
        yield _watched(request, started)
        if not _OUTWARD & options.keys():
            stack.pop_all()
            _container_ending.end(started)


@pytest.fixture
def container_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Container[bytes]]]:
    """``container_factory(**options)``: another container to live in; all end with the test."""
    import pyminicon

    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Container[bytes]:
            box: Container[bytes] = pyminicon.start(**{**_options(request.node), **options})
            return _watched(request, stack.enter_context(box))

        yield make
