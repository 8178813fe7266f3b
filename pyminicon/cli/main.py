"""Which command, and how the process ends: one line on stderr, never a traceback."""

from __future__ import annotations

import os
import sys

from pyminicon.cli import OWN_FAILURE, leave, say, sentence
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_INTERRUPTED = 128 + 2

_USAGE = """\
Usage: pyminicon COMMAND ...

  run [OPTIONS] IMAGE [COMMAND [ARG...]]   run a command in a new container and wait for it; -d: leave it running
  exec [OPTIONS] CONTAINER COMMAND         run a command in one that runs
  ps logs stop kill wait rm inspect cp     what becomes of them (docker's words)
  attach top stats pause unpause port
  completion bash|zsh|fish                 what a shell completes words by; manual: the manual page
  doctor [--json]                          what this machine offers and lacks, with the remedies
  image import|pull|ls|rm|...              the image store; also as pull, images, rmi

`pyminicon COMMAND --help` tells more.
"""


#: For containers that outlive the command that starts them.
_KEPT = frozenset("exec ps logs stop kill wait rm attach top stats pause unpause port inspect cp".split())


def main() -> NoReturn:
    """Runs the command of sys.argv and ends the process with its exit status."""
    try:
        status = command(sys.argv[1:])
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:  # whoever read our own output has had enough
        os._exit(OWN_FAILURE)
    except (Error, OSError) as error:
        _say(sentence(error), getattr(error, "option", None))
        status = OWN_FAILURE
    except Exception as error:  # ours to mend, but not the caller's to read a traceback of
        _say(f"unexpected {type(error).__name__}: {error}", None)
        status = OWN_FAILURE
    leave(status)


def _say(message: str, option: str | None) -> None:
    """On stderr: a line, or the JSON that was asked for."""
    if sys.argv[1:2] == ["run"] and any(word.startswith("--json") for word in sys.argv):
        from pyminicon.cli.report import refusal_as_json, wants_json

        if wants_json(sys.argv[2:]):
            refusal_as_json(message, option)
            return
    say(message)


def command(words: list[str]) -> int:
    """Runs the command that ``words`` name; its exit status."""
    name = words[0] if words else ""
    if name == "run":
        from pyminicon.cli.run_command import main as run

        return run(words[1:])
    if name == "exec":
        from pyminicon.cli.kept.execute import main as execute

        status = execute(words[1:])
        if status is not None:
            return status
    if name in ("completion", "manual"):
        from pyminicon.cli.kept import completing

        return getattr(completing, name)(words[1:])  # type: ignore[no-any-return]
    if name in _KEPT:
        from pyminicon.cli.kept.verbs import main as kept

        return kept(name, words[1:])
    if name == "doctor":
        from pyminicon.cli.doctor import main as doctor

        return doctor(words[1:])
    if name == "image":
        from pyminicon.cli.image import main as image

        return image(words[1:])
    if name in ("--version", "version", "-v"):
        from pyminicon import __version__

        sys.stdout.write(f"pyminicon {__version__}\n")
        return 0
    if name in ("--help", "-h", "help"):
        sys.stdout.write(_USAGE)
        return 0
    if not name:
        sys.stderr.write(_USAGE)
        return OWN_FAILURE
    if name in ("pull", "images", "rmi"):  # docker's words for what stands under `image` here
        from pyminicon.cli.image import main as image

        return image([{"images": "ls", "rmi": "rm"}.get(name, name), *words[1:]])
    from pyminicon.cli.unknown import MEANT

    raise SpecError(name, f"no such command; {MEANT.get(name, 'pyminicon --help lists them')}")
