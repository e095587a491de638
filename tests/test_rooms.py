"""The rooms of the package: imports between them run one way, and there are no more rooms and floors than need be."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "haepo_jax"


def room_of(module):
    return module.split(".")[1]


def imported(path):
    """The modules and names of the package that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def rooms():
    """Each room, a package or a loose module, with the other ones that it imports."""
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    found.discard("__init__")
    below = {room: set() for room in found}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in found:
            names = {room_of(name) for name in imported(path) if name.startswith("haepo_jax.")}
            below[room] |= (names & found) - {room}
    return below


def all_below(room):
    seen, ahead = set(), [room]
    while ahead:
        new = rooms()[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


@functools.cache
def floor(room):
    return 1 + max(map(floor, rooms()[room]), default=0)


def test_no_imports_between_rooms_run_in_a_circle():
    assert [room for room in rooms() if room in all_below(room)] == []


def test_few_modules_lie_loose_and_the_house_has_few_floors():
    """Where either must grow, docs/decisions/rooms_by_what_they_do.md says so too."""
    assert sum((PACKAGE / f"{room}.py").exists() for room in rooms()) <= 8
    assert max(map(floor, rooms())) <= 13
