"""The compiled core (csrc/bind). Internal: the public API is pyminicon's own.

Every call releases the GIL while it launches, waits or reads. A launch that fails raises
:class:`pyminicon.LaunchError`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

def helper() -> int:
    """A descriptor of our helper program, sealed, for the caller to close."""

def launcher() -> int:
    """The pid of the process that clones in another cgroup for the calling thread, made if need be."""

STAGES: tuple[str, ...]
"""The steps of a launch in the order in which they run (docs/stages.md)."""
ALL_GROUPS: str
"""net.ipv4.ping_group_range in which every group is."""
UNPACED: str
"""net.ipv4.tcp_congestion_control that doesn't pace."""

def landlock_version() -> int:
    """The running kernel's; below 1 where it has no Landlock."""

class PlanFields(TypedDict, total=False):
    """What a plan says to the core (csrc/parent/plan/spec.h); what isn't in it keeps the core's default."""

    placeholder_id: str  # in HOSTNAME, for the container's own, which the core makes anew in each launch
    namespaces: int
    own_uid_map: str
    own_gid_map: str
    uid_map: str
    gid_map: str
    uid_mapper: list[str]
    gid_mapper: list[str]
    become_root: bool
    change_user: bool
    set_groups: bool
    uid: int
    gid: int
    groups: list[int]
    hostname: str
    hostname_is_id: bool  # the container's own
    loopback: bool
    pasta: list[str]  # the command line of what makes its way out
    sysctls: Sequence[tuple[str, str, bool]]  # (name, value, whether it is a usual one)
    usual_settings: bool  # they are among these, as the netns helper writes them
    only_unix_sockets: bool
    private_clock: bool
    root: int
    read_only: bool
    allow_setuid: bool
    layers: list[str]
    scratch_tmpfs: str
    disk_parent: str
    overlay_options: str
    skeleton: list[Any]
    mounts: list[Any]
    rlimits: Sequence[tuple[int, int, int]]
    umask: int
    capabilities: int
    no_new_privs: bool
    new_keyring: bool
    seccomp: bytes | bool | None  # True: the program that was compiled with the core
    own_seccomp: bool  # a profile of the user's
    init_seccomp: bytes  # what init has where commands load that one themselves
    init: bool
    init_barrier: bool
    separate_memory: bool
    foreign_program: bool
    may_landlock: bool
    hand_out: bool
    can_park_ready: bool
    kill_by_cgroup: bool
    memory_limit: int
    cgroup: tuple[Any, ...] | None
    fingerprints: list[Any]

class Plan:
    """A launch plan, checked by nobody but the kernel: pyminicon.plan makes the fields."""

    def __init__(self, fields: PlanFields, /) -> None: ...
    def limited(self, cgroup: tuple[Any, ...], memory_limit: int, /) -> Plan:
        """The same plan with another cgroup."""
    @property
    def may_hang(self) -> bool:
        """Whether a launch may, on a file system that doesn't answer."""

class PlanCache:
    """The last 16 plans (pyminicon.plan.Plan) by the options that they were made of."""

    def __init__(self, each_run: frozenset[str], limits: frozenset[str], /) -> None: ...
    def __len__(self) -> int: ...
    def find(self, options: dict[str, Any], at_once: bool, /) -> tuple[Any, dict[str, Any]] | bytes | None:
        """A plan that still holds, and the options that aren't in it; else the key to keep one by, or None where
        none can be kept. ``at_once``: without asking a file system that may not answer."""

    def keep(self, key: bytes, plan: Any, /) -> None: ...

class Request:
    """What the core is asked of one run or start besides its plan; the fields that most don't have come after."""

    def __init__(
        self,
        *,
        exec_spec: ExecSpec,
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        trace: bool,
        wall_time: float | None,
        cpu_time: float,
        max_output: int | None,
    ) -> None: ...
    def again(self, exec_spec: ExecSpec) -> Request:
        """The same of another command."""

    @property
    def exec_spec(self) -> ExecSpec: ...
    @property
    def stdio(self) -> list[int]:
        """Descriptors, or PIPE, STDOUT, DEVNULL in subprocess's numbers."""

    @property
    def pass_fds(self) -> list[int]: ...
    @property
    def trace(self) -> bool: ...
    @property
    def cpu_time(self) -> float: ...

    wall_time: float | None
    max_output: int | None
    terminal: bool
    cancel_fd: int
    """Once it is readable, a set-up that waits is given up (LaunchError, ETIMEDOUT), and a run ends as at its timeout;
    -1: nobody says so. Launches don't look at it."""
    undo_later: bool
    """Of a start: nobody waits for the container's mounts to be taken apart (docs/design.md). Each run is so."""
    patience: float | None
    """Of a start that others than its caller wait for: seconds after which the set-up is given up."""
    timeout: float | None
    """This and the next four: of a run."""
    input: bytes | None
    collect: Sequence[str] | None
    collect_max: int
    trim: bool
    who: Who | None
    """Of a command; None: as the container is run."""
    clock: tuple[Any, ...] | None
    """Of a command: the cgroup that counts its processor time where the container's doesn't (pyminicon.cgroups)."""
    gate: Gate | None
    """What its network is served by."""
    gate_port: int
    """Where the proxy listens inside, or 0."""
    files: Sequence[tuple[str, bytes, int]]
    """Of a template's run, to be put in before it: target, bytes, mode."""
    files_owner: tuple[int, int]

