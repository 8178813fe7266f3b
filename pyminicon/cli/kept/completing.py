"""``completion`` and ``manual``: what shells complete and man(1) shows, made from the tables that the verbs are read by."""

from __future__ import annotations

import sys

from pyminicon.cli import options
from pyminicon.cli.kept import verbs
from pyminicon.cli.words import FLAG, rows_of
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cli.words import Table

_RUN = "run a command in a new container, and wait for it or leave it running"
#: What isn't in the verbs' table: (name, words behind it, what it does).
_OTHERS = (
    ("run", "IMAGE [COMMAND [ARG...]]", _RUN),
    ("doctor", "", "what this machine offers and lacks, with the remedies"),
    ("image", "import|pull|ls|inspect|rm|prune|export", "the image store"),
    ("images", "", "list the images"),
    ("pull", "NAME...", "fetch images from their registries"),
    ("rmi", "NAME...", "remove images"),
    ("completion", "bash|zsh|fish", "print what a shell completes words by"),
    ("manual", "", "print the manual page"),
    ("version", "", "print the version"),
)
_ENDED_TOO = frozenset("logs wait rm cp inspect port".split())


def completion(words: list[str]) -> int:
    """``completion SHELL`` prints a script; ``completion names KIND`` is what that asks."""
    if words[:1] == ["names"] and words[1:] in (["images"], ["all"], ["running"]):
        sys.stdout.write("".join(f"{name}\n" for name in _names(words[1])))
        return 0
    if words in (["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        return 0
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if len(words) != 1 or words[0] not in scripts:
        raise SpecError("completion", "takes bash, zsh or fish")
    sys.stdout.write(scripts[words[0]]())
    return 0


_HELP = """\
Usage: pyminicon completion bash|zsh|fish

Print what a shell completes words by: verbs, options, names of containers and images.

Examples:
  source <(pyminicon completion bash)
  source <(pyminicon completion zsh)
  pyminicon completion fish | source
"""


def _names(kind: str) -> list[str]:
    if kind == "images":
        from pyminicon.images import reference
        from pyminicon.images.store import Store

        stored = [reference.familiar(name) for names in Store().names().values() for name in names]
        return ["host", "python", *sorted(stored)]
    from pyminicon.detached import state

    every = [fields for _, fields in state.every()]
    return [one["name"] for one in every if kind == "all" or one["status"] in ("running", "paused")]


def _all() -> list[tuple[str, str, Table]]:
    """(verb, what it does, its options), sorted."""
    found = [(name, text, options.TABLE if name == "run" else ()) for name, _, text in _OTHERS]
    found += [(name, verb.text.rstrip("."), verb.table) for name, verb in verbs.ALL.items()]
    return sorted(found)


def _kind(verb: str) -> str:
    """Which names stand behind the verb's options."""
    if verb in ("run", "rmi"):
        return "images"
    return "" if verb not in verbs.ALL or verb == "ps" else "all" if verb in _ENDED_TOO else "running"


def _words(table: Table) -> list[str]:
    return [word for name, letter, *_ in table for word in (f"--{name}", *([f"-{letter}"] if letter else ()))]


def _bash() -> str:
    cases = []
    for name, _, table in _all():
        taking = "|".join(_words(tuple(row for row in table if row[2] != FLAG)))
        cases.append(
            f"    {name}) options='{' '.join(_words(table))}' taking='{taking}' names='{_kind(name)}' ;;\n"
        )
    every = " ".join(name for name, _, _ in _all())
    return f"""\
_pyminicon() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} options='' taking='' names='' at=2
  COMPREPLY=()
  if [ "$COMP_CWORD" -lt 2 ]; then
    COMPREPLY=($(compgen -W '{every}' -- "$word"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{"".join(cases)}  esac
  case "|$taking|" in *"|${{COMP_WORDS[COMP_CWORD-1]}}|"*) return ;; esac
  case $word in -*) COMPREPLY=($(compgen -W "$options" -- "$word")); return ;; esac
  [ -n "$names" ] || return
  case ${{COMP_WORDS[1]}} in run|exec)  # behind the name is a command
    while [ "$at" -lt "$COMP_CWORD" ]; do
      case ${{COMP_WORDS[at]}} in
        -*) case "|$taking|" in *"|${{COMP_WORDS[at]}}|"*) at=$((at+1)) ;; esac ;;
        *) return ;;
      esac
      at=$((at+1))
    done ;;
  esac
  COMPREPLY=($(compgen -W "$("${{COMP_WORDS[0]}}" completion names "$names" 2>/dev/null)" -- "$word"))
}}
complete -o default -F _pyminicon pyminicon
"""


def _zsh() -> str:
    return "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = ["complete -c pyminicon -f"]
    for verb, text, table in _all():
        lines.append(f"complete -c pyminicon -n __fish_use_subcommand -a {verb} -d {_quoted(text)}")
        seen = f"complete -c pyminicon -n '__fish_seen_subcommand_from {verb}'"
        for name, letter, kind, _, meaning in table:
            short = f" -s {letter}" if letter else ""
            lines.append(f"{seen} -l {name}{short}{'' if kind == FLAG else ' -r -F'} -d {_quoted(meaning)}")
        if _kind(verb):
            lines.append(f"{seen} -a '(pyminicon completion names {_kind(verb)})'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- the manual page


def manual(given: list[str]) -> int:
    """The page in troff's words: ``pyminicon manual > pyminicon.1``."""
    if given in (["--help"], ["-h"]):
        sys.stdout.write(_MANUAL_HELP)
        return 0
    if given:
        raise SpecError("manual", "takes no words: pyminicon manual > pyminicon.1")
    lines = [
        f".TH PYMINICON 1 {_today()} pyminicon",
        ".SH NAME",
        "pyminicon \\- containers without a daemon",
        ".SH SYNOPSIS",
    ]
    calls = [(name, behind) for name, behind, _ in _OTHERS]
    calls += [(name, verb.words) for name, verb in verbs.ALL.items()]
    called = (f".B pyminicon\n{_troff(f'{name} [OPTIONS] {words}'.rstrip())}" for name, words in calls)
    lines += [
        "\n.br\n".join(called),
        ".SH DESCRIPTION",
        "The words are docker's. An option that isn't here is an error, never ignored.",
        ".SH RUN",
    ]
    lines += [".nf", *map(_troff, rows_of(options.TABLE)), ".fi"]
    for name, verb in verbs.ALL.items():
        lines += [f".SH {name.upper()}", _troff(verb.text), ".nf", *map(_troff, rows_of(verb.table)), ".PP"]
        lines += [*(_troff(f"pyminicon {line}") for line in verb.examples.split("\n")), ".fi"]
    lines += [".SH EXIT STATUS", _troff(_STATUS)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


_MANUAL_HELP = """\
Usage: pyminicon manual

Print the manual page, made of the same tables as each command's help.

Examples:
  pyminicon manual > pyminicon.1
  pyminicon manual | man -l -
"""


def _today() -> str:
    """As reproducible builds have it."""
    import os
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


_STATUS = (
    "The command's; 128+N if signal N ended it; 124 a time limit; 125 pyminicon's own failure, with one line on stderr; "
    "126 the command can't be run; 127 it isn't there."
)


def _troff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text
