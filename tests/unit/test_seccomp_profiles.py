"""Profiles in the OCI and docker format: what they come to, and what is refused."""

from __future__ import annotations

import builtins
import ctypes
import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pyminicon import seccomp
from pyminicon.errors import SpecError
from pyminicon.options import capabilities
from pyminicon.seccomp import oci_profile as seccomp_profile
from pyminicon.seccomp import rules as seccomp_rules
from tests.support.filtered import ALLOW, ERRNO, KILL_PROCESS, answer, in_child, raw

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

DEFAULT = capabilities.DEFAULT_MASK
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
READ, MKDIR, SOCKET, IOCTL, MMAP, CHMOD, PERSONALITY, UNSHARE = 0, 83, 41, 16, 9, 90, 135, 272
HIGH = 1 << 32


def _program(profile: Any, caps: int = DEFAULT, no_new_privs: bool = True) -> bytes:
    made = seccomp.program(profile, caps, no_new_privs=no_new_privs)
    assert made is not None
    return made


def _deny(*names: str, args: list[dict[str, Any]] | None = None, **entry: Any) -> dict[str, Any]:
    rule = {"names": list(names), "action": "SCMP_ACT_ERRNO", "args": args or [], **entry}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


def _allow(*names: str, args: list[dict[str, Any]] | None = None, **entry: Any) -> dict[str, Any]:
    rule = {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": args or [], **entry}
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}


def _arg(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": "SCMP_CMP_" + op}


def test_unconfined_is_no_program() -> None:
    assert seccomp.program("unconfined", DEFAULT) is None


def test_a_profile_is_read_from_a_file_and_from_a_dict_alike(tmp_path: Path) -> None:
    profile = _deny("mkdir", errnoRet=errno.EROFS)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile, indent=4))
    assert _program(str(path)) == _program(path) == _program(profile)
    where = str(tmp_path / "new")
    assert in_child(lambda: raw(MKDIR, where.encode(), 0o755), _program(profile)) == -errno.EROFS
    assert in_child(lambda: raw(MKDIR, where.encode(), 0o755)) == 0


def test_a_relative_path_counts_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="takes default, unconfined, a profile's path or a dict"):
        seccomp.program("strict", DEFAULT)
    (tmp_path / "strict").write_text(json.dumps(_deny("mkdir")))
    assert answer(_program("strict"), MKDIR) == EPERM


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(_deny("mkdir")))
    assert answer(_program(str(path)), MKDIR) == EPERM
    path.write_text(json.dumps(_deny("rmdir")))
    assert answer(_program(str(path)), MKDIR) == ALLOW


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("ERRNO", EPERM),
        ("KILL", 0),
        ("KILL_THREAD", 0),
        ("KILL_PROCESS", KILL_PROCESS),
        ("TRAP", 0x00030000),
        ("LOG", 0x7FFC0000),
        ("TRACE", 0x7FF00001),
        ("ALLOW", ALLOW),
    ],
)
def test_each_action_is_the_kernels(action: str, expected: int) -> None:
    profile = _deny("mkdir")
    profile["syscalls"][0]["action"] = "SCMP_ACT_" + action
    assert answer(_program(profile), MKDIR) == expected
    assert answer(_program({"defaultAction": "SCMP_ACT_" + action}), MKDIR) == expected


def test_kill_kills() -> None:
    program = _program(_deny("mkdir", action="SCMP_ACT_KILL_PROCESS"))
    assert in_child(lambda: raw(MKDIR, b"/nonexistent/x", 0), program) == -signal.SIGSYS


def test_error_numbers_by_number_and_by_name() -> None:
    assert answer(_program(_deny("mkdir", errnoRet=95)), MKDIR) == ERRNO | 95
    assert answer(_program(_deny("mkdir", errno="EROFS")), MKDIR) == ERRNO | errno.EROFS
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13}
    assert answer(_program(profile), MKDIR) == ERRNO | 13


