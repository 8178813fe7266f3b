"""``pyminicon run``: start a container, pass signals on, end as it has ended.

What is imported here is what a container costs on the command line: nothing but the core and the plan
(a test pins the list). The rest waits in the functions that need it: whoever gives no option doesn't pay
for their table.
"""

from __future__ import annotations

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

        return run_in_terminal(args, wanted, given, finish)
    from pyminicon import container
    from pyminicon.cli import signals
    from pyminicon.options import parse as spec
    from pyminicon.plan import build as plan

    piped = stdio(wanted, given)
    forward = signals.Forwarder(given.get("stop-timeout"))
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
    except signals.Stopped as stopped:
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
