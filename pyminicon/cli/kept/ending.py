"""``stop kill wait rm pause unpause``: what becomes of containers."""

from __future__ import annotations

import sys

from pyminicon.cli.kept.verbs import each
from pyminicon.detached import asking, place, removing, state
from pyminicon.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KILL = 9


def _signal(given: dict[str, Any]) -> int | None:
    if "signal" not in given:
        return None
    from pyminicon.options.stop_signal import number

    found = number(given["signal"], 0)
    if not found:
        raise SpecError("--signal", f"takes a signal, as TERM or 15, not {given['signal']!r}")
    return found


def stop(given: dict[str, Any], names: list[str]) -> int:
    """Asks all of them first, and then waits for one after the other."""
    word = given.get("time")
    if word is not None and not word.removeprefix("-").isdigit():
        raise SpecError("--time", f"takes whole seconds, or -1 for ever, not {word!r}")
    question: dict[str, Any] = {"do": "stop", "timeout": None if word is None else int(word)}
    if "signal" in given:
        question["signal"] = _signal(given)
    lines: dict[str, Any] = {}
    ended: set[str] = set()

    def begin(name: str) -> None:
        directory = place.find(name)
        try:
            to = asking.connect(directory)
        except asking.NotRunning:  # which is what was asked for
            ended.add(name)
            return
        lines[name] = directory, to
        _say(to, question)

    status = each(begin, names, quiet=True)

    def end(name: str) -> None:
        if name in lines:
            directory, to = lines[name]
            _heard(to)
            asking.place_left(directory)

    return each(end, [name for name in names if name in lines or name in ended]) or status


def _is_there(name: str) -> bool:
    try:
        return bool(place.find(name))
    except Error:
        return False


def _say(to: Any, question: dict[str, Any]) -> None:
    """Asks without waiting for the answer; whoever hears it sees whether the keeper has gone meanwhile."""
    try:
        to.send(question)
    except ConnectionResetError:
        pass


def _heard(to: Any) -> dict[str, Any] | None:
    """The end of the container, or None where its keeper was killed."""
    try:
        end: dict[str, Any] = asking.answer(to)
        return end
    except ConnectionResetError:
        return None
    finally:
        to.close()


def kill(given: dict[str, Any], names: list[str]) -> int:
    """Of SIGKILL the end is waited for, as it can't be held up."""
    number = _signal(given) or _KILL

    def act(name: str) -> None:
        directory = place.find(name)
        if number != _KILL:
            asking.once(directory, {"do": "signal", "signal": number})
            return
        try:
            to = asking.connect(directory)
        except asking.Silent as silent:
            asking.end_keeper(directory, silent.pid)
            return
        try:
            asking.ask(to, {"do": "signal", "signal": number})
        except ConnectionResetError:  # it has just ended
            pass
        _say(to, {"do": "wait"})
        _heard(to)
        asking.place_left(directory)

    return each(act, names)


def wait(given: dict[str, Any], names: list[str]) -> int:
    """Prints an exit status a line."""

    def act(name: str) -> None:
        directory = place.find(name)
        try:
            to = asking.connect(directory)
            _say(to, {"do": "wait"})
            end = _heard(to)
        except asking.NotRunning:
            end = None
        if end is None:
            asking.place_left(directory)
            end = state.read(directory)
        if end is None:
            raise place.NoSuchContainer(f"no such container: {name}")
        sys.stdout.write(f"{state.exit_status(end)}\n")

    return each(act, names, quiet=True)


def rm(given: dict[str, Any], names: list[str]) -> int:
    """Removes what has ended; with force what runs as well."""
    force = bool(given.get("force"))

    def act(name: str) -> None:
        directory = place.find(name)
        if not force:
            removing.remove(directory)
            return
        try:
            _end(directory)
            removing.remove(directory)
        except place.NoSuchContainer:  # its keeper has seen to it
            pass

    return each(act, [name for name in names if _is_there(name)] if force else names)


def _end(directory: str) -> None:
    try:
        to = asking.connect(directory)
        _say(to, {"do": "remove"})
        _heard(to)
    except asking.NotRunning:
        pass
    except asking.Silent as silent:
        asking.end_keeper(directory, silent.pid)
    asking.place_left(directory)


def pause(given: dict[str, Any], names: list[str]) -> int:
    """See the verb's help."""
    return each(lambda name: asking.once(place.find(name), {"do": "pause", "paused": True}), names)


def unpause(given: dict[str, Any], names: list[str]) -> int:
    """See the verb's help."""
    return each(lambda name: asking.once(place.find(name), {"do": "pause", "paused": False}), names)
