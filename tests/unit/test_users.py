"""Who the program is, by the image's own passwd and group; and the ranges of ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyminicon.errors import SpecError
from pyminicon.options import users

TABLES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n7:x:8:9::/seven:/bin/sh\n"
    b"odd:x:nine:0::/:\nshort:x\n# comment:x:1:1::/:\ntwin:x:1000:5::/twin:/bin/sh\n\n",
    "etc/group": b"root:x:0:\naudio:x:29:alice,bob\nvideo:x:44:alice\nalice:x:1000:alice\nbroken:x:y:alice\n",
}


LONG = "9" * 5000  # int() refuses so many digits


def test_ids_of_thousands_of_digits_are_no_ids() -> None:
    tables = {
        "etc/passwd": f"evil:x:{LONG}:0::/:\nbob:x:5:{LONG}::/bob:\n".encode(),
        "etc/group": f"evil:x:{LONG}:bob\nwheel:x:9:bob\n".encode(),
    }
    for user, want in (("bob", (5, 0, [9], "/bob")), ("7", (7, 0, [], "/")), ("7:wheel", (7, 9, [], "/"))):
        who = users.resolve(user, tables.get)
        assert (who.uid, who.gid, who.groups, who.home) == want
    for user in ("evil", LONG, f"bob:{LONG}", "bob:evil"):
        with pytest.raises(SpecError, match="user"):
            users.resolve(user, tables.get)


def resolve(user: str) -> tuple[int, int, list[int], str]:
    who = users.resolve(user, TABLES.get)
    return who.uid, who.gid, who.groups, who.home


@pytest.mark.parametrize(
    ("user", "want"),
    [
        ("root", (0, 0, [], "/root")),
        ("0", (0, 0, [], "/root")),
        ("alice", (1000, 1000, [29, 44], "/home/alice")),
        ("1000", (1000, 1000, [29, 44], "/home/alice")),
        ("alice:audio", (1000, 29, [], "/home/alice")),
        ("alice:5", (1000, 5, [], "/home/alice")),
        ("4711", (4711, 0, [], "/")),
        ("4711:12", (4711, 12, [], "/")),
        ("twin", (1000, 5, [], "/twin")),
        ("8", (8, 9, [], "/seven")),
        ("7", (8, 9, [], "/seven")),  # a name that is a number is a name first, as in useradd's world
    ],
)
def test_a_user_is_looked_up_as_docker_does(user: str, want: tuple[int, int, list[int], str]) -> None:
    assert resolve(user) == want


@pytest.mark.parametrize("user", ["bob", "odd", "short", "alice:nobody", "# comment"])
def test_a_name_that_isnt_there_is_refused(user: str) -> None:
    with pytest.raises(SpecError, match="user"):
        resolve(user)


def test_an_image_without_tables_has_numbers_only() -> None:
    assert users.resolve("5:6", lambda path: None).uid == 5
    with pytest.raises(SpecError):
        users.resolve("root", lambda path: None)


@given(st.binary(max_size=300))
def test_tables_of_strangers_never_break_the_look_up(table: bytes) -> None:
    who = users.resolve("5", lambda path: table)
    assert 0 <= who.uid < 4294967295
    assert 0 <= who.gid < 4294967295
    assert who.home.startswith("/")


@pytest.mark.parametrize(
    ("words", "want"),
    [("0:1000:1", [(0, 1000, 1)]), ("0:100000:65536,65536:5:1", [(0, 100000, 65536), (65536, 5, 1)])],
)
def test_ranges_are_triples(words: str, want: list[tuple[int, int, int]]) -> None:
    assert users.id_ranges("userns", words) == want


@pytest.mark.parametrize(
    "words", ["", "0:1", "0:1:0", "5:1:1", "0:x:1", "-1:0:1", "0:4294967295:1", "0:1:4294967295", "0:1:1,"]
)
def test_other_ranges_are_refused(words: str) -> None:
    with pytest.raises(SpecError, match="userns"):
        users.id_ranges("userns", words)


def test_the_subordinate_range_is_the_callers_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4242)
    monkeypatch.setattr(users, "_login_name", lambda: "carol")
    table = tmp_path / "subuid"
    table.write_text("bob:100:5\nbroken\ncarol:x:5\ncarol:200:0\ncarol:300:70\n4242:400:80\n")
    assert users.subordinate_range(str(table)) == (300, 70)
    table.write_text("4242:400:80\n")
    assert users.subordinate_range(str(table)) == (400, 80)
    table.write_text("bob:1:1\n")
    assert users.subordinate_range(str(table)) is None
    assert users.subordinate_range(str(tmp_path / "missing")) is None
