"""The way out that passt's pasta makes (``network="pasta"``): its command line, and who answers for names inside."""

from __future__ import annotations

import errno
import os

from pyminicon.errors import LaunchError, insist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Draft

_INSTALL = "install the package passt: apt-get install passt"

#: What stands inside for a name server on this machine's own loopback, where nobody inside can go.
_NAME_SERVER = "169.254.1.1"

#: No port of either side leads to the other by itself, nor does the gateway's address lead to this machine's loopback:
#: pasta's own defaults open all three. The last: a pipe of ours, into which it writes when the network is up.
_WORDS = (
    "-f -q --config-net --netns /proc/self/fd/0 --no-netns-quit --no-map-gw -t none -u none -T none -U none "
    "-P /proc/self/fd/1"
).split()


def lead_out(builder: Draft) -> bytes:
    """Plans it; what resolv.conf says inside. Raises LaunchError where there is no pasta."""
    words = [_program(), *_WORDS]
    if not builder.private_users:
        # Else it would become nobody, who may do nothing in a network of root's.
        words += ["--runas", "0"]
    lines, forwards = _resolver(), False
    if not builder.spec.dns:
        kept = [line for line in lines if not _is_local(line)]
        forwards = len(kept) < len(lines)
        if forwards:
            # Alone: whatever comes back from that server is said to come from this address then.
            kept = [line for line in kept if not line.startswith(b"nameserver")]
            kept.append(f"nameserver {_NAME_SERVER}".encode())
            words += ["--dns-forward", _NAME_SERVER]
        lines = kept
    builder.fields["pasta"] = words
    return b"\n".join([*lines, b""])


def _program() -> str:
    for directory in os.get_exec_path():
        path = f"{directory}/pasta"
        if directory.startswith("/") and os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise LaunchError(errno.ENOENT, "network", "pasta", _INSTALL)


def _resolver() -> list[bytes]:
    try:
        with open("/etc/resolv.conf", "rb") as file:
            return [line.strip() for line in file.read(1 << 20).splitlines()]
    except OSError as error:
        insist(error, "/etc/resolv.conf")
        return []


def _is_local(line: bytes) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == b"nameserver" and words[1].startswith((b"127.", b"::1"))