@pytest.mark.parametrize("high", [0, HIGH, 0xFFFFFFFF << 32])
def test_every_comparison_of_an_int_takes_its_32_bits(high: int) -> None:
    holds = {"EQ": {40}, "NE": {38, 39, 41, 42}, "LT": {38, 39}, "LE": {38, 39, 40}}
    holds |= {"GT": {41, 42}, "GE": {40, 41, 42}}
    for op, values in holds.items():
        program = _program(_deny("socket", args=[_arg(0, op, 40)]))
        for value in range(38, 43):
            expected = EPERM if value in values else ALLOW
            assert answer(program, SOCKET, [high | value]) == expected, (op, value)


def test_dockers_rules_on_socket_hold_with_a_high_bit_set() -> None:
    rules = [_allow("socket", args=[arg])["syscalls"][0] for arg in (_arg(0, "LT", 38), _arg(0, "EQ", 39))]
    rules.append(_allow("socket", args=[_arg(0, "GT", 40)])["syscalls"][0])
    rules.append({"names": ["write", "exit_group"], "action": "SCMP_ACT_ALLOW"})
    program = _program({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    for family, expected in (
        (38, EPERM),
        (40, EPERM),
        (1, ALLOW),
        (39, ALLOW),
        (41, ALLOW),
        (2**32 - 1, ALLOW),
    ):
        for high in (0, HIGH):
            assert answer(program, SOCKET, [high | family]) == expected
    loaded = _program(_deny("socket", args=[_arg(0, "EQ", 38)]))
    assert in_child(lambda: raw(SOCKET, HIGH | 38, socket.SOCK_SEQPACKET, 0), loaded) == -errno.EPERM


def test_a_length_is_compared_whole_and_a_mode_in_its_16_bits() -> None:
    program = _program(_allow("mmap", args=[_arg(1, "LT", 4097)]))
    assert answer(program, MMAP, [0, 4096]) == ALLOW
    assert answer(program, MMAP, [0, HIGH | 4096]) == EPERM
    program = _program(_deny("chmod", args=[_arg(1, "EQ", 0o4755)]))
    assert answer(program, CHMOD, [0, 0o4755]) == answer(program, CHMOD, [0, 1 << 16 | 0o4755]) == EPERM
    program = _program(_deny("unshare", args=[_arg(0, "EQ", 0x10000000)]))
    assert answer(program, UNSHARE, [HIGH | 0x10000000]) == ALLOW  # the kernel itself says EINVAL


def test_a_negative_number_is_what_the_kernel_takes_of_it() -> None:
    for written in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        program = _program(_deny("personality", args=[_arg(0, "EQ", written)]))
        for passed in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            assert answer(program, PERSONALITY, [passed]) == EPERM


def test_masks_are_kept() -> None:
    program = _program(_allow("clone", args=[_arg(0, "MASKED_EQ", 0x7E020000)]))
    assert answer(program, 56, [0x003D0F00]) == answer(program, 56, [HIGH | 17]) == ALLOW
    assert answer(program, 56, [0x10000011]) == answer(program, 56, [HIGH | 0x20000]) == EPERM


def test_orders_on_two_arguments_come_out_right() -> None:
    """libseccomp 2.5.4, given these two rules as they stand, compares the wrong argument at (0, 1)."""
    rules = [
        _deny("mmap", args=[_arg(0, "GE", 1), _arg(1, "EQ", 1)])["syscalls"][0],
        _deny("mmap", args=[_arg(0, "LE", 5), _arg(1, "EQ", 2)])["syscalls"][0],
    ]
    program = _program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    for first in (0, 1, 5, 6, HIGH):
        for second in (0, 1, 2):
            refused = (first >= 1 and second == 1) or (first <= 5 and second == 2)
            assert answer(program, MMAP, [first, second]) == (EPERM if refused else ALLOW)


def test_of_two_rules_that_match_the_stricter_holds_in_any_order() -> None:
    entries = [
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [_arg(0, "EQ", 40)]},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_KILL_PROCESS",
            "args": [_arg(0, "GE", 38), _arg(1, "EQ", 5)],
        },
    ]
    for syscalls in (entries, entries[::-1]):
        program = _program({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls})
        assert answer(program, SOCKET, [1, 5]) == ALLOW
        assert answer(program, SOCKET, [40, 1]) == EPERM
        assert answer(program, SOCKET, [40, 5]) == answer(program, SOCKET, [39, 5]) == KILL_PROCESS
        assert answer(program, SOCKET, [39, 1]) == ALLOW


