"""Where an observer's items go: the tables behind a client, and what their steps look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optree

from reverie import _core
from reverie.errors import ClosedError, InvalidArgumentError, SpecError, StepMismatchError
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, Column
from reverie.table import ReplayTable


class ServedTable(Protocol):
    """A `reverie.Table` that a server serves, as far as observers know it."""

    name: str
    signature: Any

    @property
    def core(self) -> _core.Table:
        """The core's table."""

    @property
    def store(self) -> _core.Store:
        """The store of its server."""

    def check_open(self) -> None:
        """Raises where it cannot be used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a step becomes a record.

    Attributes:
        nest: structure of a step.
        columns: its leaves as they follow one another in a record.
        flatten: leaves of a step in that order; ValueError or TypeError where its
            structure is another.
        layout: of a record.
        pad_record: the bytes of a pad step.
        boundary: index of the column of step types; None for steps without.
    """

    nest: Nest
    columns: tuple[Column, ...]
    flatten: Callable[[Any], list[Any]]
    layout: _core.RecordLayout
    pad_record: bytes
    boundary: int | None


class Target:
    """The tables of one store that an observer writes to.

    Args:
        py_client: a `reverie.reverb.Client`, or a replay buffer's `py_client`.
        table_name: one name or several, none twice.

    Attributes:
        tables: in the order of their names.
        plan: None until a step has been seen, where no table says what steps are.

    Raises:
        InvalidArgumentError: no such client, no name, a name twice, or no such table.
        UnknownTableError, UnreachableServerError: see `reverie.reverb.Client`.
    """

    def __init__(self, py_client: Any, table_name: str | Sequence[str]) -> None:
        names = _names(table_name)
        self.tables: list[ReplayTable | ServedTable] = _find(py_client, names)
        self.plan: Plan | None = None
        self._length = 0

    def __repr__(self) -> str:
        """The tables' names, quoted."""
        return ", ".join(repr(table.name) for table in self.tables)

    @property
    def signature(self) -> Any:
        """What the first table says of its items; a manager's, of its steps; or None."""
        table = self.tables[0]
        return table.nest.spec if isinstance(table, ReplayTable) else table.signature

    def check_open(self) -> None:
        """Raises what the tables raise when they cannot be used: closed, stopped, forked."""
        for table in self.tables:
            table.check_open()

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
        """Makes the plan if the tables know what a step is; checks `length` against them.

        Args:
            length: steps of an item, or the most of one.
            fixed: whether every item has so many.

        Raises:
            InvalidArgumentError: the tables' items have another length.
            SpecError: a signature describes no steps, or two differ.
        """
        table = self.tables[0]
        if isinstance(table, ReplayTable):
            if fixed and length != table.sequence_length:
                raise InvalidArgumentError(
                    f"sequence_length: found {length}, wanted {table.sequence_length}, the one "
                    f"that table {table.name!r} was made with."
                )
            nest = table.nest
            boundary = None if nest.boundary is None else nest.boundary.step_type
            self.plan = Plan(
                nest,
                nest.columns,
                nest.flatten_up_to,
                table.layout,
                nest.pad_record(),
                boundary,
            )
            return
        self._length = length
        for served in self._served():
            _check_length(served, length, fixed)
        signatures = (table.signature for table in self._served())
        specs = [_step_spec(signature) for signature in signatures if signature is not None]
        known = [spec for spec in specs if spec is not None]
        if known:
            self.learn(known[0])

    def learn(self, step_spec: Any) -> None:
        """Makes the plan of steps that look like this, leaves with a shape and a dtype.

        Raises:
            InvalidArgumentError: a table's signature says otherwise.
            SpecError: it cannot be stored in a fixed-width record.
        """
        plan = _plan(Nest(step_spec))
        for table in self._served():
            _check_columns(table, plan.columns, self._length)
        self.plan = plan

    def writer(self, owner: Any, **settings: Any) -> _core.Writer:
        """New streams of steps into the tables; requires a plan."""
        plan, table = self.plan, self.tables[0]
        assert plan is not None
        if isinstance(table, ReplayTable):
            return table.writer(owner, **settings)
        self.check_open()
        return table.store.create_writer(
            plan.layout,
            [table.core for table in self.tables],
            pad_record=plan.pad_record,
            **settings,
        )

    def describe_wait(self, pending: int) -> str:
        """What items wait for that no table lets in, with the numbers."""
        parts = []
        for table in self.tables:
            info = table.core.info()
            if info["pending"]:
                parts.append(
                    f"table {table.name!r} ({info['inserts']} inserted, {info['samples']} "
                    f"sampled; its rate limiter: {info['samples_per_insert']:g} samples per "
                    f"insert, difference from {info['min_diff']:g} to {info['max_diff']:g}, "
                    f"at least {info['min_size_to_sample']} items to sample)"
                )
        where = ", ".join(parts) or f"the tables {self!r}"
        return f"for {pending} items that may not be inserted yet into {where}"

    def _served(self) -> list[ServedTable]:
        return [table for table in self.tables if not isinstance(table, ReplayTable)]


