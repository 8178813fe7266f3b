"""Write the default seccomp filter as a C++ header: ``python make_seccomp.py OUT.h``.

Run when the package is built. Needs libseccomp.so.2 and nothing else; the package's own
``__init__`` isn't run, whose compiled part doesn't exist yet.
"""

from __future__ import annotations

import os
import sys
import types

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "pyminicon")


def default_program() -> bytes:
    """The default filter for the default capabilities, as packed ``struct sock_filter`` instructions."""
    package = types.ModuleType("pyminicon")
    package.__path__ = [ROOT]
    sys.modules["pyminicon"] = package
    from pyminicon import seccomp
    from pyminicon.options import capabilities

    made = seccomp.program("default", capabilities.DEFAULT_MASK)
    assert made is not None
    return made


def header(program: bytes) -> str:
    """The C++ header that holds ``program``."""
    lines = [
        ", ".join(f"0x{byte:02x}" for byte in program[at : at + 16]) for at in range(0, len(program), 16)
    ]
    body = ",\n    ".join(lines)
    return f"""// Made by tools/make_seccomp.py when the package is built: not to be edited.
#pragma once

namespace pyminicon {{

// The default filter for the default capabilities: struct sock_filter[{len(program) // 8}] of this machine's
// architecture and byte order, to be loaded under no_new_privs.
alignas(8) inline constexpr unsigned char kDefaultSeccomp[] = {{
    {body},
}};

}}  // namespace pyminicon
"""


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: make_seccomp.py OUT.h", file=sys.stderr)
        return 2
    try:
        text = header(default_program())
    except ValueError as error:  # SpecError: libseccomp isn't there, or no profile for this architecture
        print(f"make_seccomp: {error}", file=sys.stderr)
        return 1
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
