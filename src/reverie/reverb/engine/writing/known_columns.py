"""What a writer knows of its columns: one object for all writers of the same ones."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from reverie.reverb.engine.writing.item_plans import ItemPlan
from reverie.tables.cells import CellSpec

NUM_LATEST = 8
Known: TypeAlias = tuple[tuple[int, CellSpec], ...]


class KnownColumns:
    """Columns of a writer whose cells are known, and what follows from them.

    Never changed but for the plans, which are the same for whoever makes them: threads
    may share it.

    Args:
        checks: what tells apart writers that check items in different ways.
        known: number and cells of each column, in the order in which the core has them.

    Attributes:
        core_of: the index in the core, by column.
        spec_of: what cells are, by column.
        is_uniform: the core has the columns in the same order.
        plans: of items that were made of such columns.
    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_known",
        "core_of",
        "is_uniform",
        "plans",
        "spec_of",
    )

    def __init__(self, checks: str, known: Known) -> None:
        self._checks = checks
        self._known = known
        self.core_of: Mapping[int, int] = {known[i][0]: i for i in range(len(known))}
        self.spec_of: Mapping[int, CellSpec] = dict(known)
        self.is_uniform = all(column == i for column, i in self.core_of.items())
        self.plans: dict[Any, ItemPlan] = {}

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._known)

    def grown(self, shared: Shared, added: Iterable[tuple[int, CellSpec]]) -> KnownColumns:
        """With these columns behind."""
        return shared.columns(self._checks, (*self._known, *added))


class Shared:
    """The `KnownColumns` of a server's writers: those in use, and a few made last.

    Those few are for programs that make a writer for each item.
    """

    __slots__ = ("_found", "_latest")

    def __init__(self) -> None:
        self._found: weakref.WeakValueDictionary[tuple[str, Known], KnownColumns] = (
            weakref.WeakValueDictionary()
        )
        self._latest: collections.deque[KnownColumns] = collections.deque(maxlen=NUM_LATEST)

    def columns(self, checks: str, known: Known = ()) -> KnownColumns:
        """The one of these; arguments as `KnownColumns` has them. Thread-safe."""
        # Two threads may both make one: then it is shared by fewer.
        found = self._found.get((checks, known))
        if found is None:
            found = self._found[checks, known] = KnownColumns(checks, known)
            self._latest.append(found)
        return found
