"""The two calls: :func:`run`, subprocess.run in a container, and :func:`start`, which returns a Container."""

from __future__ import annotations

import os
import time

from pyminicon import _core, errors
from pyminicon.options import parse as specs
from pyminicon.request import NOT_RUN, announce, ask, run_request, serve, take_flag, wants_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.container import Container
    from pyminicon.options import Spec
    from pyminicon.plan import Plan
    from pyminicon.result import Result


def run(args: Any, **options: Any) -> Result[Any]:
    """Runs ``args`` in a container of its own and waits for it: subprocess.run, in a container.

    Raises :class:`SpecError` before anything is started, :class:`LaunchError` when the launch failed
    (nothing is left then), :class:`TimeoutExpired` after ``timeout`` with what was captured,
    :class:`CalledProcessError` with ``check=True``. The options, keyword only; docs/usage.md says more.

    subprocess's own, with the same meaning::

      input=None              fed to stdin: bytes, or a str with text
      stdin=None              None inherits; a descriptor, a file, PIPE or DEVNULL
      stdout=None             the same
      stderr=None             the same, or STDOUT
      capture_output=False    stdout and stderr are PIPEs
      text=None               str instead of bytes
      universal_newlines=None  the same as text
      encoding=None           of text; utf-8
      errors=None             how text is decoded: a handler of codecs
      timeout=None            seconds until TimeoutExpired; the container is ended
      check=False             CalledProcessError where returncode isn't 0
      env=None                variables beside PATH HOME TERM HOSTNAME; nothing is inherited
      cwd=None                the working directory inside; "/" or the image's
      pass_fds=()             descriptors that go in under their numbers
      executable=None         the program to run in the place of args[0]
      group=None              a gid, or a name of the image's group file
      extra_groups=()         the same, of further groups
      umask=18                of the program, 0o022
      process_group=0         its own, which every container's program leads

    the container::

      image='host'            "host", "python", a path with a slash, or a name in the image store
      host_etc=()             for "host", "python": names in /etc that are shown though hidden
      entrypoint=None         instead of the image's own entry point
      read_only=False         no writable layer over the image
      storage='tmpfs'         where that layer lies: "tmpfs[:size=1g]" or "disk"
      user=None               "uid[:gid]", or a name in the image's passwd
      make_cwd=False          make cwd where the image doesn't have it
      stop_signal=None        what terminate() sends: SIGTERM, or the image's own
      hostname=None           the container's id where none is given
      add_host=()             ["name:address"] for /etc/hosts
      dns=()                  addresses of name servers
      sysctls=None            {"net.ipv4.ip_forward": "1"}: settings of the container's own network
      volumes=()              ["source:target[:ro]"]
      tmpfs=()                ["target[:size=64m]"]
      files=None              {"target": bytes or path}, put in before the start
      collect=None            paths that are taken out after the end, in Result.files
      collect_max=16777216    bytes of each of them
      publish=()              ["[address:]port:port inside"]: ports of the caller's that lead inside
      egress=None             ["example.com", "10.1.0.0/16:5432"], or a function: what a proxy lets out
      egress_headers=None     {"host": {"Name": "value"}}, added by the proxy to plain HTTP
      network='none'          "none": its own loopback; "off": no sockets but AF_UNIX;
                              "host"; "pasta": the caller's way out, by passt's pasta
      pid='private'           PID namespace, or "host"
      ipc='private'           IPC namespace, or "host"
      uts='private'           UTS namespace (host name), or "host"
      cgroupns='private'      cgroup namespace, or "host"
      time='host'             time namespace; "private": clocks since boot begin at 0
      userns='auto'           user namespace: "host", "private" or "inside:outside:count[,...]"
      init=False              a small pid 1 that reaps and forwards signals
      tty=False               (start) a terminal of its own
      detach=False            (start) it outlives this process
      name=None               (start, with detach) by which it is found
      labels=None             (start, with detach) {"key": "value"}

    limits::

      memory=None             bytes, or "64M"
      memory_swap=None        memory and swap together; -1: swap without limit
      cpus=None               1.5: one and a half processors
      cpu_weight=None         1 to 10000; 100 is normal
      cpuset=None             "0-2,4"
      pids=None               processes and threads at a time
      io_weight=None          1 to 10000; 100 is normal
      wall_time=None          seconds; ends the container and says so in Result.limit
      cpu_time=None           seconds of CPU time; the same
      max_output=None         bytes of stdout and stderr together; the same
      overflow='kill'         "trim": max_output of each is kept, its first and last half
      usage=False             count memory, processes and I/O even where no limit asks for it
      cgroup_parent=None      make the container's cgroup there
      rlimits=None            {"nofile": (256, 512)}: limits of each process

    privileges::

      cap_add=()              capabilities beside docker's fourteen
      cap_drop=()             capabilities that it doesn't get
      seccomp='default'       "default", "unconfined", or a profile: a path or a dict
      systempaths='default'   "unconfined": nothing of /proc and /sys is hidden or read-only
      no_new_privileges=True  setuid programs give nothing
      cancel=None             a Cancel: its cancel() ends what was begun, and Cancelled is raised
      trace=False             note when each stage of the start began, in Result.trace
    """
    try:
        from pyminicon.plan.cache import planned
    except ImportError as error:
        raise errors.not_loaded(error) from error
    trace = take_flag(options, "trace")
    announce(args, options.get("image", "host"))
    begun = time.monotonic() if "timeout" in options else None
    try:
        spec, plan = planned(args, options, NOT_RUN)
    except errors.Expired:
        return expired(args, options)
    return run_plan(plan, spec, args, trace, begun)


