"""The verbs for detached containers: one table, from which they are read and each help is written."""

from __future__ import annotations

import sys

from pyminicon.cli import words as reader
from pyminicon.cli.kept.execute import TABLE as EXEC
from pyminicon.cli.words import FLAG, MANY, ONE
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.cli.words import Table

_HELP = (("help", "", FLAG, "", "print this"),)
_FORMAT = ("format", "", ONE, "json|TEMPLATE", "json, or as '{{.Names}} {{.Status}}'")


class Verb:
    """``words``: what stands behind the options; ``least`` of them. ``module`` in cli.kept has the function."""

    __slots__ = ("examples", "interspersed", "least", "module", "table", "text", "words")

    def __init__(
        self,
        words: str,
        least: int,
        text: str,
        module: str,
        table: Table,
        examples: str,
        interspersed: bool = True,
    ) -> None:
        self.words: str = words
        self.least: int = least
        self.text: str = text
        self.module: str = module
        self.table: Table = table if table[-1:] == _HELP else (*table, *_HELP)
        self.examples: str = examples
        self.interspersed: bool = interspersed


ALL: dict[str, Verb] = {
    "exec": Verb(
        "CONTAINER COMMAND [ARG...]", 2, "Run a command in a running container.", "",
        EXEC,
        "exec web ls -l /tmp\nexec -it web bash", False,
    ),
    "ps": Verb(
        "", 0, "List containers: those that run, or with -a all.", "listing",
        (
            ("all", "a", FLAG, "", "those that have ended as well"),
            ("quiet", "q", FLAG, "", "ids only"),
            ("filter", "f", MANY, "name=|label=|status=|id=", "only those that fit all kinds, and one of each kind"),
            ("last", "n", ONE, "NUMBER", "the last so many that were made"),
            ("no-trunc", "", FLAG, "", "don't shorten commands"),
            _FORMAT,
        ),
        "ps -a\nps -q --filter label=job=7\nps -a --format json",
    ),
    "logs": Verb(
        "CONTAINER", 1, "Show what a container has written.", "logs",
        (
            ("follow", "f", FLAG, "", "go on until it ends"),
            ("tail", "n", ONE, "LINES|all", "only the last lines"),
            ("since", "", ONE, "TIME", "only what is newer: 10m, 1700000000 or 2026-01-02T03:04:05Z"),
            ("timestamps", "t", FLAG, "", "show when each line came"),
        ),
        "logs -f web\nlogs --tail 20 --since 10m web",
    ),
    "stop": Verb(
        "CONTAINER...", 1, "Send the stop signal, and end it if it lasts.", "ending",
        (
            ("time", "t", ONE, "SECONDS", "how long it may take: 10 unless run said otherwise; -1 for ever"),
            ("signal", "s", ONE, "SIGNAL", "instead of the container's own stop signal"),
        ),
        "stop web\nstop -t 1 web db",
    ),
    "kill": Verb(
        "CONTAINER...", 1, "Send a signal to the program of a container.", "ending",
        (("signal", "s", ONE, "SIGNAL", "KILL unless it says otherwise"),), "kill web\nkill -s HUP web",
    ),
    "wait": Verb("CONTAINER...", 1, "Wait for the end; print the exit status.", "ending", (), "wait web"),
    "rm": Verb(
        "CONTAINER...", 1, "Remove containers that have ended: status, log and layer.", "ending",
        (
            ("force", "f", FLAG, "", "end those that run; one that isn't there is no error"),
            ("volumes", "v", FLAG, "", "as always: there are no volumes without a name"),
        ),
        "rm web\nrm -f web",
    ),
    "attach": Verb(
        "CONTAINER", 1, "See what a container writes, and type for it. Ctrl-P Ctrl-Q leaves it.", "attaching",
        (
            ("no-stdin", "", FLAG, "", "only look"),
            ("detach-keys", "", ONE, "KEYS", "instead of ctrl-p,ctrl-q"),
            ("sig-proxy", "", FLAG, "", "pass signals on; true unless --sig-proxy=false"),
        ),
        "attach web",
    ),
    "top": Verb("CONTAINER", 1, "Show the processes of a container.", "watching", (), "top web"),
    "stats": Verb(
        "[CONTAINER...]", 0, "Show what containers use: on a terminal again and again.", "watching",
        (("no-stream", "", FLAG, "", "once"), ("all", "a", FLAG, "", "as always: those that run"), _FORMAT),
        "stats\nstats --no-stream web",
    ),
    "pause": Verb("CONTAINER...", 1, "Stop all processes of a container.", "ending", (), "pause web"),
    "unpause": Verb("CONTAINER...", 1, "Let a paused container go on.", "ending", (), "unpause web"),
    "port": Verb("CONTAINER [PORT[/tcp]]", 1, "Show which ports lead into a container.", "listing", (), "port web 80"),
    "inspect": Verb(
        "CONTAINER...", 1, "Show all that is known of containers, as JSON.", "listing",
        (("format", "f", ONE, "TEMPLATE", "as '{{.State.Status}}' or '{{json .Config.Labels}}'"),),
        "inspect web\ninspect -f '{{.State.ExitCode}}' web",
    ),
    "cp": Verb(
        "CONTAINER:SRC DST|- | SRC|- CONTAINER:DST", 2,
        "Copy files and directories out of a container or into it; - is a tar.", "copying",
        (("archive", "a", FLAG, "", "as always: modes and times are kept"), ("quiet", "q", FLAG, "", "as always")),
        "cp web:/var/log ./logs\ncp ./conf web:/etc/app\ncp web:/data - > data.tar",
    ),
}  # fmt: skip


def main(name: str, words: list[str]) -> int:
    """Runs the verb with the words behind it; the exit status."""
    verb = ALL[name]
    given, rest = reader.parse(words, verb.table, verb.interspersed)
    if "help" in given:
        sys.stdout.write(help_text(name))
        return 0
    if len(rest) < verb.least:
        raise SpecError(name, f"takes {verb.words}: pyminicon {name} --help")
    module = __import__(f"pyminicon.cli.kept.{verb.module}", fromlist=["*"])
    status: int = getattr(module, name)(given, rest)
    return status


def help_text(name: str) -> str:
    """The text of ``NAME --help``."""
    verb = ALL[name]
    lines = [f"Usage: pyminicon {name} [OPTIONS] {verb.words}".rstrip(), "", verb.text, ""]
    lines += reader.rows_of(verb.table)
    lines += ["", "Examples:", *(f"  pyminicon {line}" for line in verb.examples.split("\n")), ""]
    return "\n".join(lines)


def each(act: Any, names: list[str], quiet: bool = False) -> int:
    """``act(name)`` for one after the other; what fails is said, and the others go on."""
    from pyminicon.cli import OWN_FAILURE, say, sentence
    from pyminicon.errors import Error

    status = 0
    for name in names:
        try:
            act(name)
            if not quiet:
                sys.stdout.write(f"{name}\n")
        except (Error, OSError) as error:
            sys.stdout.flush()
            say(sentence(error))
            status = OWN_FAILURE
    return status
