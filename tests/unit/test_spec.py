"""Options, checked: what is accepted becomes what the plan works with; what isn't is in test_bad_input."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyminicon
from pyminicon.errors import LaunchError, SpecError
from pyminicon.options import parse as specs
from pyminicon.options import rare as spec_rare
from pyminicon.options.parse import parse

#: Every option of the interface, with a value that is fine.
GOOD: dict[str, Any] = {
    "image": "host", "read_only": True, "storage": "tmpfs:size=1g", "stdin": 0, "stdout": -3, "stderr": -2, "input": None,
    "capture_output": False, "text": True, "encoding": "utf-8", "errors": "strict", "timeout": 1, "check": True, "env": {"A": "b"},
    "cwd": "/", "user": "1:2", "hostname": "a-b.c", "volumes": ["/a:/b"], "tmpfs": ["/t"], "files": {"/x": b""}, "collect": ["/y"],
    "collect_max": "1m", "network": "host", "pid": "private", "ipc": "host", "uts": "host", "cgroupns": "host", "time": "private",
    "userns": "0:1:1", "memory": "64M", "memory_swap": "1g", "cpus": 1.5, "cpu_weight": 100, "cpuset": "0", "pids": 5,
    "io_weight": 100, "wall_time": 1.5, "cpu_time": 2, "max_output": "1k", "overflow": "kill", "usage": True, "cgroup_parent": None,
    "rlimits": {"nofile": (1, 2)}, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "seccomp": "unconfined", "no_new_privileges": False,
    "init": True, "pass_fds": (),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_every_option_of_the_interface_is_taken(name: str) -> None:
    more = {"memory_swap": {"memory": "64M"}, "max_output": {"capture_output": True}}.get(name, {})
    parse(["x"], {name: GOOD[name], **more})


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("read_only", "check")])
def test_a_bad_value_names_its_option(name: str) -> None:
    if name in ("capture_output", "text", "usage"):
        return  # any truth value will do there, as in subprocess
    with pytest.raises(SpecError) as caught:
        parse(["x"], {name: object()})
    assert caught.value.option == name


def test_defaults_are_the_interfaces() -> None:
    spec = parse(["x"], {})
    assert (spec.image, spec.read_only, spec.storage) == ("host", False, ("tmpfs", ""))
    assert (spec.network, spec.pid, spec.ipc, spec.uts, spec.cgroupns, spec.time) == (
        "none", "private", "private", "private", "private", "host",
    )  # fmt: skip
    assert (spec.userns, spec.seccomp, spec.no_new_privileges, spec.init) == ("auto", "default", True, False)
    assert spec.limits is None
    assert spec.collect_max == 16 << 20


@pytest.mark.parametrize(
    "pair", [{"capture_output": True, "stdout": -1}, {"input": b"x", "stdin": 0}], ids=repr
)
def test_the_order_of_options_doesnt_matter_to_what_is_refused(pair: dict[str, Any]) -> None:
    for names in (list(pair), list(pair)[::-1]):
        with pytest.raises(SpecError):
            parse(["x"], {name: pair[name] for name in names})


def test_no_pid_namespace_means_no_init_in_whatever_order() -> None:
    for names in (("pid", "init"), ("init", "pid")):
        with pytest.raises(SpecError, match="init"):
            parse(["x"], {name: {"pid": "host", "init": True}[name] for name in names})


def test_input_makes_stdin_a_pipe() -> None:
    assert parse(["x"], {"input": b""}).stdin == specs.PIPE
    assert parse(["x"], {"input": None}).stdin is None


def test_capture_output_makes_both_pipes() -> None:
    spec = parse(["x"], {"capture_output": True})
    assert (spec.stdout, spec.stderr) == (specs.PIPE, specs.PIPE)


@pytest.mark.parametrize(
    ("stdout", "stderr", "counted"),
    [
        (-1, -1, True), (-1, -2, True), (-1, -3, True), (-3, -1, True),
        (None, None, False), (-1, None, False), (None, -1, False), (-1, 2, False), (-3, -2, False), (-3, -3, False),
    ],
)  # fmt: skip
def test_max_output_is_refused_where_not_all_is_counted(stdout: Any, stderr: Any, counted: bool) -> None:
    for refused in (frozenset[str](), specs.ONLY_RUN):
        try:
            parse(["x"], {"max_output": 5, "stdout": stdout, "stderr": stderr}, refused)
        except SpecError as error:
            assert not counted
            assert str(error).startswith("max_output: counts pipes")
        else:
            assert counted


def test_an_encoding_is_text_mode() -> None:
    assert parse(["x"], {"encoding": "ascii"}).text
    assert not parse(["x"], {"text": False}).text


def test_what_is_refused_by_the_caller_is_refused() -> None:
    for name in specs.ONLY_RUN:
        with pytest.raises(SpecError, match=name):
            parse(["x"], {name: GOOD[name]}, specs.ONLY_RUN)


LONE = "\ud800"  # a surrogate that stands for no byte: nothing that the kernel could be told


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("env", {"A": LONE}), ("env", {LONE: "a"}), ("cwd", "/" + LONE), ("image", LONE), ("volumes", [f"/a:/{LONE}"]),
        ("volumes", [f"/{LONE}:/a"]), ("tmpfs", ["/" + LONE]), ("files", {"/" + LONE: b""}), ("files", {"/a": LONE}),
        ("collect", ["/" + LONE]), ("hostname", LONE), ("hostname", "\udcff"), ("user", LONE), ("entrypoint", LONE),
        ("encoding", LONE), ("seccomp", LONE), ("cap_add", [LONE]), ("userns", LONE),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_surrogate_that_stands_for_no_byte_is_refused(option: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        parse(["x"], {option: value})
    assert caught.value.option == option
    assert str(caught.value).isascii()


def test_args_may_hold_any_byte_but_no_other_surrogate() -> None:
    assert parse(["x", "ä\udcff"], {}).args == ["x", "ä\udcff"]
    with pytest.raises(SpecError, match="args"):
        parse(["x", LONE], {})


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 10**400], ids=["huge", "-huge", "large"])
@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("capture_output", "text", "usage")])
def test_a_number_beyond_all_measure_is_a_spec_error_at_most(name: str, number: int) -> None:
    with pytest.raises(SpecError):
        parse(["x"], {name: number})
    for value in ([number], {"nofile": number}):
        try:
            parse(["x"], {name: value})
        except SpecError:
            continue
        assert name in ("cap_add", "cap_drop", "seccomp"), "only those are looked at later"


@pytest.mark.parametrize("option", ["user", "userns"])
def test_an_id_of_thousands_of_digits_is_refused(option: str) -> None:
    for value in ("9" * 5000, "0:" + "9" * 5000, f"0:0:{'9' * 5000}"):
        with pytest.raises(SpecError, match=option):
            parse(["x"], {option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("encoding", "utf-99"),
        ("encoding", "base64"),
        ("encoding", "rot13"),
        ("encoding", "ä"),
        ("errors", "shrug"),
    ],
)
def test_an_encoding_that_there_isnt_is_refused_before_the_run(option: str, value: str) -> None:
    with pytest.raises(SpecError, match=f"{option}: takes what Python's codecs have"):
        parse(["x"], {option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"volumes": ["/a:/x", "/b:/x"]},
        {"volumes": ["/a:/x/"], "tmpfs": ["/x"]},
        {"tmpfs": ["/x", "//x:size=1m"]},
    ],
    ids=repr,
)
def test_two_mounts_on_one_target_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="target"):
        parse(["x"], options)


@given(st.text(max_size=80))
def test_any_string_is_a_hostname_or_a_spec_error(name: str) -> None:
    try:
        spec = parse(["x"], {"hostname": name})
    except SpecError:
        return
    assert spec.hostname == name
    assert 0 < len(name) <= 64
    assert not set(name) & set("/ \n\0:")


@given(st.dictionaries(st.text(), st.text()))
def test_any_environment_is_taken_or_a_spec_error(env: dict[str, str]) -> None:
    good = all(key and "=" not in key and "\0" not in key + value for key, value in env.items())
    good = good and not any("\ud800" <= c <= "\udfff" for word in (*env, *env.values()) for c in word)
    try:
        assert parse(["x"], {"env": env}).env == env
    except SpecError:
        assert not good
    else:
        assert good


@given(st.text())
def test_any_user_is_taken_or_a_spec_error(user: str) -> None:
    try:
        spec = parse(["x"], {"user": user})
    except SpecError:
        return
    assert spec.user == user
    assert user.count(":") <= 1
    assert "\0" not in user


def test_each_checker_is_small() -> None:
    for check in [*specs._CHECKS.values(), *spec_rare.CHECKS.values()]:
        assert len(inspect.getsource(check).splitlines()) < 40


def test_errors_read_as_sentences() -> None:
    assert str(SpecError("memory", "takes a size")) == "memory: takes a size"
    error = LaunchError(2, "mount", "/data", "look there")
    assert str(error) == "mount: /data: No such file or directory (look there)"
    assert str(LaunchError(1, "clone")) == "clone: Operation not permitted"
    assert (error.errno, error.stage, error.subject, error.hint) == (2, "mount", "/data", "look there")


@pytest.mark.parametrize(
    "given",
    [{"entrypoint": [None]}, {"files": ""}, {"sysctls": ""}, {"sysctls": []}, {"egress_headers": 0}, {"group": 10**5000},
     {"extra_groups": [10**5000]}, {"stop_signal": 10**5000}],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
def test_what_is_empty_or_without_measure_is_refused_by_its_options_name(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        parse(["x"], given)
    assert caught.value.option == next(iter(given))
    for nothing in (
        {"entrypoint": ""},
        {"entrypoint": [""]},
        {"files": {}},
        {"sysctls": {}},
        {"sysctls": None},
    ):
        parse(["x"], nothing)


def test_an_error_shows_the_ends_of_what_was_given_and_no_megabyte() -> None:
    with pytest.raises(SpecError) as caught:
        parse(["x"], {"cwd": "x" * 1_000_000})
    assert len(str(caught.value)) < 1000
    assert str(caught.value).startswith("cwd: takes an absolute path inside the container, not 'xxx")
    with pytest.raises(SpecError, match=r"not 'x{300}'$"):
        parse(["x"], {"cwd": "x" * 300})


@pytest.mark.parametrize("name", [None, 5, "a\0b"])
def test_what_no_name_can_be_is_refused_before_anything_is_looked_up(name: Any) -> None:
    for call in (pyminicon.pull, pyminicon.attach):
        with pytest.raises(SpecError) as caught:
            call(name)
        assert caught.value.option == "name"
