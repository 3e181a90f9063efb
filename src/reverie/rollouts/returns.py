"""Priorities that only the end of an episode can tell: those made of its return."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_priorities, as_updates
from reverie.tables.settings import TableSettings
from reverie.tables.table import Table
from reverie.views.base import Gathered

EpisodePriority = Callable[[NDArray[np.float64]], ArrayLike]
Ended = Sequence[tuple[float, NDArray[np.uint64]]]

UNKNOWN = sys.float_info.max
"""In a table from which the worst leaves: of an open episode's items, which therefore stay."""


def first_priority(settings: TableSettings) -> float | None:
    """Of items whose episode's return is not known; None: the largest that there is."""
    if settings.remover.kind == "min_heap" and settings.sampler.kind != "prioritized":
        return UNKNOWN
    return None


def check_rated(settings: TableSettings) -> None:
    """Raises InvalidArgumentError where such priorities would change nothing, or be late."""
    settings.check_updates(
        "Make the buffer with remover=reverie.removers.MinHeap(), which keeps the best, or "
        "with sampler=reverie.samplers.Prioritized()."
    )
    if settings.limiter.bounds_inserts:
        raise InvalidArgumentError(
            f"limiter: found {settings.limiter!r:.200}, wanted none that makes steps wait, "
            "with episode_priority."
        )


def rate(table: Table, function: EpisodePriority, ended: Ended) -> int:
    """Sets the priorities of the items of episodes that are over.

    Args:
        table: theirs.
        function: makes priorities `[E]` of returns `[E]`.
        ended: of each episode its return, and its items' keys.

    Returns:
        How many items had left already.

    Raises:
        InvalidArgumentError: the function's result has another shape, or a value that is no
            priority. What the function itself raises, too; the steps are stored all the same.
    """
    if not ended:
        return 0
    returns = np.array([total for total, _ in ended])
    found = as_priorities(function(returns))
    if found.shape != returns.shape:
        raise InvalidArgumentError(
            f"episode_priority: found a result of shape {found.shape}, wanted {returns.shape}: "
            "a priority for each return. The steps are stored, their priorities are as before."
        )
    keys = np.concatenate([keys for _, keys in ended])
    values = np.repeat(found, [len(keys) for _, keys in ended])
    if table.settings.prioritized:
        keys, values = as_updates(keys, values)  # weights, which must not be negative
    elif not np.isfinite(found).all():
        raise InvalidArgumentError(
            f"episode_priority: found {found!r:.200}, wanted finite numbers. The steps are "
            "stored, their priorities are as before."
        )
    return table.core.update_priorities(keys, values)


def orphans(
    table: Table, layout: _core.RecordLayout, place: int, lead: int, *, of_open: bool
) -> list[tuple[float, NDArray[Any]]]:
    """Items that were not rated, by episode, with its return.

    Args:
        table: theirs.
        layout: of its records.
        place: of the reward.
        lead: records before an item's first step.
        of_open: whether to take open episodes, too, with the return so far: those of a saved
            buffer, which do not go on.
    """
    items = table.core.items()
    keys = items["key"][items["priority"] == UNKNOWN]
    if not len(keys):
        return []
    most = 2**32 - 1
    whole = _core.ViewPlan(layout, [], most, lead, 0)
    _, _, (chunks, places) = table.core.gather_view(whole, keys)
    ends = np.stack([chunks, places.astype(np.uint64)], axis=1)
    # Of the items that end together, the first one holds all.
    _, first, episode = np.unique(ends, axis=0, return_index=True, return_inverse=True)
    rewards = _core.ViewPlan(layout, [(place, lead + 1, 0, 0, False)], most, lead, 0)
    rows, _, _ = table.core.gather_view(rewards, keys[first])
    found = Gathered(*rows)
    totals = found.arrays[0].sum(axis=1, dtype=np.float64)
    over = found.terminated | found.truncated | of_open
    return [(float(totals[n]), keys[episode.ravel() == n]) for n in np.flatnonzero(over)]
