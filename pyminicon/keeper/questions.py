"""What may be asked of a keeper. Each question: (keeper, who asks, the message, its descriptors) -> (answer,), or None
where that comes later."""

from __future__ import annotations

import os

from pyminicon import errors
from pyminicon.keeper.command import Command, asked, request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from pyminicon.keeper.kinds import Client, Keeper

    Message: TypeAlias = dict[str, Any]
    Answer: TypeAlias = tuple[Any] | None

_PATIENCE = 1.0  # seconds for a process inside to answer: meanwhile nobody else is heard


def about(keeper: Keeper) -> dict[str, Any]:
    """All that a Container is made of elsewhere."""
    box = keeper.box
    return {
        "id": box.id,
        "pid": box.pid,
        "args": box.args,
        "startup": box.startup,
        "uid": box._handle.uid,
        "counts_cpu_time": True,  # of a command, by a cgroup that its keeper plans where there is none
        "has_limits": box.has_limits,
        "environment": keeper.fields["environment"],
        "cwd": keeper.fields["cwd"],
        "image": keeper.fields["image"],
        "stop_signal": box.stop_signal,
        "ports": box.ports,
        "plan": box.plan_fields(),
    }


def _about(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """The same; its pidfd comes along, and when it ends how it did."""
    client.speaks_on = True
    client.say({"ok": about(keeper)}, [keeper.box.pidfd])
    return None


def _hello(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """Whether it listens."""
    return (None,)


def _streams(message: Message, fds: list[int]) -> list[Any]:
    """Of a command: PIPE, STDOUT, DEVNULL, or the next of the descriptors that came."""
    came = iter(fds)
    return [next(came) if which is None else which for which in message["streams"]]


def _insist_on_going(keeper: Keeper) -> None:
    if keeper.fields["status"] == "paused":
        name = keeper.fields["name"]
        raise errors.Error(f"container {name} is paused: pyminicon unpause {name}")


def _exec(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """A command in Container.start's words. ``detach``: nobody waits for it."""
    _insist_on_going(keeper)
    streams = _streams(message, fds)
    request = request_of(keeper, message["args"], message["options"], streams)
    Command(keeper, client, request, _taken(fds), bool(message.get("detach")))
    return None


def _command(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """One that was checked elsewhere."""
    _insist_on_going(keeper)
    request = asked(keeper.box, streams=_streams(message, fds), **message["request"])
    Command(keeper, client, request, _taken(fds))
    return None


def _taken(fds: list[int]) -> list[int]:
    mine = list(fds)
    fds.clear()
    return mine


def _of_command(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """Words for the command that runs on this line; they have no answer."""
    command = client.command
    if command is None or command.handle is None:
        return None
    if "signal" in message:
        command.handle.send_signal(message["signal"])
    elif "kill" in message:
        command.handle.kill()
    elif "leave" in message:
        command.left(_taken(fds))
    elif "usage" in message:
        client.say({"usage": command.handle.usage()})
    return None


def _files(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """A process inside that works on files, for the socket that came; it ends with this line."""
    _insist_on_going(keeper)
    client.worker = keeper.box._handle.serve_files(message["who"], message["strict"], fds[0])
    return (None,)


def _read(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    _insist_on_going(keeper)
    return (
        keeper.box._handle.read_inside(
            message["path"], message["most"], min(message["patience"] or _PATIENCE, _PATIENCE)
        ),
    )


def _terminal(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """Both sides of a terminal that has a name inside, or neither."""
    _insist_on_going(keeper)
    pair = keeper.box._handle.open_terminal() or ()
    client.say({"ok": len(pair)}, pair)
    for fd in pair:
        os.close(fd)
    return None


def _socket(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """A socket in the container's network."""
    _insist_on_going(keeper)
    family, host, port, listens, timeout = message["request"]
    patience = _PATIENCE if timeout is None else min(timeout, _PATIENCE)
    fd, pending = keeper.box._handle.socket_inside(family, host, port, listens, patience)
    client.say({"ok": pending}, [fd])
    os.close(fd)
    return None


def _wait(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    client.waits = True
    return None


def _stop(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    keeper.stop(message.get("timeout"), message.get("signal"))
    client.waits = True
    return None


def _signal(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    if message["signal"] == 9:
        keeper.kill()
    else:
        keeper.box._handle.send_signal(message["signal"])
    return (None,)


def _pass_on(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """Of somebody attached, who waits for no answer."""
    keeper.box._handle.send_signal(message["signal"])
    return None


def _terminate(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    keeper.box.terminate()
    return (None,)


def _remove(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """The end, and nothing stays."""
    keeper.wish["remove"] = keeper.fields["remove"] = True
    keeper.kill()
    client.waits = True
    return None


def _pause(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    keeper.pause(message["paused"])
    return (None,)


def _stats(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    return (keeper.box._handle.usage(),)


def _refused(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    return ([tuple(one) for one in keeper.box.refused],)


def _processes(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    from pyminicon.living.processes import inside

    box: Any = keeper.box
    return ([[getattr(one, name) for name in one.__slots__] for one in inside(box, True)],)


def _update(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    keeper.box._handle.update(message["changes"])
    return (None,)


def _attach(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """From now on what it writes comes over this line."""
    if keeper.box.terminal is None and keeper.box.stdout < 0:
        raise errors.Error("it has no program to attach to: pyminicon exec")
    client.attached = True
    return ({"tty": keeper.box.terminal is not None, "stdin": keeper.takes_input},)


def _follow(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    """How much has been logged, as soon as that is more than ``seen``."""
    if keeper.log.total > message["seen"]:
        return (keeper.log.total,)
    client.follows = client.waits = True
    return None


def _typed(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    if not keeper.feed(message["data"]):
        client.hold()
    return None


def _resize(keeper: Keeper, client: Client, message: Message, fds: list[int]) -> Answer:
    if keeper.box.terminal is not None:
        keeper.box.terminal.resize(*message["size"])
    return None


ALL: dict[str, Callable[..., Any]] = {
    "hello": _hello,
    "about": _about,
    "exec": _exec,
    "command": _command,
    "of command": _of_command,
    "files": _files,
    "read": _read,
    "socket": _socket,
    "terminal": _terminal,
    "wait": _wait,
    "stop": _stop,
    "signal": _signal,
    "pass on": _pass_on,
    "terminate": _terminate,
    "remove": _remove,
    "pause": _pause,
    "stats": _stats,
    "refused": _refused,
    "processes": _processes,
    "update": _update,
    "attach": _attach,
    "follow": _follow,
    "typed": _typed,
    "resize": _resize,
}
