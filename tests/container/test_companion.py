"""The network namespace is made beside the launch where a processor is to spare, and by the launch elsewhere."""

from __future__ import annotations

import os
import threading

import pyminicon
from tests.support import leftovers
from tests.support.python import fresh
from tests.support.run import out

INSIDE = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; readlink /proc/self/ns/net"


def test_the_network_is_the_containers_own_and_only_loopback_is_in_it() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    device, namespace = out(INSIDE).split()
    assert device == "lo"
    assert namespace != before
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_no_companion_is_left_when_a_launch_returns() -> None:
    pyminicon.run(["true"])
    before = leftovers.children()
    for _ in range(20):
        with pyminicon.start(["sleep", "30"]) as box:
            (mine,) = leftovers.children() - before
            assert mine.startswith(f"{box.pid} ")
    assert leftovers.children() == before


def test_on_one_processor_the_launch_makes_it_itself() -> None:
    code = f"""
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import pyminicon
r = pyminicon.run(["sh", "-c", {INSIDE!r}], capture_output=True, text=True, check=True)
print(r.stdout.split()[0], os.sched_getaffinity(0) == {{min(os.sched_getaffinity(0))}})
"""
    assert fresh(code).stdout == "lo True\n"


def test_many_threads_at_once_each_get_their_own() -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(out(f"{INSIDE}; sleep 0.5"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {words.split()[0] for words in seen} == {"lo"}
    assert len({words.split()[1] for words in seen}) == len(threads)
