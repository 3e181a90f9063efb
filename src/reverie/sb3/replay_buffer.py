"""SB3's replay buffer, its calls and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie import replay_buffer
from reverie.errors import InvalidArgumentError
from reverie.nests.specs import ArraySpec
from reverie.runtime.checks import check_int
from reverie.runtime.optional import require
from reverie.torch import tensors

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.sb3")


class ReplayBufferSamples(NamedTuple):
    """What `sample` returns: tensors on the buffer's device.

    Attributes:
        observations: `[B, *shape]`.
        actions: `[B, action_dim]`.
        next_observations: `[B, *shape]`.
        dones: float32 `[B, 1]`: 1 where the environment ended, not where time was up.
        rewards: float32 `[B, 1]`.
        discounts: None: the algorithm's own.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    dones: torch.Tensor
    rewards: torch.Tensor
    discounts: None = None


class ReplayBuffer:
    """Transitions in SB3's words, over a `reverie.ReplayBuffer`.

    States are stored once, whether or not that is asked for. Choices are seeded by NumPy's
    global generator, as those of SB3's buffer are.

    Args:
        buffer_size: transitions, over all environments.
        observation_space: of one environment, with a shape and a dtype; no Dict.
        action_space: likewise.
        device: where samples go; "auto": a GPU where there is one.
        n_envs: environments whose steps `add` takes at once.
        optimize_memory_usage: has no effect: see above.
        handle_timeout_termination: whether `infos` mark ends that are none.

    Attributes:
        buffer: the `reverie.ReplayBuffer`, for all that SB3's has not.
        buffer_size: transitions of each environment.

    Raises:
        InvalidArgumentError: a space is a dict or has no shape, or a number is out of range.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        device: Any = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
    ) -> None:
        self.n_envs = check_int("n_envs", n_envs, 1, 2**31)
        self.buffer_size = max(check_int("buffer_size", buffer_size, 1, 2**32) // n_envs, 1)
        self.observation_space, self.action_space = observation_space, action_space
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        observation = _array_of("observation_space", observation_space)
        action = _array_of("action_space", action_space)
        self.obs_shape = observation.shape or (1,)
        self.action_dim = int(np.prod(action.shape))
        # A policy's numbers are float32, as its weights are.
        small = np.float32 if action.dtype == np.float64 else action.dtype
        self._dtype = observation.dtype
        self.buffer = replay_buffer.ReplayBuffer(
            {
                "observation": ArraySpec(self.obs_shape, observation.dtype),
                "action": ArraySpec((self.action_dim,), small),
                "reward": ArraySpec((), np.float32),
            },
            self.buffer_size * n_envs,
            seed=int(np.random.randint(2**63, dtype=np.int64)),
        )
        self._action_dtype = small
        self._added = 0
        self._last: NDArray[np.uint8] | None = None

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
            obs: `[n_envs, *shape]`.
            next_obs: likewise: of an episode that ended its last, not the next one's first.
            action: `[n_envs, ...]`.
            reward: `[n_envs]`.
            done: `[n_envs]`.
            infos: one dict for each; `infos[i]["TimeLimit.truncated"]` says that time was
                up. Not read without `handle_timeout_termination`.

        Raises:
            StepMismatchError: a shape or a value. Nothing was stored.
        """
        before = self._rows(obs, self.obs_shape, self._dtype)
        after = self._rows(next_obs, self.obs_shape, self._dtype)
        ended = np.asarray(done).astype(np.bool_).reshape(self.n_envs)
        timeout = np.zeros(self.n_envs, np.bool_)
        if self.handle_timeout_termination:
            timeout = np.array([bool(each.get("TimeLimit.truncated")) for each in infos])
        if self._last is not None:
            moved = (_bytes(before) != self._last).any(axis=1)
            if moved.any():
                self.buffer.end_episodes(np.flatnonzero(moved))
        self.buffer.add(
            before,
            self._rows(action, (self.action_dim,), self._action_dtype),
            np.asarray(reward, np.float32).reshape(self.n_envs),
            after,
            ended & ~timeout,
            ended & timeout,
        )
        # After an end any state may follow; what is compared then does not matter.
        self._last = _bytes(after)
        self._added += 1

    def extend(self, *args: Any) -> None:
        """`add` for each of several: arguments as its own, with an axis in front."""
        for each in zip(*args, strict=True):
            self.add(*each)

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """Transitions, each as likely as any other, with replacement.

        Args:
            batch_size: B.
            env: SB3's VecNormalize, whose `normalize_obs` and `normalize_reward` are
                applied; None: what was stored.

        Raises:
            WaitTimeoutError: nothing was added.
        """
        batch = self.buffer.sample(batch_size)
        data = dict(batch.data)
        if env is not None:
            data["reward"] = env.normalize_reward(data["reward"]).astype(np.float32)
            for key in ("observation", "next_observation"):
                data[key] = env.normalize_obs(data[key])
        found = tensors(batch._replace(data=data), self.device)
        return ReplayBufferSamples(
            found.observation,
            found.action,
            found.next_observation,
            found.terminated.to(torch.float32).reshape(-1, 1),
            found.reward.reshape(-1, 1),
        )

    def reset(self) -> None:
        """Empties it."""
        self.buffer.clear()
        self._added, self._last = 0, None

    def _rows(self, value: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """`[n_envs, *shape]`, cast as NumPy assigns."""
        return np.asarray(value).astype(dtype, copy=False).reshape(self.n_envs, *shape)


def _bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    return np.array(rows, order="C").reshape(len(rows), -1).view(np.uint8)


def _array_of(name: str, space: Any) -> ArraySpec:
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if shape is None or dtype is None or hasattr(space, "spaces"):
        raise InvalidArgumentError(
            f"{name}: found {space!r:.200}, wanted one array's, such as Box or Discrete. For "
            "others use reverie.ReplayBuffer, which stores any nest."
        )
    return ArraySpec(tuple(shape), np.dtype(dtype))
