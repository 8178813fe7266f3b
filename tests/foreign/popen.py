"""subprocess.Popen over :func:`pyminicon.start`: what CPython's own tests are run with."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
import unittest
import warnings
from typing import Any

import pyminicon

_REAL = subprocess.Popen
#: What the tests write and read outside: the container has the same files under the same names.
PLACES = ("/tmp",)


class Popen:
    """A container in the place of a child process. What has no meaning there skips the test, with the reason."""

    def __init__(
        self, args: Any, bufsize: int = -1, executable: Any = None, stdin: Any = None, stdout: Any = None,
        stderr: Any = None, preexec_fn: Any = None, close_fds: bool = True, shell: bool = False, cwd: Any = None,
        env: Any = None, universal_newlines: Any = None, startupinfo: Any = None, creationflags: int = 0,
        restore_signals: bool = True, start_new_session: bool = False, pass_fds: Any = (), *, user: Any = None,
        group: Any = None, extra_groups: Any = None, encoding: Any = None, errors: Any = None, text: Any = None,
        umask: int = -1, pipesize: int = -1, process_group: Any = None,
    ) -> None:  # fmt: skip
        self._box: Any = None
        bufsize = -1 if bufsize is None else bufsize
        if not isinstance(bufsize, int):
            raise TypeError("bufsize must be an integer")
        if bufsize == 1 and not (text or encoding or errors or universal_newlines):
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode", RuntimeWarning, stacklevel=2
            )
            bufsize = -1
        for name, unlike, why in (
            ("preexec_fn", preexec_fn is not None, "no code of the caller's runs inside"),
            ("close_fds", not close_fds, "only what pass_fds names goes in"),
            ("restore_signals", not restore_signals, "signals are always the default's inside"),
            ("pipesize", pipesize != -1, "pipes have the kernel's size"),
        ):
            if unlike:
                raise unittest.SkipTest(f"{name}: {why}")
        if startupinfo is not None or creationflags:
            raise ValueError("startupinfo and creationflags are for Windows")
        self.args = args
        words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
        if shell:
            words = [executable or "/bin/sh", "-c", *words]
        self.text_mode = encoding or errors or text or universal_newlines
        options: dict[str, Any] = {
            "env": dict(os.environb if env is None else env),
            "cwd": os.getcwd() if cwd is None else os.path.abspath(os.fsdecode(cwd)),
            "volumes": [(place, place) for place in {*PLACES, os.getcwd()}],
            "pass_fds": pass_fds, "umask": umask, "process_group": process_group, "user": user, "group": group,
            "extra_groups": extra_groups or (), "executable": executable, "encoding": encoding, "errors": errors,
            "text": bool(text or universal_newlines) or None, "stdin": stdin, "stdout": stdout, "stderr": stderr,
        }  # fmt: skip
        options = {name: value for name, value in options.items() if value is not None}
        self._box = pyminicon.start(words, image="python", init=True, network="host", **options)
        self.stdin, self.stdout, self.stderr = (
            _buffered(stream, bufsize, bool(self.text_mode))
            for stream in (self._box.stdin, self._box.stdout, self._box.stderr)
        )
        self._box.stdin, self._box.stdout, self._box.stderr = self.stdin, self.stdout, self.stderr
        self.pid = self._box.pid

    @property
    def returncode(self) -> int | None:
        code: int | None = self._box.returncode
        return code

    def poll(self) -> int | None:
        code: int | None = self._box.poll()
        return code

    def wait(self, timeout: float | None = None) -> int:
        code: int = self._box.wait(timeout)
        return code

    def communicate(self, input: Any = None, timeout: float | None = None) -> Any:
        return self._box.communicate(input, timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            self._box.send_signal(int(number))

    def terminate(self) -> None:
        if self.poll() is None:
            self._box.terminate()

    def kill(self) -> None:
        if self.poll() is None:
            self._box.kill()

    def __enter__(self) -> Popen:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            for stream in (self.stdout, self.stderr, self.stdin):
                if stream is not None:
                    stream.close()
        finally:
            self.wait()

    __class_getitem__ = classmethod(types.GenericAlias)


def _buffered(stream: Any, size: int, text: bool) -> Any:
    """The stream with as large a buffer as was asked for."""
    if stream is None or size == -1:
        return stream
    if text:
        stream.reconfigure(line_buffering=size == 1, write_through=False)
        return stream
    raw = stream.detach()
    if size == 0:
        return raw
    return io.BufferedWriter(raw, size) if raw.writable() else io.BufferedReader(raw, size)


def install() -> None:
    """Has subprocess start containers, this interpreter's own in the place of the one in its virtual environment."""
    subprocess.Popen = Popen  # type: ignore[misc,assignment]
    sys.executable = os.path.realpath(sys.executable)
