"""A program of this machine's that reads a stranger's bytes, in a container of our own.

It gets the host's programs read-only, no network and no data: what a hostile stream talks it into has
nothing there to reach.
"""

from __future__ import annotations

import contextlib

from ..container import start as start_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container import Container


class Confined:
    """A confined process with three pipes: ``stdin stdout stderr`` (int, descriptors)."""

    __slots__ = ("_container", "stderr", "stdin", "stdout")

    def __init__(self, container: Container) -> None:
        assert container.stdin and container.stdout and container.stderr
        self._container = container
        self.stdin = container.stdin.fileno()
        self.stdout = container.stdout.fileno()
        self.stderr = container.stderr.fileno()

    def close_stdin(self) -> None:
        assert self._container.stdin
        with contextlib.suppress(BrokenPipeError):
            self._container.stdin.close()

    def wait(self) -> int:
        """Wait for its end; the exit status, -N for signal N."""
        return self._container.wait()

    def close(self) -> None:
        """End it if it still runs and close the pipes."""
        self._container.close()


def start(argv: list[str]) -> Confined:
    """Start a program of this machine's, confined. Raises LaunchError where no container can start."""
    pipe = -1  # subprocess.PIPE
    return Confined(start_container(argv, image="host", read_only=True, stdin=pipe, stdout=pipe, stderr=pipe))
