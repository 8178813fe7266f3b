"""A process for which one system call fails: a seccomp filter, as around a launcher in somebody's container.

    python -m tests.support.deny CALL [ARGUMENT] -- OPTIONS

starts a container with OPTIONS (a Python dict) and prints a line of JSON: what came of it, what was left.
"""

from __future__ import annotations

import json
import os
import sys

from tests.support import filtered

#: A number that no kernel answers to these calls, so that it can only be ours.
ERRNO = 71  # EPROTO

#: x86-64, aarch64
NUMBERS = {
    "capset": (126, 91), "clone": (56, 220), "clone3": (435, 435), "close_range": (436, 436), "dup3": (292, 24),
    "execve": (59, 221), "execveat": (322, 281), "inotify_init1": (294, 26), "ioctl": (16, 29), "mkdir": (83, -2), "mkdirat": (258, 34),
    "mount": (165, 40), "move_mount": (429, 429), "openat2": (437, 437), "pidfd_open": (434, 434), "pivot_root": (155, 41),
    "prlimit64": (302, 261), "recvmsg": (47, 212), "seccomp": (317, 277), "sendmsg": (46, 211), "setgroups": (116, 159),
    "sethostname": (170, 161), "setresgid": (119, 149), "setsid": (112, 157), "socket": (41, 198), "socketpair": (53, 199),
    "unshare": (272, 97), "memfd_create": (319, 279), "mount_setattr": (442, 442), "umount2": (166, 39), "getcwd": (79, 17),
    "chdir": (80, 49), "landlock_restrict_self": (446, 446), "listen": (50, 201),
}  # fmt: skip


def number(call: str) -> int:
    return NUMBERS[call][0 if os.uname().machine == "x86_64" else 1]


def deny(call: str, argument: int | None) -> None:
    """From now on ``call`` (with ``argument`` as its second, if given) answers ERRNO, here and in children."""
    filtered.load(filtered.one_call(number(call), filtered.ERRNO | ERRNO, argument))


def main() -> None:
    import pyminicon
    from tests.support import leftovers

    call, *rest, _, options = sys.argv[1:]
    words = eval(options)  # the test's own text
    warm = words.pop("warm", True)
    template = words.pop("template", False)
    start = pyminicon.start if words.get("tty") else pyminicon.run
    args = words.pop("args", ["/bin/true"])
    if words.get("tty"):
        words["stdin"] = words["stdout"] = words["stderr"] = os.openpty()[1]
    if warm:
        pyminicon.run(["/bin/true"])
        pyminicon.run(
            ["/bin/true"],
            **{
                name: value
                for name, value in words.items()
                if name in ("memory", "init", "publish", "egress")
            },
        )
    else:  # what importing would have done
        import pyminicon._core
        import pyminicon.container
        from pyminicon.plan import host

        host.hidden_etc((), False)  # what is kept of the first launch that is planned
    before = leftovers.count()
    deny(call, int(rest[0]) if rest else None)
    try:
        if template:
            with pyminicon.Template(**words) as made:
                made.run(args)
        else:
            start(args, **words)
        told: dict[str, object] = {"stage": None}
    except pyminicon.LaunchError as error:
        told = {"stage": error.stage, "errno": error.errno, "subject": error.subject, "text": str(error)}
    told["left"] = leftovers.appeared(before)
    print(json.dumps(told), flush=True)
    os._exit(0)  # the interpreter's own way out may need what is denied


if __name__ == "__main__":
    main()
