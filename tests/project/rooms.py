"""The rooms of the package, its folders and root modules, and who imports whom: by `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "reverie"

# Low to high. A room imports from lower floors alone, so rooms of one floor do not know
# each other.
FLOORS = (
    ("_core", "_version", "errors", "sample"),
    ("nests",),
    ("runtime",),
    ("jax", "tables", "torch"),
    ("limiters", "proto", "samplers", "weights"),
    ("checkpoint", "removers"),
    ("observers", "reverb", "tf"),
    ("stored_buffer", "views"),
    ("rollouts",),
    ("adding",),
    ("sampled_buffer",),
    ("updating",),
    ("looking",),
    ("replay_buffer",),
    ("backends",),
    ("manager", "mixtures", "opening"),
    ("sb3", "torchrl"),
    ("__init__",),
    ("cli", "testing"),
    ("__main__",),
)


def sources() -> dict[str, str]:
    """The text of each module, by its path below src/reverie."""
    found = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in found}


def imports(source: str, package: str) -> set[str]:
    """Dotted names of everything that a module of `package` imports, at any depth.

    An import for the type checker alone never happens, so it is no import.
    """
    found = set()
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*parents, node.module or ""]) if node.level else node.module
            found |= {f"{str(start).rstrip('.')}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "import_module",
            "__import__",
            "require",  # runtime.optional's
        }:
            found |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in node.orelse if typing_only else ast.iter_child_nodes(node):
        yield from _executed(child)


def package_of(where: str) -> str:
    """The dotted name of the package of the module at `where`, below src/reverie."""
    return ".".join(["reverie", *Path(where).parent.parts])


def floor_of(room: str) -> int:
    """Position in FLOORS; a new room must be given one."""
    positions = [floor for floor, rooms in enumerate(FLOORS) if room in rooms]
    assert positions, f"{room} has no place in FLOORS: say where it belongs"
    return positions[0]


def rooms_imported(where: str, source: str) -> set[str]:
    """Other rooms that the module at `where` imports."""
    known = {room for rooms in FLOORS for room in rooms}
    found = set()
    for name in imports(source, package_of(where)):
        root, *inside = name.split(".")
        if root == "reverie":
            # `import reverie` and `from reverie import ReplayBuffer` need the whole package.
            found.add(inside[0] if inside and inside[0] in known else "__init__")
    return found - {room_of(where)}


def room_of(where: str) -> str:
    """The folder, or the module without its suffix, that stands at the root."""
    return Path(where).parts[0].removesuffix(".py")


def arrows(modules: Mapping[str, str]) -> set[tuple[str, str]]:
    """Pairs of rooms: who imports, and what."""
    return {
        (room_of(where), room)
        for where, source in modules.items()
        for room in rooms_imported(where, source)
    }


def inner_arrows(modules: Mapping[str, str]) -> set[tuple[str, str]]:
    """Pairs of folders of one parent folder, below the rooms: who imports, and what."""
    folders = {Path(where).parent.as_posix() for where in modules}
    found = set()
    for where, source in modules.items():
        own = Path(where).parent.parts
        for name in imports(source, package_of(where)):
            root, *other = name.split(".")
            for depth in range(1, len(own)):
                pair = "/".join(own[: depth + 1]), "/".join(other[: depth + 1])
                beside = own[:depth] == tuple(other[:depth]) and pair[1] in folders
                if root == "reverie" and beside and pair[0] != pair[1]:
                    found.add(pair)
    return found


def circle(pairs: set[tuple[str, str]]) -> list[str]:
    """Names that import each other in a circle; empty where nobody does."""

    def search(path: list[str]) -> list[str]:
        for start, end in sorted(pairs):
            if start == path[-1] and end in path:
                return path[path.index(end) :]
            if start == path[-1] and end not in done and (found := search([*path, end])):
                return found
        done.add(path[-1])
        return []

    done: set[str] = set()
    for name in sorted({name for pair in pairs for name in pair}):
        if name not in done and (found := search([name])):
            return found
    return []
