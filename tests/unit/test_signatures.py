"""What inspect, help() and dir() tell, and what pickles."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
from typing import Any

import pytest

import pyminicon
from pyminicon import aio, errors
from pyminicon.options import parse, rare, types

CALLS: dict[str, Any] = {
    "run": pyminicon.run,
    "start": pyminicon.start,
    "Template": pyminicon.Template,
    "Template.run": pyminicon.Template.run,
    "Template.start": pyminicon.Template.start,
}
STARTS = {"tty", "detach", "name", "labels"}  # what nobody takes who waits for the end
KNOWN = {*parse._CHECKS, *rare.CHECKS, *parse.LIMITS, "trace"}


def keywords(call: Any) -> dict[str, Any]:
    found = inspect.signature(call).parameters.values()
    assert not [p for p in found if p.kind is p.VAR_KEYWORD]
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}


def test_each_option_that_is_checked_is_typed_and_described() -> None:
    typed = set().union(*(types.options_of(call) for call in CALLS))
    assert typed == KNOWN
    assert set(types.rows(pyminicon.run.__doc__ or "")) == KNOWN


def test_each_call_shows_the_options_that_it_takes() -> None:
    assert set(keywords(pyminicon.run)) == KNOWN - STARTS
    assert set(keywords(pyminicon.start)) == KNOWN - parse.ONLY_RUN
    assert set(keywords(pyminicon.Template)) == KNOWN - parse.EACH_RUN - parse.SERVED - STARTS - {"trace"} | {
        "stock"
    }
    assert set(keywords(pyminicon.Template.run)) == parse.EACH_RUN - {"args"} | {"trace"}
    assert set(keywords(pyminicon.Template.start)) == parse.EACH_RUN - parse.ONLY_RUN - {"args"}
    commands = parse.EACH_COMMAND | {"trace"}
    assert set(keywords(pyminicon.Container.run)) == commands
    assert set(keywords(pyminicon.Container.start)) == commands - parse.ONLY_RUN | {"tty"}
    assert keywords(aio.run) == keywords(pyminicon.run)
    assert keywords(aio.start) == keywords(pyminicon.start)


def test_the_defaults_that_are_shown_are_those_that_hold() -> None:
    spec = parse.parse(["x"], {})
    for name, default in keywords(pyminicon.run).items():
        if name == "storage":
            assert (default, "") == spec.storage
        elif hasattr(spec, name) and default is not None and default != ():
            assert getattr(spec, name) == default, name
    parse.parse(["x"], {name: value for name, value in keywords(pyminicon.run).items() if name != "trace"})


def test_help_shows_every_option_with_its_default() -> None:
    text = pydoc.render_doc(pyminicon.run, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    for name, (default, meaning) in types.rows(pyminicon.run.__doc__ or "").items():
        assert f"{name}={default!r}" in text
        assert meaning in text
        assert len(meaning) > 5
    assert all(len(line) < 110 for line in (pyminicon.run.__doc__ or "").splitlines())


def test_the_signature_is_made_only_when_it_is_asked_for() -> None:
    code = "import sys, pyminicon; pyminicon.run; assert 'pyminicon.options.types' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", env={"PYTHONPATH": ":".join(sys.path)})
    assert inspect.getsource(pyminicon.run).startswith("def run(")


def test_dir_shows_everything() -> None:
    code = "import pyminicon; print(*dir(pyminicon))"
    env = {"PYTHONPATH": ":".join(sys.path)}
    r = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd="/", env=env, capture_output=True, text=True
    )
    assert set(r.stdout.split()) >= set(pyminicon.__all__)


@pytest.mark.parametrize(
    "name", [name for name in pyminicon.__all__ if name[0].isupper() and name[1].islower()]
)
def test_public_classes_are_of_the_package(name: str) -> None:
    kind = getattr(pyminicon, name)
    if isinstance(kind, type) and issubclass(kind, pyminicon.Error):
        assert kind.__module__ == "pyminicon"
        assert kind.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        pyminicon.rnu  # type: ignore[attr-defined]  # noqa: B018


# ---- pickling, and what errors say ------------------------------------------------------------------------


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def test_results_pickle_whole() -> None:
    r = pyminicon.run(["/bin/sh", "-c", "echo hi"], capture_output=True, text=True, trace=True)
    made = again(r)
    for name in r.__slots__:
        if name != "usage":
            assert getattr(made, name) == getattr(r, name)
    assert repr(made.usage) == repr(r.usage)
    assert repr(copy.copy(r)) == repr(r)


def test_errors_pickle_whole() -> None:
    launch = errors.LaunchError(2, "mount", "/x", "a hint")
    assert (repr(again(launch)), str(again(launch))) == (repr(launch), str(launch))
    assert repr(launch) == "LaunchError(errno=2, stage='mount', subject='/x')"
    spec = pyminicon.SpecError("pids", "takes less")
    assert (str(again(spec)), again(spec).option) == (str(spec), "pids")
    image = pyminicon.ImageError("isn't there")
    assert str(again(image)) == str(image)
    ended = pyminicon.CalledProcessError(-9, ["x"], b"out", None, limit="memory")
    assert (again(ended).limit, again(ended).output, again(ended).returncode) == ("memory", b"out", -9)
    late = pyminicon.TimeoutExpired(["x"], 1.5, output=b"out")
    assert (again(late).timeout, again(late).output) == (1.5, b"out")


def test_check_names_the_limit_that_ended_it() -> None:
    with pytest.raises(
        pyminicon.CalledProcessError, match=r"died with .*: ended by its limit: wall_time"
    ) as caught:
        pyminicon.run(["/bin/sleep", "9"], wall_time=0.05, check=True)
    assert caught.value.limit == "wall_time"
    with pytest.raises(pyminicon.CalledProcessError, match="returned non-zero exit status 3") as caught:
        pyminicon.run(["/bin/sh", "-c", "exit 3"], check=True)
    assert caught.value.limit is None
    assert "limit" not in str(caught.value)


def test_a_template_pickles_as_its_recipe() -> None:
    with pyminicon.Template(hostname="again", stock=1) as t, again(t) as made:
        for one in (t, made):
            assert one.run(["/bin/hostname"], capture_output=True, text=True).stdout == "again\n"
        assert made is not t


def test_a_running_container_does_not_pickle() -> None:
    with pyminicon.start(["/bin/sleep", "9"]) as c:
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="a Container can't be pickled"):
                way(c)


def test_generic_classes_take_a_type_at_run_time() -> None:
    assert pyminicon.Result[str].__origin__ is pyminicon.Result  # type: ignore[attr-defined]
    assert pyminicon.Container[bytes].__origin__ is pyminicon.Container  # type: ignore[attr-defined]
