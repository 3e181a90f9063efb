"""A replay buffer's items by number, and what a notebook shows of it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import _core
from reverie.looking import page
from reverie.updating.updated_buffer import UpdatedBuffer
from reverie.views.base import ANY, Gathered

_FIRST = operator.itemgetter(0)
_LOOKED_AT = 100_000  # newest items of which a notebook's page tells episodes
_RETURNS = 100


class SeenBuffer(UpdatedBuffer):
    """The part of a replay buffer that is for looking."""

    def __getitem__(self, index: Any) -> Any:
        """The items at these places, in order of insertion, as the buffer's view gives them.

        Counts as no sample. Costs time for all items: a loop is `for item in buffer`, many at
        once are `steps()` or `gather(keys)`.

        Args:
            index: an int, from the end where it is negative: one item, without a batch
                axis; or a slice: a batch of them. Of a manager's buffer items are windows.

        Raises:
            IndexError: there is no such item.
            TypeError: it is neither.
            UnstackableError: windows of a slice have unequal numbers of steps.
            KeyError: the item left in this very moment, as others add.
            ClosedError: the buffer is closed.
        """
        keys = self.item_info()["key"]
        if isinstance(index, slice):
            return self._at(keys[index])
        try:
            place = operator.index(index)
        except TypeError:
            raise TypeError(
                f"buffer[i]: found {index!r:.200}, wanted an int or a slice: items have "
                "numbers, the oldest's is 0. By key they are gather(keys)."
            ) from None
        count = len(keys)
        if not -count <= place < count:
            there = f"{-count} to {count - 1}" if count else "none: the buffer is empty"
            raise IndexError(
                f"buffer[i]: found {place}, wanted a number that is there: {there}."
            )
        return self._one(keys[place])

    def __iter__(self) -> Iterator[Any]:
        """Each item, as `buffer[i]` has it; those that leave meanwhile are left out."""
        for key in self.item_info()["key"]:
            try:
                found = self._one(key)
            except KeyError:
                continue
            yield found

    def _at(self, keys: NDArray[np.uint64]) -> Any:
        if self._view is not None:
            return self.gather(keys)
        return self._nest.unflatten(self.gather_columns(keys)[0])

    def _one(self, key: np.uint64) -> Any:
        if self._view is not None:
            data: Any = self.gather([key])
            return optree.tree_map(_FIRST, data)
        return self._nest.unflatten([column[0] for column in self.gather_columns([key])[0]])

    def _repr_html_(self) -> str:
        """What a notebook shows: columns, sizes, settings, the newest episodes' returns."""
        if not self._store.is_open:
            return page.paragraph(repr(self))
        info = self.info()
        used, held = page.size(info.nbytes), page.size(info.allocated_nbytes)
        facts = {
            "items": f"{info.items:,} of {info.capacity:,}",
            "memory": f"{used} of data, {held} held",
            "sampler": repr(self._table.settings.sampler),
            "view": f"windows of {self.sequence_length} steps",
        }
        returns: list[float] = []
        if self._view is not None:
            facts["view"] = repr(self._view)
            facts["episodes"], returns = self._newest_episodes(info.items)
        columns = [(column.path, column.spec) for column in self._nest.columns]
        return page.of_buffer(repr(self), columns, info.record_nbytes, facts, returns)

    def _newest_episodes(self, items: int) -> tuple[str, list[float]]:
        """How many there are, and what the newest that ended have earned."""
        fields = self._with_views("_repr_html_()")
        plan = _core.ViewPlan(self._layout, [], ANY)
        whole = items <= _LOOKED_AT
        some = None if whole else self.item_info()["key"][-_LOOKED_AT:]
        try:
            rows, keys, where = self._core.gather_view(plan, some)
        except KeyError:
            return "not counted: others add", []
        ends = np.stack([where[0], where[1].astype(np.uint64)], axis=1)
        # Of the items that end together, the first one holds all.
        firsts = np.sort(np.unique(ends, axis=0, return_index=True)[1])
        words = f"{len(firsts):,}" + ("" if whole else f" in the newest {_LOOKED_AT:,} items")
        reward, returns = fields.roles.reward, list[float]()
        if reward is None or len(fields.places[reward]) != 1:
            return words, returns
        plan = _core.ViewPlan(self._layout, fields.columns(reward, 1, 0), ANY, fields.own.lead)
        all_rows = Gathered(*rows)
        over = all_rows.terminated | all_rows.truncated
        # The beginning of the first one here may be elsewhere.
        ended = [row for row in firsts[0 if whole else 1 :] if over[row]]
        for row in ended[-_RETURNS:]:
            try:
                found, _, _ = self._core.gather_view(plan, keys[row, None])
            except KeyError:  # has left meanwhile
                continue
            returns.append(float(found[0][0].sum()))
        return words, returns