def test_several_values_of_one_argument_are_alternatives_and_bounds_are_refused() -> None:
    program = _program(_deny("socket", args=[_arg(0, "EQ", 38), _arg(0, "EQ", 40)]))
    assert [answer(program, SOCKET, [family]) for family in (37, 38, 39, 40)] == [ALLOW, EPERM, ALLOW, EPERM]
    for args in (
        [_arg(0, "GE", 3), _arg(0, "LE", 5)],
        [_arg(0, "EQ", 3), _arg(0, "EQ", 5), _arg(1, "EQ", 1)],
    ):
        with pytest.raises(SpecError, match="several conditions on one argument"):
            _program(_deny("socket", args=args))


def test_numbers_newer_than_the_profile_answer_enosys() -> None:
    program = _program(_allow("read", "faccessat2"))
    assert answer(program, 439) == ALLOW
    assert answer(program, MKDIR) == EPERM
    assert answer(program, 440) == answer(program, 9999) == answer(program, 0x40000000) == ENOSYS
    killing = _allow("read")
    killing["defaultAction"] = "SCMP_ACT_KILL_PROCESS"
    assert answer(_program(killing), MKDIR) == KILL_PROCESS
    assert in_child(lambda: raw(9999), _program(_allow(*_names_to_run()))) == -errno.ENOSYS


def _names_to_run() -> list[str]:
    return "write exit_group read close futex rt_sigaction brk mmap munmap getpid".split()


def test_where_all_is_allowed_new_numbers_are_and_x32_is_not() -> None:
    program = _program(_deny("mkdir"))
    assert answer(program, 9999) == ALLOW
    assert answer(program, 0x40000000 | 39) == ENOSYS
    assert answer(program, 20, arch=0x40000003) == KILL_PROCESS


def test_calls_newer_than_the_library_are_known_by_our_table() -> None:
    program = _program(_allow("mseal", "uretprobe"))
    assert answer(program, 462) == answer(program, 335) == ALLOW
    assert answer(_program(_deny("cachestat")), 451) == EPERM


def test_a_denied_name_that_nobody_knows_is_refused_where_all_else_is_allowed() -> None:
    with pytest.raises(SpecError, match=r"syscalls\[0\]: no call is named 'mkdri': it would stay allowed"):
        _program(_deny("mkdir", "mkdri"))
    assert answer(_program(_allow("mkdir", "mkdri")), MKDIR) == ALLOW
    assert answer(_program(_deny("mkdir", "socketcall")), MKDIR) == EPERM  # known, on other architectures


def test_includes_and_excludes_go_by_the_containers_capabilities() -> None:
    profile = _allow("mkdir", includes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]})
    for add, expected in (([], EPERM), (["SYS_ADMIN"], EPERM), (["SYS_ADMIN", "BPF"], ALLOW)):
        if "BPF" not in add or capabilities.last_cap() >= 39:
            assert answer(_program(profile, capabilities.resolve(add)), MKDIR) == expected
    profile = _allow("mkdir", excludes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]})
    for add, expected in (([], ALLOW), (["SYS_ADMIN"], EPERM)):
        assert answer(_program(profile, capabilities.resolve(add)), MKDIR) == expected


