"""Which command, and how the process ends: one line on stderr, never a traceback."""

from __future__ import annotations

import os
import sys

from pyminicon.cli import OWN_FAILURE, leave, say
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_INTERRUPTED = 128 + 2

_USAGE = """\
Usage: pyminicon COMMAND ...

  run [OPTIONS] IMAGE [COMMAND [ARG...]]   run a command in a new container and wait for it
  doctor [--json]                          what this machine offers and lacks, with the remedies
  image import|pull|ls|rm|...              the image store

`pyminicon COMMAND --help` tells more.
"""


_ENDS = "a container ends with the `run` that started it, and shows its output there"
_MEANT = {
    **dict.fromkeys(("ps", "logs", "stop", "kill", "rm", "wait", "attach", "inspect", "top", "stats"), _ENDS),
    "exec": "a second command in a container isn't there yet; give both to one: run IMAGE sh -c 'LINE'",
    "build": "build it with buildah or docker, then: pyminicon image import FILE",
    "create": "`run` makes and starts a container in one go",
    "start": "`run` makes and starts a container in one go",
    "load": "pyminicon image import FILE",
    "save": "pyminicon image export",
    "import": "pyminicon image import FILE",
    "login": "the credentials of docker and podman are used: docker login, or podman login",
}


def main() -> NoReturn:
    """Runs the command of sys.argv and ends the process with its exit status."""
    try:
        status = command(sys.argv[1:])
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:  # whoever read our own output has had enough
        os._exit(OWN_FAILURE)
    except (Error, OSError) as error:
        say(str(error))
        status = OWN_FAILURE
    except Exception as error:  # ours to mend, but not the caller's to read a traceback of
        say(f"unexpected {type(error).__name__}: {error}")
        status = OWN_FAILURE
    leave(status)


def command(words: list[str]) -> int:
    """Runs the command that ``words`` name; its exit status."""
    name = words[0] if words else ""
    if name == "run":
        from pyminicon.cli.run_command import main as run

        return run(words[1:])
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
    raise SpecError(name, f"no such command; {_MEANT.get(name, 'there are run, doctor and image')}")
