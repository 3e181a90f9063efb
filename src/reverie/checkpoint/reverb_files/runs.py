"""From slices of chunks to runs: each step once, each item a span.

Reverb's items are lists of slices of chunks, column by column. Every chunk knows
its episode and which steps of it it holds, so a slice is an interval of steps.
Overlapping intervals of the items of one episode are merged to runs, and every
slice then has a place in the table's one array per column. It is all sorting and
arithmetic on flat arrays; nothing here loops over items or slices.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from reverie import errors

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Slices:
    """The slices of one table's items, by item, then column, then time; shape (S,).

    Attributes:
        item: Item, 0 to N - 1.
        column: Column of the item.
        tensor: Number of the packed column in the checkpoint.
        offset: First row of it.
        length: Rows, at least 1.
        episode: A number for each episode.
        step: Step of the episode at `offset`.
        dense: Whether the rows are consecutive steps.
    """

    item: Ints
    column: Ints
    tensor: Ints
    offset: Ints
    length: Ints
    episode: Ints
    step: Ints
    dense: Bools


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """What to copy where; shape (P,). Ordered by tensor.

    Attributes:
        column: Column of the table.
        tensor: Number of the packed column.
        offset: First row to copy.
        target: Row of the table's array for the column.
        length: Rows.
    """

    column: Ints
    tensor: Ints
    offset: Ints
    target: Ints
    length: Ints


@dataclasses.dataclass(frozen=True, slots=True)
class Runs:
    """Where everything goes. Runs are numbered by the first item that uses them.

    Attributes:
        run: Run of each item, shape (N,).
        start: First step of each item in its run, shape (N,).
        length: Steps each item covers, shape (N,).
        column_start: The same for each column, relative to `start`; shape (N, C).
        column_length: Steps of each column of each item, shape (N, C).
        run_base: Row of the table's arrays where each run starts, then their
            number of rows; shape (R + 1,).
        pieces: What to copy.
    """

    run: Ints
    start: Ints
    length: Ints
    column_start: Ints
    column_length: Ints
    run_base: Ints
    pieces: Pieces


def arrange(slices: Slices, num_items: int, num_columns: int) -> Runs:
    """Lays out a table.

    Args:
        slices: At least one slice for every column of every item.
        num_items: N, at least 1.
        num_columns: C, at least 1.

    Returns:
        The runs. It costs O(S log S) time and a few times the size of `slices`.

    Raises:
        CheckpointLimitError: The numbers are too large for 64-bit arithmetic.
    """
    shape = (num_items, num_columns)
    first = np.flatnonzero(changes(slices.item, slices.column))
    lengths = np.add.reduceat(slices.length, first).reshape(shape)
    if float(lengths.max(axis=1).sum(dtype=np.float64)) * (num_columns + 1) >= 1 << 62:
        raise errors.CheckpointLimitError("A table has too many steps to be laid out")
    step = slices.step[first].reshape(shape)
    episode = slices.episode[first].reshape(shape)

    joined = slices.dense.copy()
    joined[1:] &= (np.diff(slices.episode) == 0) & (
        slices.step[1:] == slices.step[:-1] + slices.length[:-1]
    )
    joined[first] = slices.dense[first]
    shared = np.asarray(np.logical_and.reduceat(joined, first).reshape(shape).all(axis=1))
    shared &= (episode == episode[:, :1]).all(axis=1)
    # Columns far apart would make a run of mostly nothing.
    shared &= (step + lengths).max(axis=1) - step.min(axis=1) <= lengths.sum(axis=1)

    # Steps before each slice within its item and column.
    before = np.cumsum(slices.length) - slices.length
    before -= np.repeat(before[first], np.diff(np.append(first, len(before))))

    while True:
        runs = _place(slices, before, shared, step, lengths, episode[:, 0])
        clashing = _clashing_runs(runs)
        if not len(clashing):
            return runs
        # Two sources for one cell: items of those runs do not share after all.
        shared &= ~np.isin(runs.run, clashing)


def _place(
    slices: Slices, before: Ints, shared: Bools, step: Ints, lengths: Ints, episode: Ints
) -> Runs:
    num_items = len(shared)
    begin = np.where(shared, step.min(axis=1), 0)
    end = np.where(shared, (step + lengths).max(axis=1), lengths.max(axis=1))
    column_start = np.where(shared[:, None], step - begin[:, None], 0)
    # An item of its own is the only one with its group.
    own = np.arange(num_items, dtype=np.int64) + (int(episode.max()) + 1)
    run, run_begin, run_end, run_first = _merge((np.where(shared, episode, own),), begin, end)

    by_first_item = np.argsort(run_first)
    number = np.empty_like(by_first_item)
    number[by_first_item] = np.arange(len(by_first_item))
    run = number[run]
    run_begin, run_end = run_begin[by_first_item], run_end[by_first_item]
    run_base = np.concatenate(([0], np.cumsum(run_end - run_begin)))
    start = begin - run_begin[run]

    item_base = (run_base[run] + start)[:, None] + column_start
    target = item_base[slices.item, slices.column] + before
    # Slices of one tensor on one diagonal fill the same cells with the same rows.
    diagonal = target - slices.offset
    _, from_, to, source = _merge(
        (diagonal, slices.tensor, slices.column), slices.offset, slices.offset + slices.length
    )
    by_tensor = np.argsort(slices.tensor[source], kind="stable")
    source, from_, to = source[by_tensor], from_[by_tensor], to[by_tensor]
    pieces = Pieces(
        column=slices.column[source],
        tensor=slices.tensor[source],
        offset=from_,
        target=diagonal[source] + from_,
        length=to - from_,
    )
    return Runs(run, start, end - begin, column_start, lengths, run_base, pieces)


def _clashing_runs(runs: Runs) -> Ints:
    """Runs in which two pieces claim the same cell of a column."""
    pieces = runs.pieces
    order = np.lexsort((pieces.target, pieces.column))
    column, target = pieces.column[order], pieces.target[order]
    rows = int(runs.run_base[-1])
    ends = np.maximum.accumulate(column * (rows + 1) + target + pieces.length[order])
    clash = np.flatnonzero(column[1:] * (rows + 1) + target[1:] < ends[:-1]) + 1
    return np.unique(np.searchsorted(runs.run_base, target[clash], side="right") - 1)


def _merge(keys: tuple[Ints, ...], begin: Ints, end: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Unites overlapping and touching intervals that have the same keys.

    Returns:
        The united interval of each interval, and of each united interval its
        begin, its end, and the first interval that is part of it.
    """
    order = np.lexsort((begin, *keys))
    group = np.cumsum(changes(*(key[order] for key in keys)), dtype=np.int64) - 1
    width = int(end.max()) + 1
    if (int(group[-1]) + 1) * width >= 1 << 62:
        raise errors.CheckpointLimitError("A table has too many steps to be laid out")
    low, high = begin[order] + group * width, end[order] + group * width
    reach = np.maximum.accumulate(high)
    new = np.append(True, low[1:] > reach[:-1])
    united = np.cumsum(new, dtype=np.int64) - 1
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(order)) - 1
    of_interval = np.empty_like(united)
    of_interval[order] = united
    return (
        of_interval,
        begin[order][starts],
        reach[stops] - group[stops] * width,
        np.minimum.reduceat(order, starts),
    )


def changes(*keys: Ints) -> Bools:
    """True at the first element, and where any key differs from the one before."""
    changed = np.ones(len(keys[0]), dtype=np.bool_)
    changed[1:] = False
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return changed
