"""The options of ``run``: one table, from which they are read and the help is written.

docker's words, so that nobody has to learn them anew. Whatever is not in the table is an error that names
it. Written by hand: argparse costs 7 ms to import, more than all else that the command does.
"""

from __future__ import annotations

from pyminicon.cli.words import FLAG, MANY, MAYBE, ONE, rows_of
from pyminicon.cli.words import parse as read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.cli.words import Table

#: (name, letter, how often it may be given and whether it takes a value, placeholder, help)
TABLE: Table = (
    ("interactive", "i", FLAG, "", "pass stdin on; without it the command reads end of file"),
    ("detach", "d", FLAG, "", "leave it running: print its id and return (ps, exec, logs, stop, rm)"),
    ("tty", "t", FLAG, "", "give the command a terminal of its own"),
    ("name", "", ONE, "NAME", "the container's name, and its host name unless --hostname says another"),
    ("hostname", "h", ONE, "NAME", "host name inside"),
    ("env", "e", MANY, "KEY[=VALUE]", "set a variable; KEY alone takes it from the caller's environment"),
    ("env-file", "", MANY, "FILE", "variables, a line each"),
    ("workdir", "w", ONE, "DIR", "working directory inside, made where the image has none"),
    ("user", "u", ONE, "UID[:GID]", "user, by number or by a name of the image's passwd"),
    ("group-add", "", MANY, "GROUP", "a further group, by number or by a name of the image's group file"),
    ("entrypoint", "", ONE, "PROGRAM", "instead of the image's entry point; its command isn't used then"),
    ("volume", "v", MANY, "SRC:DST[:ro]", "bind a file or directory of this machine"),
    ("mount", "", MANY, "SPEC", "type=bind,source=SRC,target=DST[,readonly] or type=tmpfs,target=DST"),
    ("tmpfs", "", MANY, "DST[:size=64m]", "mount a file system in memory"),
    ("shm-size", "", ONE, "SIZE", "how much /dev/shm may hold; 64m unless it says otherwise"),
    (
        "device",
        "",
        MANY,
        "PATH",
        "a device that every container has (null, zero, full, random, urandom, tty)",
    ),
    ("read-only", "", FLAG, "", "no writable layer over the image"),
    ("host-etc", "", MANY, "NAME", "a file of /etc that the images host and python hide otherwise"),
    ("storage", "", ONE, "tmpfs[:size=1g]|disk", "where the writable layer lies"),
    ("quiet", "q", FLAG, "", "say nothing of a pull"),
    ("pull", "", ONE, "never|missing|always", "fetch the image from its registry before the run"),
    ("memory", "m", ONE, "SIZE", "memory limit, as 64m or 2g"),
    ("memory-swap", "", ONE, "SIZE", "memory and swap together; -1 for swap without limit"),
    ("cpus", "", ONE, "NUMBER", "CPU time per time, 1.5 for one and a half CPUs"),
    ("cpu-weight", "", ONE, "1-10000", "share of busy CPUs; 100 is normal"),
    ("cpuset-cpus", "", ONE, "LIST", "the CPUs it may use, as 0-2,4"),
    ("pids-limit", "", ONE, "NUMBER", "processes and threads at a time; 0 or -1 for no limit"),
    ("io-weight", "", ONE, "1-10000", "share of busy disks; 100 is normal"),
    ("cgroup-parent", "", ONE, "CGROUP", "make the container's cgroup there, not below the caller's"),
    ("usage", "", FLAG, "", "account for memory, processes and I/O (shown by --json)"),
    ("timeout", "", ONE, "SECONDS", "end it after so long, with status 124"),
    ("cpu-time", "", ONE, "SECONDS", "end it after so much CPU time, with status 124"),
    ("max-output", "", ONE, "SIZE", "end it when it has written so much to stdout and stderr"),
    ("ulimit", "", MANY, "NAME=SOFT[:HARD]", "resource limit of a process, as nofile=256:512"),
    ("add-host", "", MANY, "NAME:ADDRESS", "a line of /etc/hosts"),
    ("dns", "", MANY, "ADDRESS", "a name server for /etc/resolv.conf"),
    ("sysctl", "", MANY, "net.NAME=VALUE", "a setting of the container's own network"),
    (
        "publish",
        "p",
        MANY,
        "[ADDRESS:]PORT:PORT",
        "a port of this machine's, 127.0.0.1 if not said, that leads inside",
    ),
    (
        "egress",
        "",
        MANY,
        "RULE",
        "what may be reached by a proxy, as example.com, *.example.org:443, 10.1.0.0/16",
    ),
    (
        "network",
        "",
        ONE,
        "none|off|host|pasta",
        "its own loopback only, no sockets, this machine's network, or a way out",
    ),
    ("pid", "", ONE, "private|host", "PID namespace"),
    ("ipc", "", ONE, "private|host", "IPC namespace"),
    ("uts", "", ONE, "private|host", "UTS namespace (host name)"),
    ("cgroupns", "", ONE, "private|host", "cgroup namespace"),
    ("time", "", ONE, "host|private", "time namespace; private: clocks since boot begin at 0"),
    ("userns", "", ONE, "auto|host|private|UID:HOST:COUNT[,...]", "user namespace and its ids"),
    ("cap-add", "", MANY, "CAP", "add a capability, or ALL"),
    ("cap-drop", "", MANY, "CAP", "drop a capability, or ALL"),
    (
        "security-opt",
        "",
        MANY,
        "OPT",
        "seccomp=unconfined, seccomp=FILE, systempaths=unconfined, no-new-privileges[=false]",
    ),
    ("stop-signal", "", ONE, "SIGNAL", "what SIGTERM becomes inside, instead of the image's own"),
    ("stop-timeout", "", ONE, "SECONDS", "how long after a SIGTERM the container is killed; -1 for never"),
    ("preserve-fds", "", ONE, "NUMBER", "pass on so many descriptors from 3 on"),
    ("cidfile", "", ONE, "FILE", "write the container's id to a new file"),
    ("label", "l", MANY, "KEY[=VALUE]", "shown by --json, ps and inspect"),
    (
        "log-max-size",
        "",
        ONE,
        "SIZE",
        "with -d: how much of the output is kept; 10m unless it says otherwise",
    ),
    ("init", "", FLAG, "", "a small pid 1 that reaps and forwards signals"),
    ("rm", "", FLAG, "", "nothing is left of it when it has ended: as always without -d"),
    ("dry-run", "", FLAG, "", "print the steps of the launch, don't run it"),
    ("trace", "", MAYBE, "", "print where the time of the start went; =FILE.json: for Perfetto, into a file"),
    ("json", "", FLAG, "", "print the result as JSON, on stderr"),
    ("help", "", FLAG, "", "print this"),
)


def parse(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options in front of the first other word, and the rest (IMAGE COMMAND ARG...). Raises SpecError."""
    return read(words, TABLE, of_run=True)


def help_text() -> str:
    """The text of ``run --help``."""
    lines = [
        "Usage: pyminicon run [OPTIONS] IMAGE [COMMAND [ARG...]]",
        "",
        "Runs COMMAND in a new container and waits for it. IMAGE is host (this machine's programs, none of",
        "its data), python (the same with this Python), a directory or an archive (a path with a slash), or",
        "a name in the image store, with or without its registry and tag.",
        "",
    ]
    lines += rows_of(TABLE)
    lines += [
        "",
        "Exit status: the command's; 128+N if signal N ended it; 124 a time limit; 125 pyminicon's own",
        "failure; 126 the command can't be run; 127 it isn't there. With -d: 0 once it runs.",
        "",
        "Examples:",
        "  pyminicon run -it debian bash",
        "  pyminicon run -m 256m --timeout 60 -v ./src:/src:ro python python /src/test.py",
        "  pyminicon run -d --name web debian sh -c 'while :; do date; sleep 1; done'",
        "",
    ]
    return "\n".join(lines)
