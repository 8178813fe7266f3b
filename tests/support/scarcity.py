"""Does one kind of thing again and again, and each time one thing more that the kernel is asked for isn't there.

    scarce python -m tests.support.scarcity KIND FIRST STEP

prints a line of JSON a try. Run as a process of its own, so that a hang is the caller's timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyminicon
import pyminicon.aio
from pyminicon.cli import main as cli
from tests.support import leftovers

ECHO = ["/bin/echo", "there"]
#: What the core may make once and keep: threads of a pool, of limits, of a template that is closing.
OWN_THREADS = 24
#: CPython's own word, of a thread of Python's that has had no memory to begin with.
UNRAISABLE = r"Exception ignored in thread started by: .*\nMemoryError: \n"


def run(**options: Any) -> None:
    r = pyminicon.run(ECHO, capture_output=True, timeout=60, **options)
    assert (r.returncode, r.stdout) == (0, b"there\n"), r
    if "collect" in options:
        assert (r.files is not None and "/etc/passwd" in r.files) or r.collect_errors, r


def start(**options: Any) -> None:
    with pyminicon.start(ECHO, stdout=pyminicon.PIPE, **options) as box:
        assert box.communicate(timeout=60)[0] == b"there\n"
        assert box.returncode == 0, box.returncode


def terminal() -> None:
    with pyminicon.start(ECHO, tty=True) as box:
        assert box.wait(60) == 0


def template() -> None:
    with pyminicon.Template(stock=2) as made:
        for _ in range(3):
            assert made.run(ECHO, capture_output=True, timeout=60).stdout == b"there\n"


async def several(number: int) -> None:
    runs = (pyminicon.aio.run(ECHO, capture_output=True, timeout=60) for _ in range(number))
    for r in await asyncio.gather(*runs):
        assert (r.returncode, r.stdout) == (0, b"there\n"), r


async def streaming() -> None:
    box = await pyminicon.aio.start(ECHO, stdout=pyminicon.PIPE)
    async with box:
        assert (await box.communicate())[0] == b"there\n"


def lived_in(box: Any) -> None:
    """Commands and files of one that lives."""
    r = box.run(ECHO, capture_output=True, timeout=60)
    assert (r.returncode, r.stdout) == (0, b"there\n"), r
    with box.start(ECHO, stdout=pyminicon.PIPE) as command:
        assert command.communicate(timeout=60)[0] == b"there\n"
    note = box.path("/tmp/note")
    note.write_bytes(b"y")
    assert note.read_bytes() == b"y"


def living() -> None:
    with pyminicon.start(cwd="/tmp") as box:
        lived_in(box)


async def living_beside() -> None:
    async with await pyminicon.aio.start() as box:
        r = await box.run(ECHO, capture_output=True, timeout=60)
        assert (r.returncode, r.stdout) == (0, b"there\n"), r


def published() -> None:
    with (
        pyminicon.start(publish=["0:80"]) as box,
        box.listen(80) as inside,
        box.connect(80, timeout=30) as outside,
        inside.accept()[0] as met,
    ):
        outside.sendall(b"there")
        assert met.recv(5) == b"there"


def detached() -> None:
    box = pyminicon.start(["sleep", "1000"], detach=True, name="scarce")
    assert box.poll() is None


def begun(**options: Any) -> Callable[[], None]:
    """One that lives, made while everything can be had; whatever is then refused, it or its keeper, is over at the
    next try."""

    def make() -> None:
        pyminicon.start(["sleep", "1000"], detach=True, name="lives", **options)

    return make


def attached() -> None:
    with pyminicon.attach("lives") as box:
        lived_in(box)


def copied() -> None:
    with tempfile.TemporaryDirectory() as directory, pyminicon.attach("lives") as box:
        Path(directory, "note").write_bytes(b"y")
        box.copy_in(f"{directory}/note", "/tmp/copied")
        box.copy_out("/tmp/copied", f"{directory}/back")
        assert Path(directory, "back").read_bytes() == b"y"


@contextlib.contextmanager
def closed_for_want() -> Iterator[None]:
    """A connection that comes to its end: there was no descriptor for its other half, which nobody can say."""
    try:
        yield
    except (ConnectionResetError, BrokenPipeError):
        raise OSError(24, "closed") from None


def heard(sock: socket.socket) -> bytes:
    """What comes."""
    sock.settimeout(30)
    with closed_for_want():
        if came := sock.recv(100):
            return came
        raise ConnectionResetError


def say(sock: socket.socket, words: bytes) -> None:
    with closed_for_want():
        sock.sendall(words)


def reach(address: tuple[str, int]) -> socket.socket:
    with closed_for_want():
        return socket.create_connection(address, 30)


def served() -> None:
    """Its keeper serves ports and names."""
    with pyminicon.attach("lives") as box:
        with box.listen(80) as inside, reach(box.ports[80]) as outside:
            if outside in select.select([inside, outside], [], [], 30)[0]:
                heard(outside)
            with inside.accept()[0] as met:
                say(outside, b"there")
                assert heard(met) == b"there"
        proxy = box.run(["sh", "-c", "echo $HTTP_PROXY"], capture_output=True, text=True, timeout=60).stdout
        with box.connect(int(proxy.strip().rstrip("/").rpartition(":")[2]), timeout=30) as asked:
            say(asked, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
            assert b" 403 " in heard(asked)


def commanded(*words: str) -> Callable[[], None]:
    """A command of the command line, in a fork: an interpreter's own beginning isn't ours to try."""

    def once() -> None:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if pid == 0:
                try:
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    sys.argv = ["pyminicon", *words]
                    cli.main()
                finally:
                    os._exit(99)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            for stream in (out, err):
                stream.seek(0)
            said, why = out.read(), re.sub(UNRAISABLE, "", err.read().decode())
            assert status in (0, 125) and why.count("\n") == (status != 0), (status, why)
            if status != 0:
                raise pyminicon.Error(why)
            assert said == (b"there\n" if words[0] == "exec" else b""), said

    return once


def end_lives() -> list[str]:
    """It goes on, whatever there wasn't for whoever spoke with it."""
    with pyminicon.attach("lives") as box:
        assert box.run(ECHO, capture_output=True, timeout=60).stdout == b"there\n"
    return []


