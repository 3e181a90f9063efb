"""What `sample` returns: a batch, and facts about each of its items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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


class Batch(NamedTuple):
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

    data: Any
    info: SampleInfo | WeightedInfo | MixedInfo

    def _of(self, name: str) -> Any:
        try:
            return self.data[name]
        except (KeyError, TypeError, IndexError):
            has = list(self.data) if isinstance(self.data, dict) else type(self.data).__name__
            raise AttributeError(
                f"This batch has no {name!r}: its data are {has!r:.300}. What there is depends "
                "on the view and on the keys of a step."
            ) from None

    @property
    def observation(self) -> Any:
        """The state in which the action was chosen."""
        return self._of("observation")

    @property
    def action(self) -> Any:
        """What was done."""
        return self._of("action")

    @property
    def reward(self) -> Any:
        """What came of it: of n steps, their discounted sum."""
        return self._of("reward")

    @property
    def next_observation(self) -> Any:
        """The state after the last of the steps."""
        return self._of("next_observation")

    @property
    def discount(self) -> Any:
        """float32 `[B]`: gamma^m, 0 where the environment ended."""
        return self._of("discount")

    @property
    def terminated(self) -> Any:
        """Whether the environment ended."""
        return self._of("terminated")

    @property
    def truncated(self) -> Any:
        """Whether the episode was cut off."""
        return self._of("truncated")

    @property
    def n_steps(self) -> Any:
        """int64 `[B]`: over how many steps the reward is summed."""
        return self._of("n_steps")

    @property
    def mask(self) -> Any:
        """Of steps that are real, `[B, T]`."""
        return self._of("mask")

    @property
    def weight(self) -> NDArray[np.float32]:
        """float32 `[B]`: importance weights, of a batch sampled with `beta=`."""
        if isinstance(self.info, SampleInfo):
            raise AttributeError(
                "This batch has no weights: sample(batch_size, beta=0.4) gives them."
            )
        return self.info.weight

    @property
    def source(self) -> NDArray[np.int64]:
        """int64 `[B]`: which buffer of a mixture each item is of."""
        if not isinstance(self.info, MixedInfo):
            raise AttributeError("This batch is of one buffer; reverie.mix() mixes several.")
        return self.info.source

    @property
    def key(self) -> NDArray[np.uint64]:
        """uint64 `[B]`, for `update_priorities`."""
        return self.info.key

    @property
    def probability(self) -> NDArray[np.float64]:
        """float64 `[B]`, with which each item was chosen."""
        return self.info.probability
