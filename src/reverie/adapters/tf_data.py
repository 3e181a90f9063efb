"""`tf.data` datasets over a table, with the elements of TF-Agents' Reverb buffer.

One Python call brings several batches into TensorFlow; from there on they are
cut, shuffled and prefetched by TensorFlow's own threads. Neither a window nor,
on the fast path, a single batch costs a round trip of its own.
"""

from __future__ import annotations

import math
import sys
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from reverie.errors import ClosedError, InvalidArgumentError, WaitTimeoutError
from reverie.runtime.checks import check_int, check_num_steps, check_timeout
from reverie.runtime.leaving import enter_from_outside
from reverie.runtime.optional import require
from reverie.runtime.waiting import report
from reverie.sample import SampleInfo

if TYPE_CHECKING:
    from reverie.replay_buffer import ReplayBuffer

# Batches per Python call, bounded by bytes: the further the dataset runs ahead of
# training, the older its samples. Reverb's keeps three batches in flight.
_MAX_BATCHES_PER_CALL = 4
_MAX_NBYTES_PER_CALL = 8 << 20
_UNBATCHED_ITEMS_PER_CALL = 32
_PREFETCHED_BATCHES = 2
# A call never waits longer for data: between two calls TensorFlow can cancel, which
# it must when an iterator is dropped.
_SLICE_S = 0.1


def as_dataset(
    buffer: ReplayBuffer,
    *,
    sample_batch_size: int | None = None,
    num_steps: int | None = None,
    num_parallel_calls: int | None = None,
    sequence_preprocess_fn: Callable[[Any], Any] | None = None,
    single_deterministic_pass: bool = False,
    timeout_s: float | None = None,
) -> Any:
    """An endless `tf.data.Dataset` of `(data, SampleInfo)`.

    It runs ahead of its reader, by up to 15 batches where they are small: these
    count as sampled, and a reader meets them still after `clear()` or `close()`.
    The dataset, its iterators and what is derived from it keep the buffer alive.

    Shapes:
        data leaves `[B, T, *spec.shape]`, info fields `[B, T]`, without B where
        `sample_batch_size` is None; T is `num_steps` or the buffer's
        `sequence_length`. All static.

    Args:
        buffer: what to sample from.
        sample_batch_size: B, items (or pieces of items) per element.
        num_steps: a divisor of `sequence_length`: each sampled item is cut into
            disjoint pieces from its start, and the pieces are shuffled.
        num_parallel_calls: of `sequence_preprocess_fn`, at most
            `sample_batch_size`; None lets TensorFlow choose. Sampling needs none:
            one thread outruns TensorFlow's own iterator.
        sequence_preprocess_fn: TensorFlow function of one whole, unbatched item's
            data, run before cutting; it may change the structure.
        single_deterministic_pass: refused, see below.
        timeout_s: when set, a fetch that waits so long for data ends the dataset.
            Else it waits for ever, and says so in the log after 5 s.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
        InvalidArgumentError: the spec holds Python lists (tf.data would turn them
            into tensors), the columns of an item differ in steps, `num_steps` does not
            divide, a number is out of range, or `single_deterministic_pass`.
        ClosedError: the buffer is closed. Reading on after that, and items of
            another length than `sequence_length`, raise TensorFlow's
            InvalidArgumentError with our message in it.
    """
    table = buffer.table
    table.check_open()
    buffer.check_even("as_dataset()")
    if _holds_list(buffer.nest.spec):
        raise InvalidArgumentError(
            "data_spec holds a Python list, which tf.data would turn into one tensor. "
            "Use tuples, dicts or named tuples instead."
        )
    length = buffer.sequence_length
    steps = length if num_steps is None else check_num_steps(num_steps, length)
    batch = None
    if sample_batch_size is not None:
        batch = check_int("sample_batch_size", sample_batch_size, 1, 2**31 - 1)
    if num_parallel_calls is not None:  # -1 is tf.data.AUTOTUNE
        check_int("num_parallel_calls", num_parallel_calls, -1, 2**31 - 1)
    if num_parallel_calls and batch and num_parallel_calls > batch:
        raise InvalidArgumentError(
            f"num_parallel_calls cannot be bigger than sample_batch_size: found "
            f"{num_parallel_calls} > {batch}."
        )
    timeout_s = check_timeout(timeout_s)
    if single_deterministic_pass:
        raise InvalidArgumentError(
            "single_deterministic_pass: a dataset has no end, whatever the sampler and the "
            f"remover; table {table.name!r} has {table.settings.sampler!r} and "
            f"{table.settings.remover!r}. Use gather_all() or iter_items() to see every item "
            "once, in order."
        )
    # Within a tf.function AutoGraph reads along, and warns when it meets an import.
    tf: Any = sys.modules.get("tensorflow") or require("tensorflow", "tf", "A tf.data.Dataset")
    if sequence_preprocess_fn is None:
        dataset = _Source(tf, buffer, batch, steps, timeout_s).batches()
        return dataset.prefetch(_PREFETCHED_BATCHES) if batch else _unbatched(tf, dataset)
    source = _Source(tf, buffer, batch, length, timeout_s)
    dataset = _unbatched(tf, source.batches()).map(
        lambda data, info: (sequence_preprocess_fn(data), info),
        num_parallel_calls=num_parallel_calls or tf.data.AUTOTUNE,
    )
    if steps != length:
        dataset = _unbatched(tf, dataset.map(lambda *item: _cut(tf, item, steps)))
        pieces = length // steps
        dataset = dataset.shuffle(pieces * (batch or 1), seed=table.seed % 2**31)
    if batch is not None:
        dataset = dataset.batch(batch, drop_remainder=True)
    return dataset.prefetch(_PREFETCHED_BATCHES)


