"""What to say of an option or a verb that isn't there. Imported only then."""

from __future__ import annotations

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Options of docker's that people will try, and what stands in their place.
_INSTEAD = {
    "privileged": "give what is needed by name: --cap-add, --security-opt, --userns",
    "cpu-shares": "--cpu-weight takes 1 to 10000, and 100 is normal (1024 of docker's shares)",
    "c": "--cpu-weight takes 1 to 10000, and 100 is normal (1024 of docker's shares)",
    "blkio-weight": "--io-weight takes 1 to 10000, and 100 is normal",
    "cpu-quota": "--cpus takes the number of CPUs, as 1.5",
    "cpu-period": "--cpus takes the number of CPUs, as 1.5",
    "platform": "only images of this machine's architecture run here",
    "restart": "to start things again is a service manager's work: docs/detached.md has a systemd unit",
    "runtime": "there is one way to run a container here",
    "ip": "there is no bridge to have an address on: --network host, pasta or none",
    "link": "there is no bridge to find others on",
    "expose": "a port is published or it isn't: -p 8080:80",
    "gpus": "no device of this machine goes in",
    "log-driver": "the output is this command's own",
    "annotation": "did you mean --label?",
    "oom-kill-disable": "a container over its memory limit is always ended",
}


_CREATED = "`run -d` makes and starts a container in one go"
#: Verbs of docker's, and what stands in their place.
MEANT = {
    "build": "build it with buildah or docker, then: pyminicon image import FILE",
    "create": _CREATED,
    "start": _CREATED,
    "restart": "a container runs once: rm it, and run -d again",
    "rename": "a container keeps its name: run -d --name",
    "commit": "what a container has changed: pyminicon cp CONTAINER:/ -",
    "export": "pyminicon cp CONTAINER:/ - for a container, pyminicon image export for an image",
    "diff": "what a container has changed isn't listed: cp copies it out",
    "update": "limits are changed from Python: pyminicon.attach(NAME).update(memory=...)",
    "events": "ps tells what there is; wait waits for an end",
    "network": "there are no networks with names: run --network none, off, host or pasta",
    "volume": "there are no volumes with names: run -v DIRECTORY:TARGET",
    "compose": "each container is started by itself: run -d; a service manager starts several",
    "push": "skopeo or podman push what: pyminicon image export",
    "tag": "a second name for an image: pyminicon image import, or pull it by that",
    "info": "pyminicon doctor",
    "load": "pyminicon image import FILE",
    "save": "pyminicon image export",
    "import": "pyminicon image import FILE",
    "login": "the credentials of docker and podman are used: docker login, or podman login",
}


def unknown(word: str, known: Sequence[str], of_run: bool = True) -> SpecError:
    """The error for ``word``, with what is near it among the ``known`` options, or in its place (``of_run``)."""
    name = word.lstrip("-")
    if of_run and name in _INSTEAD:
        return SpecError(word, f"no such option; {_INSTEAD[name]}")
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.75) if len(name) > 1 else []
    return SpecError(word, f"no such option; did you mean --{near[0]}?" if near else "no such option")
