"""Nests as Reverb's API has them: dm-tree's rules, without dm-tree.

A node is a mapping (children in the order of its sorted keys, whatever the order
they stand in), a namedtuple, a tuple, a list, another sequence that is no text, or
an attrs object. All else is a leaf, None too. A path is a tuple of keys, positions
and field names. The general functions are plain Python; `fast_flatten` makes one
that takes a fraction of a microsecond, for the structures that most programs have.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import optree

_is_node: dict[type, bool] = {}  # asking the abstract classes is slow
_known: dict[Any, tuple[Callable[[Any], list[Any]], Any]] = {}  # by structure
_MAX_KNOWN = 256
Path: TypeAlias = tuple[Any, ...]


def is_nested(value: Any) -> bool:
    """Whether `value` is a node, empty ones included."""
    kind = type(value)
    known = _is_node.get(kind)
    if known is None:
        text = isinstance(value, str | bytes | bytearray | memoryview)
        nest = isinstance(value, Mapping | Sequence) or hasattr(kind, "__attrs_attrs__")
        known = nest and not text
        if kind.__module__ in ("builtins", "numpy", "collections"):  # others may be proxies
            _is_node[kind] = known
    return known


def children(node: Any) -> list[tuple[Any, Any]]:
    """The keys and children of a node, in flattening order.

    Raises:
        TypeError: the keys of a mapping cannot be sorted.
    """
    if isinstance(node, Mapping):
        try:
            keys = sorted(node)
        except TypeError:
            raise TypeError(
                f"the keys {list(node)!r:.200} of a dict cannot be sorted; wanted keys of one "
                "type, which decide the order of the columns."
            ) from None
        return [(key, node[key]) for key in keys]
    attributes = getattr(type(node), "__attrs_attrs__", None)
    if attributes is not None:
        return [(a.name, getattr(node, a.name)) for a in attributes]
    fields = getattr(node, "_fields", None)
    return list(zip(range(len(node)) if fields is None else fields, node, strict=True))


def flatten(nest: Any) -> list[Any]:
    """The leaves."""
    return [leaf for _, leaf in flatten_with_path(nest)]


def flatten_with_path(nest: Any) -> list[tuple[Path, Any]]:
    """The leaves with their paths; a nest that is a leaf has the path ()."""
    return list(_walk(nest, ()))


def _walk(nest: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if not is_nested(nest):
        yield path, nest
        return
    for key, child in children(nest):
        yield from _walk(child, (*path, key))


def unflatten_as(structure: Any, leaves: Sequence[Any]) -> Any:
    """A nest of the same structure with these leaves.

    Raises:
        ValueError: their number differs from the structure's.
    """
    leaves = list(leaves)
    wanted = len(flatten(structure))
    if len(leaves) != wanted:
        raise ValueError(
            f"{len(leaves)} leaves do not fit a structure of {wanted}: {structure!r:.200}."
        )
    remaining = iter(leaves)
    return _rebuild(structure, lambda _, __: next(remaining), ())


def map_structure(function: Callable[..., Any], *nests: Any) -> Any:
    """The nest of `function(leaf, ...)`, with one argument for each of `nests`.

    Raises:
        ValueError: the nests do not have one structure.
    """
    return map_structure_with_path(lambda _, *leaves: function(*leaves), *nests)


def map_structure_with_path(function: Callable[..., Any], *nests: Any) -> Any:
    """The nest of `function(path, leaf, ...)`; errors as `map_structure`'s."""
    others = [dict(flatten_with_path(nest)) for nest in nests[1:]]
    paths = [path for path, _ in flatten_with_path(nests[0])]
    for other in others:
        if list(other) != paths:
            raise ValueError(
                f"The structures differ: leaves at {paths!r:.200} and at {list(other)!r:.200}."
            )
    return _rebuild(
        nests[0],
        lambda path, leaf: function(path, leaf, *(other[path] for other in others)),
        (),
    )


