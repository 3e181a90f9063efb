"""What fills a replay buffer: steps of environments, and whole episodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import optree
from numpy.typing import ArrayLike, NDArray

from reverie import _core, views
from reverie.adding.autoreset import Autoreset
from reverie.adding.episodes import records_of
from reverie.adding.streams import Adder
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.stored_buffer import StoredBuffer
from reverie.views import Fields, View


class FilledBuffer(StoredBuffer):
    """The part of a replay buffer that takes steps in.

    Of a manager's, whose items are windows that observers write, it refuses them.
    """

    @property
    def _first_priority(self) -> float | None:
        """Of new items; None: the largest that there is."""
        initial = self._table.settings.sampler.initial
        return None if initial == "max" else 1.0 if initial is None else float(initial)

    def _set_up(self, autoreset: Any, num_envs: int | None) -> None:
        """What steps need; the table is there."""
        self._num_envs = num_envs
        self._autoreset = Autoreset(autoreset)
        self._adder: Adder | None = None
        self._adding = threading.Lock()
        roles = self._table.settings.roles
        self._fields = None if roles is None else Fields(self._nest, roles)
        self._view: View | None = None if roles is None else views.from_json(roles.view)

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
            truncated: `[N]`: it was cut off; `next_obs` is still its state.
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
        step = {chosen: action, got: reward, **(extra or {})}
        return self.add_step(
            {observation: obs, **step},
            {observation: next_obs},
            terminated,
            truncated,
            infos,
            env_ids=env_ids,
        )

    def add_step(
        self,
        step: Mapping[str, Any],
        after: Mapping[str, Any],
        terminated: Any = False,
        truncated: Any = False,
        infos: Any = None,
        *,
        env_ids: ArrayLike | None = None,
    ) -> int:
        """`add` for steps of any keys.

        Args:
            step: all keys of the spec.
            after: the states after it, by key.
            terminated: see `add`, as for all others, the result and the errors.
            truncated: see `add`.
            infos: see `add`.
            env_ids: see `add`.
        """
        fields = self._with_views("add_step()")
        state = fields.roles.state
        try:
            before = {key: step[key] for key in state}
            after = {key: after[key] for key in state}
        except (KeyError, TypeError):
            before, after = self._explained(step, after, state)
        adder = self._adder or self._first(before, env_ids)
        alone = adder.num_envs is None
        ids = None if env_ids is None else _ids(env_ids, alone)
        with self._adding:  # what an autoreset remembers goes with what was stored
            keep = None
            count = 1 if alone else adder.num_envs or 1
            every = np.arange(count) if ids is None else ids
            if self._autoreset.mode != "Disabled":
                ended = np.logical_or(terminated, truncated).reshape(-1)
                keep = self._autoreset.steps(every)
                for key in state:
                    after[key] = self._autoreset.after(
                        after[key], ended, infos, fields.nest.spec[key]
                    )
                if keep is not None and not keep.all():
                    rows = np.flatnonzero(keep)
                    pick = _picker(rows)
                    before, step, after = pick(before), pick(dict(step)), pick(after)
                    terminated, truncated = (
                        pick(np.asarray(terminated)),
                        pick(np.asarray(truncated)),
                    )
                    ids = every[rows]
            if ids is None or len(ids):
                adder.add(before, {**step, **after}, terminated, truncated, ids)
            if self._autoreset.mode != "Disabled":
                self._autoreset.remember(every, ended & (True if keep is None else keep))
        return count if ids is None else len(ids)

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
        count = len(episodes)
        ends = np.broadcast_to(np.asarray(terminated, np.bool_), (count,))
        tails = [None] * count if after is None else list(after)
        if not count:
            return 0
        pieces, lengths = [], []
        for episode, tail, end in zip(episodes, tails, ends.tolist(), strict=True):
            records, length = records_of(fields, episode, tail, end)
            pieces.append(records)
            lengths.append(length + 1)
        columns = [
            each[0] if count == 1 else np.concatenate(each)
            for each in zip(*pieces, strict=True)
        ]
        adder = self._bulk_adder()
        lasts = np.where(ends, _core.TERMINATED, _core.TRUNCATED).astype(np.uint8)
        adder.add_runs(columns, np.array(lengths, np.uint64), lasts)
        return sum(lengths) - count

    def clear(self) -> None:
        """Empties it; episodes begin anew. Checkpoints on disk stay."""
        self._autoreset.forget()
        super().clear()

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

    def _first(self, before: Mapping[str, Any], env_ids: ArrayLike | None) -> Adder:
        """The streams, once the first step shows whether there is a batch axis."""
        assert self._fields is not None
        assert self._view is not None
        with self._adding:
            if self._adder is not None:
                return self._adder
            self._store.check_open()
            states = Nest({key: self._nest.spec[key] for key in before})
            leaf, spec = states.leaves(before)[0], states.columns[0].spec
            shape = np.shape(leaf)
            alone = len(shape) == len(spec.shape)
            count = None if alone else int(shape[0])
            if shape[len(shape) - len(spec.shape) :] != spec.shape or len(shape) > 1 + len(
                spec.shape
            ):
                count = None  # whoever adds says what is wrong
            if self._num_envs is not None:
                count = self._num_envs
            elif env_ids is not None and count is not None:
                raise InvalidArgumentError(
                    "env_ids: found some environments in the first call, which would say how "
                    "many there are. Make the buffer with num_envs=, or for_env(). Nothing was "
                    "stored."
                )
            self._adder = Adder(
                self._table, self._fields, self._view, count, self._first_priority
            )
            return self._adder

    def _bulk_adder(self) -> Adder:
        """Streams of their own for whole episodes."""
        assert self._fields is not None
        assert self._view is not None
        self._store.check_open()
        return Adder(self._table, self._fields, self._view, None, self._first_priority)

    def _explained(self, step: Any, after: Any, state: Sequence[str]) -> NoReturn:
        for name, found in (("step", step), ("after", after)):
            if not isinstance(found, Mapping):
                raise InvalidArgumentError(
                    f"{name}: found {type(found).__name__}, wanted a dict with the keys "
                    f"{list(state)!r:.200}. Nothing was stored."
                )
            missing = [key for key in state if key not in found]
            if missing:
                raise InvalidArgumentError(
                    f"{name}: found no {missing!r:.200} among {list(found)!r:.200}; they are "
                    "states. Nothing was stored."
                )
        raise AssertionError("there was something to explain")


def _ids(env_ids: ArrayLike, alone: bool) -> NDArray[np.int64]:
    ids = np.asarray(env_ids)
    if alone or ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"env_ids: found {env_ids!r:.100}, wanted one number for each environment"
            + (", and these steps have no batch axis." if alone else ", [N].")
        )
    return ids.astype(np.int64)


def _picker(rows: NDArray[np.int64]) -> Callable[[Any], Any]:
    """Takes these rows of each leaf."""
    return lambda nest: optree.tree_map(lambda leaf: np.asarray(leaf)[rows], nest)