class Supervisor:
    """One container or command until its end: fed, read, held to its limits, killed, given up where it can't die.

    ``handle``: a Handle or what is known as one. ``streams``: our ends of its pipes, from now on the Supervisor's, or
    -1; ``borrowed``: the outputs stay another's to close; ``relayed``: they go on after its end, to their own.
    ``max_output``: of both together; ``trim``: instead so much is kept of each, its first and its last half.
    ``timeout``, ``wall_time``: seconds from now; once ``cancel_fd`` is readable, it ends as at the timeout.
    """

    def __init__(
        self,
        handle: Any,
        streams: tuple[int, int, int] = ...,
        *,
        input: bytes = ...,
        max_output: int | None = None,
        trim: bool = False,
        timeout: float | None = None,
        wall_time: float | None = None,
        cancel_fd: int = -1,
        relayed: bool = False,
        borrowed: bool = False,
    ) -> None: ...
    def step(self) -> None:
        """Does what there is to do at this moment."""

    def go_on(self, most: float | None, /) -> bool:
        """Waits and does it until the end; False after ``most`` seconds."""

    def wait_by(self, epoll: int, /) -> None:
        """From now on that epoll tells when there is something to do, by the handle's ``pidfd``; -1: none does."""

    def let_go(self) -> None:
        """Waits for nothing more, and closes what it has."""

    def kill(self) -> None: ...
    def output(self, which: int, /) -> bytes | None:
        """What was kept so far of 1 or 2; None where there is no pipe."""
    @property
    def left(self) -> float | None:
        """Seconds after which to step though nothing has come."""
    @property
    def gone(self) -> bool:
        """Whether it has ended, and all has been read."""
    @property
    def given_up(self) -> bool: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def limit(self) -> str | None: ...
    @property
    def dropped(self) -> tuple[int, int]:
        """How many bytes of each output were not kept."""

class Outcome:
    """How a run has ended."""

    def __init__(
        self,
        *,
        returncode: int | None,
        stdout: bytes | None,
        stderr: bytes | None,
        limit: str | None,
        timed_out: bool,
        usage: tuple[Any, ...] | None,
        startup: float,
        dropped: tuple[int, int] = (0, 0),
    ) -> None: ...
    @property
    def returncode(self) -> int | None:
        """None: somebody else has taken it."""

    @property
    def stdout(self) -> bytes | None: ...
    @property
    def stderr(self) -> bytes | None: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def usage(self) -> tuple[Any, ...] | None:
        """As :meth:`Handle.usage` tells, without what is in use at this moment."""

    @property
    def startup(self) -> float: ...
    @property
    def dropped(self) -> tuple[int, int]:
        """Bytes of stdout and of stderr that weren't kept."""

    limit: str | None
    trace: list[tuple[str, int]] | None
    files: tuple[dict[str, bytes], dict[str, tuple[int, str]]] | None
    """As :meth:`Handle.collect` tells."""

    def told(
        self,
    ) -> tuple[
        int | None,
        bytes | None,
        bytes | None,
        str | None,
        bool,
        tuple[Any, ...] | None,
        float,
        tuple[int, int],
        list[tuple[str, int]] | None,
        tuple[dict[str, bytes], dict[str, tuple[int, str]]] | None,
    ]:
        """All of it at once: returncode, stdout, stderr, limit, timed_out, usage, startup, dropped, trace, files."""

class Begun:
    """A command that an event loop has sent. LaunchError ERESTART, from here and from ``result``: it hasn't begun, and is
    to be begun again by another of these."""

    def __init__(self, container: Handle, request: Request, /) -> None: ...
    @property
    def fd(self) -> int:
        """Readable when there is news."""

    def result(self) -> Handle | None:
        """The command, once it runs."""

    def given_up(self) -> Handle:
        """The command, which is being ended, whatever has become of it."""

def is_root() -> bool:
    """Whether this process is all of root: uid 0, its capabilities, and not merely in a user namespace."""

Words = Sequence[str | bytes]
ExecSpec = tuple[Words, Words, Words, str | bytes]
"""What one run executes: candidates, argv, env, cwd. In HOSTNAME the plan's name for the id is replaced."""

