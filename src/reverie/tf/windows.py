"""`tf.data` datasets of a manager's windows, with the elements of TF-Agents' Reverb buffer.

Neither a window nor, on the fast path, a single batch costs a round trip of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int, check_num_steps, check_timeout
from reverie.sample import SampleInfo
from reverie.tf.framework import tf
from reverie.tf.source import (
    BATCHES_PER_CALL,
    MAX_BATCHES_PER_CALL,
    PREFETCHED_BATCHES,
    Draw,
    Source,
    affordable_items,
    unbatched,
)
from reverie.tf.specs import check_spec
from reverie.tf.transitions import Transitions, joined

if TYPE_CHECKING:
    from reverie.stored_buffer import StoredBuffer

_UNBATCHED_ITEMS_PER_CALL = 32
FACTS = tuple(np.dtype(t) for t in ("u8", "f8", "i8", "f8", "i4"))
"""Dtypes of a SampleInfo's fields."""


def as_dataset(
    buffer: StoredBuffer,
    *,
    sample_batch_size: int | None = None,
    num_steps: int | None = None,
    num_parallel_calls: int | None = None,
    sequence_preprocess_fn: Callable[[Any], Any] | None = None,
    single_deterministic_pass: bool = False,
    flat: bool = False,
    timeout_s: float | None = None,
) -> Any:
    """An endless `tf.data.Dataset` of `(data, SampleInfo)`.

    It runs ahead of its reader, by up to 15 batches where they are small (3 n + 3 where an
    item is cut into n > 4 rows): these count as sampled, and a reader meets them still
    after `clear()` or `close()`. Beside threads that keep the interpreter busy a call waits
    long for its turn and brings more batches, so that up to 99 may be ahead, 8 MiB a call
    at most; never more than 15 where a sample counts: with a limiter other than MinSize,
    with `max_times_sampled`, and with a sampler other than Uniform. Making it again, for
    any buffer of the same spec and shapes, traces nothing. The dataset, its iterators and
    what is derived from it keep the buffer alive.

    Shapes:
        data leaves `[B, T, *spec.shape]`, info fields `[B, T]`, without B where
        `sample_batch_size` is None; T is `num_steps` or the buffer's
        `sequence_length`. With `flat` there is no T. All static.

    Args:
        buffer: what to sample from; whether it can be, its own `as_dataset` has looked.
        sample_batch_size: B, items (or pieces of items) per element.
        num_steps: a divisor of `sequence_length`: each sampled item is cut into
            disjoint pieces from its start, and the pieces are shuffled.
        num_parallel_calls: of `sequence_preprocess_fn`, at most
            `sample_batch_size`; None lets TensorFlow choose. Sampling needs none:
            one thread outruns TensorFlow's own iterator.
        sequence_preprocess_fn: TensorFlow function of one whole, unbatched item's
            data, run before cutting; it may change the structure.
        single_deterministic_pass: refused, see below.
        flat: no time axis. Where T is 1, the steps themselves. Else each two neighbouring
            steps t and t + 1 of a window are a row of their own, a transition, and rows
            are shuffled as pieces are: a dict of what step t has, by name, and

                next_observation   the observation of step t + 1
                terminated         bool: it ended the episode, the discount being 0
                truncated          bool: it ended it, the discount being another

            the last two of steps that are Trajectories; of these no row begins with a
            boundary record. `discount` is the step's own, so that a target is
            `reward + gamma * discount * value(next_observation)`.
        timeout_s: when set, a fetch that waits so long for data ends the dataset.
            Else it waits for ever, and says so in the log after 5 s.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
        InvalidArgumentError: the buffer is seen through views; the spec holds Python
            lists (tf.data would turn them into tensors), None, keys of several types or a
            dtype that tf.data has not (float8); the columns of an item differ in steps,
            `num_steps` does not divide, a number is out of range, or
            `single_deterministic_pass`; `flat` beside a function, or of steps without an
            "observation".
        ClosedError: the buffer is closed. Reading on after that, and items of
            another length than `sequence_length`, raise TensorFlow's
            InvalidArgumentError with our message in it.
    """
    table = buffer.table
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
    if flat and sequence_preprocess_fn is not None:
        raise InvalidArgumentError(
            "flat=True: found a sequence_preprocess_fn, too, which may make anything of an "
            "item. Pass one of the two, and map the dataset."
        )
    check_spec(buffer.nest.spec, buffer.nest.columns, "data_spec")
    if sequence_preprocess_fn is None:
        dataset = _Windows(buffer, batch, steps, flat=bool(flat)).source(timeout_s).batches()
        return dataset.prefetch(PREFETCHED_BATCHES) if batch else unbatched(dataset)
    source = _Windows(buffer, batch, length).source(timeout_s)
    dataset = unbatched(source.batches()).map(
        lambda data, info: (sequence_preprocess_fn(data), info),
        num_parallel_calls=num_parallel_calls or tf.data.AUTOTUNE,
    )
    if steps != length:
        dataset = unbatched(dataset.map(lambda *item: _cut(item, steps)))
        pieces = length // steps
        dataset = dataset.shuffle(pieces * (batch or 1), seed=table.seed % 2**31)
    if batch is not None:
        dataset = dataset.batch(batch, drop_remainder=True)
    return dataset.prefetch(PREFETCHED_BATCHES)


