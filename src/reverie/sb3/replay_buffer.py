"""SB3's replay buffer, its calls and what it returns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie import replay_buffer
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int
from reverie.runtime.optional import require
from reverie.sample import Batch, SampleInfo
from reverie.sb3 import bases, pickles
from reverie.sb3.arrays import Arrays
from reverie.sb3.spaces import (
    DONE,
    REWARD,
    action_spec,
    by_key,
    bytes_of,
    observation_spec,
    rows_of,
    rows_that_differ,
)
from reverie.tables.selectors import ItemSelector
from reverie.torch import tensors
from reverie.views import Sequences, Transitions

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.sb3")


class ReplayBuffer(Arrays, bases.ReplayBuffer):  # type: ignore[misc]
    """Transitions in SB3's words, over a `reverie.ReplayBuffer`.

    States are stored once, whether or not that is asked for. Choices are seeded by NumPy's
    global generator, as those of SB3's buffer are. In a pickle, which is what
    `model.save_replay_buffer` writes, it is a checkpoint: of the whole buffer, or, with a
    `checkpoint_dir`, the place of one that is saved there, for buffers of any size. What
    is added after a load begins new episodes.

    Args:
        buffer_size: transitions, over all environments.
        observation_space: of one environment, with a shape and a dtype, or a Dict of these.
        action_space: likewise; no Dict.
        device: where samples go; "auto": a GPU where there is one.
        n_envs: environments whose steps `add` takes at once.
        optimize_memory_usage: has no effect: see above.
        handle_timeout_termination: whether `infos` mark ends that are none.
        checkpoint_dir: where a pickle's data lie; None: in the pickle.

    Attributes:
        buffer: the `reverie.ReplayBuffer`, for all that SB3's has not.
        buffer_size: transitions of each environment.
        device: as above; may be set.

    Raises:
        InvalidArgumentError: a space is of other kinds, or a number is out of range.
    """

    n_steps = 1
    gamma: float | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        device: Any = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.n_envs = check_int("n_envs", n_envs, 1, 2**31)
        self.buffer_size = max(check_int("buffer_size", buffer_size, 1, 2**32) // n_envs, 1)
        self.observation_space, self.action_space = observation_space, action_space
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.checkpoint_dir = checkpoint_dir
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self._observation = observation_spec(observation_space)
        self._action = action_spec(action_space)
        self.obs_shape = by_key(lambda part: part.shape, self._observation)
        self.action_dim = self._action.shape[0]
        self.buffer = replay_buffer.ReplayBuffer(
            {
                "observation": self._observation,
                "action": self._action,
                "reward": REWARD,
            },
            self.buffer_size * n_envs,
            sampler=self._sampler(),
            view=Transitions(self.n_steps, 1.0 if self.gamma is None else self.gamma),
            num_envs=n_envs,
            seed=int(np.random.randint(2**63, dtype=np.int64)),
            checkpoint_dir=checkpoint_dir,
        )
        self._added = 0
        self._last: list[bytes] | None = None

    def _sampler(self) -> ItemSelector | None:
        """What chooses; None: all alike."""
        return None

    @property
    def pos(self) -> int:
        """How many transitions of each environment stand after the last turn."""
        return self._added % self.buffer_size

    @property
    def full(self) -> bool:
        """Whether the oldest make room."""
        return self._added >= self.buffer_size

    def size(self) -> int:
        """Transitions of each environment."""
        return min(self._added, self.buffer_size)

    def __len__(self) -> int:
        """Transitions of all environments."""
        return len(self.buffer)

    def __bool__(self) -> bool:
        """True: a buffer is one, however empty."""
        return True

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: Any,
        reward: Any,
        done: Any,
        infos: Sequence[Mapping[str, Any]] | Any,
    ) -> None:
        """Stores a transition of each environment.

        Where `obs` is not what the last `next_obs` was, that episode was cut off there.

        Args:
            obs: `[n_envs, *shape]`; of a Dict space a dict of them.
            next_obs: likewise: of an episode that ended its last, not the next one's first.
            action: `[n_envs, ...]`.
            reward: `[n_envs]`.
            done: `[n_envs]`.
            infos: one dict for each; `infos[i]["TimeLimit.truncated"]` says that time was
                up. Not read without `handle_timeout_termination`.

        Raises:
            StepMismatchError: a shape or a value. Nothing was stored.
            InvalidArgumentError: `infos` are no such dicts. Nothing was stored.
        """
        count = self.n_envs
        before = rows_of("obs", obs, self._observation, count)
        after = rows_of("next_obs", next_obs, self._observation, count)
        chosen = rows_of("action", action, self._action, count)
        got = rows_of("reward", reward, REWARD, count)
        ended = rows_of("done", done, DONE, count)
        timeout = self._timeouts(infos)
        begins = bytes_of(before)
        if self._last is not None and begins != self._last:
            self.buffer.end_episodes(rows_that_differ(begins, self._last, count))
        self.buffer.add(before, chosen, got, after, ended & ~timeout, timeout)
        # After an end any state may follow; what is compared then does not matter.
        self._last = bytes_of(after)
        self._added += 1

    def extend(self, *args: Any) -> None:
        """`add` for each of several: arguments as its own, with an axis in front."""
        for each in zip(*args, strict=True):
            self.add(*each)

    def sample(self, batch_size: int, env: Any = None) -> bases.ReplayBufferSamples:
        """Transitions, each as likely as any other, with replacement.

        Args:
            batch_size: B.
            env: SB3's VecNormalize, whose `normalize_obs` and `normalize_reward` are
                applied; None: what was stored.

        Returns:
            SB3's ReplayBufferSamples, of a Dict space its DictReplayBufferSamples.

        Raises:
            WaitTimeoutError: nothing was added.
        """
        batch = self.buffer.sample(batch_size, view=self._view(env))
        found: bases.ReplayBufferSamples = samples_of(self._tensors(batch, env))
        return found

    def _get_samples(self, batch_inds: NDArray[Any], env: Any = None) -> Any:
        """Those in SB3's places, each of an environment at random.

        For subclasses that choose by themselves; costs as much as there are items.
        """
        slots = np.asarray(batch_inds)
        keys = self.slot_keys(slots, np.random.randint(0, self.n_envs, slots.shape))
        # Nobody drew them: probabilities and the like are zeros, which nobody reads.
        zeros = np.zeros(len(keys))
        info = SampleInfo(keys, zeros, zeros.astype(np.int64), zeros, zeros.astype(np.int32))
        batch = Batch(self.buffer.gather(keys, self._view(env)), info)
        return samples_of(self._tensors(batch, env))

    def to_torch(self, array: NDArray[Any], copy: bool = True) -> Any:
        """A tensor on the buffer's device; on the CPU `copy=False` shares the memory."""
        return (torch.tensor if copy else torch.as_tensor)(array, device=self.device)

    def reset(self) -> None:
        """Empties it."""
        self.buffer.clear()
        self._added, self._last = 0, None

    def __getstate__(self) -> dict[str, Any]:
        """With a checkpoint in the place of the data: see the class."""
        saved = pickles.saved(self.buffer, in_place=self.checkpoint_dir is not None)
        return {**self.__dict__, "buffer": saved, "_last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The reverse."""
        self.__dict__.update(state)
        self.buffer = pickles.loaded(state["buffer"], self.n_envs)

    def _view(self, env: Any) -> Any:
        """None: the buffer's own. What is normalized is each reward, before the sum."""
        if env is None or self.n_steps == 1:
            return None
        return Sequences(self.n_steps, once=("action",))

    def _tensors(self, batch: Batch, env: Any, **more: NDArray[Any]) -> dict[str, Any]:
        """The fields of what `sample` returns, of a batch, and more fields."""
        data = batch.data
        before, rewards, ended = data["observation"], data["reward"], data["terminated"]
        after = data["next_observation"]
        if env is not None:
            rewards = env.normalize_reward(rewards).astype(np.float32)
        if rewards.ndim == 2:  # a view of sequences: see `_view`
            before = by_key(lambda rows: rows[:, 0], before)
            powers = (1.0 if self.gamma is None else self.gamma) ** np.arange(self.n_steps)
            rewards = ((rewards * data["mask"]) @ powers).astype(np.float32)
            ended = ended.any(axis=1)
        if env is not None:
            before, after = env.normalize_obs(before), env.normalize_obs(after)
        found = {
            "observations": before,
            "actions": data["action"],
            "next_observations": after,
            "dones": ended.astype(np.float32)[:, None],
            "rewards": rewards[:, None],
            **more,
        }
        if self.gamma is not None:
            steps = data["n_steps"] if "n_steps" in data else data["length"]
            found["discounts"] = (self.gamma**steps).astype(np.float32)[:, None]
        made: dict[str, Any] = tensors(Batch(found, batch.info), self.device).data
        return made

    def _timeouts(self, infos: Any) -> NDArray[np.bool_]:
        """Bool `[n_envs]`: where time was up."""
        if not self.handle_timeout_termination:
            return np.zeros(self.n_envs, np.bool_)
        found = [] if isinstance(infos, Mapping) else list(infos)
        if len(found) != self.n_envs or not all(isinstance(each, Mapping) for each in found):
            raise InvalidArgumentError(
                f"infos: found {infos!r:.100}, wanted a list of {self.n_envs} dicts, one for "
                "each environment, as SB3's environments return them. A vector environment of "
                "gymnasium returns one dict: pass handle_timeout_termination=False to the "
                "buffer, and what terminated alone as done. Nothing was stored."
            )
        return np.array([bool(each.get("TimeLimit.truncated")) for each in found])


def samples_of(found: dict[str, Any]) -> Any:
    """SB3's tuple of these tensors."""
    if isinstance(found["observations"], dict):
        return bases.DictReplayBufferSamples(**found)
    return bases.ReplayBufferSamples(**found)