class _Source:
    """Batches of whole items, or of shuffled pieces, several per Python call.

    Lifetimes: TensorFlow keeps the callback of `tf.numpy_function` for as long as
    the process lives, so the callback holds its source weakly, and the dataset
    object holds it strongly. TensorFlow's iterators and derived datasets hold
    the datasets that they were made from. Only a dataset made while a tf.function
    is traced, whose object does not last, stays for ever.
    """

    def __init__(
        self,
        tf: Any,
        buffer: ReplayBuffer,
        batch: int | None,
        steps: int,
        timeout_s: float | None,
    ) -> None:
        self._tf = tf
        self._buffer = buffer
        self._steps = steps
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._pieces = buffer.sequence_length // steps
        self._rng = np.random.default_rng(buffer.table.seed)
        item_nbytes = buffer.sequence_length * buffer.nest.record_dtype.itemsize
        affordable = max(1, _MAX_NBYTES_PER_CALL // item_nbytes)  # items per call
        if batch is None:
            self._batch = min(affordable, _UNBATCHED_ITEMS_PER_CALL)
            self._calls = 1
        else:
            self._batch = batch
            # With pieces, one batch of items is as many batches of pieces already.
            most = _MAX_BATCHES_PER_CALL if self._pieces == 1 else 1
            self._calls = min(max(1, affordable // batch), most)
        specs = [column.spec for column in buffer.nest.columns]
        self._dtypes = [spec.dtype for spec in specs]
        self._dtypes += [np.dtype(t) for t in ("u8", "f8", "i8", "f8", "i4")]
        self._shapes = [spec.shape for spec in specs] + [()] * len(SampleInfo._fields)

    def batches(self) -> Any:
        """Dataset of `(data, SampleInfo)` batches."""
        tf = self._tf
        callback = self._weak_callback() if tf.executing_eagerly() else self._fetch
        dtypes = [tf.as_dtype(dtype) for dtype in self._dtypes]

        def step(waited_s: Any, _: Any) -> Any:
            waited_s, *tensors = tf.numpy_function(callback, [waited_s], [tf.float64, *dtypes])
            waited_s.set_shape(())
            for tensor, shape in zip(tensors, self._shapes, strict=True):
                tensor.set_shape((None, self._batch, self._steps, *shape))
            return waited_s, self._pack(tensors)

        # The seconds that an iterator has waited are its own: they travel as its state.
        step = tf.autograph.experimental.do_not_convert(step)
        dataset = tf.data.Dataset.from_tensors(0).repeat().scan(np.float64(0), step)
        dataset._reverie_source = self
        if self._timeout_s < math.inf:
            dataset = dataset.take_while(lambda _, info: tf.reduce_all(info.table_size >= 0))
        return _unbatched(tf, dataset.prefetch(1))

    def _weak_callback(self) -> Callable[[Any], tuple[Any, ...]]:
        reference = weakref.ref(self)

        def fetch(waited_s: Any) -> tuple[Any, ...]:
            source = reference()
            if source is None:
                raise ClosedError("The dataset is gone. Keep a reference to it while you read.")
            return source._fetch(waited_s)

        return fetch

    def _fetch(self, waited_s: Any) -> tuple[Any, ...]:
        """Called by TensorFlow, from any thread, with the seconds waited so far in vain.

        Returns:
            Seconds waited, and for each column an array `[calls * pieces, B, T, ...]`.
            Where there is no data yet it is `[0, B, T, ...]`, and at the timeout
            `[1, B, T, ...]` with a table_size of -1.
        """
        enter_from_outside(self)
        waited_s = float(waited_s)
        start = time.monotonic()
        try:
            slice_s = min(_SLICE_S, max(0.0, self._timeout_s - waited_s))
            columns, info = self._buffer.sample_columns(
                self._calls * self._batch, timeout=slice_s
            )
            return (np.float64(0), *self._arranged([*columns, *info]))
        except WaitTimeoutError:
            waited_in_all_s = waited_s + time.monotonic() - start
            report(waited_s, waited_in_all_s, self._describe_wait, "A dataset has waited")
            leading = (int(waited_in_all_s >= self._timeout_s), self._batch, self._steps)
            nothing = [
                np.zeros(leading + shape, dtype)
                for shape, dtype in zip(self._shapes, self._dtypes, strict=True)
            ]
            nothing[SampleInfo._fields.index("table_size") - len(SampleInfo._fields)] -= 1
            return (np.float64(waited_in_all_s), *nothing)

    def _arranged(self, arrays: list[Any]) -> list[Any]:
        """`[items, sequence_length, ...]` arrays as batches; pieces are shuffled."""
        if self._pieces > 1:
            order = self._rng.permutation(self._calls * self._batch * self._pieces)
            arrays = [
                array.reshape(order.size, self._steps, *array.shape[2:])[order]
                for array in arrays
            ]
        leading = (self._calls * self._pieces, self._batch, self._steps)
        return [
            array.reshape(leading + shape)
            for array, shape in zip(arrays, self._shapes, strict=True)
        ]

    def _describe_wait(self) -> str:
        return self._buffer.describe_wait(self._calls * self._batch)

    def _pack(self, tensors: list[Any]) -> tuple[Any, SampleInfo]:
        fields = len(SampleInfo._fields)
        return self._buffer.nest.unflatten(tensors[:-fields]), SampleInfo(*tensors[-fields:])


def _cut(tf: Any, item: Any, steps: int) -> Any:
    """One item's disjoint pieces of `steps` steps, from its start: `[pieces, steps, ...]`."""
    # As in TF-Agents, the first leaf's length counts: preprocessing may have changed it.
    pieces = tf.shape(tf.nest.flatten(item)[0])[0] // steps

    def cut(tensor: Any) -> Any:
        shape = tf.concat([[pieces, steps], tf.shape(tensor)[1:]], 0)
        result = tf.reshape(tensor[: pieces * steps], shape)
        result.set_shape([None, steps, *tensor.shape[1:]])
        return result

    return tf.nest.map_structure(cut, item)


def _unbatched(tf: Any, dataset: Any) -> Any:
    """`dataset.unbatch()`, also where a tensor has no elements: that crashes TensorFlow."""
    shapes = [spec.shape[1:] for spec in tf.nest.flatten(dataset.element_spec)]
    if 0 not in [shape.num_elements() for shape in shapes]:
        return dataset.unbatch()
    return dataset.flat_map(lambda *rows: tf.data.Dataset.from_tensor_slices(rows))


def _holds_list(spec: Any) -> bool:
    """Whether any node of the nest is a Python list."""
    found = False

    def look(node: Any) -> bool:
        nonlocal found
        found = found or isinstance(node, list)
        return False

    optree.tree_leaves(spec, is_leaf=look)
    return found
