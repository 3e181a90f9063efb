"""`tf.data` datasets over a table, with the elements of TF-Agents' Reverb buffer.

One Python call brings several batches into TensorFlow; from there on they are
cut, shuffled and prefetched by TensorFlow's own threads. Neither a window nor,
on the fast path, a single batch costs a round trip of its own.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.adapters.tf_generator import chunks
from reverie.adapters.tf_specs import check_spec
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.runtime.checks import check_int, check_num_steps, check_timeout
from reverie.runtime.optional import require
from reverie.runtime.pace import Pace
from reverie.runtime.traces import op_dataset
from reverie.runtime.waiting import report
from reverie.sample import SampleInfo

if TYPE_CHECKING:
    from reverie.stored_buffer import StoredBuffer

# Batches per Python call, bounded by bytes: the further the dataset runs ahead of
# training, the older its samples. Reverb's keeps three batches in flight.
_BATCHES_PER_CALL = 4
# Where threads wait for the interpreter, and nothing counts samples: see Pace.
_MAX_BATCHES_PER_CALL = 32
_MAX_NBYTES_PER_CALL = 8 << 20
_UNBATCHED_ITEMS_PER_CALL = 32
_PREFETCHED_BATCHES = 2
# A call never waits longer for data: between two calls TensorFlow can cancel, which
# it must when an iterator is dropped.
_SLICE_S = 0.1


def as_dataset(
    buffer: StoredBuffer,
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
    count as sampled, and a reader meets them still after `clear()` or `close()`. Beside
    threads that keep the interpreter busy a call waits long for its turn and brings more
    batches, so that up to 99 may be ahead, 8 MiB a call at most; never more than 15 where
    a sample counts: with a limiter other than MinSize, with `max_times_sampled`, and with
    a sampler other than Uniform. Making it again, for any buffer of the same spec and
    shapes, traces nothing.
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
            into tensors), None, keys of several types or a dtype that tf.data has not
            (float8); the columns of an item differ in steps, `num_steps` does not
            divide, a number is out of range, or `single_deterministic_pass`.
        ClosedError: the buffer is closed. Reading on after that, and items of
            another length than `sequence_length`, raise TensorFlow's
            InvalidArgumentError with our message in it.
    """
    table = buffer.table
    table.check_open()
    buffer.check_even("as_dataset()")
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
    check_spec(tf, buffer.nest.spec, buffer.nest.columns)
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
    """Batches of whole items, or of shuffled pieces, several per Python call."""

    def __init__(
        self,
        tf: Any,
        buffer: StoredBuffer,
        batch: int | None,
        steps: int,
        timeout_s: float | None,
    ) -> None:
        self._tf = tf
        self.buffer = buffer
        self.steps = steps
        self.timeout_s = math.inf if timeout_s is None else timeout_s
        self.pieces = buffer.sequence_length // steps
        self.rng = np.random.default_rng(buffer.table.seed)
        item_nbytes = buffer.sequence_length * buffer.nest.record_dtype.itemsize
        affordable = max(1, _MAX_NBYTES_PER_CALL // item_nbytes)  # items per call
        if batch is None:
            self.batch = min(affordable, _UNBATCHED_ITEMS_PER_CALL)
            least = 1
            most = _MAX_BATCHES_PER_CALL * _BATCHES_PER_CALL // self.batch
        else:
            self.batch = batch
            # With pieces, one batch of items is as many batches of pieces already.
            least = _BATCHES_PER_CALL if self.pieces == 1 else 1
            most = _MAX_BATCHES_PER_CALL // self.pieces
        if not buffer.table.settings.may_run_ahead:
            most = least
        affordable = max(1, affordable // self.batch)
        self.least, self.most = min(affordable, least), max(1, min(affordable, most))
        specs = [column.spec for column in buffer.nest.columns]
        self.dtypes = [spec.dtype for spec in specs]
        self.dtypes += [np.dtype(t) for t in ("u8", "f8", "i8", "f8", "i4")]
        self.shapes = [spec.shape for spec in specs] + [()] * len(SampleInfo._fields)

    def open(self) -> _Iteration:
        """A new iterator's reading."""
        return _Iteration(self)

    def batches(self) -> Any:
        """Dataset of `(data, SampleInfo)` batches."""
        tf = self._tf
        shapes = [(self.batch, self.steps, *shape) for shape in self.shapes]
        dataset = chunks(self, self.dtypes, shapes)
        if self.timeout_s == math.inf:
            dataset = dataset.repeat()  # ends all the same where there is not even a first
        rows = _unbatched(tf, dataset.prefetch(1))
        leaves = [tf.TensorSpec(*leaf) for leaf in zip(shapes, self.dtypes, strict=True)]
        # A nest has the same leaves in the same order for TensorFlow, so nothing is mapped.
        return op_dataset(rows._variant_tensor, self._pack(leaves), [rows], None)

    def _pack(self, leaves: list[Any]) -> tuple[Any, SampleInfo]:
        fields = len(SampleInfo._fields)
        return self.buffer.nest.unflatten(leaves[:-fields]), SampleInfo(*leaves[-fields:])


class _Iteration:
    """One iterator's calls into the buffer."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._pace = Pace(source.least, source.most)
        self._waited_s = 0.0  # in vain, so far

    def fetch(self, asked_s: float) -> list[Any]:
        """For each column an array `[batches * pieces, B, T, ...]`, of none where none came.

        Raises:
            StopIteration: it has waited for the source's timeout.
        """
        source, pace = self._source, self._pace
        pace.begin(asked_s)
        items = pace.batches * source.batch
        start = time.monotonic()
        slice_s = min(_SLICE_S, max(0.0, source.timeout_s - self._waited_s))
        try:
            columns, info = source.buffer.sample_columns(items, timeout=slice_s)
        except WaitTimeoutError:
            before = self._waited_s
            self._waited_s += time.monotonic() - start
            report(before, self._waited_s, self._describe_wait, "A dataset has waited")
            if self._waited_s >= source.timeout_s:
                raise StopIteration from None
            return [
                np.zeros((0, source.batch, source.steps, *shape), dtype)
                for shape, dtype in zip(source.shapes, source.dtypes, strict=True)
            ]
        self._waited_s = 0.0
        arranged = self._arranged([*columns, *info], items)
        pace.end()
        return arranged

    def _arranged(self, arrays: list[Any], items: int) -> list[Any]:
        """`[items, sequence_length, ...]` arrays as batches; pieces are shuffled."""
        source = self._source
        pieces = items * source.pieces
        if source.pieces > 1:
            # Batch by batch: how many a call brings depends on the clock.
            groups = np.arange(pieces).reshape(-1, source.batch * source.pieces)
            order = source.rng.permuted(groups, axis=1).reshape(pieces)
            arrays = [
                array.reshape(pieces, source.steps, *array.shape[2:])[order] for array in arrays
            ]
        leading = (pieces // source.batch, source.batch, source.steps)
        return [
            array.reshape(leading + shape)
            for array, shape in zip(arrays, source.shapes, strict=True)
        ]

    def _describe_wait(self) -> str:
        return self._source.buffer.describe_wait(self._pace.batches * self._source.batch)


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
