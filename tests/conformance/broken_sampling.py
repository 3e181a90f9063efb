"""Managers with a defect, for the suite to reject: sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
from tests.conformance.broken import Broken, Proxy

from reverie.errors import InvalidArgumentError, WaitTimeoutError


class Sampler(Broken):
    """Changes what good batches hold."""

    def change(self, data: Any, info: Any) -> Any:
        raise NotImplementedError

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        return self.change(*super().sample(*args, **kwargs))


class HasNoTimeAxis(Sampler):
    def change(self, data: Any, info: Any) -> Any:
        return optree.tree_map(lambda leaf: leaf[:, 0], data), info


class ShiftsKeys(Sampler):
    def change(self, data: Any, info: Any) -> Any:
        return data, info._replace(key=np.roll(info.key, 1))


class RepeatsEachDraw(Sampler):
    def change(self, data: Any, info: Any) -> Any:
        rows = np.arange(len(info.key)) // 2 * 2
        chosen = optree.tree_map(lambda leaf: leaf[rows], data)
        return chosen, type(info)(*(field[rows] for field in info))


class PrefersTheOldest(Broken):
    def sample(self, batch_size: Any, *args: Any, **kwargs: Any) -> Any:
        if type(batch_size) is not int or batch_size < 1:
            return super().sample(batch_size, *args, **kwargs)
        data, info = super().sample(2 * batch_size, *args, **kwargs)
        pairs = info.key.reshape(batch_size, 2)
        rows = 2 * np.arange(batch_size) + pairs.argmin(axis=1)
        chosen = optree.tree_map(lambda leaf: leaf[rows], data)
        return chosen, type(info)(*(field[rows] for field in info))


class CountsNoDraws(Sampler):
    def change(self, data: Any, info: Any) -> Any:
        return data, info._replace(times_sampled=np.ones_like(info.times_sampled))


class TakesFirstPieces(Broken):
    def sample(self, batch_size: Any, num_steps: Any = None, *args: Any, **kwargs: Any) -> Any:
        data, info = super().sample(batch_size, num_steps, *args, **kwargs)
        if num_steps is None:
            return data, info
        data, info = super().sample(batch_size, None, *args, **kwargs)
        return optree.tree_map(lambda leaf: leaf[:, :num_steps], data), info


class IgnoresOut(Broken):
    def sample(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        return super().sample(*args, **kwargs)


class GivesTheSameArrays(Broken):
    kept: Any = None

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        data, info = super().sample(*args, **kwargs)
        kept = self.kept
        if kept is None or len(kept.reward) != len(info.key):
            kept = self.kept = data
        for old, new in zip(optree.tree_leaves(kept), optree.tree_leaves(data), strict=True):
            old[...] = new
        return kept, info


class RoundsBatchSizes(Broken):
    def sample(self, batch_size: Any, *args: Any, **kwargs: Any) -> Any:
        return super().sample(int(batch_size or 1), *args, **kwargs)


class RaisesOsErrors(Broken):
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().sample(*args, **kwargs)
        except WaitTimeoutError as error:
            raise OSError(str(error)) from None


class NeverWaits(Broken):
    def sample(self, *args: Any, timeout: Any = None, **kwargs: Any) -> Any:
        return super().sample(*args, timeout=0 if timeout else timeout, **kwargs)


class ForgetsPriorities(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        return super().update_priorities(keys, 1.0 + 0 * np.asarray(priorities))


class CountsNoStaleKeys(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        super().update_priorities(keys, priorities)
        return 0


class UsesKeysAgain(Broken):
    def _keys(self) -> list[int]:
        return [key for key, _ in super().iter_items()]

    def iter_items(self) -> Any:
        return ((n, item) for n, (_, item) in enumerate(super().iter_items()))

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        data, info = super().sample(*args, **kwargs)
        numbers = [self._keys().index(key) for key in info.key.tolist()]
        return data, info._replace(key=np.array(numbers, np.uint64))

    def update_priorities(self, keys: Any, priorities: Any) -> int:
        known = dict(enumerate(self._keys()))
        return super().update_priorities([known.get(k, 2**60) for k in keys], priorities)


class TakesNegativePriorities(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        return super().update_priorities(keys, np.abs(np.asarray(priorities, np.float64)))


class TakesPrioritiesThatNothingReads(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        try:
            return super().update_priorities(keys, priorities)
        except InvalidArgumentError:
            return 0


class ItsBufferTakesPrioritiesThatNothingReads(Broken):
    class Buffer(Proxy):
        def update_priorities(self, keys: Any, priorities: Any) -> int:
            try:
                return int(self.good.update_priorities(keys, priorities))
            except InvalidArgumentError:
                return 0

    broken_buffer = staticmethod(Buffer)


class LetsNoKeysPass(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        return super().update_priorities(keys, priorities) if len(keys) else 0


class RefusesPrioritiesOfHeaps(Broken):
    def update_priorities(self, keys: Any, priorities: Any) -> int:
        if self._settings.table.prioritized:
            return super().update_priorities(keys, priorities)
        raise InvalidArgumentError("neither sampler nor remover is prioritized")


class TearsWindowsWhileAdding(Broken):
    calls = 0

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        data, info = super().sample(*args, **kwargs)
        self.calls += 1
        if self.calls > 3:
            data.reward[0, -1] += 1
        return data, info


DEFECTS: dict[type[Broken], str] = {
    HasNoTimeAxis: "a_batch_has_its_shapes_and_dtypes",
    ShiftsKeys: "a_batch_holds_items_and_their_facts",
    RepeatsEachDraw: "items_are_drawn_equally_often_and_independently",
    PrefersTheOldest: "items_are_drawn_equally_often_and_independently",
    CountsNoDraws: "times_sampled_counts_each_draw",
    TakesFirstPieces: "pieces_of_items",
    IgnoresOut: "out_is_filled",
    GivesTheSameArrays: "what_is_handed_out_is_the_callers",
    RoundsBatchSizes: "bad_numbers_are_refused",
    RaisesOsErrors: "an_empty_buffer_times_out",
    NeverWaits: "a_wait_ends_when_another_thread_adds",
    ForgetsPriorities: "priorities_are_kept_and_stale_keys_counted",
    CountsNoStaleKeys: "priorities_are_kept_and_stale_keys_counted",
    UsesKeysAgain: "keys_are_never_used_again",
    TakesNegativePriorities: "bad_priorities_change_nothing",
    TakesPrioritiesThatNothingReads: "priorities_that_nothing_reads_are_refused",
    ItsBufferTakesPrioritiesThatNothingReads: "priorities_that_nothing_reads_are_refused",
    LetsNoKeysPass: "priorities_that_nothing_reads_are_refused",
    RefusesPrioritiesOfHeaps: "priorities_that_nothing_reads_are_refused",
    TearsWindowsWhileAdding: "adding_and_sampling_go_together",
}
"""Each defect, and the check that must see it."""
