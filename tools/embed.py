"""Write a file's bytes as a C++ array: embed.py FILE NAME HEADER."""

import sys


def main(file: str, name: str, header: str) -> None:
    with open(file, "rb") as source:
        data = source.read()
    rows = [", ".join(str(byte) for byte in data[i : i + 24]) for i in range(0, len(data), 24)]
    body = ",\n    ".join(rows)
    with open(header, "w") as out:
        out.write(f"#pragma once\ninline constexpr unsigned char {name}[] = {{\n    {body}}};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
