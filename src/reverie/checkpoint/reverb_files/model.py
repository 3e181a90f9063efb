"""What a Reverb checkpoint holds, as plain values and NumPy arrays."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

SelectorKind = Literal["fifo", "lifo", "uniform", "prioritized", "min_heap", "max_heap"]
Column = tuple[np.dtype[Any], tuple[int, ...]]
SignatureLeaf = tuple[str, np.dtype[Any], "tuple[int | None, ...] | None"]
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ReverbSelector:
    """How a table chooses items to sample or to remove.

    Attributes:
        kind: Reverb's selector.
        exponent: The priority exponent of a prioritized selector, else None.
    """

    kind: SelectorKind
    exponent: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ReverbRateLimiter:
    """A table's rate limiter: its bounds, and its counters when it was saved.

    Attributes:
        samples_per_insert: Samples that one insert allows on average.
        min_diff: Lower bound of inserts * samples_per_insert - samples.
        max_diff: Upper bound of the same.
        min_size_to_sample: Items needed before sampling may start.
        sample_count: Samples so far.
        insert_count: Inserts so far.
        delete_count: Items removed so far.
    """

    samples_per_insert: float
    min_diff: float
    max_diff: float
    min_size_to_sample: int
    sample_count: int
    insert_count: int
    delete_count: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ReverbTable:
    """One table: its settings, its items, and the steps they cover.

    A run is one contiguous stretch of consecutive steps of one stream. Items are
    spans of runs, so steps that several items share are there once. Item `i`
    covers steps `start[i] : start[i] + length[i]` of run `run[i]` in every column,
    unless `spans` says otherwise. Steps of a column that no item refers to are
    zeros. An item that is no such span (steps left out, repeated, or of several
    episodes) has a run of its own, in which each of its columns starts at step 0.

    Attributes:
        name: The table's name.
        max_size: Items it may hold.
        max_times_sampled: Samples after which an item leaves; 0 means no limit.
        sampler: How items are chosen for sampling.
        remover: How items are chosen for removal.
        rate_limiter: Its bounds and counters.
        num_deleted_episodes: Episodes whose last item has left the table.
        num_unique_samples: Items that were sampled at least once, ever.
        signature: One (path, dtype, shape) for each leaf, in the order in which
            Reverb flattens them, or None where the table has no signature. Paths
            join keys with "/"; an unknown size is None, as is an unknown shape.
        columns: The dtype and the shape of one step, for each column. Empty in a
            table without items.
        runs: `runs[r][c]` is column `c` of run `r`: C-contiguous, of the column's
            dtype, with the shape (steps of the run, *shape of one step).
        keys: Keys of the items in insertion order, uint64, shape (N,).
        run: Run of each item, int64, shape (N,).
        start: First step of each item in its run, int64, shape (N,).
        length: Steps that each item covers, int64, shape (N,).
        priorities: Priority of each item, float64, shape (N,).
        times_sampled: Samples of each item so far, int64, shape (N,).
        spans: For items whose columns cover different steps only: one (start
            relative to the item's start, length) for each column.
        squeezed: For items with squeezed columns only: whether each column is,
            which means that it has one step and no time axis.
    """

    name: str
    max_size: int
    max_times_sampled: int
    sampler: ReverbSelector
    remover: ReverbSelector
    rate_limiter: ReverbRateLimiter
    num_deleted_episodes: int
    num_unique_samples: int
    signature: list[SignatureLeaf] | None
    columns: list[Column]
    runs: list[list[Array]]
    keys: npt.NDArray[np.uint64]
    run: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    priorities: npt.NDArray[np.float64]
    times_sampled: npt.NDArray[np.int64]
    spans: dict[int, list[tuple[int, int]]]
    squeezed: dict[int, tuple[bool, ...]]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.keys)

    def item_columns(self, index: int) -> list[Array]:
        """The data of one item, as Reverb's `sample` returns it.

        Args:
            index: Position of the item in insertion order.

        Returns:
            A view for each column: (steps, *shape of one step), without the time
            axis where the column is squeezed.
        """
        first = int(self.start[index])
        whole = [(0, int(self.length[index]))] * len(self.columns)
        squeezed = self.squeezed.get(index, (False,) * len(self.columns))
        return [
            steps[first + start, ...]
            if squeeze
            else steps[first + start : first + start + length]
            for steps, (start, length), squeeze in zip(
                self.runs[int(self.run[index])],
                self.spans.get(index, whole),
                squeezed,
                strict=True,
            )
        ]
