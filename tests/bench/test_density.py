"""What density counts."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import density

_TWO_DEEP = "import subprocess,sys; p=subprocess.Popen(['cat'],stdin=0); print('up',flush=True); p.wait()"


def test_children_of_children_are_counted_and_strangers_are_not() -> None:
    before = density.descendants()
    command = [sys.executable, "-c", _TWO_DEEP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        assert density.descendants() == before + 2
        assert child.stdin is not None
        child.stdin.close()
    assert density.descendants() == before