Who = tuple[int, int, list[int]]
"""uid, gid and all groups of a command."""

class Gate:
    """What is served of one container's network, by a thread that knows no GIL and is told of it when the container
    has been launched. ``bell``, or -1: a socket that is sent ``number`` before the first connection to the container's
    listener comes through ``line``. LaunchError EMFILE where there is no room."""

    def __init__(self, bell: int, /) -> None: ...
    def publish(self, ports: Sequence[tuple[str, int, int]], /) -> list[int]:
        """Listeners of the caller's, each an address, a port there or 0, and the port inside that each of its
        connections goes to. At which ports they are; OSError with the place that can't be had for its filename."""

    @property
    def number(self) -> int:
        """Of this process's gates, from 1."""

    @property
    def line(self) -> int:
        """A socket that ends when all of it has; each connection to the container's listener comes through it as a
        byte with a descriptor."""

    def carry(self, one: int, other: int, /) -> bool:
        """From now on each of two connected sockets gets what the other says. They stay the caller's to close."""

    def end(self, timeout: float | None, /) -> None:
        """Ends all of it, and returns when it is gone."""

class Handle:
    """A started container; kills and removes it when it goes away, in the process that made it."""

    def run_command(self, request: Request, /) -> Outcome:
        """One command in this container, from its start to its end."""

    def start_command(self, request: Request, /) -> Handle:
        """A command in this container; the handle's ``pidfd`` is no pidfd, but readable when the command has
        ended, and its ``pid`` is as the container counts."""

    def serve_files(self, who: Who | None, strict: bool, socket: int, /) -> Handle:
        """A process inside that works on files for the other end of ``socket``; ``strict``: without capabilities."""

    def open_terminal(self) -> tuple[int, int] | None:
        """The outer and the inner side of one that has a name inside; None where none can be had."""

    def read_inside(self, path: str, most: int, timeout: float | None, /) -> bytes | None:
        """A small regular file as the container sees it; None where there is none. OSError otherwise."""

    def socket_inside(
        self, family: int, host: bytes, port: int, listens: bool, timeout: float | None, /
    ) -> tuple[int, bool]:
        """A listening or connecting socket in its network, or one connected to the path ``host`` inside; whether the
        connection is still to come. LaunchError ESHUTDOWN: it has ended."""

    def terminate(self, number: int, /) -> None:
        """Sends a signal to all processes; it ends with the last of them, or after a second."""

    def close_living(self) -> bool:
        """Has its init end; False where it has a program of its own."""

    @property
    def counts_cpu_time(self) -> bool:
        """Whether its cgroup does."""

    @property
    def takes_commands(self) -> bool:
        """Whether it has an init for them, and that hasn't ended."""

    @property
    def ending(self) -> bool:
        """Whether its init has let go of the caller."""

    @property
    def uid(self) -> int:
        """Of its commands where nobody else is named."""

    @property
    def host_pid(self) -> int | None:
        """As this process's PID namespace counts, or None."""

    @property
    def pid(self) -> int: ...
    @property
    def id(self) -> str:
        """12 hexadecimal digits, made by the launch."""

    @property
    def pidfd(self) -> int: ...
    @property
    def owned(self) -> bool:
        """False in a process that was forked from the one that started it."""

    @property
    def startup(self) -> float:
        """Seconds from the call to execve."""

    @property
    def trace(self) -> list[tuple[str, int]] | None:
        """(stage, nanoseconds since the call), if it was asked for."""

    def take_stream(self, which: int, /) -> int:
        """Our end of the pipe to 0, 1 or 2, now the caller's to close; -1 if there is none."""

    def poll(self) -> tuple[int | None, str | None] | None:
        """None while it runs, else (returncode or None if it was taken, limit that ended it)."""

    def over(self) -> bool:
        """Of a command: whether all that has come of it is gone. A container is over as its pidfd is readable."""

    def wait(self, timeout: float | None, /) -> bool:
        """Waits by pidfd; False when the time is over."""

    def send_signal(self, number: int, /) -> bool: ...
    def kill(self) -> bool: ...
    def end(self) -> bool:
        """Kills it and waits; False where it hangs in the kernel."""

    def hopeless(self, killed_for: float, /) -> bool:
        """Killed so many seconds ago, and will not die soon."""

    def give_up(self) -> None:
        """It was killed and hangs in the kernel: nobody waits for it any more, now or when the handle goes."""

    def insist_on_room(self, program: str | bytes, /) -> None:
        """LaunchError, stage exec, where it was killed for memory and has less than any program needs."""

    def usage(self) -> tuple[Any, ...]:
        """wall user system memory_peak pids_peak io_read io_written memory pids."""

    def release(self) -> None:
        """Closes the descriptors of a container whose poll() has answered."""

    @staticmethod
    def is_local(directory: str, /) -> bool:
        """Whether files there are read without a server that may never answer. Asks the file system, which may hang."""

    def freeze(self, frozen: bool, /) -> bool: ...
    def update(self, changes: Iterable[tuple[int, bytes, bytes]], /) -> bool: ...
    def collect(
        self, paths: Sequence[str] | None, most: int, timeout: float | None, /
    ) -> tuple[dict[str, bytes], dict[str, tuple[int, str]]] | None:
        """Files of a container that was planned with hand_out and has ended, at most ``most`` bytes each; and
        of those that couldn't be taken (errno, what it means here)."""

