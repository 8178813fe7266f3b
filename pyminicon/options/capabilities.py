"""Capabilities by name and number, and the set a container gets.

A set of capabilities is an int here, bit N for capability N, as the kernel writes it in
``/proc/PID/status``. Names are capabilities(7)'s; ``CAP_`` in front and the case don't matter.

Never imported when a launch asks for no other capabilities than the default's.
"""

from __future__ import annotations

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers, linux/capability.h. CHECKPOINT_RESTORE came with Linux 5.9.
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()

NUMBERS = {name: number for number, name in enumerate(NAMES)}

# Docker's fourteen.
DEFAULT = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID "
    "SETPCAP SETUID SYS_CHROOT".split()
)


def mask_of(names: Iterable[str]) -> int:
    """The bits of ``names`` (as in :data:`NAMES`); KeyError for any other word."""
    mask = 0
    for name in names:
        mask |= 1 << NUMBERS[name]
    return mask


DEFAULT_MASK = mask_of(DEFAULT)

#: A bit of no capability's, for the filter: NET_RAW was asked for by its name. Docker's set has it, for ping; what
#: more it gives, rings of packets in memory that no cgroup counts, is had on request.
PACKETS = 1 << 63

_last = -1


def last_cap() -> int:
    """The number of the running kernel's last capability.

    /proc says it since Linux 3.2; where /proc is masked or not mounted the kernel is asked about one
    capability after the other (prctl(2), PR_CAPBSET_READ fails with EINVAL beyond the last).
    """
    global _last
    if _last < 0:
        try:
            with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
                _last = int(file.read())
        except (OSError, ValueError):
            _last = _last_cap_by_asking()
    return _last


def _last_cap_by_asking() -> int:
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    pr_capbset_read = 23
    number = 0
    while number < 63 and prctl(pr_capbset_read, number + 1, 0, 0, 0) >= 0:
        number += 1
    return number


def number_of(name: str, option: str = "cap_add") -> int:
    """The number of the capability ``name``, whether or not the running kernel has it.

    ``CAP_41`` is capability 41: how one newer than this module is written, if the running kernel has it.
    Raises SpecError for ``option`` if there is no such capability.
    """
    word = name.strip().upper()
    word = word[4:] if word.startswith("CAP_") else word
    if word in NUMBERS:
        return NUMBERS[word]
    # Only the plain form, so that a capability has one spelling; int() would take "4_1" and "٤١" as well.
    plain = word.isascii() and word.isdigit() and len(word) < 3 and str(int(word)) == word
    if plain and len(NAMES) <= int(word) <= last_cap():
        return int(word)
    raise SpecError(option, f"takes names of capabilities or ALL, not {name!r}{_nearest(word)}")


def _nearest(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, [*NAMES, "ALL"], 1)
    return f" (did you mean {near[0]}?)" if near else ""


def resolve(cap_add: Iterable[str] | None = None, cap_drop: Iterable[str] | None = None) -> int:
    """The set a container gets: docker's default without ``cap_drop`` and with ``cap_add``, as bits.

    ``ALL`` in ``cap_add`` stands for every capability of the running kernel, less those in ``cap_drop``;
    ``ALL`` in ``cap_drop`` leaves those in ``cap_add``. Default: :data:`DEFAULT_MASK`.
    Raises SpecError for a word that is no capability, for one that the running kernel doesn't have,
    and for one that is both added and dropped: which of the two was meant can't be known.
    """
    add, add_all = _read("cap_add", cap_add)
    drop, drop_all = _read("cap_drop", cap_drop)
    if add & drop or (add_all and drop_all):
        both = "ALL" if not add & drop else ", ".join(name[4:] for name in names(add & drop))
        raise SpecError("cap_drop", f"{both} is in cap_add as well: leave it in one of them")
    every = (2 << last_cap()) - 1
    if add & ~every:
        missing = ", ".join(names(add & ~every))
        raise SpecError("cap_add", f"this kernel doesn't have {missing} (its last is number {last_cap()})")
    if add_all:
        return every & ~drop
    if drop_all:
        return add
    return (DEFAULT_MASK & ~drop) | add


def for_filter(capabilities: int, cap_add: Iterable[str] | None) -> int:
    """The set ``capabilities`` as the default filter goes by it."""
    return capabilities | (PACKETS if _read("cap_add", cap_add)[0] & mask_of(("NET_RAW",)) else 0)


def without_network(capabilities: int, cap_add: Iterable[str] | None) -> int:
    """The set ``capabilities`` where there is no network: docker's NET_RAW would be for nothing.

    Raises SpecError where one that configures a network was asked for: a socket of AF_UNIX is enough to set
    an interface up with it (netdevice(7)).
    """
    asked, everything = _read("cap_add", cap_add)
    wanted = (capabilities if everything else asked) & mask_of(("NET_ADMIN", "NET_RAW"))
    if wanted:
        word = names(wanted)[0]
        raise SpecError("cap_add", f"{word} is for a network, and network='off' has none: leave one of them")
    return capabilities & ~mask_of(("NET_ADMIN", "NET_RAW"))


def _read(option: str, words: Iterable[str] | None) -> tuple[int, bool]:
    """(the capabilities named, whether ALL is among the words)."""
    if words is None:
        return 0, False
    if isinstance(words, (str, bytes)) or not hasattr(words, "__iter__"):
        raise SpecError(option, f"takes a list of capabilities, not {words!r}")
    mask, everything = 0, False
    for word in words:
        if not isinstance(word, str):
            raise SpecError(option, f"takes names of capabilities, not {word!r}")
        if word.strip().upper() in ("ALL", "CAP_ALL"):
            everything = True
        else:
            mask |= 1 << number_of(word, option)
    return mask, everything


def names(mask: int) -> list[str]:
    """The names of the bits in ``mask``, by number: ``["CAP_CHOWN", …]``; ``CAP_41`` where there is none."""
    found = []
    for number in range(mask.bit_length()):
        if mask >> number & 1:
            found.append(f"CAP_{NAMES[number]}" if number < len(NAMES) else f"CAP_{number}")
    return found
