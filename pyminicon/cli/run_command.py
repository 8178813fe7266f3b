"""``pyminicon run``: start a container, pass signals on, end as it has ended.

What is imported here is what a container costs on the command line: nothing but the core and the plan
(a test pins the list). The rest waits in the functions that need it: whoever gives no option doesn't pay
for their table.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enums, which costs 2.8 ms
import os

from pyminicon.cli import OWN_FAILURE, say, stdio
from pyminicon.errors import Expired, LaunchError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.container import Container
    from pyminicon.options.parse import Spec
    from pyminicon.plan import Plan

TIME_IS_UP, CANT_RUN, NOT_FOUND = 124, 126, 127
_HUP, _INT, _QUIT, _USR1, _USR2, _ALRM, _TERM = 1, 2, 3, 10, 12, 14, 15
_FORWARDED = (_HUP, _INT, _QUIT, _USR1, _USR2, _ALRM, _TERM)
_PATIENCE = 1.0  # seconds that a launch may still take once a signal has come


def main(words: list[str]) -> int:
    """Runs what ``words`` (behind ``run``) ask for; the exit status."""
    given, rest = _given(words)
    if "help" in given:
        return _help()
    if not rest:
        raise SpecError("IMAGE", "is missing: run [OPTIONS] IMAGE [COMMAND [ARG...]]")
    try:
        wanted = _wanted(given)
        wanted["image"] = rest[0]
        if "pull" in given and not given.get("dry-run"):
            from pyminicon.cli.pull_first import pull

            pull(rest[0], given["pull"], bool(given.get("quiet")))
        if given.get("dry-run"):
            from pyminicon.cli.dry_run import main as dry_run

            if not wanted.get("tty"):
                stdio(wanted, given)
            return dry_run(rest[1:], wanted)
        if given.get("detach"):
            from pyminicon.cli.kept.begin import main as begin

            return begin(rest[1:], wanted, given)
        if "log-max-size" in given:
            raise SpecError("--log-max-size", "is for -d: without it the output is this command's own")
        return _run(rest[1:], wanted, given)
    except SpecError as error:
        raise _in_our_words(error, rest[0]) from None
    except LaunchError as error:
        if given.get("json"):
            from pyminicon.cli.report import failure_as_json

            failure_as_json(error, given, rest[1:])
        else:
            say(str(error))
        return exit_status_of(error)


def _given(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    if not words or not words[0].startswith("-"):
        return {}, words
    from pyminicon.cli import options

    return options.parse(words)


def _help() -> int:
    import sys

    from pyminicon.cli.options import help_text

    sys.stdout.write(help_text())
    return 0


def _wanted(given: dict[str, Any]) -> dict[str, Any]:
    if not given:
        return {}
    from pyminicon.cli import call

    wanted = call.options(given)
    if call.notes and not given.get("json"):  # which is all that stderr has
        for note in call.notes:
            say(note)
    return wanted


def _in_our_words(error: SpecError, image: str) -> SpecError:
    from pyminicon.cli.call import command_line_name

    text = str(error).removeprefix(f"{error.option}: ")
    if error.option == "image" and "/" not in image and os.path.exists(image):
        text += f"; for the one in this directory: ./{image}"
    return SpecError(command_line_name(error.option), text)


def exit_status_of(error: LaunchError) -> int:
    """docker's: 127 there is no such program, 126 it can't be run, 125 all else."""
    import errno

    if error.stage != "exec":
        return OWN_FAILURE
    return NOT_FOUND if error.errno == errno.ENOENT else CANT_RUN


def _run(args: list[str], wanted: dict[str, Any], given: dict[str, Any]) -> int:
    import gc

    # What a run makes lives until its end: a collection, which the imports alone set off, finds nothing.
    gc.disable()
    if wanted.pop("tty", False):
        from pyminicon.cli.tty import run_in_terminal

        try:
            box, ended_by = run_in_terminal(args, wanted, given, lambda: Forwarder(given.get("stop-timeout")))
        except Stopped as stopped:
            return 128 + stopped.number
        return finish(box, given, ended_by)
    from pyminicon import container
    from pyminicon.options import parse as spec
    from pyminicon.plan import build as plan

    piped = stdio(wanted, given)
    forward = Forwarder(given.get("stop-timeout"))
    try:
        # No earlier plan is looked for, and none is kept: this process has one container.
        def planned() -> tuple[Spec, Plan]:
            checked = spec.parse(args, wanted, spec.ONLY_RUN)
            return checked, plan.build(checked, once=True)

        made = None
        if "wall_time" in wanted:
            from pyminicon import patience
            from pyminicon.plan.cache import forget

            seconds = patience.given(wanted)
            made = patience.within(seconds, planned, forget) if seconds is not None else None
        made = made or planned()
        box = container.start_plan(*made, args, bool(given.get("trace")))
    except Stopped as stopped:
        return 128 + stopped.number
    except Expired:
        return TIME_IS_UP
    try:
        if "cidfile" in given:
            from pyminicon.cli.report import write_id

            write_id(given["cidfile"], box)
        forward.attach(box)
        if piped:
            from pyminicon.cli.relay import relay

            relay(box)
        box.wait()
    except BaseException:
        box.close()
        raise
    return finish(box, given, forward.ended_by)


def finish(box: Container[Any], given: dict[str, Any], ended_by: int) -> int:
    """Reports what was asked for; the exit status for how the container has ended.

    ``ended_by``: the signal that we ended it for, or 0.
    """
    code = box.returncode or 0
    status = code if code >= 0 else 128 - code
    if ended_by and code == -9:
        status = 128 + ended_by
    if box.limit in ("wall_time", "cpu_time"):
        status = TIME_IS_UP
    if box.limit is not None and not given.get("json"):  # JSON says it itself, and is all that stderr has
        say(f"ended by its limit: {box.limit}")
    if given.get("trace"):
        from pyminicon.cli.report import trace

        trace(box, given["trace"])
    if given.get("json"):
        from pyminicon.cli.report import as_json

        as_json(box, given)
    return status


# ---- signals that reach this command are meant for the container ----


class Stopped(BaseException):
    """A signal came while the launch hung (a volume that doesn't answer, say)."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Forwarder:
    """Sends what this process is sent to the container's pid 1.

    The container has a session of its own: of a Ctrl-C at the caller's terminal it hears only through us.
    As pid 1 its program isn't touched by a signal that it has no handler for (pid_namespaces(7)), but whoever
    presses Ctrl-C means it to end: then the container is ended, as the signal would have ended the
    program anywhere else. Whoever asks a second time by Ctrl-C gets that as well.

    Made before the launch, so that no signal is lost: what comes before ``attach`` waits for it, unless the
    launch hangs (:class:`Stopped`). ``stop_timeout``: seconds that it may take to end of a SIGTERM. ``ended_by``: the
    signal that the container was ended for, else 0.
    """

    def __init__(self, stop_timeout: str | None = None) -> None:
        self.patience: int = -1 if stop_timeout is None else int(stop_timeout)
        self.stopping: bool = False
        self.box: Container[Any] | None = None
        self.ended_by: int = 0
        self.interrupts: int = 0
        self.early: list[int] = []
        for number in _FORWARDED:
            # What we were told to ignore (nohup) stays ignored; None is a handler not of Python's.
            if _signal.getsignal(number) not in (_signal.SIG_IGN, None):
                _signal.signal(number, self._caught)

    def attach(self, box: Container[Any]) -> None:
        """From now on ``box`` is sent what comes, and what has come so far."""
        self.box = box
        if self.early:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
            for number in self.early:
                self._forward(box, number)

    def _caught(self, number: int, frame: Any) -> None:
        if self.box is not None and number == _ALRM and self.stopping:
            self.ended_by = _TERM
            self.box.kill()
        elif self.box is not None:
            self._forward(self.box, number)
        elif not self.early:
            self.early.append(number)
            _signal.setitimer(_signal.ITIMER_REAL, _PATIENCE)
        elif number in (_ALRM, _INT):
            raise Stopped(self.early[0])
        else:
            self.early.append(number)

    def _forward(self, box: Container[Any], number: int) -> None:
        from pyminicon.container import hears

        self.interrupts += number == _INT
        # Whoever sends SIGTERM wants an orderly end: the image says by which signal that comes.
        sent = box.stop_signal if number == _TERM else number
        if self.interrupts > 1 or not hears(box.pid, sent):
            self.ended_by = number
            box.kill()
        else:
            box.send_signal(sent)
            if number == _TERM and self.patience >= 0:
                self.stopping = True
                _signal.setitimer(_signal.ITIMER_REAL, self.patience or 0.001)