class _Windows:
    """Batches of whole items, of shuffled pieces of them, or of their transitions."""

    def __init__(
        self, buffer: StoredBuffer, batch: int | None, steps: int, *, flat: bool = False
    ) -> None:
        self._buffer, self._steps, self._alone = buffer, steps, batch is None
        self._pieces = buffer.sequence_length // steps
        self._rng = np.random.default_rng(buffer.table.seed)
        self._item_nbytes = buffer.sequence_length * buffer.nest.record_dtype.itemsize
        if batch is None:
            batch = min(affordable_items(self._item_nbytes), _UNBATCHED_ITEMS_PER_CALL)
        self.batch = batch
        specs = [column.spec for column in buffer.nest.columns]
        leaves = [(spec.shape, spec.dtype) for spec in specs]
        self._transitions = Transitions(buffer.nest) if flat and steps > 1 else None
        if self._transitions is not None:
            leaves = self._transitions.leaves
        self._rows = self._pieces * (1 if self._transitions is None else steps - 1)  # an item
        self._shapes = [shape for shape, _ in leaves] + [()] * len(FACTS)
        self._dtypes = [dtype for _, dtype in leaves] + list(FACTS)
        self._leading = (batch,) if flat else (batch, steps)

    def source(self, timeout_s: float | None) -> Source:
        """What its dataset reads from."""
        if self._alone:
            least, most = 1, MAX_BATCHES_PER_CALL * BATCHES_PER_CALL // self.batch
        else:
            # With pieces, one batch of items is as many batches of pieces already.
            least = BATCHES_PER_CALL if self._rows == 1 else 1
            most = MAX_BATCHES_PER_CALL // self._rows
        if not self._buffer.table.settings.may_run_ahead:
            most = least
        shapes = [(*self._leading, *shape) for shape in self._shapes]
        return Source(
            self._begin,
            list(zip(shapes, self._dtypes, strict=True)),
            self._pack,
            lambda batches: self._buffer.describe_wait(batches * self.batch),
            least=least,
            most=most,
            item_nbytes=self._item_nbytes,
            items=self.batch,
            timeout_s=timeout_s,
        )

    def _pack(self, leaves: list[Any]) -> tuple[Any, SampleInfo]:
        data, info = leaves[: -len(FACTS)], SampleInfo(*leaves[-len(FACTS) :])
        if self._transitions is None:
            return self._buffer.nest.unflatten(data), info
        return tf.nest.pack_sequence_as(self._transitions.spec, data), info

    def _begin(self) -> Draw:
        return self._draw if self._transitions is None else _Rows(self).draw

    def _draw(self, batches: int, timeout: float) -> list[NDArray[Any]]:
        return self.batched(self.rows(batches, timeout)[0])

    def rows(
        self, batches: int, timeout: float
    ) -> tuple[list[NDArray[Any]], NDArray[np.bool_] | None]:
        """Rows of so many batches of items: `[N, ...]` each; and which of them count."""
        items = batches * self.batch
        columns, info = self._buffer.sample_columns(items, timeout=timeout)
        arrays, real = [*columns, *info], None
        if self._pieces > 1:
            pieces = items * self._pieces, self._steps
            arrays = [array.reshape(*pieces, *array.shape[2:]) for array in arrays]
        if self._transitions is not None:
            facts = [joined(array[:, 1:]) for array in arrays[len(columns) :]]
            real = self._transitions.real(arrays)
            arrays = [*self._transitions.rows(arrays[: len(columns)]), *facts]
        if self._rows > 1:
            # Batch by batch: how many a call brings depends on the clock.
            groups = np.arange(items * self._rows).reshape(-1, self.batch * self._rows)
            order = self._rng.permuted(groups, axis=1).reshape(-1)
            arrays = [array[order] for array in arrays]
            real = None if real is None else real[order]
        return arrays, real

    def batched(self, rows: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Rows as batches of them: `[N / B, B, ...]`."""
        leading = (len(rows[-1]) // self.batch, *self._leading)
        return [
            array.reshape(*leading, *shape)
            for array, shape in zip(rows, self._shapes, strict=True)
        ]


class _Rows:
    """One iterator's batches of transitions, where some rows are none and left out."""

    def __init__(self, windows: _Windows) -> None:
        self._windows = windows
        self._left: list[NDArray[Any]] = []  # rows that filled no batch

    def draw(self, batches: int, timeout: float) -> list[NDArray[Any]]:
        """See `Draw`."""
        rows, real = self._windows.rows(batches, timeout)
        if real is not None:
            rows = [array[real] for array in rows]
        if self._left:
            rows = [np.concatenate(both) for both in zip(self._left, rows, strict=True)]
        count = len(rows[0]) // self._windows.batch * self._windows.batch
        self._left = [a[count:].copy() for a in rows] if count < len(rows[0]) else []
        return self._windows.batched([array[:count] for array in rows])


def _cut(item: Any, steps: int) -> Any:
    """One item's disjoint pieces of `steps` steps, from its start: `[pieces, steps, ...]`."""
    # As in TF-Agents, the first leaf's length counts: preprocessing may have changed it.
    pieces = tf.shape(tf.nest.flatten(item)[0])[0] // steps

    def cut(tensor: Any) -> Any:
        shape = tf.concat([[pieces, steps], tf.shape(tensor)[1:]], 0)
        result = tf.reshape(tensor[: pieces * steps], shape)
        result.set_shape([None, steps, *tensor.shape[1:]])
        return result

    return tf.nest.map_structure(cut, item)