class Template:
    """A pool of parked containers of one plan (csrc/parent/pool/warm_pool.h)."""

    def __init__(self, plan: Plan, size: int, /) -> None: ...
    @property
    def ready(self) -> int: ...
    @property
    def owned(self) -> bool: ...
    def close(self) -> None: ...
    def run(self, request: Request, /) -> Outcome: ...
    def start(self, request: Request, /) -> Handle: ...

def start(plan: Plan, request: Request, /) -> Handle: ...

class Pending:
    """A launch that was asked for. Whoever drops it ends what it has made, or will have made."""

    @property
    def number(self) -> int: ...
    @property
    def over(self) -> bool: ...
    def withdraw(self) -> bool:
        """Takes back what nobody has begun; False once it is begun."""

    def result(self) -> Handle:
        """Once, when it is over: what :func:`start` returns or raises."""

class Launches:
    """Launches beside the caller, in threads of the core's own (csrc/parent/pool/launch_pool.h)."""

    @property
    def fd(self) -> int:
        """Readable while finished() has something to tell."""

    def begin(self, plan: Plan, request: Request, /) -> Pending:
        """:func:`start` by another thread."""

    def finished(self) -> list[int]:
        """The numbers of those that are over since the last call."""

    def close(self) -> None:
        """Drops what isn't begun; the threads end."""

def run(plan: Plan, request: Request, /) -> Outcome: ...
def open_plain(path: str | bytes, follow: bool, /) -> int:
    """A descriptor of the regular file ``path``, whose type is known before it is opened: EINVAL, EISDIR, ELOOP
    for what is none. ``follow``: through a link at its end."""

class Hidden:
    """What a container isn't shown of the host's directory ``root``: what any user may not read, and secrets by
    their names. ``shown``: paths in it that are shown all the same. ``watched``: a descriptor is kept by which the
    kernel tells of changes, if it can be had; it is ``before``'s then if that has one."""

    watched: bool
    def __init__(self, root: str, shown: Sequence[str], before: Hidden | None, watched: bool, /) -> None: ...
    @property
    def rows(self) -> list[tuple[str, bool, int, int, int]]:
        """(path in it, whether it is hidden, mode, uid, gid). A directory that is shown but for something in it
        comes before that."""

    def holds(self) -> bool:
        """Whether nothing has come, gone or got another name there since; where it is ``watched``, nor another mode
        or content."""

def read_beneath(root: str, path: str, most: int, /) -> bytes | None:
    """The regular file ``path`` beneath ``root``, links followed there only, None if it isn't there. OSError:
    as open_plain; EFBIG for more than ``most`` bytes; EXDEV behind a mount, unless ``root`` is /."""

class Extractor:
    """A tar stream into a directory, and nowhere else (csrc/archive).

    POSIX.1-2017 pax (ustar and extended headers), the GNU tar manual (long names, sparse files), OCI image
    layer specification (whiteouts), openat2(2).

    Fills the directory open as ``root``, which stays the caller's.

    ``own``: give files to the owners that the archive names. ``max_depth`` (directories) and
    ``max_name`` (bytes) of a member's name, ``max_entries`` members: more is an error.

    ``feed`` takes the next piece of any size, ``finish`` the end of the stream; both answer None, or
    what is wrong with the archive (bytes: it may quote a stranger's names), after which the object
    is of no more use. The GIL is released meanwhile.

    ``complete``: whether the archive's end mark was seen. ``has_root``: whether it says anything of the root
    directory itself. ``entries``: members so far. ``left_out``:
    how many device nodes, owners and extended attributes this user may not set.
    """

    def __init__(self, root: int, *, own: bool, max_depth: int, max_name: int, max_entries: int) -> None: ...
    def feed(self, data: bytes, /) -> bytes | None: ...
    def finish(self) -> bytes | None: ...
    @property
    def complete(self) -> bool: ...
    @property
    def has_root(self) -> bool: ...
    @property
    def entries(self) -> int: ...
    @property
    def left_out(self) -> tuple[int, int, int]: ...
