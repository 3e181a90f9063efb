"""The nest of a writer's steps: one object for all writers of the same steps."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reverie.nests import structure
from reverie.nests.structure import Path

NUM_LATEST = 8
_MAX_LAYOUTS = 64  # kinds of partial steps that are remembered
_shared: weakref.WeakValueDictionary[Any, StepNest] = weakref.WeakValueDictionary()
# A few that were made last, for programs that make a writer for each item.
_latest: collections.deque[StepNest] = collections.deque(maxlen=NUM_LATEST)


class StepNest:
    """What steps had in common so far, and where each leaf belongs.

    Never changed but for the layouts, of which the latest are as good as any: threads may
    share it.

    Args:
        union: the nest with all leaves that any step had.
        column_of: number of each leaf's column, by path, ascending.

    Attributes:
        structure: the union.
        column_of: as given.
        paths: of the columns.
        order: column of each leaf of the union.
        in_order: the columns stand in the order of the leaves.
        flatten: a quick `flatten` for whole steps, or None.
        treespec: that unflattens them, or None.
    """

    __slots__ = (
        "__weakref__",
        "_layouts",
        "column_of",
        "flatten",
        "in_order",
        "order",
        "paths",
        "structure",
        "treespec",
    )

    def __init__(self, union: Any, column_of: Mapping[Path, int]) -> None:
        self.structure = union
        self.column_of = column_of
        self.paths = list(column_of)
        self.order = [column_of[path] for path, _ in structure.flatten_with_path(union)]
        self.in_order = self.order == list(range(len(self.order)))
        fast = structure.fast_flatten(union)
        self.flatten: Callable[[Any], list[Any]] | None = None if fast is None else fast[0]
        self.treespec: Any = None if fast is None else fast[1]
        # Ways to flatten the steps that came, and the columns of their leaves.
        self._layouts: dict[Any, tuple[Callable[[Any], list[Any]], list[int]]] = {}

    @staticmethod
    def of(union: Any, column_of: Mapping[Path, int]) -> StepNest:
        """One that writers of the same steps share, where it can be told that they are."""
        fast = structure.fast_flatten(union)
        if fast is None:
            return StepNest(union, column_of)
        # Equal specs may differ in the order of keys, and equal keys in their types.
        key = fast[1], repr(union), repr(list(column_of))
        found = _shared.get(key)
        if found is None:
            # Two threads may both make one: then it is shared by fewer.
            found = _shared[key] = StepNest(union, column_of)
            _latest.append(found)
        return found

    def layout(self, data: Any) -> tuple[Callable[[Any], list[Any]], list[int]] | None:
        """How the latest step of this kind was flattened, and the columns of its leaves."""
        return self._layouts.get(_kind(data))

    def remember(self, data: Any, paths: Sequence[Path]) -> None:
        """Keeps how a step is flattened, whose leaves have these paths."""
        fast = structure.fast_flatten(data)
        if fast is not None:
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[_kind(data)] = (fast[0], [self.column_of[path] for path in paths])


def _kind(data: Any) -> Any:
    """What tells apart the kinds of steps that a program appends, most often."""
    return tuple(data) if type(data) is dict else type(data)
