"""`TFClient`: sampling, inserting and updating priorities as TensorFlow's ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.reverb.client import Client
from reverie.reverb.errors import UnknownTableError, UnreachableServerError
from reverie.reverb.replay_sample import ReplaySample, SampleInfo
from reverie.reverb.tf.common import (
    INFO_DTYPES,
    NUM_INFO,
    Column,
    as_column,
    as_text,
    internal_failure,
    not_found,
    paths,
)
from reverie.reverb.tf.streams import Settings, Stream
from reverie.runtime.optional import require
from reverie.runtime.waiting import wait_until
from reverie.tables.cells import dtype_name

tf: Any = require("tensorflow", "tf", "reverb.TFClient")

__all__ = ["TFClient"]


class TFClient:
    """Calls a server of this process from eager code, `tf.function`s and sessions.

    In a graph the calls happen when the ops run, in this process. Errors are
    TensorFlow's: InvalidArgumentError for data and arguments that do not fit,
    NotFoundError where the server or the table is not there. Thread-safe.

    Args:
        server_address: "localhost:port". It is looked up at each call.
        shared_name: without effect: there is no connection to share.
        name: of the ops in a graph.
    """

    def __init__(
        self, server_address: str, shared_name: str | None = None, name: str = "reverb"
    ) -> None:
        self._server_address = server_address
        self._name = name

    @property
    def server_address(self) -> str:
        """The address, as given."""
        return self._server_address

    def sample(self, table: Any, data_dtypes: Any, name: str | None = None) -> ReplaySample:
        """One sample; it waits for ever until the table permits it.

        Args:
            table: its name, or a scalar string tensor.
            data_dtypes: nest of the columns' dtypes.
            name: of the ops.

        Returns:
            `data` in the nest of `data_dtypes`: the item's first step, which is all of an
            item that `insert` made. `info` holds scalars.

        Raises:
            InvalidArgumentError (TensorFlow's): another number of columns or other dtypes
                (in a graph InternalError, as in Reverb), or an item that has no steps.
            NotFoundError (TensorFlow's): no such table or server.
            EndlessWaitError: eager, with no other thread that could add an item.
        """
        dtypes = [tf.as_dtype(dtype) for dtype in tf.nest.flatten(data_dtypes)]
        columns = [
            as_column(path, dtype, None)
            for path, dtype in zip(paths(data_dtypes), dtypes, strict=True)
        ]

        def call(table: Any) -> list[Any]:
            return _sample(self._server_address, as_text(table), columns)

        tensors = self._run(
            call,
            [tf.convert_to_tensor(table, tf.string)],
            [*_INFO, *dtypes],
            name or f"{self._name}_sample",
        )
        for tensor in tensors[:NUM_INFO]:
            tensor.set_shape(())
        return ReplaySample(
            info=SampleInfo(*tensors[:NUM_INFO]),
            data=tf.nest.pack_sequence_as(data_dtypes, tensors[NUM_INFO:]),
        )

    def insert(
        self, data: Sequence[Any], tables: Any, priorities: Any, name: str | None = None
    ) -> Any:
        """Inserts one step as an item of one step into each of `tables`.

        Args:
            data: the columns, a flat sequence of tensors.
            tables: string tensor `[n]`.
            priorities: float64 tensor `[n]`, of each item.
            name: of the op.

        Returns:
            The op in a graph; None in eager code, where the items are in the tables by
            then, having waited until these permit it.

        Raises:
            InvalidArgumentError: `tables` or `priorities` has another dtype, rank or shape;
                TensorFlow's: an unknown table, a NaN priority, data that the table's
                signature does not allow.
        """
        if tables.dtype != tf.string or tables.shape.rank != 1:
            raise InvalidArgumentError(
                f"tables must be a string tensor of rank 1, found {tables!r:.200}"
            )
        if priorities.dtype != tf.float64 or priorities.shape.rank != 1:
            raise InvalidArgumentError(
                f"priorities must be a float64 tensor of rank 1, found {priorities!r:.200}"
            )
        if not tables.shape.is_compatible_with(priorities.shape):
            raise InvalidArgumentError(
                "priorities and tables must have the same shape, found "
                f"{priorities.shape} and {tables.shape}"
            )

        def call(tables: Any, priorities: Any, *columns: Any) -> list[Any]:
            _insert(self._server_address, columns, tables, priorities)
            return []

        return self._run(call, [tables, priorities, *data], [], name or f"{self._name}_insert")

    def update_priorities(
        self, table: Any, keys: Any, priorities: Any, name: str | None = None
    ) -> Any:
        """Changes the priorities of items. Unknown keys are ignored.

        Args:
            table: its name, or a scalar string tensor.
            keys: uint64 tensor `[n]`.
            priorities: float64 tensor `[n]`.
            name: of the op.

        Returns:
            The op in a graph, None in eager code.

        Raises:
            ValueError: `keys` or `priorities` is of another dtype.
            InvalidArgumentError (TensorFlow's): another rank, or unequal shapes.
            NotFoundError (TensorFlow's): no such table or server.
        """

        def call(table: Any, keys: Any, priorities: Any) -> list[Any]:
            _update(self._server_address, as_text(table), keys, priorities)
            return []

        inputs = [
            tf.convert_to_tensor(table, tf.string),
            tf.convert_to_tensor(keys, tf.uint64),
            tf.convert_to_tensor(priorities, tf.float64),
        ]
        return self._run(call, inputs, [], name or f"{self._name}_update_priorities")

    def _run(
        self,
        call: Callable[..., list[Any]],
        inputs: Sequence[Any],
        dtypes: Sequence[Any],
        name: str,
    ) -> Any:
        """`call` with NumPy arrays: now in eager code, else as an op.

        Returns:
            Tensors of `dtypes`; without any the op, or None in eager code.
        """
        if tf.executing_eagerly():
            arrays = [tf.convert_to_tensor(value).numpy() for value in inputs]
            results = _in_tensorflows_words(call, arrays)
            return [tf.constant(r, d) for r, d in zip(results, dtypes, strict=True)] or None

        def run(*arrays: Any) -> tuple[Any, ...]:
            try:
                return (b"", *call(*arrays))
            except _WrongDtypeError as error:
                return (internal_failure(str(error)), *_zeros(dtypes))
            except RuntimeError as error:
                # Of other ValueErrors TensorFlow makes InvalidArgumentErrors by itself.
                return (str(error).encode(), *_zeros(dtypes))

        with tf.name_scope(name):
            message, *tensors = _as_list(
                tf.numpy_function(run, list(inputs), [tf.string, *dtypes])
            )
            message.set_shape(())
            checked = tf.cond(
                tf.equal(message, ""),
                lambda: tf.constant(True),
                lambda: tf.equal(not_found(message), ""),
            )
            # Within a tf.function an Assert always runs, whether something needs it or not.
            with tf.control_dependencies([tf.debugging.Assert(checked, [message])]):
                if not dtypes:
                    return tf.no_op()
                return [tf.identity(tensor) for tensor in tensors]


class _WrongDtypeError(ValueError):
    """A sampled column has another dtype than was asked for."""


_INFO = [tf.as_dtype(dtype) for dtype in INFO_DTYPES]


def _in_tensorflows_words(call: Callable[..., list[Any]], arrays: Sequence[Any]) -> list[Any]:
    """`call(*arrays)` with TensorFlow's errors for ours."""
    try:
        return call(*arrays)
    except (UnknownTableError, UnreachableServerError) as error:
        raise tf.errors.NotFoundError(None, None, str(error)) from error
    except (ValueError, TypeError) as error:
        raise tf.errors.InvalidArgumentError(None, None, str(error)) from error


def _sample(address: str, table: str, columns: Sequence[Column]) -> list[Any]:
    # Whatever comes is taken, and compared afterwards: the words differ from a dataset's.
    stream = Stream(
        address, table, Settings(None, timesteps=True, max_in_flight=1, max_samples=1)
    )
    found: list[Any] = []

    def ready(slice_s: float) -> bool:
        found.extend(stream.next_chunk(slice_s) or ())
        return bool(found)

    wait_until(ready, timeout=None, what=stream.describe_wait)
    row = [column[0] for column in found]
    data = row[NUM_INFO:]
    if len(data) != len(columns):
        raise InvalidArgumentError(
            f"An item of table {table!r} has {len(data)} columns, but data_dtypes has "
            f"{len(columns)}."
        )
    for index, (column, value) in enumerate(zip(columns, data, strict=True)):
        if not column.accepts(np.asarray(value).dtype, None):
            raise _WrongDtypeError(
                f"Type mismatch: actual {dtype_name(np.asarray(value).dtype)} vs. expect "
                f"{dtype_name(column.dtype)}, in column {index} ({column.name!r}) of an item "
                f"of table {table!r}."
            )
    return row


def _insert(address: str, columns: Sequence[Any], tables: Any, priorities: Any) -> None:
    with Client(address).writer(max_sequence_length=1) as writer:
        writer.append(list(columns))
        for table, priority in zip(tables, priorities, strict=True):
            try:
                writer.create_item(as_text(table), 1, float(priority))
            except UnknownTableError as error:
                raise InvalidArgumentError(str(error)) from error


def _update(address: str, table: str, keys: Any, priorities: Any) -> None:
    if keys.ndim != 1:
        raise InvalidArgumentError(
            f"Tensors `keys` and `priorities` must be of rank 1, found {keys.ndim}."
        )
    if keys.shape != priorities.shape:
        raise InvalidArgumentError(
            "Tensors `keys` and `priorities` do not match in shape "
            f"({list(keys.shape)} vs. {list(priorities.shape)})"
        )
    updates = dict(zip(keys.tolist(), priorities.tolist(), strict=True))
    Client(address).mutate_priorities(table, updates)


def _zeros(dtypes: Sequence[Any]) -> list[Any]:
    return [
        np.zeros((), dtype.as_numpy_dtype) if dtype != tf.string else b"" for dtype in dtypes
    ]


def _as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]
