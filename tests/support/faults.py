"""Launches one kind of container again and again, with a fault at another system call of its child each time.

    python -m tests.support.faults INJECTOR KIND ERRNO FIRST STEP

prints a line of JSON a launch: which call was hit, how the launch ended, what it left behind. Run as a process
of its own, so that a hang is the caller's timeout and not the test suite's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

import pyminicon
from tests.support import leftovers

#: Says so if something that is hidden can be read, or something of the kernel's written.
PROTECTED = (
    "if read x < /proc/timer_list; then echo bad; fi 2> /dev/null; "
    "if (: > /proc/sys/vm/drop_caches) 2> /dev/null; then echo bad; fi; "
)


def _options(kind: str, place: str) -> dict[str, Any]:
    image = os.environ["PYMINICON_TEST_ROOT"]
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "directory": {"image": image, "rlimits": {"nofile": 64}, "pass_fds": [0]},
        "read_only": {"image": image, "read_only": True, "tmpfs": ["/t"], "files": {"/t/f": b"x"}},
        "everything": {
            "image": image, "user": "1000", "init": True, "volumes": [f"{place}:/v:ro"], "tmpfs": ["/t"],
            "files": {"/home/f": b"x"}, "collect": ["/out"], "cwd": "/tmp", "env": {"A": "b"},
        },
        "disk": {"image": image, "storage": "disk"},
        "users": {"userns": "private", "user": "1000:1000"},
        "one_user": {"image": image},
        "clock": {"time": "private"},
        "limits": {"memory": "64M", "pids": 20},
    }  # fmt: skip
    return kinds[kind]


def _launch(options: dict[str, Any]) -> str:
    line = PROTECTED + ("echo good" if options.get("read_only") else "echo good > /tmp/out; echo good")
    args = ["/bin/sh", "-c", line]
    try:
        r = pyminicon.run(args, capture_output=True, timeout=20, **options)
    except pyminicon.LaunchError as error:
        return f"{error.stage}: {error.errno}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if (r.returncode, r.stdout) == (255, b"good\n"):
        return "unknown"
    return "ok" if (r.returncode, r.stdout, r.stderr) == (0, b"good\n", b"") else repr(r)


def main() -> None:
    injector, kind, error, first, step = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    with tempfile.TemporaryDirectory() as place:
        options = _options(kind, place)
        for _ in range(3):
            warm = _launch(options)
            assert warm == "ok", warm
        tool = subprocess.Popen(
            [injector, str(threading.get_native_id())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert tool.stdin is not None
        assert tool.stdout is not None
        assert tool.stdout.readline() == "attached\n"
        before = leftovers.count()
        number = first
        while True:
            tool.stdin.write(f"{number} {error}\n")
            assert tool.stdout.readline() == "armed\n"
            outcome = _launch(options)
            tool.stdin.write("done\n")
            name, call, count = tool.stdout.readline().split()
            line: dict[str, Any] = {
                "at": number,
                "name": name,
                "call": int(call),
                "of": int(count),
                "outcome": outcome,
            }
            if name == "none" or number // step % 20 == 0:  # looking costs more than launching
                line["left"] = leftovers.appeared(before)
            print(json.dumps(line), flush=True)
            if name == "none":
                break
            number += step
        tool.stdin.close()


if __name__ == "__main__":
    main()
