"""``--dry-run``: the steps of the launch in the order in which they would run, without running them."""

from __future__ import annotations

import os
import sys

from pyminicon import _core
from pyminicon import plan as ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyminicon.plan import Pieces, Text

    Fields = dict[str, Any]

_NAMESPACES = (
    (0x20000, "mount"), (0x20000000, "pid"), (0x08000000, "ipc"), (0x04000000, "uts"),
    (0x40000000, "network"), (0x02000000, "cgroup"), (0x10000000, "user"),
)  # fmt: skip


def main(args: list[str], wanted: dict[str, Any]) -> int:
    """Prints the plan of ``args`` with the options ``wanted``; 0. Raises SpecError as the run would."""
    from pyminicon.options import parse as spec
    from pyminicon.plan import build as plan

    terminal = None
    if wanted.get("tty"):
        from pyminicon.terminal import Terminal

        terminal = Terminal()
    try:
        checked = spec.parse(args, wanted, spec.ONLY_RUN)
        if terminal is not None:
            checked.stdin = terminal.inner
        made = plan.build(checked, dry=True)
    finally:
        if terminal is not None:
            terminal.close()
    fields = made.fields | dict(zip(("candidates", "argv", "env", "cwd"), made.exec_spec, strict=True))
    for lock in made.rootfs.lock_fds:
        os.close(lock)
    lines = []
    for stage in _core.STAGES:
        lines += [f"{stage:<13} {text}" for text in _steps(stage, fields, wanted)]
    sys.stdout.write("".join(f"{_plain(line)}\n" for line in lines))
    return 0


def _plain(line: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _steps(stage: str, fields: Fields, wanted: dict[str, Any]) -> list[str]:
    describe = _STAGES.get(stage)
    return describe(fields, wanted) if describe else []


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes)) else str(value)