def test_includes_and_excludes_go_by_architecture_and_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_profile, "_running_kernel", lambda: (4, 19))
    monkeypatch.setattr(seccomp, "_programs", {})
    for key, filters in (
        ("includes", {"arches": ["amd64", "x32"]}),
        ("includes", {"minKernel": "4.8"}),
        ("includes", {"minKernel": "4.19.3"}),
        ("excludes", {"arches": ["s390x"]}),
        ("excludes", {"minKernel": "5.0"}),
        ("includes", {}),
        ("excludes", None),
    ):
        assert answer(_program(_allow("mkdir", **{key: filters})), MKDIR) == ALLOW, (key, filters)
        if filters:
            other = "excludes" if key == "includes" else "includes"
            assert answer(_program(_allow("mkdir", **{other: filters})), MKDIR) == EPERM, (other, filters)


def test_the_running_kernels_version_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for release, expected in (
        ("6.18.44-fc-v595", (6, 18)),
        ("5.4+", (5, 4)),
        ("4.19-rc3", (4, 19)),
        ("7.x", (7, 0)),
    ):
        name = os.uname_result(("Linux", "host", release, "1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda name=name: name)
        assert seccomp_profile._running_kernel() == expected


def test_both_forms_of_architectures_are_taken_and_only_the_native_one_opens() -> None:
    subs = {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}
    for arches in ({"archMap": [subs]}, {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]}):
        program = _program(_allow("getpid") | arches)
        assert answer(program, 39) == ALLOW
        assert answer(program, 20, arch=0x40000003) == KILL_PROCESS
        assert answer(program, 0x40000000 | 39) == ENOSYS


BAD: list[tuple[Any, str]] = [
    ([], "takes default"),
    (5, "takes default"),
    (None, "takes default"),
    ("", "takes default"),
    (b"default", "takes default"),
    ({}, "no defaultAction"),
    ({"defaultAction": "ALLOW"}, "defaultAction takes one of"),
    ({"defaultAction": None}, "defaultAction takes one of"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "needs a supervisor"),
    ({"defaultaction": "SCMP_ACT_ALLOW"}, "did you mean defaultAction"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}, "did you mean syscalls"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "has to be a list"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [5]}, "has to be an object"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}, "listenerPath"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}, "isn't supported"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}, "no architecture is named"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}, "not for SCMP_ARCH_X86_64"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{}]}, "has no architecture"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "integer from 0 to 4095"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"}, "name of an error"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "errorcode"}, "name of an error"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {(): 1}}, "can't be written as JSON"),
    ({"defaultAction": float("nan")}, "can't be written as JSON"),
    ({"defaultAction": b"x"}, "can't be written as JSON"),
    (_deny("mkdir", action="SCMP_ACT_NOTIFY"), "needs a supervisor"),
    (_deny("mkdir", action="SCMP_ACT_DENY"), "action takes one of"),
    (_deny(), "names no system call"),
    (_deny(""), "names no system call"),
    (_deny("mkdir", name="rmdir"), "takes either names"),
    (_deny("mkdir", arg=[]), "did you mean args"),
    (_deny("mkdir", errnoRet=-1), "errnoRet takes an integer"),
    (_deny("mkdir", errnoRet=True), "errnoRet takes an integer"),
    (_deny("mkdir", errnoRet=1.0), "errnoRet takes an integer"),
    (_deny("mkdir", includes={"caps": ["CAP_SYSADMIN"]}), "did you mean SYS_ADMIN"),
    (_deny("mkdir", includes={"cap": []}), "did you mean caps"),
    (_deny("mkdir", includes=[]), "has to be an object"),
    (_deny("mkdir", excludes={"minKernel": "five"}), "minKernel has to be like 4.8"),
    (_deny("mkdir", excludes={"minKernel": 4.8}), "minKernel has to be like 4.8"),
    (_deny("socket", args=[{"value": 1, "op": "SCMP_CMP_EQ"}]), "has no index"),
    (_deny("socket", args=[{"index": 1, "op": "SCMP_CMP_EQ"}]), "has no value"),
    (_deny("socket", args=[_arg(6, "EQ", 1)]), "index takes an integer from 0 to 5"),
    (_deny("socket", args=[_arg(0, "EQ", -1)]), "value takes an integer"),
    (_deny("socket", args=[_arg(0, "EQ", 1 << 64)]), "value takes an integer"),
    (_deny("socket", args=[_arg(0, "LIKE", 1)]), "op takes one of"),
    (_deny("socket", args=[_arg(0, "EQ", 1 << 32)]), "argument 0 can never be EQ 0x100000000"),
    (_deny("socket", args=[_arg(0, "LT", 0)]), "can never be"),
    (_deny("mmap", args=[_arg(0, "GT", (1 << 64) - 1)]), "can never be"),
    (_deny("clone", args=[_arg(0, "MASKED_EQ", 0, 0x7E020000)]), "can never be"),
    (_deny("mmap", args=[_arg(i, "NE", 1 << 63) for i in range(4)], names=["mmap", "mmap"]), ""),
    (_deny("io_uring_setup", args=[_arg(i, "NE", 9) for i in range(3)]), "come to more"),
]


