"""Hindsight experience replay in SB3's words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int
from reverie.sb3 import bases
from reverie.sb3.kinds import DictReplayBuffer
from reverie.views import Hindsight

_STRATEGIES = ("future", "final", "episode")
_GOALS = ("achieved_goal", "desired_goal")


class HerReplayBuffer(DictReplayBuffer, bases.HerReplayBuffer):  # type: ignore[misc]
    """Transitions of which most have a goal that was reached: see `reverie.views.Hindsight`.

    As SB3's, but that episodes which have not ended yet take part with their steps so far,
    and infos are not kept: a reward that depends on more than the two goals is for SB3's.

    Args:
        buffer_size: see ReplayBuffer, as for the next two.
        observation_space: a Dict with the keys achieved_goal and desired_goal.
        action_space: see there.
        env: whose `compute_reward(achieved, desired, infos)` gives rewards, `[N]`: SB3's
            vector environment, of which the first one is asked, or one of gymnasium's.
        device: see there, as for the next three.
        n_envs: see there.
        optimize_memory_usage: see there.
        handle_timeout_termination: see there.
        n_sampled_goal: k: `int(B * k / (k + 1))` of B are relabelled.
        goal_selection_strategy: "future", "final" or "episode", or SB3's value of the name.
        copy_info_dict: must be False.
        **kwargs: see there.

    Raises:
        InvalidArgumentError: a goal is missing, the strategy unknown, or infos are asked
            for; or as ReplayBuffer's.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        env: Any,
        device: Any = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_sampled_goal: int = 4,
        goal_selection_strategy: Any = "future",
        copy_info_dict: bool = False,
        **kwargs: Any,
    ) -> None:
        spaces = getattr(observation_space, "spaces", None)
        missing = [
            key for key in _GOALS if not isinstance(spaces, Mapping) or key not in spaces
        ]
        if missing:
            raise InvalidArgumentError(
                f"observation_space: found no {missing!r} in {observation_space!r:.200}, "
                "wanted a Dict with the goals, as gymnasium's GoalEnv has it."
            )
        if copy_info_dict:
            raise InvalidArgumentError(
                "copy_info_dict: found True, but infos are not kept. What a reward needs "
                "beside the goals can be a part of them; else use SB3's own HerReplayBuffer."
            )
        strategy = getattr(goal_selection_strategy, "name", goal_selection_strategy)
        self.goal_selection_strategy = str(strategy).lower()
        if self.goal_selection_strategy not in _STRATEGIES:
            raise InvalidArgumentError(
                f"goal_selection_strategy: found {goal_selection_strategy!r:.100}, wanted one "
                f"of {_STRATEGIES}."
            )
        self.env = env
        self._is_open = False
        self.copy_info_dict = copy_info_dict
        self.n_sampled_goal = check_int("n_sampled_goal", n_sampled_goal, 0, 2**31)
        self.her_ratio = 1 - 1 / (self.n_sampled_goal + 1)
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
            **kwargs,
        )

    def set_env(self, env: Any) -> None:
        """The environment, after a load.

        Raises:
            ValueError: it has one.
        """
        if self.env is not None:
            raise ValueError("This buffer has its environment already.")
        self.env = env

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: Any,
        reward: Any,
        done: Any,
        infos: Sequence[Mapping[str, Any]] | Any,
    ) -> None:
        """See ReplayBuffer."""
        super().add(obs, next_obs, action, reward, done, infos)
        self._is_open = not np.all(done)

    def truncate_last_trajectory(self) -> None:
        """The open episodes end here, cut off, with a warning. After a load they have."""
        if self._is_open:
            warnings.warn(
                "The last trajectory in the replay buffer will be truncated: what is added "
                "next begins a new episode.",
                stacklevel=2,
            )
        self.buffer.end_episodes()
        self._last, self._is_open = None, False

    def __getstate__(self) -> dict[str, Any]:
        """As ReplayBuffer's, without the environment."""
        return {**super().__getstate__(), "env": None}

    def _view(self, env: Any) -> Any:
        return Hindsight(
            self._rewards,
            self.n_sampled_goal,
            self.goal_selection_strategy,  # type: ignore[arg-type]
        )

    def _rewards(self, achieved: Any, desired: Any, _: Any) -> NDArray[np.float32]:
        """The environment's, of as many goals."""
        if self.env is None:
            raise InvalidArgumentError(
                "sample(): this buffer has no environment, whose rewards it needs: "
                "set_env(env) after a load."
            )
        infos: list[dict[str, Any]] = [{} for _ in range(len(achieved))]
        if hasattr(self.env, "env_method"):
            found = self.env.env_method("compute_reward", achieved, desired, infos, indices=[0])
            return np.asarray(found[0], np.float32)
        single = getattr(self.env, "unwrapped", self.env)
        return np.asarray(single.compute_reward(achieved, desired, infos), np.float32)
