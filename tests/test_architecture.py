"""The rooms of the package: imports point inward only, without circles, and the root holds few files."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from support.paths import REPOSITORY

# From the innermost to the outermost: a room imports rooms of lines above its own, never of its own or of later ones.
LEVELS = [
    {"errors", "console"},
    {"face", "media", "training"},
    {"kernels"},
    {"audio"},
    {"speech", "refinement"},
    {"field"},
    {"splats"},
    {"data"},
    {"driving", "capture"},
    {"rendering", "editing"},
    {"talker"},
    {"edit"},
    {"runs"},
    {"evaluation"},
    {"experiments", "demo", "live"},
    {"cli"},
]
# Files of the root that belong together.
ROOMS = {"viewer": "talker", "run_folder": "talker", "stock": "talker", "method_configs": "edit"}
# The package's own face for Python users may import what it offers, and nothing inside imports it.
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms} | {"": len(LEVELS)}


def _modules(package: Path) -> dict[str, Path]:
    """Every module by its name below the package; the package itself is ''."""
    names = {path: path.relative_to(package).with_suffix("").parts for path in package.rglob("*.py")}
    return {".".join(part for part in parts if part != "__init__"): path for path, parts in names.items()}


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """What a file imports of the package, within functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ntalker_ns":
            parent = (node.module or "").removeprefix("ntalker_ns").removeprefix(".")
            for alias in (one for one in node.names if one.name != "__version__"):
                child = f"{parent}.{alias.name}".removeprefix(".")
                yield child if child in modules else parent
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "ntalker_ns")


def _room(module: str) -> str:
    first = module.split(".")[0]
    return ROOMS.get(first, first.split("_")[0] if first.startswith(("talker_", "edit_")) else first)


MODULES = _modules(REPOSITORY / "ntalker_ns")
GRAPH = {module: set(_imports(path, MODULES)) - {module} for module, path in MODULES.items()}


def test_each_module_belongs_to_a_room():
    assert {_room(module) for module in MODULES} <= set(LEVEL)


def test_imports_point_inward():
    outward = {
        f"{module} {imported}"
        for module, imports in GRAPH.items()
        for imported in imports
        if (inner := _room(imported)) != (outer := _room(module)) and LEVEL[inner] >= LEVEL[outer]
    }
    assert outward == set()


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(GRAPH).prepare()


def test_the_root_holds_few_files():
    assert len(list((REPOSITORY / "ntalker_ns").glob("*.py"))) <= 17
