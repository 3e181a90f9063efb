"""`tf.data` datasets over a table, with the elements of TF-Agents' Reverb buffer.

One Python call brings several batches into TensorFlow; from there on they are
cut, shuffled and prefetched by TensorFlow's own threads. Neither a window nor,
on the fast path, a single batch costs a round trip of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from reverie.adapters import require
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.sample import SampleInfo
from reverie.table import ReplayTable, check_int

# Batches per Python call, bounded by bytes: the further the dataset runs ahead of
# training, the older its samples. Reverb's keeps three batches in flight.
_MAX_BATCHES_PER_CALL = 4
_MAX_NBYTES_PER_CALL = 8 << 20
_PREFETCHED_BATCHES = 2


def as_dataset(
    table: ReplayTable,
    *,
    sample_batch_size: int | None = None,
    num_steps: int | None = None,
    num_parallel_calls: int | None = None,
    sequence_preprocess_fn: Callable[[Any], Any] | None = None,
    single_deterministic_pass: bool = False,
    timeout_s: float | None = None,
) -> Any:
    """An endless `tf.data.Dataset` of `(data, SampleInfo)`.

    Shapes:
        data leaves `[B, T, *spec.shape]`, info fields `[B, T]`, without B where
        `sample_batch_size` is None; T is `num_steps` or the table's
        `sequence_length`. All static.

    Args:
        table: what to sample from; the dataset keeps it alive.
        sample_batch_size: B, items (or pieces of items) per element.
        num_steps: a divisor of `sequence_length`: each sampled item is cut into
            disjoint pieces from its start, and the pieces are shuffled.
        num_parallel_calls: at most `sample_batch_size`; accepted for
            compatibility, as one thread outruns TensorFlow's own iterator.
        sequence_preprocess_fn: TensorFlow function of one whole, unbatched item's
            data, run before cutting; it may change the structure.
        single_deterministic_pass: refused, see below.
        timeout_s: when set, a fetch that waits so long for data ends the dataset.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
        InvalidArgumentError: the spec holds Python lists (tf.data would turn them
            into tensors), `num_steps` does not divide, a number is out of range,
            or `single_deterministic_pass` with this table's Uniform sampler.
        ClosedError: the table is closed. Iterating after that raises TensorFlow's
            UnknownError with our message in it.
    """
    table.check_open()
    if _holds_list(table.nest.spec):
        raise InvalidArgumentError(
            "data_spec holds a Python list, which tf.data would turn into one tensor. "
            "Use tuples, dicts or named tuples instead."
        )
    steps = table.check_steps(num_steps)
    batch = None
    if sample_batch_size is not None:
        batch = check_int("sample_batch_size", sample_batch_size, 1, 2**31 - 1)
    if num_parallel_calls is not None and num_parallel_calls > (batch or 1):
        raise InvalidArgumentError(
            f"num_parallel_calls: found {num_parallel_calls}, wanted at most the "
            f"sample_batch_size, {batch}."
        )
    if single_deterministic_pass:
        raise InvalidArgumentError(
            "single_deterministic_pass wants a deterministic sampler and remover; table "
            f"{table.name!r} has the sampler Uniform and the remover Fifo. Use gather_all() "
            "or iter_items() to see every item once, in order."
        )
    tf = require("tensorflow", "tf", "A tf.data.Dataset")
    if sequence_preprocess_fn is None:
        source = _Source(tf, table, batch or 1, steps, timeout_s)
        dataset = source.batches()
        return dataset.prefetch(_PREFETCHED_BATCHES) if batch else dataset.unbatch()
    items = _Source(tf, table, batch or 1, table.sequence_length, timeout_s).batches().unbatch()
    dataset = items.map(lambda data, info: (sequence_preprocess_fn(data), info))
    if steps != table.sequence_length:
        pieces = table.sequence_length // steps
        dataset = dataset.flat_map(lambda *item: _cut(tf, item, steps))
        dataset = dataset.shuffle(pieces * (batch or 1))
    if batch is not None:
        dataset = dataset.batch(batch, drop_remainder=True)
    return dataset.prefetch(_PREFETCHED_BATCHES)


class _Source:
    """Batches of whole items, or of shuffled pieces, several per Python call."""

    def __init__(
        self, tf: Any, table: ReplayTable, batch: int, steps: int, timeout_s: float | None
    ) -> None:
        self._tf = tf
        self._table = table
        self._batch = batch
        self._steps = steps
        self._timeout_s = timeout_s
        self._pieces = table.sequence_length // steps
        self._rng = np.random.default_rng(table.seed)
        nbytes = batch * table.sequence_length * table.layout.record_nbytes
        # With pieces, one batch of items is as many batches of pieces already.
        self._calls = 1
        if self._pieces == 1:
            self._calls = int(np.clip(_MAX_NBYTES_PER_CALL // nbytes, 1, _MAX_BATCHES_PER_CALL))
        specs = [column.spec for column in table.nest.columns]
        self._dtypes = [spec.dtype for spec in specs]
        self._dtypes += [np.dtype(kind) for kind in ("u8", "f8", "i8", "f8", "i4")]
        self._shapes = [spec.shape for spec in specs] + [()] * len(SampleInfo._fields)

    def batches(self) -> Any:
        """Dataset of `(data, SampleInfo)` batches."""
        tf = self._tf
        dtypes = [tf.bool, *(tf.as_dtype(dtype) for dtype in self._dtypes)]
        leading = (self._calls * self._pieces, self._batch, self._steps)

        def fetch(_: Any) -> Any:
            more, *tensors = tf.numpy_function(self.fetch, [], dtypes)
            more.set_shape(())
            for tensor, shape in zip(tensors, self._shapes, strict=True):
                tensor.set_shape(leading + shape)
            return more, tuple(tensors)

        dataset = tf.data.Dataset.range(2**62).map(fetch)
        if self._timeout_s is not None:
            dataset = dataset.take_while(lambda more, _: more)
        dataset = dataset.map(lambda _, tensors: tensors).prefetch(1).unbatch()
        return dataset.map(lambda *tensors: self._pack(tensors))

    def fetch(self) -> tuple[Any, ...]:
        """Called by TensorFlow: `[calls * pieces, B, T, ...]` arrays after a flag."""
        try:
            columns, info = self._table.sample(
                self._calls * self._batch, repeat_info=True, timeout=self._timeout_s
            )
        except WaitTimeoutError:
            leading = (self._calls * self._pieces, self._batch, self._steps)
            empty = (
                np.zeros(leading + shape, dtype)
                for shape, dtype in zip(self._shapes, self._dtypes, strict=True)
            )
            return (np.False_, *empty)
        arrays = [*columns, *info]
        if self._pieces > 1:
            order = self._rng.permutation(self._batch * self._pieces)
            arrays = [
                array.reshape(order.size, self._steps, *array.shape[2:])[order]
                for array in arrays
            ]
        return (
            np.True_,
            *(
                array.reshape(-1, self._batch, self._steps, *shape)
                for array, shape in zip(arrays, self._shapes, strict=True)
            ),
        )

    def _pack(self, tensors: tuple[Any, ...]) -> tuple[Any, SampleInfo]:
        fields = len(SampleInfo._fields)
        return self._table.nest.unflatten(tensors[:-fields]), SampleInfo(*tensors[-fields:])


def _cut(tf: Any, item: Any, steps: int) -> Any:
    """One item's disjoint pieces of `steps` steps, from its start."""

    def cut(tensor: Any) -> Any:
        pieces = tf.shape(tensor)[0] // steps
        shape = tf.concat([[pieces, steps], tf.shape(tensor)[1:]], 0)
        result = tf.reshape(tensor[: pieces * steps], shape)
        result.set_shape([None, steps, *tensor.shape[1:]])
        return result

    return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(cut, item))


def _holds_list(spec: Any) -> bool:
    """Whether any node of the nest is a Python list."""
    found = False

    def look(node: Any) -> bool:
        nonlocal found
        found = found or isinstance(node, list)
        return False

    optree.tree_leaves(spec, is_leaf=look)
    return found
