"""Options as docker reads them, for any table of them, and how help shows that table."""

from __future__ import annotations

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    #: Name, letter, how often it may be given and whether it takes a value, placeholder, help.
    Row: TypeAlias = tuple[str, str, int, str, str]
    Table: TypeAlias = tuple[Row, ...]

FLAG, ONE, MANY, MAYBE = range(4)  # MAYBE: a flag that takes --name=FILE.json as well
_SAME = {"net": "network"}


def parse(
    words: list[str], table: Table, interspersed: bool = False, of_run: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The options in front of the first other word, and the rest (IMAGE COMMAND ARG...). ``interspersed``: they may
    stand behind it as well; ``of_run``: they are run's.

    Options are read as docker reads them: ``--name value``, ``--name=value``, ``-it``, ``-e value``,
    ``-evalue``, ``--flag=false``, and ``--`` ends them. Raises SpecError.
    """
    given: dict[str, Any] = {}
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                break
            rest.append(word)
            at += 1
            continue
        at += 1
        if word[1] == "-":
            name, equals, value = word[2:].partition("=")
            row = _row(0, _SAME.get(name, name), word, table, of_run)
            if row[2] == FLAG:
                given[row[0]] = _truth(word, value) if equals else True
            elif row[2] == MAYBE:
                given[row[0]] = _file(word, value) if equals else True
            else:
                if not equals:
                    value, at = _next(words, at, word)
                _keep(given, row, value)
        else:
            at = _letters(given, words, at, table, of_run)
    return given, rest + words[at:]


def _letters(given: dict[str, Any], words: list[str], at: int, table: Table, of_run: bool) -> int:
    """A cluster of one-letter options, of which the last may take a value; where to go on."""
    word = words[at - 1]
    for index in range(1, len(word)):
        row = _row(1, word[index], f"-{word[index]}", table, of_run)
        rest = word[index + 1 :]
        if row[2] == FLAG:
            if rest[:1] == "=":
                given[row[0]] = _truth(word, rest[1:])
                return at
            given[row[0]] = True
            continue
        if rest:
            value = rest.removeprefix("=")
        else:
            value, at = _next(words, at, f"-{word[index]}")
        _keep(given, row, value)
        return at
    return at


def _row(column: int, key: str, word: str, table: Table, of_run: bool) -> Row:
    if key:
        for row in table:
            if row[column] == key:
                return row
    from pyminicon.cli.unknown import unknown

    raise unknown(word.partition("=")[0], [row[0] for row in table], of_run)


def _next(words: list[str], at: int, word: str) -> tuple[str, int]:
    if at == len(words):
        raise SpecError(word, "needs a value")
    return words[at], at + 1


def _keep(given: dict[str, Any], row: Row, value: str) -> None:
    if row[2] == MANY:
        given.setdefault(row[0], []).append(value)
    else:
        given[row[0]] = value


def _truth(word: str, value: str) -> bool:
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise SpecError(word.partition("=")[0], f"takes true or false, not {value!r}")


def _file(word: str, value: str) -> str | bool:
    if value.endswith(".json"):
        return value
    if value in ("true", "1", "false", "0"):
        return _truth(word, value)
    raise SpecError(word.partition("=")[0], f"takes a FILE.json, not {value!r}")


def rows_of(table: Table) -> list[str]:
    """The options as help shows them."""
    lines = []
    for name, letter, _, value, text in table:
        left = f"  {'-' + letter + ',' if letter else '   '} --{name}{' ' + value if value else ''}"
        lines += [f"{left:<34} {text}"] if len(left) < 34 else [left, f"{'':<34} {text}"]
    return lines
