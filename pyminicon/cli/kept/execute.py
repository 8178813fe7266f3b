"""``exec``: a command in a running container. The streams go to its keeper as descriptors; nothing is copied where they
are pipes already."""

from __future__ import annotations

from pyminicon.cli import say, stdio, words
from pyminicon.cli.kept.far import Far
from pyminicon.cli.words import FLAG, MANY, ONE
from pyminicon.detached import asking, place
from pyminicon.errors import LaunchError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.cli.words import Table
    from pyminicon.detached.line import Line

_NULL = -3

#: The verb's options. They are read here, not with all others: a command should cost little more than it does outside.
TABLE: Table = (
    ("interactive", "i", FLAG, "", "pass stdin on"),
    ("tty", "t", FLAG, "", "give the command a terminal of its own"),
    ("detach", "d", FLAG, "", "return once it runs"),
    ("env", "e", MANY, "KEY[=VALUE]", "set a variable; KEY alone takes it from the caller's environment"),
    ("env-file", "", MANY, "FILE", "variables, a line each"),
    ("workdir", "w", ONE, "DIR", "working directory inside; the container's own otherwise"),
    ("user", "u", ONE, "UID[:GID]", "user, by number or by a name of the container's passwd"),
    ("detach-keys", "", ONE, "KEYS", "with -it: leave it running; instead of ctrl-p,ctrl-q"),
    ("help", "", FLAG, "", "print this"),
)


def main(argv: list[str]) -> int | None:
    """Runs the command that the words behind ``exec`` name; its exit status. None where they name none."""
    given, rest = words.parse(argv, TABLE)
    if "help" in given or len(rest) < 2:
        return None
    options: dict[str, Any] = {}
    if "env" in given or "env-file" in given:
        from pyminicon.cli.call import environment

        options["env"] = environment(given)
    for word, option in (("workdir", "cwd"), ("user", "user")):
        if word in given:
            options[option] = given[word]
    try:
        to = asking.connect(place.find(rest[0]))
    except asking.NotRunning as error:
        raise SpecError("exec", str(error)) from None
    try:
        return _run(to, rest[1:], options, given)
    except LaunchError as error:
        from pyminicon.cli.run_command import exit_status_of

        say(str(error))
        return exit_status_of(error)
    except ConnectionResetError:
        raise SpecError("exec", f"container {rest[0]} has ended") from None


def _run(to: Line, args: list[str], options: dict[str, Any], given: dict[str, Any]) -> int:
    question = {"do": "exec", "args": args, "options": options, "streams": [_NULL] * 3}
    if given.get("detach"):
        asking.ask(to, question | {"detach": True})
        return 0
    if given.get("tty"):
        from pyminicon.cli.kept.screen import run_in_terminal

        return run_in_terminal(to, question, given)
    streams: dict[str, Any] = {}
    piped = stdio(streams, given)
    question["streams"] = [streams[name] for name in ("stdin", "stdout", "stderr")]
    fds = [fd for fd, which in enumerate(question["streams"]) if which is None]
    far = Far(to, question, fds)
    if piped:
        from pyminicon.cli.relay import relay

        relay(far)  # type: ignore[arg-type]
    return far.status()
