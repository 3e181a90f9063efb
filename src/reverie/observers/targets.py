"""Where an observer's items go: the tables behind a client, and what their steps look like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from reverie import _core
from reverie.errors import ClosedError, InvalidArgumentError, SpecError, StepMismatchError
from reverie.nests.casts import is_masked
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, path_of
from reverie.tables.cells import CellSpec
from reverie.tables.signature import check_trajectory, columns_of
from reverie.tables.store import Store
from reverie.tables.table import Table


@dataclass(frozen=True, slots=True)
class Records:
    """How a step becomes a record.

    Attributes:
        nest: structure of a step.
        layout: of a record.
    """

    nest: Nest
    layout: _core.RecordLayout


class Target:
    """The tables of one store that an observer writes to.

    Args:
        py_client: a `reverie.reverb.Client`, or a replay buffer's `py_client`.
        table_name: one name or several, none twice.

    Attributes:
        tables: in the order of their names.
        store: that they hang on, for this target for good: once it is closed, another
            server may serve the tables, and this is still that one's.
        records: None until a step has been seen, where no table says what steps are.

    Raises:
        InvalidArgumentError: no such client, no name, a name twice, or no such table.
        UnknownTableError, UnreachableServerError: see `reverie.reverb.Client`.
    """

    def __init__(self, py_client: Any, table_name: str | Sequence[str]) -> None:
        names = _names(table_name)
        find = getattr(py_client, "_tables_of", None)
        if find is None:
            raise InvalidArgumentError(
                f"py_client: found {type(py_client).__name__}, wanted a reverie.reverb.Client "
                "of a Server in this process, or the py_client of a manager's replay buffer."
            )
        self.tables: list[Table] = find(names)
        self.store: Store = self.tables[0].store
        self.records: Records | None = None
        self._length = 0

    def __repr__(self) -> str:
        """The tables' names, quoted."""
        return ", ".join(repr(table.name) for table in self.tables)

    @property
    def signature(self) -> Any:
        """What the first table says of its items, or, if it is for windows, of their steps."""
        table = self.tables[0]
        nest = None if table.settings.sequence_length is None else table.nest
        return table.signature if nest is None else nest.spec

    def check_open(self) -> None:
        """Raises what the tables raise when they cannot be used: closed, stopped, forked."""
        self.store.check_open()

    def closed_error(self) -> Exception:
        """The error for a store that the core says is closed, or for a closed observer."""
        try:
            self.check_open()
        except Exception as error:
            return error
        return ClosedError(
            "The observer is closed: could not obtain a writer. Call open() to go on."
        )

    def prepare(self, length: int, *, fixed: bool) -> None:
        """Settles what records are if the tables know; checks `length` against them.

        Args:
            length: steps of an item, or the most of one.
            fixed: whether every item has so many.

        Raises:
            InvalidArgumentError: the tables' items have another length.
            SpecError: a signature describes no steps, or two differ.
        """
        self._length = length
        for table in self.tables:
            if table.settings.roles is not None:
                raise InvalidArgumentError(
                    f"table_name: {table.name!r:.200} holds the steps of a ReplayBuffer, which "
                    "are no windows. Add to it with its add()."
                )
            _check_length(table, length, fixed)
        nests = [table.nest for table in self.tables]
        known = [nest for nest in nests if nest is not None]
        if known:
            self.learn(known[0])

    def learn(self, nest: Nest) -> None:
        """Settles that steps have this structure.

        Raises:
            InvalidArgumentError: a table's signature says otherwise.
        """
        found = [CellSpec(dtype, (self._length, *shape)) for dtype, shape in nest.types]
        for table in self.tables:
            if table.signature is not None:
                check_trajectory(table.name, table.signature, found)
        self.store.know(nest)
        self.records = Records(nest, _core.RecordLayout(nest.types))

    def writer(self, owner: Any, **settings: Any) -> _core.Writer:
        """New streams of steps into the tables; requires `records`.

        Args:
            owner: told by `drop_episode()` when a table is cleared.
            settings: of `_core.Store.create_writer`.
        """
        records, store = self.records, self.store
        assert records is not None
        self.check_open()
        for table in self.tables:
            table.owned_by(owner)
        boundary = records.nest.boundary
        return store.core.create_writer(
            records.layout,
            [table.core for table in self.tables],
            pad_record=records.nest.pad_record(),
            boundary_column=-1 if boundary is None else boundary.step_type,
            discount_column=-1 if boundary is None else boundary.discount,
            **settings,
        )

    def describe_wait(self, pending: int) -> str:
        """What items wait for that no table lets in, with the numbers."""
        waits = [table.describe_insert_wait() for table in self.tables]
        where = ", ".join(filter(None, waits)) or f"the tables {self!r}"
        return f"for {pending} items that may not be inserted yet into {where}"


def spec_of(step: Any, leading: int) -> Any:
    """What a step looks like, its leaves' first `leading` axes left out.

    Raises:
        StepMismatchError: a leaf has fewer axes, is no array or cannot be stored; names
            its path.
    """

    def one(accessor: Any, leaf: Any) -> ArraySpec:
        where = f"Step leaf {path_of(accessor)!r:.200}"
        if is_masked(leaf):
            raise StepMismatchError(
                f"{where}: found a masked array, whose mask would be lost. Pass its "
                "filled(value). Nothing was stored."
            )
        try:
            array = np.asarray(leaf)
        except Exception as error:  # whatever a foreign __array__ raises
            raise StepMismatchError(
                f"{where}: found {type(leaf).__name__}, which is no array ({error!s:.200}). "
                "Nothing was stored."
            ) from None
        if array.ndim < leading:
            raise StepMismatchError(
                f"{where} of shape {array.shape}: wanted a batch axis, one step for each "
                "environment. Nothing was stored."
            )
        try:
            return ArraySpec(array.shape[leading:], array.dtype)
        except SpecError as error:
            raise StepMismatchError(f"{where}: {error} Nothing was stored.") from None

    return optree.tree_map_with_accessor(one, step)


def _names(table_name: str | Sequence[str]) -> list[str]:
    many = isinstance(table_name, Iterable) and not isinstance(table_name, str)
    names: list[Any] = list(table_name) if many else [table_name]
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgumentError(
            f"table_name: found {table_name!r:.200}, wanted a str or several."
        )
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgumentError(
                f"table_name: {name!r:.200} occurs {names.count(name)} times. Each table gets "
                "one item of each window: name it once."
            )
    return names


def _check_length(table: Table, length: int, fixed: bool) -> None:
    made_for = table.settings.sequence_length
    if fixed and made_for not in (None, length):
        raise InvalidArgumentError(
            f"sequence_length: found {length}, wanted {made_for}, the one that table "
            f"{table.name!r} was made with."
        )
    for column in () if table.signature is None else columns_of(table.signature):
        where = f"Table {table.name!r:.200}, signature leaf {column.path!r:.200}"
        if column.shape == ():
            raise SpecError(
                f"{where}: found the shape (), wanted a leading time axis: items are runs of "
                "whole steps, (T, ...) in each leaf. (A TensorSpec of a step becomes one of an "
                "item by an outer dimension, for example None.)"
            )
        steps = column.shape[0] if column.shape else None
        if steps is not None and not fixed:
            raise InvalidArgumentError(
                f"{where}: its time axis is {steps}, but episodes vary in length. Use None for "
                "that axis."
            )
        if steps not in (None, length):
            raise InvalidArgumentError(
                f"sequence_length: found {length}, wanted {steps}. {where} has a time axis of "
                f"{steps}; None there permits any."
            )