def describe(function: Any, call: str) -> None:
    """Leads inspect and help() from ``**options`` to the whole signature, which is made when they ask for it.

    For ``run`` and ``start`` that is left to whoever asks the package for them: the command line doesn't.
    """

    class Described:
        @property
        def __wrapped__(self) -> Any:
            from pyminicon.options.types import described

            return described(function, call, run.__doc__ or "")

    function.__wrapped__ = Described()


def run_plan(
    plan: Plan, spec: Spec, args: Any, trace: bool = False, begun: float | None = None
) -> Result[Any]:
    """One run of a plan: one crossing into the core. Closes the plan's locks."""
    try:
        from pyminicon.result import make_result

        core_plan = plan.core or _core.Plan(plan.fields)
        serving = serve(spec) if spec.serves else None
        request = run_request(spec, plan.exec_spec, trace, begun, serving)
        try:
            outcome = ask(_core.run, spec, core_plan, request)
        finally:
            refused = None if serving is None else serving.ended()
        return make_result(spec, args, outcome, refused)
    except ImportError as error:
        raise errors.not_loaded(error) from error
    finally:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)


def start(args: Any = None, **options: Any) -> Container[Any]:
    """Starts ``args`` in a container of its own and returns at once: subprocess.Popen, in a container.

    Without ``args`` nothing runs in it but our init, and it lives until it is closed, killed or out of
    ``wall_time``: a container for commands (:meth:`Container.run`, :meth:`Container.start`). ``[]`` runs the
    image's own command.

    Takes run's options but ``input timeout check capture_output collect``. Raises SpecError and
    LaunchError as :func:`run` does. ``tty=True``: a terminal of its own, in the container's ``terminal``
    (:class:`pyminicon.terminal.Terminal`) unless stdin, stdout and stderr say which. ``detach=True``: it outlives
    this process, with ``name`` and ``labels``, and what it writes is kept in a log; :func:`attach` finds it again.
    """
    announce(args, options.get("image", "host"))
    if take_flag(options, "detach"):
        from pyminicon.detached.beginning import begin_for_good

        return attached(*begin_for_good(args, options))
    if wants_terminal(options) and args is not None:
        return _start_in_terminal(args, options)
    trace = take_flag(options, "trace")
    return _started(*planned_start(args, options), args, trace)


def _started(spec: Spec, plan: Plan, args: Any, trace: bool) -> Container[Any]:
    try:
        from pyminicon.container import start_plan
    except ImportError as error:
        for fd in plan.rootfs.lock_fds:
            os.close(fd)
        raise errors.not_loaded(error) from error
    return start_plan(spec, plan, args, trace)


def planned_start(args: Any, options: dict[str, Any]) -> tuple[Spec, Plan]:
    """What start was asked for, and its plan; within its ``wall_time``, if it has one."""
    try:
        from pyminicon.plan.cache import planned
    except ImportError as error:
        raise errors.not_loaded(error) from error
    if args is None:
        args, options = without_args(options)
    try:
        return planned(args, options, specs.ONLY_RUN)
    except errors.Expired:
        raise too_late(options) from None


def without_args(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a container is planned by that is to take commands alone. Raises SpecError."""
    from pyminicon.living import asked

    return asked.container(options)


def expired(args: Any, options: dict[str, Any]) -> Result[Any]:
    """What run answers where planning took too long: TimeoutExpired, or the Result of a container that
    ``wall_time`` has ended."""
    from pyminicon import result

    names = {"timeout", "wall_time", "check", "collect"} & options.keys()
    spec = specs.parse(args, {name: options[name] for name in names})
    return result.make_result(spec, args, result.ended_in_setup(spec))


def too_late(options: dict[str, Any]) -> errors.LaunchError:
    """What a file system that doesn't answer makes of a start."""
    import errno

    return errors.LaunchError(errno.ETIMEDOUT, "prepare", os.fsdecode(options.get("image", "host")))


def _start_in_terminal(args: Any, options: dict[str, Any]) -> Container[Any]:
    """:func:`start` with a terminal of its own as stdin, stdout and stderr; the Container has it as ``terminal``."""
    from pyminicon.terminal import Terminal

    trace = take_flag(options, "trace")
    terminal = Terminal()
    try:
        inner = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inner)
        checked, made = planned_start(args, {**options, **inner})
        terminal.give_to(made.outer_uid())
        box = _started(checked, made, args, trace)
    except BaseException:
        terminal.close()
        raise
    terminal.close_inner()
    box.terminal = terminal
    return box


def attached(directory: str, to: Any = None, about: Any = None) -> Container[Any]:
    """The Container for one that a keeper has: nothing here ends it, and nobody is warned that it runs. ``to``: a
    line to the keeper. ``about``: what that has told, with a descriptor on the line."""
    from pyminicon.container import PRIVATE, Container
    from pyminicon.detached import remote

    far: Any = remote.Container(directory, to, about)
    plan: Any = remote.Plan(far.about)
    box: Container[Any] = Container(PRIVATE, far, remote.spec_of(far.about), [], far.about["args"], plan)
    box._serving = remote.Served(far)
    box._kept.let_go()
    return box
