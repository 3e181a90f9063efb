"""Transitions whose goal is one that was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_float
from reverie.views.base import ANY, NEXT, Column, Fields, Gathered, View
from reverie.views.transitions import Transitions

Strategy = Literal["future", "final", "episode", "random"]
_OTHERS = {
    "future": _core.OTHER_LATER,
    "final": 0,
    "episode": _core.OTHER_OF_EPISODE,
    "random": _core.OTHER_OF_ANY,
}


@dataclass(frozen=True, repr=False)
class Hindsight(View):
    """Single steps, most of them with another goal: one that the agent did reach.

    What a batch holds is what `Transitions()` gives, and `relabelled`, bool `[B]`. In the
    rows where it is true the desired goal, before and after the step, is the goal that was
    achieved after another step, and the reward is computed anew:

        "future"    after this step or a later one of its episode
        "final"     after the last step of its episode, or the newest one
        "episode"   after any step of its episode that is still there
        "random"    after any step

    each of them equally likely. Of every batch just `floor(B * k / (k + 1))` rows are
    relabelled: with k = 4, 8 of 10. (Andrychowicz et al. 2017; `achieved` and `desired` are
    gymnasium's names.) Episodes that have not ended yet take part, with the steps so far.

        view = reverie.views.Hindsight(compute_reward=env.unwrapped.compute_reward)
        batch = buffer.sample(256, view=view)

    In a checkpoint a buffer's own view of this kind is `Transitions()`: a reward function
    cannot be stored. For samples alone: `steps` and `gather` draw nothing.

    Args:
        compute_reward: `compute_reward(achieved, desired, info)` of `[N, ...]` arrays, as
            gymnasium's GoalEnv has it; called once a batch, with the goals after the steps
            and an empty `info`. Gives `[N]`.
        k: goals that were reached for one that was wanted, >= 0; infinite: all are.
        strategy: which of them.
        achieved: key of the goal that was achieved, in a step's states: of the step itself,
            or within its observation.
        desired: key of the goal that was wanted, likewise, of the same form.

    Raises:
        InvalidArgumentError: a number is out of range, or the strategy is unknown.
    """

    compute_reward: Callable[[Any, Any, Any], Any]
    k: float = 4
    strategy: Strategy = "future"
    achieved: str = "achieved_goal"
    desired: str = "desired_goal"
    kind = "hindsight"

    def __post_init__(self) -> None:
        """Checks the settings."""
        k = as_float("k", self.k)
        if not k >= 0:
            raise InvalidArgumentError(f"k: found {k}, wanted a number >= 0.")
        if self.strategy not in _OTHERS:
            raise InvalidArgumentError(
                f"strategy: found {self.strategy!r:.100}, wanted one of {list(_OTHERS)}."
            )
        if not callable(self.compute_reward):
            raise InvalidArgumentError(
                f"compute_reward: found {type(self.compute_reward).__name__}, wanted a "
                "function of achieved goals, desired ones and info, such as the environment's."
            )

    @property
    def still(self) -> View:
        """See the base."""
        return _STEPS

    @property
    def other(self) -> int:
        """See the base."""
        return _OTHERS[self.strategy]

    def check(self, fields: Fields) -> None:
        """See the base."""
        _STEPS.check(fields)
        if fields.roles.reward is None:
            raise InvalidArgumentError(
                f"{self!r}: found the keys {list(fields.places)!r:.200}, wanted one that is "
                "the reward, which is computed anew. Pass its name as reward=."
            )
        if "relabelled" in fields.places:
            raise InvalidArgumentError(
                f"{self!r}: the step has a key 'relabelled', the name of what the view gives "
                "beside the step's own. Give it another."
            )
        (_, had), (_, wanted) = (self._goal(fields, name) for name in self._names)
        if not optree.tree_structure(had) == optree.tree_structure(
            wanted
        ) or optree.tree_leaves(had) != optree.tree_leaves(wanted):
            raise InvalidArgumentError(
                f"{self!r}: found the goals {had!r:.200} and {wanted!r:.200}, wanted two of "
                "the same form."
            )

    @property
    def _names(self) -> tuple[str, str]:
        return self.achieved, self.desired

    def _goal(self, fields: Fields, name: str) -> tuple[tuple[str, ...], Any]:
        """Where a goal stands, and its spec."""
        spec, state = fields.nest.spec, fields.roles.state
        if name in state:
            return (name,), spec[name]
        inner = fields.roles.observation
        if inner is not None and isinstance(spec[inner], dict) and name in spec[inner]:
            return (inner, name), spec[inner][name]
        within = list(spec[inner]) if inner and isinstance(spec[inner], dict) else []
        raise InvalidArgumentError(
            f"{self!r}: found no {name!r:.100} among the states {list(state)!r:.200}, nor "
            f"within the observation, {within!r:.200}. Name the keys of the goals as "
            "achieved= and desired=."
        )

    def computed(self, fields: Fields) -> list[int]:
        """See the base."""
        keys = [self._goal(fields, name)[0] for name in self._names]
        return [place for each in keys for place in fields.places_of(each)]

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        columns: list[Column] = []
        for key in fields.places:
            if key in fields.roles.state:
                columns += fields.columns(key, 0, 1, squeeze=True)
            columns += fields.columns(key, 1, 1, squeeze=True)
        at, _ = self._goal(fields, self.achieved)
        first = -1 if self.strategy == "final" else _core.OTHER
        columns += [(place, first, 1, 0, True) for place in fields.places_of(at)]
        return ANY, columns

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        arrays = list(found.arrays)
        data: dict[str, Any] = {}
        for key in fields.places:
            data[key] = fields.take(key, arrays)
            if key in fields.roles.state:
                data[NEXT + key] = fields.take(key, arrays)
        is_last = found.steps == 1
        terminated = found.terminated & is_last
        data["discount"] = (~terminated).astype(np.float32)
        data["terminated"], data["truncated"] = terminated, found.truncated & is_last
        data["n_steps"] = np.ones(len(found.steps), np.int64)
        share = 1 - 1 / (self.k + 1)
        count = int(len(found.steps) * share + 1e-9)
        data["relabelled"] = np.arange(len(found.steps)) < count
        self._relabel(fields, data, arrays, count)
        return data

    def _relabel(
        self, fields: Fields, data: dict[str, Any], goals: list[NDArray[Any]], count: int
    ) -> None:
        """Puts goals into the first `count` rows, and their rewards."""
        reward = fields.roles.reward
        assert reward is not None
        data[reward] = rewards = np.asarray(data[reward], np.float32)
        if not count:
            return
        (had, _), (wanted, spec) = (self._goal(fields, name) for name in self._names)
        goal = optree.tree_unflatten(optree.tree_structure(spec), goals)
        for side in ("", NEXT):
            into = _within(data, (side + wanted[0], *wanted[1:]))
            optree.tree_map(lambda to, of: _put(to, of, count), into, goal)
        achieved = _within(data, (NEXT + had[0], *had[1:]))
        achieved, goal = (
            optree.tree_map(lambda a: a[:count], each) for each in (achieved, goal)
        )
        fresh = np.asarray(self.compute_reward(achieved, goal, {}), np.float32)
        if fresh.shape != rewards[:count].shape:
            raise InvalidArgumentError(
                f"compute_reward: found rewards of shape {fresh.shape} for {count} goals, "
                f"wanted {rewards[:count].shape}: one for each row."
            )
        rewards[:count] = fresh


_STEPS = Transitions()


def _within(data: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        data = data[key]
    return data


def _put(to: NDArray[Any], of: NDArray[Any], count: int) -> None:
    to[:count] = of[:count]
