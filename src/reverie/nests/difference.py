"""Where a nest leaves the structure of another, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import optree

from reverie.nests.specs import escaped, path_of


def difference(spec: Any, step: Any) -> str:
    """How the structure of `step` leaves that of `spec`, in words; "" for not at all.

    Columns that are missing or unknown come first, all of them, by their paths; then the
    first place where a node is of another kind.
    """
    missing: list[str] = []
    unknown: list[str] = []
    for is_missing, path in _apart(spec, step, ""):
        (missing if is_missing else unknown).append(path)
    parts = []
    if missing or unknown:
        sets = _sets(missing, unknown)
        parts.append(f"in its columns: {sets}; wanted {_listed(_paths(spec, ''))}")
    both = set(missing).intersection(unknown)
    if both:
        parts.append(f"there are keys of another type, such as 1 and '1', in {_listed(both)}")
    kinds = _other_kind(spec, step, "")
    return "; ".join([*parts, kinds] if kinds else parts)


def columns_apart(wanted: Iterable[str], found: Iterable[str]) -> str:
    """The paths that are only among those `wanted`, and only among those `found`, in words."""
    wanted, found = set(wanted), set(found)
    return _sets(wanted - found, found - wanted)


def kind_name(value: Any) -> str:
    """What a node or a leaf is: its class, and the keys or the number of entries."""
    cls = type(value)
    if isinstance(value, Mapping):
        return f"{cls.__name__} with keys {list(value)!r:.200}"
    if isinstance(value, tuple | list):
        return f"{cls.__module__}.{cls.__name__} of {len(value)}"
    return f"{cls.__name__}"


def _apart(spec: Any, step: Any, path: str) -> Iterator[tuple[bool, str]]:
    """Columns that only one of two nests has: whether `step` lacks it, and its path."""
    wanted, found = _children(spec), _children(step)
    if wanted is None or found is None or not _are_alike(spec, step):
        return
    for key, child in wanted.items():
        inner = f"{path}/{escaped(key)}"
        if key in found:
            yield from _apart(child, found[key], inner)
        else:
            yield from ((True, leaf) for leaf in _paths(child, inner))
    for key, child in found.items():
        if key not in wanted:
            yield from ((False, leaf) for leaf in _paths(child, f"{path}/{escaped(key)}"))


def _other_kind(spec: Any, step: Any, path: str) -> str:
    """The first place where `step` has a node of another kind, in words; "" for none."""
    where = f"at {path[1:]!r}" if path else "at the root"
    found, wanted = kind_name(step), kind_name(spec)
    children = _children(spec)
    if children is None:
        # A leaf: anything may stand here.
        return f"{where}: found {found}, wanted None" if spec is None is not step else ""
    if not _are_alike(spec, step):
        if isinstance(spec, Mapping):
            wanted = f"a mapping with keys {list(spec)!r:.200}"
        return f"{where}: found {found}, wanted {wanted}"
    others = _children(step) or {}
    for key, child in children.items():
        if key in others:
            inner = _other_kind(child, others[key], f"{path}/{escaped(key)}")
            if inner:
                return inner
    is_about_keys = isinstance(spec, Mapping) and children.keys() != others.keys()
    if type(step) is type(spec) or is_about_keys:
        return ""
    if found == wanted:
        return (
            f"{where}: found another class of the same name, {found}: was its notebook's cell "
            "run again, or its module reloaded? Make the data spec of the class that the "
            "steps have"
        )
    return f"{where}: found {found}, wanted {wanted}"


def _children(node: Any) -> dict[Any, Any] | None:
    """The children of a node by key, field or position; None for all else."""
    if isinstance(node, Mapping):
        return dict(node)
    if isinstance(node, tuple | list):
        return dict(zip(getattr(node, "_fields", range(len(node))), node, strict=True))
    return None


def _are_alike(spec: Any, step: Any) -> bool:
    """Whether two nodes name their children in one way, by key, by field or by position."""
    if isinstance(spec, Mapping):
        return isinstance(step, Mapping)
    if hasattr(spec, "_fields") or hasattr(step, "_fields"):
        return hasattr(spec, "_fields") and hasattr(step, "_fields")
    return isinstance(step, type(spec))


def _paths(node: Any, path: str) -> list[str]:
    """The paths of a nest's leaves; that of a node without any is its own."""
    accessors, _, _ = optree.tree_flatten_with_accessor(node)
    inner = [f"{path}/{path_of(accessor)}" if accessor else path for accessor in accessors]
    return [found[1:] or "value" for found in inner or [path]]


def _sets(missing: Iterable[str], unknown: Iterable[str]) -> str:
    sets = [("missing", missing), ("unknown", unknown)]
    return ", ".join(f"{word} {_listed(paths)}" for word, paths in sets if paths)


def _listed(paths: Iterable[str]) -> str:
    return f"{sorted(paths)!r:.600}"