def _cgroup(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    made = fields.get("cgroup")
    if made is None:
        return []
    steps = [f"make one in {_text(entry[0])}" for entry in made[1]]
    return steps + [f"write {_text(entry[2])} to its {_text(entry[1])}" for entry in made[2]]


def _separate_memory(fields: Fields) -> bool:
    reasons = ("separate_memory", "init", "change_user", "become_root", "private_clock")
    foreign = fields["foreign_program"] and not fields["may_landlock"]
    return foreign or any(fields.get(name) for name in reasons)


def _clone(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    names = [name for flag, name in _NAMESPACES if fields["namespaces"] & flag]
    memory = "memory of its own" if _separate_memory(fields) else "the caller's memory until exec"
    return [f"a child with new namespaces: {', '.join(names)}; {memory}"]


def _userns(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    steps = []
    for kind in ("uid", "gid"):
        table = fields.get(f"own_{kind}_map") or fields.get(f"{kind}_map")
        if table:
            rows = ", ".join(" ".join(row.split()) for row in table.splitlines())
            writer = f"by {fields[f'{kind}_mapper'][0]}" if fields.get(f"{kind}_mapper") else ""
            steps.append(f"{kind}s inside, outside, count: {rows} {writer}".rstrip())
    return steps


def _root(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    steps = []
    scratch = f"a tmpfs with {fields['scratch_tmpfs']}" if fields.get("scratch_tmpfs") else None
    steps.append(scratch or f"a new directory in {fields.get('disk_parent')} on disk")
    steps += [_operation(row) for row in fields["skeleton"]]
    layers = ", ".join(_text(layer) for layer in fields.get("layers", ()))
    steps.append(
        {
            ops.ROOT_SCRATCH: "that is the root",
            ops.ROOT_OVERLAY: f"the root: that as a writable layer over {layers}",
            ops.ROOT_COVER: f"the root: that and below it {layers}, read-only",
            ops.ROOT_BIND: f"the root: {layers}",
        }[fields["root"]]
    )
    return steps


def _size(data: Text | Pieces) -> int:
    if isinstance(data, tuple):  # with an id of twelve digits between its pieces
        return len((b"-" * 12).join(data))
    return len(data or b"")


def _operation(row: Any) -> str:
    kind, flags, source, target, data, mode, uid, gid, _ = row
    where, what = f"/{_text(target)}", _text(source) if source else ""
    mark = " read-only" if flags & ops.RO else ""
    owner = f" owner {uid}:{gid}" if uid or gid else ""
    made = {
        ops.DIR: f"directory {where} mode {mode:o}{owner}",
        ops.FILE: f"file {where} of {_size(data)} bytes mode {mode:o}{owner}",
        ops.SYMLINK: f"link {where} to {what}" if source else f"hide {where}",
        ops.BIND: f"bind {what} to {where}{mark}",
        ops.BIND_LAYER: f"bind the layer's {what} to {where}{mark}",
        ops.TMPFS: f"tmpfs at {where} with {_text(data or '')}",
        ops.OVERLAY: f"a private layer over {what} at {where}",
        ops.PROC: f"{'bind' if flags & ops.HOST_BIND else 'a new'} proc at {where}",
        ops.SYSFS: f"{'bind' if flags & ops.HOST_BIND else 'a new'} sysfs at {where}{mark}",
        ops.DEV: f"device nodes, pts, shm, mqueue at {where}",
        ops.CGROUP: f"its cgroup at {where}{mark}",
        ops.MASK_FILE: f"hide {where}",
        ops.MASK_DIR: f"hide {where}",
        ops.READ_ONLY: f"read-only {where}",
        ops.CONSOLE: f"the terminal at {where}",
    }
    return made[kind]


def _user(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    if not fields.get("change_user"):
        return []
    groups = ",".join(str(group) for group in fields.get("groups", ()))
    return [f"uid {fields['uid']} gid {fields['gid']} groups {groups or 'none'}"]


def _capabilities(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    from pyminicon.options.capabilities import names

    kept = " ".join(name[4:].lower() for name in names(fields["capabilities"])) or "none"
    return [f"keep {kept}"] + (["no new privileges"] if fields["no_new_privs"] else [])


def _landlock(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    if not (fields["foreign_program"] and fields["may_landlock"]) or _separate_memory(fields):
        return []
    return ["execute only what lies beneath the root (a kernel that can't: memory of its own instead)"]


def _seccomp(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    program = fields["seccomp"]
    if program is None:
        return []
    if program is True:
        return ["the default filter"]
    return [f"a filter of {len(program) // 8} instructions"]


def _rlimits(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    from pyminicon.options.rlimits import INFINITY, NAMES

    known = {number: name for name, number in NAMES.items()}
    rows = []
    for resource, soft, hard in fields["rlimits"]:
        low, high = ("unlimited" if n == INFINITY else n for n in (soft, hard))
        rows.append(f"{known[resource]} {low} (hard {high})")
    return rows


def _exec(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    words = " ".join(_quoted(_text(word)) for word in fields["argv"])
    first = [_text(path) for path in fields["candidates"]]
    looked = f", looked for in {':'.join(os.path.dirname(path) for path in first)}" if len(first) > 1 else ""
    return [f"{words}{looked}"] + [f"with {_text(variable)}" for variable in fields["env"]]


def _started(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    steps = [f"end it after {wanted['wall_time']} s"] if "wall_time" in wanted else []
    steps += [f"end it after {wanted['cpu_time']} s of CPU time"] if "cpu_time" in wanted else []
    return steps + ([f"end it after {wanted['max_output']} of output"] if "max_output" in wanted else [])


def _quoted(word: str) -> str:
    safe = word and all(c.isalnum() or c in "@%+=:,./-_" for c in word)
    return word if safe else "'" + word.replace("'", "'\"'\"'") + "'"


def _mounts(fields: Fields) -> tuple[list[Any], list[Any]]:
    """Before /sys, and from there on."""
    rows = fields["mounts"]
    cut = [row[0] for row in rows].index(ops.SYSFS)
    return rows[:cut], rows[cut:]


def _network(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    steps = ["loopback up"] if fields["loopback"] else []
    pasta = fields.get("pasta")
    return [*steps, f"a way out, by {' '.join(pasta)}"] if pasta else steps


def _settings(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    served = (wanted.get("publish") or wanted.get("egress") is not None) and not fields.get("pasta")
    steps = [f"net.ipv4.tcp_congestion_control = {_core.UNPACED}"] if served else []
    return steps + [f"{name} = {value}" for name, value, _ in fields["sysctls"]]


def _gate(fields: Fields, wanted: dict[str, Any]) -> list[str]:
    return [] if wanted.get("egress") is None else ["a listener for the proxy"]


_STAGES: dict[str, Callable[[Fields, dict[str, Any]], list[str]]] = {
    "publish": lambda fields, wanted: [f"publish {words}" for words in wanted.get("publish") or []],
    "cgroup": _cgroup,
    "clone": _clone,
    "signals": lambda fields, wanted: ["every signal at its default"],
    "userns": _userns,
    "cgroup_join": lambda fields, wanted: ["join it"] if fields.get("cgroup") else [],
    "timens": lambda fields, wanted: ["clocks begin at 0"] if fields["private_clock"] else [],
    "hostname": lambda fields, wanted: (
        [fields["hostname"]] if fields.get("hostname") else ["its id"] if fields.get("hostname_is_id") else []
    ),
    "mountns": lambda fields, wanted: ["every mount private"],
    "rootfs": _root,
    "mount": lambda fields, wanted: [_operation(row) for row in _mounts(fields)[0]],
    "network": _network,
    "sysfs": lambda fields, wanted: [_operation(row) for row in _mounts(fields)[1]],
    "pivot_root": lambda fields, wanted: ["the root becomes /, what was / is gone"],
    "sysctl": _settings,
    "gate": _gate,
    "init": lambda fields, wanted: ["a pid 1 that reaps and forwards signals"] if fields["init"] else [],
    "session": lambda fields, wanted: ["a session of its own"],
    "terminal": lambda fields, wanted: ["its controlling terminal"] if wanted.get("tty") else [],
    "rlimit": _rlimits,
    "cwd": lambda fields, wanted: [_text(fields["cwd"])],
    "fds": lambda fields, wanted: ["close all but 0, 1 and 2"],
    "user": _user,
    "capabilities": _capabilities,
    "landlock": _landlock,
    "seccomp": _seccomp,
    "exec": _exec,
    "started": _started,
}
