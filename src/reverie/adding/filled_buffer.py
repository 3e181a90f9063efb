"""What fills a replay buffer: steps of environments, and whole episodes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reverie import _core
from reverie.adding.arrivals import as_flags, count_of
from reverie.adding.autoreset import Autoreset
from reverie.adding.episodes import runs_of
from reverie.adding.streams import Adder, states_among, states_of
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.difference import kind_name
from reverie.rollouts.asked import check_rewards
from reverie.rollouts.queue import RolloutQueue
from reverie.rollouts.returns import (
    EpisodePriority,
    check_rated,
    first_priority,
    orphans,
    rate,
)
from reverie.runtime.checks import as_array, check_int
from reverie.stored_buffer import StoredBuffer
from reverie.tables.info import BufferInfo
from reverie.tables.settings import MAX_ITEMS
from reverie.views.base import Fields, View
from reverie.views.saved import from_json


class FilledBuffer(StoredBuffer):
    """The part of a replay buffer that takes steps in.

    Of a manager's, whose items are windows that observers write, it refuses them.
    """

    @property
    def _first_priority(self) -> float | None:
        """Of new items; None: the largest that there is."""
        settings = self._table.settings
        if self._rate is not None:
            unknown = first_priority(settings)
            if unknown is not None:
                return unknown
        initial = settings.sampler.initial
        return None if initial == "max" else 1.0 if initial is None else float(initial)

    def _set_up(self, num_envs: int | None) -> None:
        """What steps need; the table is there."""
        self._num_envs = num_envs
        self._rate: EpisodePriority | None = None
        self._rollouts: RolloutQueue | None = None
        self._adder: Adder | None = None
        self._adding = threading.Lock()
        roles = self._table.settings.roles
        self._autoreset = Autoreset(None if roles is None else roles.autoreset)
        self._fields: Fields | None = None
        self._view: View | None = None
        if roles is not None:
            self._view = from_json(roles.view)
            self._fields = Fields(self._nest, roles, self._view)
            if roles.updatable:  # nobody else has the store yet
                self._store.core.allow_updates(self._view.shares_steps)
            if roles.use is not None:
                self._rollouts = RolloutQueue(
                    self._table, self._layout, self._fields, roles.use
                )

    def rate_episodes(self, function: EpisodePriority | None) -> None:
        """Makes the priority of an episode's items of its return, as soon as it has ended.

        A setting of this object, which a checkpoint does not hold: of an opened buffer it is to
        be set again. Then episodes that were open when it was saved count as over. Another
        function is for episodes that end from then on, and those that none has rated yet.

        Args:
            function: priorities `[E]` of returns, float64 `[E]`: undiscounted sums of the
                rewards. None: priorities stay what they are.

        Raises:
            InvalidArgumentError: no selector reads priorities, the reward is no scalar of
                float32 or float64, a limiter makes steps wait, or the buffer is a manager's.
            ClosedError: the buffer is closed.
        """
        fields = self._with_views("rate_episodes()")
        self._store.check_open()
        if function is not None:
            if not callable(function):
                raise InvalidArgumentError(
                    f"episode_priority: found {function!r:.200}, wanted a function of returns."
                )
            check_rated(self._table.settings)
            check_rewards(self._nest, fields.roles.reward)
        with self._adding:
            if self._adder is not None and (function is None) != (self._rate is None):
                raise InvalidArgumentError(
                    "rate_episodes(): steps have been added already. Say so before the first."
                )
            self._rate = function
            if function is not None and fields.roles.reward is not None:
                place = fields.places[fields.roles.reward][0]
                left = orphans(
                    *(self._table, self._layout, place, fields.own.lead),
                    of_open=self._adder is None,
                )
                rate(self._table, function, left)

    def add(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        next_obs: Any,
        terminated: Any,
        truncated: Any,
        infos: Any = None,
        *,
        env_ids: ArrayLike | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Stores a step of each environment, as `env.step(action)` returned it.

        The first call says whether steps have a batch axis, and of how many environments.
        `next_obs` of a step is the next one's `obs`, byte for byte, and then stored once;
        where it is not, the episode ends there as truncated, which is counted
        (`info().broken_episodes`) and told once. Values are copied.

        Args:
            obs: `[N, *shape]`, or `[*shape]` of a single environment: what the action
                was chosen for.
            action: `[N, ...]`.
            reward: `[N]`.
            next_obs: as `obs`: what came.
            terminated: `[N]`: the episode is over, and nothing follows.
            truncated: `[N]`: it was cut off; `next_obs` is still its state. Where both
                are true the step is stored as terminated.
            infos: as `step` returned them; read with autoreset "SameStep" alone.
            env_ids: `[N]`, which environments, from 0; None: all.
            extra: the step's other keys, `[N, ...]` each.

        Returns:
            How many steps were stored: less than N where results of an autoreset
            "NextStep" are none.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: the buffer's steps have no observation, action and
                reward; `terminated` is neither true nor false; an environment is unknown.
            ClosedError: the buffer is closed. On every error nothing was stored.
        """
        fields = self._with_views("add()")
        roles = fields.roles
        observation, chosen, got = roles.observation, roles.action, roles.reward
        if observation is None or chosen is None or got is None:
            raise InvalidArgumentError(
                f"add(): found a step of {list(fields.places)!r:.200} with the states "
                f"{roles.state!r:.200}, wanted one observation, an action and a reward. Name "
                "them as next_of=, action= and reward=, or use add_step()."
            )
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if flag is None:
                raise InvalidArgumentError(
                    f"{name}: found None, wanted True or False. Nothing was stored."
                )
        step = {observation: obs, chosen: action, got: reward}
        if extra or len(fields.places) != 3:
            self._check_extra(extra, [key for key in fields.places if key not in step])
            step.update(extra or {})
        return self.add_step(
            step, {observation: next_obs}, terminated, truncated, infos, env_ids=env_ids
        )

    def add_step(
        self,
        step: Mapping[str, Any],
        after: Mapping[str, Any],
        terminated: Any = None,
        truncated: Any = None,
        infos: Any = None,
        *,
        env_ids: ArrayLike | None = None,
    ) -> int:
        """`add` for steps of any keys.

        Args:
            step: all keys of the spec.
            after: the states after it, by key.
            terminated: see `add`, as for all others, the result and the errors. None: no
                episode is over.
            truncated: likewise.
            infos: see `add`.
            env_ids: see `add`.
        """
        fields = self._with_views("add_step()")
        roles = fields.roles
        if self._rollouts is not None:
            raise InvalidArgumentError(
                "add(): this buffer's episodes are used once, as a whole; wanted add_episode()."
            )
        if not self._store.is_open:  # not within the lock: a forked child has its own copy
            raise self._store.closed_error()
        with self._adding:  # what an autoreset remembers goes with what was stored
            adder = self._adder or self._first(step, env_ids)
            came = adder.arrivals(step, after, terminated, truncated, env_ids)
            steps = came
            if self._autoreset.mode != "Disabled" and adder.states is not None:
                steps = self._autoreset.steps(
                    came, infos, adder.states, adder.places, roles.observation
                )
            if len(steps):
                adder.store(steps)
            if self._autoreset.mode == "NextStep":
                self._autoreset.remember(came, steps, adder.places)
            self._adder = adder  # from the first step on that was stored
            if self._rate is not None:
                rate(self._table, self._rate, adder.ended())
        if self._table.settings.limiter.bounds_inserts:
            adder.wait()
        return len(steps)

    def end_episodes(self, env_ids: ArrayLike | None = None) -> None:
        """The open episodes end here, cut off: for who resets an environment in between.

        The next step of such an environment then need not begin where its last one ended.

        Args:
            env_ids: which environments' episodes; None: all.

        Raises:
            InvalidArgumentError: an environment is unknown, or the buffer is a manager's.
            ClosedError: the buffer is closed.
        """
        self._with_views("end_episodes()")
        self._store.check_open()
        with self._adding:
            if self._adder is not None:
                self._adder.end_episodes(env_ids)
                if self._rate is not None:
                    rate(self._table, self._rate, self._adder.ended())

    def add_episode(
        self,
        steps: Mapping[str, Any],
        after: Mapping[str, Any] | None = None,
        *,
        terminated: bool = True,
    ) -> int:
        """Stores a whole episode of T steps, in one crossing.

        Args:
            steps: all keys of the spec, `[T, *shape]` each.
            after: the states after the last step, `[*shape]`, by key. None: states in
                `steps` are `[T + 1, *shape]`, and the last ones are those; or, where they
                are `[T, *shape]` and the episode terminated, zeros, which no target reads.
            terminated: whether the environment ended it; else it was cut off.

        Returns:
            T.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: no step, or a state after the last one is missing.
            ClosedError: the buffer is closed.
        """
        return self.add_episodes([steps], [after], terminated=[terminated])

    def add_episodes(
        self,
        episodes: Sequence[Mapping[str, Any]],
        after: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        terminated: Sequence[bool] | bool = True,
    ) -> int:
        """Stores whole episodes, of any lengths; arguments by episode, as `add_episode`'s."""
        fields = self._with_views("add_episodes()")
        self._store.check_open()
        if isinstance(episodes, Mapping) or not hasattr(episodes, "__len__"):
            raise InvalidArgumentError(
                f"episodes: found {type(episodes).__name__}, wanted a list of dicts, one for "
                "each episode. One alone is for add_episode(). Nothing was stored."
            )
        count = len(episodes)
        tails = [None] * count if after is None else after
        if isinstance(tails, Mapping) or len(tails) != count:
            raise InvalidArgumentError(
                f"after: found {kind_name(tails)}, wanted a list of {count}, the states after "
                "each episode's last step, or None. Nothing was stored."
            )
        ends = as_array("terminated", terminated)
        ends = np.full(count, ends) if ends.ndim == 0 else ends
        ends = as_flags("terminated", ends, count, False)
        if not count:
            return 0
        columns, lengths = runs_of(fields, episodes, tails, ends)
        lasts = np.where(ends, _core.TERMINATED, _core.TRUNCATED).astype(np.uint8)
        adder = self._bulk_adder()
        if self._rollouts is not None:
            # Cleared in between, one would be in the table alone, or in the queue.
            with self._rollouts.claim(columns, lengths) as used, self._adding:
                adder.store_runs(columns, lengths, lasts)
                keys = np.concatenate([keys for _, keys in adder.ended()])
                self._rollouts.arrive(keys, used)
            return int(lengths.sum()) - count
        adder.store_runs(columns, lengths, lasts)
        if self._rate is not None:
            rate(self._table, self._rate, adder.ended())
        if self._table.settings.limiter.bounds_inserts:
            adder.wait()
        return int(lengths.sum()) - count

    def info(self) -> BufferInfo:
        """See `StoredBuffer.info`."""
        adder = self._adder
        return replace(super().info(), broken_episodes=adder.broken if adder else 0)

    get_table_info = info

    def resize(self, capacity: int) -> None:
        """Holds at most so many steps from now on.

        Fewer than there are: the oldest leave. O(those that leave). Threads that add and
        sample go on meanwhile. Interrupted by Ctrl-C, some have left, and the capacity stays.

        Args:
            capacity: as the buffer was made with.

        Raises:
            InvalidArgumentError: it is out of range, or the buffer is a manager's; or its
                episodes are used once, and more wait.
            ClosedError: the buffer is closed.
        """
        self._with_views("resize()")
        capacity = check_int("capacity", capacity, 1, MAX_ITEMS)
        try:
            if self._rollouts is not None:
                self._rollouts.resize(capacity)
            else:
                self._table.resize(capacity)
        except _core.Closed:
            raise self._store.closed_error() from None

    def clear(self) -> None:
        """Empties it; episodes begin anew. Checkpoints on disk stay."""
        self._store.check_open()
        with self._adding:
            super().clear()
            if self._adder is not None:
                self._adder.broken = 0
            if self._rollouts is not None:
                self._rollouts.clear()

    def close(self) -> None:
        """See `StoredBuffer.close`; open episodes end."""
        adder = self._adder
        if adder is not None and self._store.is_open:
            adder.close()
        super().close()

    def _with_views(self, what: str) -> Fields:
        if self._fields is None:
            raise InvalidArgumentError(
                f"{what}: found a manager's buffer, whose items are windows that observers "
                "write. Make a reverie.ReplayBuffer(spec, capacity) for steps and views."
            )
        return self._fields

    def _first(self, step: Mapping[str, Any], env_ids: ArrayLike | None) -> Adder:
        """The streams, once the first step shows whether there is a batch axis."""
        assert self._fields is not None
        count = self._num_envs
        if count is None:
            side = "obs" if self._fields.roles.observation else "step"
            states = states_of(self._fields)
            before: Mapping[str, Any] = step
            if states is None:
                states = self._nest
            else:
                before = states_among("step", step, self._fields.roles.state)
            try:
                leaves = states.leaves(before)
            except StepMismatchError as error:
                raise StepMismatchError(f"{side}: {error}") from None
            count = count_of(states.columns, leaves, side)
            if env_ids is not None and count is not None:
                raise InvalidArgumentError(
                    "env_ids: found some environments in the first call, which would say how "
                    "many there are. Make the buffer with num_envs=, or for_env(), or open it "
                    "with num_envs=. Nothing was stored."
                )
        return self._new_adder(count)

    def _bulk_adder(self) -> Adder:
        """Streams of their own for whole episodes."""
        assert self._fields is not None
        self._store.check_open()
        return self._new_adder(None)

    def _new_adder(self, num_envs: int | None) -> Adder:
        assert self._fields is not None
        reward = -1
        if self._rate is not None and self._fields.roles.reward is not None:
            reward = self._fields.places[self._fields.roles.reward][0]
        return Adder(
            self._table,
            self._fields,
            num_envs,
            self._first_priority,
            tells_ended=self._rate is not None or self._rollouts is not None,
            reward=reward,
        )

    def _check_extra(self, extra: Any, wanted: Sequence[str]) -> None:
        """Raises InvalidArgumentError where `extra` are not the step's other keys."""
        found = list(extra) if isinstance(extra, Mapping) else []
        if (extra is None or isinstance(extra, Mapping)) and set(found) == set(wanted):
            return
        missing = [key for key in wanted if key not in found]
        unknown = [key for key in found if key not in wanted]
        parts = [f"missing {missing!r:.200}" if missing else ""]
        parts += [f"unknown {unknown!r:.200}" if unknown else ""]
        words = ", ".join(part for part in parts if part) or type(extra).__name__
        raise InvalidArgumentError(
            f"extra: found {kind_name(extra)}: {words}; wanted a dict with the step's other "
            f"keys, {list(wanted)!r:.200}. Nothing was stored."
        )