@pytest.mark.parametrize(("profile", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_is_no_profile_is_refused_with_a_sentence(profile: Any, message: str) -> None:
    if not message:
        assert len(_program(profile)) % 8 == 0
        return
    with pytest.raises(SpecError) as caught:
        seccomp.program(profile, DEFAULT)
    assert caught.value.option == "seccomp"
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_profile_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken.json").write_text('{"defaultAction": ')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.json").write_text("[" * 200000)
    (tmp_path / "twice.json").write_text(
        '{"defaultAction": "SCMP_ACT_KILL", "defaultAction": "SCMP_ACT_ALLOW"}'
    )
    (tmp_path / "large.json").write_text(" " * (1 << 20) + "{}")
    (tmp_path / "named.json").write_text("default")
    for name, message in (
        ("none.json", "No such file or directory"),
        ("", "Is a directory"),
        ("fifo", "isn't a file"),
        ("broken.json", "isn't JSON"),
        ("binary.json", "can't decode"),
        ("deep.json", "isn't JSON"),
        ("twice.json", "has 'defaultAction' twice"),
        ("large.json", "larger than a profile can be"),
        ("named.json", "isn't JSON"),
        ("nul\0.json", "null "),
    ):
        with pytest.raises(SpecError) as caught:
            seccomp.program(f"{tmp_path}/{name}", DEFAULT)
        assert message in str(caught.value), name


def test_more_than_the_kernel_takes_is_refused() -> None:
    entry = _deny("ioctl")["syscalls"][0]
    rules = [{**entry, "args": [_arg(0, "EQ", one), _arg(1, "EQ", one)]} for one in range(900)]
    with pytest.raises(SpecError, match=r"the program has .* instructions, the kernel takes 4096"):
        _program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    with pytest.raises(SpecError, match="come to more than the kernel takes"):
        _program(_deny("socket", args=[_arg(index, "NE", 1 << 31) for index in range(3)]))
    assert len(_program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules[:400]})) // 8 < 4096


def test_without_no_new_privs_the_rest_of_the_launch_must_be_allowed() -> None:
    with pytest.raises(SpecError, match="doesn't allow set"):
        _program(_allow("execve", "read"), no_new_privs=False)
    with pytest.raises(SpecError, match="doesn't allow capset"):
        _program(_deny("capset"), no_new_privs=False)
    with pytest.raises(SpecError, match="doesn't allow prctl"):
        _program(_deny("prctl", args=[_arg(0, "EQ", 22)]), no_new_privs=False)
    assert _program(_allow(*seccomp.LATE_CALLS), no_new_privs=False)
    assert _program("default", no_new_privs=False) == _program("default")


