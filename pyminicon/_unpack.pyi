"""The extractor in C++ (csrc/archive): a tar stream into a directory, and nowhere else.

POSIX.1-2017 pax (ustar and extended headers), the GNU tar manual (long names, sparse files), OCI image
layer specification (whiteouts), openat2(2).
"""

class Extractor:
    """Fills the directory open as ``root``, which stays the caller's.

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
