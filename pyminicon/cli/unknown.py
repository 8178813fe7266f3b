"""What to say of an option that ``run`` doesn't have. Imported only then."""

from __future__ import annotations

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Options of docker's that people will try, and what stands in their place.
_INSTEAD = {
    "privileged": "give what is needed by name: --cap-add, --security-opt, --userns",
    "publish": "there is no bridge to publish ports from: --network host, or --network none",
    "p": "there is no bridge to publish ports from: --network host, or --network none",
    "cpu-shares": "--cpu-weight takes 1 to 10000, and 100 is normal (1024 of docker's shares)",
    "c": "--cpu-weight takes 1 to 10000, and 100 is normal (1024 of docker's shares)",
    "blkio-weight": "--io-weight takes 1 to 10000, and 100 is normal",
    "cpu-quota": "--cpus takes the number of CPUs, as 1.5",
    "cpu-period": "--cpus takes the number of CPUs, as 1.5",
    "platform": "only images of this machine's architecture run here",
    "restart": "to start things again is a service manager's work: docs/detached.md has a systemd unit",
    "runtime": "there is one way to run a container here",
    "ip": "there is no bridge to have an address on: --network host, or --network none",
    "link": "there is no bridge to find others on",
    "expose": "there is no bridge to publish ports from: --network host, or --network none",
    "gpus": "no device of this machine goes in",
    "log-driver": "the output is this command's own",
    "sysctl": "set it on this machine: sysctl -w NAME=VALUE",
    "annotation": "did you mean --label?",
    "oom-kill-disable": "a container over its memory limit is always ended",
}


def unknown(word: str, known: Sequence[str], of_run: bool = True) -> SpecError:
    """The error for ``word``, with what is near it among the ``known`` options, or in its place (``of_run``)."""
    name = word.lstrip("-")
    if of_run and name in _INSTEAD:
        return SpecError(word, f"no such option; {_INSTEAD[name]}")
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.75) if len(name) > 1 else []
    return SpecError(word, f"no such option; did you mean --{near[0]}?" if near else "no such option")
