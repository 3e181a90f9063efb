"""What `sample` returns: a batch, and facts about each of its items."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A")
_MISSING = {
    "weight": "This batch has no weights: sample(batch_size, beta=0.4) gives them.",
    "source": "This batch is of one buffer; reverie.mix() mixes several.",
}


class SampleInfo(NamedTuple):
    """Facts about each sampled item at the moment it was chosen.

    Every field is an array of shape `[B]` (from `sample`) or `[B, T]`, repeated
    along time, in datasets. Names and dtypes are Reverb's.

    Attributes:
        key: uint64, never reused; for `update_priorities`.
        probability: float64, with which the item was chosen.
        table_size: int64, items in the table.
        priority: float64.
        times_sampled: int32, this time included.
    """

    key: NDArray[np.uint64]
    probability: NDArray[np.float64]
    table_size: NDArray[np.int64]
    priority: NDArray[np.float64]
    times_sampled: NDArray[np.int32]


class Updated(NamedTuple):
    """What became of new values: `ReplayBuffer.update`.

    Attributes:
        updated: steps that have them now.
        stale: keys whose items have left; nothing was written for them.
        rejected: steps that kept their own, whose version was not older.
    """

    updated: int
    stale: int
    rejected: int


class WeightedInfo(NamedTuple):
    """A SampleInfo with importance weights.

    Attributes:
        key: see SampleInfo, as for the next four.
        probability: see there.
        table_size: see there.
        priority: see there.
        times_sampled: see there.
        weight: float32 `[B]`, as `weights.importance_weights` makes them.
    """

    key: NDArray[np.uint64]
    probability: NDArray[np.float64]
    table_size: NDArray[np.int64]
    priority: NDArray[np.float64]
    times_sampled: NDArray[np.int32]
    weight: NDArray[np.float32]


class MixedInfo(NamedTuple):
    """Facts about items of several buffers.

    Attributes:
        key: see SampleInfo, as for the next four: of the buffer that the item is of.
        probability: see there.
        table_size: see there.
        priority: see there.
        times_sampled: see there.
        weight: float32 `[B]`: of its own buffer; 1 where that is not prioritized, or without
            `beta=`.
        source: int64 `[B]`, which buffer, in the mixture's order.
    """

    key: NDArray[np.uint64]
    probability: NDArray[np.float64]
    table_size: NDArray[np.int64]
    priority: NDArray[np.float64]
    times_sampled: NDArray[np.int32]
    weight: NDArray[np.float32]
    source: NDArray[np.int64]


class Named(Generic[A]):
    """What stands in a batch under a standard name, as attributes; A is its arrays' type.

    They raise AttributeError where there is no such thing in this batch.
    """

    __slots__ = ()

    def _of(self: Any, name: str) -> Any:
        try:
            return self.data[name]
        except (KeyError, TypeError, IndexError):
            has = list(self.data) if isinstance(self.data, dict) else type(self.data).__name__
            raise AttributeError(
                f"This batch has no {name!r}: its data are {has!r:.300}. What there is depends "
                "on the view and on the keys of a step."
            ) from None

    def _fact(self: Any, name: str) -> Any:
        found = getattr(self.info, name, None)
        if found is None:
            raise AttributeError(_MISSING[name])
        return found

    @property
    def observation(self) -> Any:
        """The state in which the action was chosen."""
        return self._of("observation")

    @property
    def action(self) -> Any:
        """What was done."""
        return self._of("action")

    @property
    def reward(self) -> A:
        """`[B]` or `[B, T]`: what came of it; of n steps, their discounted sum."""
        found: A = self._of("reward")
        return found

    @property
    def next_observation(self) -> Any:
        """The state after the last of the steps."""
        return self._of("next_observation")

    @property
    def discount(self) -> A:
        """float32 `[B]`: gamma^m, 0 where the environment ended."""
        found: A = self._of("discount")
        return found

    @property
    def terminated(self) -> A:
        """Whether the environment ended."""
        found: A = self._of("terminated")
        return found

    @property
    def truncated(self) -> A:
        """Whether the episode was cut off."""
        found: A = self._of("truncated")
        return found

    @property
    def n_steps(self) -> A:
        """int64 `[B]`: over how many steps the reward is summed."""
        found: A = self._of("n_steps")
        return found

    @property
    def mask(self) -> A:
        """Of steps that are real, `[B, T]`."""
        found: A = self._of("mask")
        return found

    @property
    def key(self) -> NDArray[np.uint64]:
        """uint64 `[B]`, NumPy's on the host, for `update_priorities`."""
        found: NDArray[np.uint64] = self._fact("key")
        return found

    @property
    def probability(self) -> A:
        """float64 `[B]`, with which each item was chosen."""
        found: A = self._fact("probability")
        return found

    @property
    def weight(self) -> A:
        """float32 `[B]`: importance weights, of a batch sampled with `beta=`."""
        found: A = self._fact("weight")
        return found

    @property
    def source(self) -> A:
        """int64 `[B]`: which buffer of a mixture each item is of."""
        found: A = self._fact("source")
        return found


class _Sampled(NamedTuple):
    data: Any
    info: SampleInfo | WeightedInfo | MixedInfo


class Batch(_Sampled, Named[NDArray[Any]]):
    """Sampled data, and facts about it: `data, info = batch`.

    What stands in `data` under a standard name, and the fields of `info`, are attributes,
    too: `batch.observation`, `batch.key`. They raise AttributeError where there is no such
    thing in this batch. A column of one's own is `batch.data["its_name"]`.

    Attributes:
        data: the nest of a step, each leaf with a batch axis in front; of a view a dict,
            see there.
        info: of `[B]` fields; with `beta=` one more, the weights; of a mixture another one,
            which buffer each item is of.
    """

    __slots__ = ()

    @property
    def probability(self) -> NDArray[np.float64]:
        """float64 `[B]`, with which each item was chosen."""
        return self.info.probability

    @property
    def weight(self) -> NDArray[np.float32]:
        """float32 `[B]`: importance weights, of a batch sampled with `beta=`."""
        found: NDArray[np.float32] = self._fact("weight")
        return found

    @property
    def source(self) -> NDArray[np.int64]:
        """int64 `[B]`: which buffer of a mixture each item is of."""
        found: NDArray[np.int64] = self._fact("source")
        return found
