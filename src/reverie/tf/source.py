"""What datasets read from: several batches for each call into Python, and how long it may wait.

One Python call brings several batches into TensorFlow; from there on they are cut, shuffled
and prefetched by TensorFlow's own threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import WaitTimeoutError
from reverie.runtime.pace import Pace
from reverie.runtime.traces import op_dataset
from reverie.runtime.waiting import report
from reverie.tf.framework import tf
from reverie.tf.generator import chunks

# Batches per Python call, bounded by bytes: the further the dataset runs ahead of
# training, the older its samples. Reverb's keeps three batches in flight.
BATCHES_PER_CALL = 4
# Where threads wait for the interpreter, and nothing counts samples: see Pace.
MAX_BATCHES_PER_CALL = 32
PREFETCHED_BATCHES = 2
_MAX_NBYTES_PER_CALL = 8 << 20
# A call never waits longer for data: between two calls TensorFlow can cancel, which
# it must when an iterator is dropped.
_SLICE_S = 0.1

Draw = Callable[[int, float], Sequence[NDArray[Any]]]
"""`draw(batches, timeout)`: for each leaf an array `[n, *shape]`, n at most about `batches`.

It raises WaitTimeoutError where not even one was there after `timeout` seconds.
"""


class Source:
    """What the iterators of a dataset read from.

    Args:
        begin: a new iterator's `Draw`.
        leaves: shape and dtype of each leaf of a batch, in the order of `pack`.
        pack: the element of a list of leaves, which TensorFlow must flatten to that list.
        describe_wait: what a call for so many batches waits for, in words.
        least: batches of a call that did not wait.
        most: of any call.
        item_nbytes: what one item takes of the 8 MiB that are the most of a call.
        items: of one batch.
        timeout_s: when a fetch has waited so long for data, the dataset ends; None: never.
    """

    def __init__(
        self,
        begin: Callable[[], Draw],
        leaves: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
        pack: Callable[[list[Any]], Any],
        describe_wait: Callable[[int], str],
        *,
        least: int,
        most: int,
        item_nbytes: int,
        items: int,
        timeout_s: float | None,
    ) -> None:
        self.begin, self.describe_wait = begin, describe_wait
        self.leaves, self._pack = list(leaves), pack
        affordable = max(1, affordable_items(item_nbytes) // items)
        self.least, self.most = min(affordable, least), max(1, min(affordable, most))
        self.timeout_s = math.inf if timeout_s is None else timeout_s

    def open(self) -> _Reading:
        """A new iterator's reading."""
        return _Reading(self)

    def batches(self) -> Any:
        """The `tf.data.Dataset` of its batches."""
        shapes, dtypes = (
            [shape for shape, _ in self.leaves],
            [dtype for _, dtype in self.leaves],
        )
        dataset = chunks(self, dtypes, shapes)
        if self.timeout_s == math.inf:
            dataset = dataset.repeat()  # ends all the same where there is not even a first
        rows = unbatched(dataset.prefetch(1))
        spec = self._pack([tf.TensorSpec(*leaf) for leaf in self.leaves])
        # TensorFlow flattens an element to just these leaves, so nothing is mapped.
        return op_dataset(rows._variant_tensor, spec, [rows], None)


class _Reading:
    """One iterator's calls into Python."""

    def __init__(self, source: Source) -> None:
        self._source, self._draw = source, source.begin()
        self._pace = Pace(source.least, source.most)
        self._waited_s = 0.0  # in vain, so far

    def fetch(self, asked_s: float) -> Sequence[NDArray[Any]]:
        """For each leaf an array `[batches, *shape]`, of none where none came.

        Raises:
            StopIteration: it has waited for the source's timeout.
        """
        source, pace = self._source, self._pace
        pace.begin(asked_s)
        start = time.monotonic()
        slice_s = min(_SLICE_S, max(0.0, source.timeout_s - self._waited_s))
        try:
            found = self._draw(pace.batches, slice_s)
        except WaitTimeoutError:
            before = self._waited_s
            self._waited_s += time.monotonic() - start
            report(before, self._waited_s, self._describe_wait, "A dataset has waited")
            if self._waited_s >= source.timeout_s:
                raise StopIteration from None
            return [np.zeros((0, *shape), dtype) for shape, dtype in source.leaves]
        self._waited_s = 0.0
        pace.end()
        return found

    def _describe_wait(self) -> str:
        return self._source.describe_wait(self._pace.batches)


def affordable_items(item_nbytes: int) -> int:
    """Items that one call may bring."""
    return max(1, _MAX_NBYTES_PER_CALL // max(1, item_nbytes))


def unbatched(dataset: Any) -> Any:
    """`dataset.unbatch()`, also where a tensor has no elements: that crashes TensorFlow."""
    shapes = [spec.shape[1:] for spec in tf.nest.flatten(dataset.element_spec)]
    if 0 not in [shape.num_elements() for shape in shapes]:
        return dataset.unbatch()
    return dataset.flat_map(lambda *rows: tf.data.Dataset.from_tensor_slices(rows))