def _rebuild(nest: Any, leaf_of: Callable[[Path, Any], Any], path: Path) -> Any:
    if not is_nested(nest):
        return leaf_of(path, nest)
    values = {key: _rebuild(child, leaf_of, (*path, key)) for key, child in children(nest)}
    kind: Any = type(nest)
    if isinstance(nest, Mapping):
        ordered = [(key, values[key]) for key in nest]
        if isinstance(nest, collections.defaultdict):
            return kind(nest.default_factory, ordered)
        return kind(ordered)
    if hasattr(kind, "__attrs_attrs__") or hasattr(nest, "_fields"):
        return kind(*values.values())
    return kind(values.values())


def fast_flatten(structure: Any) -> tuple[Callable[[Any], list[Any]], Any] | None:
    """A quick `flatten` for nests of this structure, and optree's treespec of it.

    The function raises ValueError or TypeError for another structure, except that it
    takes whatever stands where `structure` has a leaf for a leaf, nodes too.

    Returns:
        None where `structure` has other nodes than dicts, lists, tuples and
        namedtuples, on which optree and dm-tree agree.
    """
    if not _is_plain(structure):
        return None
    placeholders = map_structure(lambda _: None, structure)
    spec = optree.tree_structure(placeholders, none_is_leaf=True)
    # Many writers have the same nests, and a spec takes half a kilobyte. Specs are equal
    # whatever the order of a dict's keys, in which they unflatten; the text tells it.
    key = spec, repr(placeholders)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        found = _known[key] = (spec.flatten_up_to, spec)
    return found


class Flattener:
    """`flatten` for nests of which most have the structure of the one before.

    For one thread at a time.

    Attributes:
        paths: of the latest nest's leaves.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._fast: Callable[[Any], list[Any]] | None = None
        self._calls = 0

    def __call__(self, nest: Any) -> list[Any]:
        """The leaves of `nest`; errors as `flatten`'s."""
        if self._fast is not None:
            try:
                leaves = self._fast(nest)
                if not any(map(is_nested, leaves)):
                    return leaves
            except (ValueError, TypeError):
                pass
        self._calls += 1
        if self._calls > 1:  # a single nest is not worth it
            fast = fast_flatten(nest)
            self._fast = None if fast is None else fast[0]
        leaves = flatten_with_path(nest)
        self.paths = [path for path, _ in leaves]
        return [leaf for _, leaf in leaves]


def _is_plain(nest: Any) -> bool:
    if not is_nested(nest):
        return True
    kind = type(nest)
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    if kind not in (dict, list, tuple) and not named:
        return False
    return all(_is_plain(child) for _, child in children(nest))


def union(a: Any, b: Any, path: Path = ()) -> Any:
    """The structure with the leaves of both; its leaves are those of `a`, else of `b`.

    Raises:
        ValueError: one has a leaf where the other has a node, or their nodes are of
            different kinds; names the path.
    """
    if not is_nested(a) and not is_nested(b):
        return a
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        merged = {key: union(a[key], b[key], (*path, key)) if key in b else a[key] for key in a}
        merged.update((key, b[key]) for key in b if key not in a)
        kind: Any = type(a)
        if isinstance(a, collections.defaultdict):
            return kind(a.default_factory, merged)
        return kind(merged)
    sequences = isinstance(a, Sequence) and isinstance(b, Sequence)
    named = hasattr(a, "_fields") or hasattr(b, "_fields")
    if not (is_nested(a) and is_nested(b) and sequences) or (named and type(a) is not type(b)):
        raise ValueError(
            f"The structure of a step at {path}: found {_kind(b)}, where earlier steps have "
            f"{_kind(a)}. Fields may be left out of a step or be added, but what they are "
            "stays. Nothing was stored."
        )
    both = [union(x, y, (*path, i)) for i, (x, y) in enumerate(zip(a, b, strict=False))]
    both.extend(a[len(both) :] or b[len(both) :])
    kind = type(a)
    return kind(*both) if named else kind(both)


def _kind(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {name} with keys {list(value)!r:.200}"
    return f"a {name} of {len(value)}" if is_nested(value) else "a leaf"
