"""Single steps, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_float, check_int
from reverie.views.base import (
    NEXT,
    Column,
    Fields,
    Gathered,
    Padding,
    Stack,
    View,
    check_names,
    check_stack,
    check_states,
)


@dataclass(frozen=True, repr=False)
class Transitions(View):
    """Steps with what came of them `n_step` steps later: `(s, a, r, s', done)`.

    With m the steps to the end of the episode, or to the newest one, but at most `n_step`:

        reward             sum of gamma^k * r[t + k] for k < m, float32 [B]
        next_<state>       s[t + m]
        discount           gamma^m, 0 where the last of these steps terminated, float32 [B]
        terminated         bool [B], of the last of these steps
        truncated          bool [B], likewise: the episode was cut off, and next_<state> is
                           its final state
        n_steps            m, int64 [B]

    Every other key is that of step t, `[B, *shape]`. A target is
    `reward + discount * value(next_observation)`, whatever ended the episode.
    (Sutton 1988; Hessel et al. 2018, "Rainbow".)

    Args:
        n_step: >= 1; above 1 the step needs a reward.
        gamma: 0 to 1.
        stack: how many frames of a state, by key, as `{"observation": 4}`: it and its
            next_<state> come as `[B, n, *shape]`, the newest last, as gymnasium's
            FrameStackObservation stacks them. Each frame is stored once.
        stack_padding: what stands before an episode's first frame: that one ("first"), or
            "zeros".

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    n_step: int = 1
    gamma: float = 1.0
    stack: Stack = None
    stack_padding: Padding = "first"
    kind = "transitions"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        object.__setattr__(self, "n_step", check_int("n_step", self.n_step, 1, 10_000))
        gamma = as_float("gamma", self.gamma)
        if not 0 <= gamma <= 1:
            raise InvalidArgumentError(f"gamma: found {gamma!r}, wanted 0 to 1.")
        object.__setattr__(self, "gamma", gamma)
        self._settle_stack()

    def check(self, fields: Fields) -> None:
        """See the base."""
        check_states(self, fields)
        check_stack(self, fields)
        taken = {NEXT + key for key in fields.roles.state}
        taken |= {"discount", "n_steps", "terminated", "truncated"}
        check_names(self, fields, taken)
        reward = fields.roles.reward
        if self.n_step > 1 and reward is None:
            raise InvalidArgumentError(
                f"{self!r}: found the keys {list(fields.places)!r:.200}, wanted one that is "
                "the reward: n-step returns sum it up. Pass its name as reward=."
            )
        if reward is not None and len(fields.places[reward]) != 1:
            raise InvalidArgumentError(
                f"{self!r}: the reward {reward!r:.100} is a nest of "
                f"{len(fields.places[reward])} leaves, wanted one array."
            )

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        columns, stacks = [], self.stacks
        for key in fields.places:
            if key in fields.roles.state:
                alone, back = key not in stacks, stacks.get(key, 1) - 1
                columns += fields.columns(key, 0, 1, back=back, squeeze=alone)
                columns += fields.columns(key, -1, 1, back=back, squeeze=alone)
            else:
                steps = self.n_step if key == fields.roles.reward else 1
                columns += fields.columns(key, 1, steps, squeeze=steps == 1)
        return self.n_step + 1, columns

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        arrays = list(found.arrays)
        data: dict[str, Any] = {}
        for key in fields.places:
            value = fields.take(key, arrays)
            if key == fields.roles.reward:
                value = self._returns(value)
            data[key] = value
            if key in fields.roles.state:
                data[NEXT + key] = fields.take(key, arrays)
        data["discount"] = self._discounts(found)
        data["terminated"], data["truncated"] = found.terminated, found.truncated
        data["n_steps"] = found.steps
        return data

    def _discounts(self, found: Gathered) -> NDArray[np.float32]:
        goes_on = ~found.terminated
        if self.n_step == 1:  # as all rows have one step
            return np.multiply(goes_on, self.gamma, dtype=np.float32)
        by_steps = (self.gamma ** np.arange(self.n_step + 1)).astype(np.float32)
        result: NDArray[np.float32] = by_steps[found.steps] * goes_on
        return result

    def _returns(self, rewards: NDArray[Any]) -> NDArray[np.float32]:
        if self.n_step == 1:
            return np.asarray(rewards, np.float32)
        weights = self.gamma ** np.arange(self.n_step)
        exact = np.moveaxis(rewards, 1, -1).astype(np.float64, copy=False)
        result: NDArray[np.float32] = exact.dot(weights).astype(np.float32)
        return result