def spec_of(step: Any, leading: int) -> Any:
    """What a step looks like, its leaves' first `leading` axes left out.

    Raises:
        StepMismatchError: a leaf has fewer axes.
    """

    def one(leaf: Any) -> ArraySpec:
        array = np.asarray(leaf)
        if array.ndim < leading:
            raise StepMismatchError(
                f"Step leaf of shape {array.shape}: wanted a batch axis, one step for each "
                "environment. Nothing was stored."
            )
        return ArraySpec(array.shape[leading:], array.dtype)

    return optree.tree_map(one, step)


def _find(py_client: Any, names: list[str]) -> list[Any]:
    own = getattr(py_client, "_tables_of", None)
    if own is not None:
        tables: list[Any] = own(names)
        return tables
    address = getattr(py_client, "server_address", None)
    if not isinstance(address, str):
        raise InvalidArgumentError(
            f"py_client: found {type(py_client).__name__}, wanted a reverie.reverb.Client of a "
            "Server in this process, or the py_client of a manager's replay buffer."
        )
    from reverie.reverb.engine import registry

    server = registry.find(registry.port_of(address))
    return [server.table(name) for name in names]


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


def _plan(nest: Nest) -> Plan:
    from reverie.nests import structure

    # Reverb's clients know the columns of an item in this order: all mappings sorted.
    order = structure.flatten(nest.unflatten(range(len(nest.columns))))
    columns = tuple(nest.columns[i] for i in order)
    flatten: Callable[[Any], list[Any]] = nest.flatten_up_to
    if order != sorted(order):

        def flatten(step: Any) -> list[Any]:
            leaves = nest.flatten_up_to(step)
            return [leaves[i] for i in order]

    record = np.frombuffer(nest.pad_record(), nest.record_dtype)[0]
    return Plan(
        nest,
        columns,
        flatten,
        _core.RecordLayout([(column.spec.dtype, column.spec.shape) for column in columns]),
        b"".join(record[column.path].tobytes() for column in columns),
        None if nest.boundary is None else order.index(nest.boundary.step_type),
    )


def _step_spec(signature: Any) -> Any:
    """A step of items with this signature; None where that leaves an extent open."""
    from reverie.nests import structure
    from reverie.tables.signature import columns_of

    leaves = []
    for column in columns_of(signature):
        if column.shape is None or None in column.shape[1:]:
            return None
        leaves.append(SimpleNamespace(shape=column.shape[1:], dtype=column.dtype))
    return structure.unflatten_as(signature, leaves)


def _check_length(table: ServedTable, length: int, fixed: bool) -> None:
    from reverie.tables.signature import columns_of

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


def _check_columns(table: ServedTable, columns: Sequence[Column], length: int) -> None:
    from reverie.tables.cells import CellSpec
    from reverie.tables.signature import check_trajectory

    if table.signature is not None:
        found = [CellSpec(c.spec.dtype, (length, *c.spec.shape)) for c in columns]
        check_trajectory(table.name, table.signature, found)