def end_detached() -> list[str]:
    """Whatever start has said: whoever is listed can be ended, and then nobody runs."""
    command = [sys.executable, "-m", "pyminicon", "rm", "-f", "scarce"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    state = os.environ["PYMINICON_STATE"]
    left = [str(info) for info in pyminicon.containers()]
    deadline = time.monotonic() + leftovers.PATIENCE
    while (keepers := of_state(state)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left + keepers


def of_state(state: str) -> list[str]:
    """The other processes that have been told of that directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"PYMINICON_STATE={state}".encode() in told and int(pid) != os.getpid():
                found.append(f"{pid} {Path(f'/proc/{pid}/comm').read_text()}")
    return found


def pulled() -> None:
    assert pyminicon.pull(os.environ["SCARCE_IMAGE"])


def forget_pulled() -> list[str]:
    """What has been given up is taken up by the next pull, and has left nothing in the making then."""
    pulled()
    store = os.environ["PYMINICON_STORE"]
    left = os.listdir(f"{store}/tmp")
    shutil.rmtree(store, ignore_errors=True)
    return left


KINDS: dict[str, Callable[[], None]] = {
    "run": run,
    "init": lambda: run(init=True),
    # One id, which a process may map itself: the listener takes no_new_privs, with which newuidmap has no power.
    "userns": lambda: run(userns="private" if os.geteuid() == 0 else f"0:{os.geteuid()}:1"),
    "user": lambda: run(user="1000"),
    "limited": lambda: run(memory="64M", pids=20),
    "disk": lambda: run(storage="disk"),
    "collect": lambda: run(collect=["/etc/passwd"]),
    "files": lambda: run(files={"/tmp/x": b"y"}),
    "start": start,
    "tty": terminal,
    "held": lambda: start(stderr=pyminicon.STDOUT, wall_time=60, max_output=1000),
    "template": template,
    "aio": lambda: asyncio.run(several(1)),
    "aio_beside": lambda: asyncio.run(several(3)),
    "aio_start": lambda: asyncio.run(streaming()),
    "living": living,
    "aio_living": lambda: asyncio.run(living_beside()),
    "publish": published,
    "egress": lambda: run(egress=["example.com"]),
    "detached": detached,
    "pull": pulled,
    # A signal may interrupt a call of pasta's until the listener has looked at it, and pasta doesn't try again.
    "pasta": lambda: run(network="pasta"),
}
KINDS |= {
    "attach": attached,
    "copy": copied,
    "served": served,
    "exec": commanded("exec", "lives", *ECHO),
    "cp": commanded("cp", "/etc/hostname", "lives:/tmp/x"),
}
#: What is there before the first try, and is ended after the last.
BEFORE: dict[str, Callable[[], None]] = dict.fromkeys(("attach", "copy", "exec", "cp"), begun())
BEFORE["served"] = begun(publish=["0:80"], egress=["example.com"])
#: What is put away after each try, when everything can be had again; and what shouldn't be there.
AFTER: dict[str, Callable[[], list[str]]] = {"detached": end_detached, "pull": forget_pulled}
AFTER |= dict.fromkeys(BEFORE, end_lives)


class Scarce:
    def __init__(self) -> None:
        self._socket = socket.socket(fileno=int(os.environ["SCARCE_FD"]))
        self._socket.set_inheritable(False)

    def arm(self, number: int) -> None:
        self._socket.send(str(number).encode())
        assert self._socket.recv(64) == b"armed"

    def disarm(self) -> str | None:
        self._socket.send(b"0")
        name = self._socket.recv(64).decode().split()[0]
        return None if name == "none" else name


#: Of pasta where a signal has interrupted a call of its that a listener held: it doesn't try again.
_INTERRUPTED = "pasta: Network is down"


def outcome_of(once: Callable[[], None]) -> str:
    try:
        once()
    except (pyminicon.LaunchError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    except pyminicon.Error as error:  # a keeper's interpreter may have had nothing to begin with
        loader = "failed to map segment", "cannot map zero-fill pages"  # ld.so's words, for the core's file
        told = "keeper of the container ended before", *loader
        named = any(word in str(error) for word in (*told, *map(os.strerror, (11, 12, 24))))
        return f"{'' if named else 'bad '}{type(error).__name__}: {error}"
    except OSError as error:
        named = error.errno in (11, 12, 24)
        return f"{'' if named else 'bad '}{type(error).__name__}: {error}"
    except RuntimeError as error:  # CPython's own word for it, of a thread of Python's
        return f"{'' if str(error) == chr(99) + 'an' + chr(39) + 't start new thread' else 'bad '}RuntimeError: {error}"
    except BaseException as error:
        return f"bad {type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    scarce = Scarce()
    os.environ["PYMINICON_STATE"] = os.environ.get("SCARCE_STATE", "")  # who has it is begun from here
    kind, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    once = KINDS[kind]
    pyminicon.load()
    after = AFTER.get(kind, list)
    BEFORE.get(kind, list)()
    pyminicon.run(ECHO, stdout=pyminicon.DEVNULL)  # what the process makes once, it keeps
    for _ in range(2):
        tries = (outcome_of(once) for _ in range(5))
        outcome = next((each for each in tries if _INTERRUPTED not in each), _INTERRUPTED)
        assert outcome == "ok", outcome
        assert after() == []
    before = leftovers.count()
    threads = len(os.listdir("/proc/self/task"))
    number = first
    while True:
        scarce.arm(number)
        outcome = outcome_of(once)
        refused = scarce.disarm()
        if refused is None and _INTERRUPTED in outcome:  # nothing was refused
            outcome = outcome_of(once)
        line: dict[str, Any] = {"at": number, "refused": refused, "outcome": outcome}
        line["kept"] = after()
        line["blocked"] = [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        if refused is None or (number - first) // step % 8 == 7:
            pyminicon.run(
                ECHO, stdout=pyminicon.DEVNULL
            )  # a layer that couldn't be removed goes with the next launch
            line["left"] = leftovers.appeared(before)
            line["threads"] = len(os.listdir("/proc/self/task")) - threads
        print(json.dumps(line), flush=True)
        if refused is None:
            break
        number += step
    assert threading.active_count() < OWN_THREADS
    if kind in BEFORE:
        pyminicon.attach("lives").kill()


if __name__ == "__main__":
    main()