def test_a_program_is_compiled_once_and_kept_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_programs", {})
    compiled = []
    real = seccomp._compile
    monkeypatch.setattr(seccomp, "_compile", lambda *key: compiled.append(key) or real(*key))  # type: ignore[func-returns-value]
    one = _program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})
    assert _program({"syscalls": [], "defaultAction": "SCMP_ACT_ALLOW"}) is one
    assert len(compiled) == 1
    _program({"syscalls": [], "defaultAction": "SCMP_ACT_ALLOW"}, 0)
    assert len(compiled) == 2
    changed = {"defaultAction": "SCMP_ACT_ALLOW"}
    _program(changed)
    changed["defaultAction"] = "SCMP_ACT_LOG"
    assert answer(_program(changed), MKDIR) == 0x7FFC0000
    for code in range(200):
        _program({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": code})
    assert len(seccomp._programs) <= 64


def test_many_threads_get_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_programs", {})
    got: list[bytes] = []
    profiles = [_deny("mkdir", errnoRet=code) for code in (1, 2, 3, 4)]
    threads = [threading.Thread(target=lambda i=i: got.append(_program(profiles[i % 4]))) for i in range(16)]  # type: ignore[misc]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(got) == 16
    assert len({id(one) for one in got}) == 4


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_library", None)
    monkeypatch.setattr(seccomp, "_programs", {})
    monkeypatch.setattr(ctypes, "CDLL", _missing)
    with pytest.raises(SpecError, match="install the package libseccomp2"):
        seccomp.program("default", 0)
    assert seccomp.program("unconfined", 0) is None


def _missing(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_no_file_is_written_and_nothing_else_read(monkeypatch: pytest.MonkeyPatch) -> None:
    _program(_deny("rmdir"))
    monkeypatch.setattr(seccomp, "_programs", {})
    opened: list[object] = []
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda *a, **k: opened.append(a) or real_open(*a, **k))  # type: ignore[func-returns-value]
    monkeypatch.setattr(builtins, "open", lambda *a, **k: opened.append(a))
    _program(_deny("mkdir"))
    assert opened == []


MAKE = Path(__file__).parents[2] / "tools" / "make_seccomp.py"


def test_the_build_writes_the_default_program_as_a_header(tmp_path: Path) -> None:
    header = tmp_path / "default.h"
    subprocess.run([sys.executable, "-S", str(MAKE), str(header)], check=True, cwd="/")
    text = header.read_text()
    assert "namespace pyminicon {" in text
    data = text.split("kDefaultSeccomp[] = {")[1].split("}")[0]
    assert bytes(int(byte, 16) for byte in data.split(",") if byte.strip()) == _program("default")


def test_the_build_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import ctypes, runpy, sys; real = ctypes.CDLL\n"
        "def missing(name, *rest):\n"
        "    if name: raise OSError(name)\n"
        "    return real(name, *rest)\n"
        f"ctypes.CDLL = missing; sys.argv = ['make_seccomp.py', {str(tmp_path / 'out.h')!r}]\n"
        f"runpy.run_path({str(MAKE)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "install the package libseccomp2" in done.stderr
    assert not (tmp_path / "out.h").exists()


def test_rules_that_overlap_in_too_many_ways_are_soon_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = 0
    real = seccomp_rules._without

    def count(*boxes: seccomp_rules.Box) -> list[seccomp_rules.Box]:
        nonlocal cuts
        cuts += 1
        return real(*boxes)

    monkeypatch.setattr(seccomp_rules, "_without", count)
    rules = [
        seccomp_rules.Rule("mmap", MMAP, ERRNO | 1 + n, tuple((i, "NE", 11 * n + i, 0) for i in range(3)))
        for n in range(9)
    ]
    with pytest.raises(ValueError, match=r"overlap in too many ways|come to more"):
        seccomp_rules.prepared(rules, ALLOW)
    assert cuts < 1_000_000


def test_the_kernel_takes_it() -> None:
    made = seccomp.program({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
             "args": [{"index": 0, "op": "SCMP_CMP_NE", "value": 0xFFFFFFFF}]},
            {"names": ["getpriority", "getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 96},
        ],
    }, 0)  # fmt: skip

    def tried() -> list[int]:
        return [raw(135, 0), raw(135, 0xFFFFFFFF) >= 0, raw(140, 0, 0), raw(102), raw(39) > 0]

    assert in_child(tried, made) == [-95, True, -96, -96, True]
