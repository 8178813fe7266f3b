"""The import graph, drawn from the sources: no circle, and no arrow up.

Every import counts, also one in a function (it would be a circle that nobody notices until the functions call each
other) and one for types alone (whoever needs another's types knows it).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "pyminicon"
CSRC = TOP / "csrc"

#: The rooms of the package from the ground up: each may import from itself and from those before it.
FLOORS = (
    "errors patience _core cancelling sizes _explain cgroups options seccomp images terminal plan trimmed pictures result communicate "
    "greenlets inside network request living detached container calls _calls keeper template preload aio _checkout pyminicon adapters cli __main__".split()
)

#: The rooms of the core. The child and the helper know nothing of the parent, whatever that includes of them.
CORE_FLOORS = (
    "base child child/mounts child/namespaces child/exec child/files child/init child/birth helper parent parent/files parent/process "
    "parent/inside parent/network parent/reaper parent/cgroup parent/plan parent/living parent/launch parent/supervise parent/pool archive "
    "bind/values bind/containers bind".split()
)

CHILDS_SIDE = ("base", "child", "helper")


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]):
        parts = path.relative_to(TOP).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(name: str, path: Path) -> Iterator[str]:
    """The package's modules that the module names in any import statement."""
    is_package = path.name.startswith("__init__.")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                home = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{home}.{alias.name}"
                if inner in MODULES or home in MODULES:
                    yield inner if inner in MODULES else home


def _graph() -> dict[str, set[str]]:
    return {
        name: {found for found in _imports(name, path) if found != name} for name, path in MODULES.items()
    }


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, or nothing."""
    state: dict[str, int] = {}
    way: list[str] = []

    def visit(name: str) -> list[str]:
        state[name] = 1
        way.append(name)
        for other in sorted(graph.get(name, ())):
            if state.get(other) == 1:
                return [*way[way.index(other) :], other]
            if other not in state and (found := visit(other)):
                return found
        way.pop()
        state[name] = 2
        return []

    for name in sorted(graph):
        if name not in state and (found := visit(name)):
            return found
    return []


def _room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def test_the_package_has_no_circle() -> None:
    # `from pyminicon import errors` names a module, not what the facade offers: that one knows them all.
    assert _circle(_graph()) == []


def test_no_import_goes_up() -> None:
    up = [
        f"{name} -> {other}"
        for name, others in _graph().items()
        for other in sorted(others)
        if FLOORS.index(_room(other)) > FLOORS.index(_room(name))
    ]
    assert up == []


def test_every_room_has_its_floor() -> None:
    assert {_room(name) for name in MODULES} == set(FLOORS)


def test_a_circle_and_a_lazy_import_would_be_seen() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert "pyminicon.terminal" in set(_imports("pyminicon.container", MODULES["pyminicon.container"]))


#: What is public of the package: a submodule of that name would hide it, or be hidden.
PUBLIC = set("run start load pull containers attach".split())


def test_no_submodule_bears_a_public_functions_name() -> None:
    assert {name.rpartition(".")[2] for name in MODULES} & PUBLIC == set()


@pytest.mark.parametrize("package", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_no_package_hides_a_module_of_its_own(package: str) -> None:
    """A name that is imported or defined in a package replaces its submodule of the same name, or the reverse,
    by whichever comes last."""
    tree = ast.parse(MODULES[package].read_text())
    bound = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            own = node.module == package or (node.level == 1 and node.module is None)
            bound |= {name for name, told in names.items() if not (own and name == told)}
    inside = {name.removeprefix(f"{package}.") for name in MODULES if name.startswith(f"{package}.")}
    assert bound & inside == set()


# ---- the core ---------------------------------------------------------------------------------------------


def _core_room(path: str) -> str:
    """The folder; `child` is what all rooms of the child know, its headers that lie in no room."""
    return path.rpartition("/")[0]


def _includes() -> dict[str, set[str]]:
    """What each file includes, as the includes name it; a header and its source are one."""
    graph: dict[str, set[str]] = {}
    for path in sorted([*CSRC.rglob("*.h"), *CSRC.rglob("*.cc")]):
        name = path.relative_to(CSRC).as_posix()
        found = re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
        graph[name] = {other for other in found if (CSRC / other).exists()}
    return graph


def test_the_cores_headers_have_no_circle() -> None:
    headers = {name: others for name, others in _includes().items() if name.endswith(".h")}
    assert len(headers) > 30
    assert _circle(headers) == []


def test_no_include_goes_up() -> None:
    up = [
        f"{name} -> {other}"
        for name, others in _includes().items()
        for other in sorted(others)
        if "/" in name and CORE_FLOORS.index(_core_room(other)) > CORE_FLOORS.index(_core_room(name))
    ]
    assert up == []


def test_every_room_of_the_core_has_its_floor() -> None:
    rooms = {_core_room(name) for name in _includes() if "/" in name}
    assert rooms == set(CORE_FLOORS)


def test_the_childs_side_knows_nothing_of_the_parents() -> None:
    for name, others in _includes().items():
        if name.partition("/")[0] in CHILDS_SIDE:
            assert not {other for other in others if other.partition("/")[0] not in CHILDS_SIDE}, name
