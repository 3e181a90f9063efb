"""Prioritized replay in SB3's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import samplers
from reverie.errors import InvalidArgumentError
from reverie.sb3.replay_buffer import ReplayBuffer
from reverie.tables.selectors import ItemSelector

if TYPE_CHECKING:
    import torch


class PrioritizedReplayBufferSamples(NamedTuple):
    """SB3's ReplayBufferSamples, and what prioritized replay needs.

    Attributes:
        observations: `[B, *shape]`; of a Dict space a dict of them.
        actions: `[B, action_dim]`.
        next_observations: as `observations`.
        dones: float32 `[B, 1]`.
        rewards: float32 `[B, 1]`.
        weights: float32 `[B, 1]`, by which each item's loss is multiplied; at most 1.
        keys: uint64 `[B]`, a NumPy array, for `update_priorities`.
        discounts: float32 `[B, 1]`; None: the algorithm's own.
    """

    observations: Any
    actions: torch.Tensor
    next_observations: Any
    dones: torch.Tensor
    rewards: torch.Tensor
    weights: torch.Tensor
    keys: NDArray[np.uint64]
    discounts: torch.Tensor | None = None


class PrioritizedReplayBuffer(ReplayBuffer):
    """Transitions, drawn in proportion to `(|error| + eps) ** alpha` (Schaul et al. 2016).

    New ones get the largest priority that there is. SB3's own algorithms read no weights and
    update no priorities: train with `PrioritizedDQN`, `PrioritizedSAC` or `PrioritizedTD3`,
    whose buffer this is, or do in `train` what they do.

    Args:
        *args: see ReplayBuffer; of a Dict space, too.
        alpha: 0: all alike; 1: in proportion to errors.
        beta: how much of the bias the weights undo, 0 to 1; or a function of how many
            transitions were ever added, as `reverie.weights.LinearSchedule(0.4, 1.0, 100_000)`
            (a pickle holds no lambda).
        eps: added to errors.
        n_steps: above 1 as NStepReplayBuffer.
        gamma: wanted with n_steps above 1.
        **kwargs: see ReplayBuffer.

    Raises:
        TypeError: a number is of another type.
        InvalidArgumentError: a number is out of range or missing; or as ReplayBuffer's.
    """

    def __init__(
        self,
        *args: Any,
        alpha: float = 0.6,
        beta: float | Callable[[int], float] = 0.4,
        eps: float = 1e-6,
        n_steps: int = 1,
        gamma: float | None = None,
        **kwargs: Any,
    ) -> None:
        if n_steps != 1 and gamma is None:
            raise InvalidArgumentError(
                f"gamma: found None with n_steps={n_steps}, wanted the algorithm's own: it "
                "discounts the rewards that are summed."
            )
        self.n_steps, self.gamma = n_steps, gamma
        self.alpha, self.beta, self.eps = alpha, beta, eps
        super().__init__(*args, **kwargs)

    def _sampler(self) -> ItemSelector:
        return samplers.Prioritized(self.alpha, eps=self.eps)

    def sample(  # type: ignore[override]
        self, batch_size: int, env: Any = None
    ) -> PrioritizedReplayBufferSamples:
        """See ReplayBuffer; by priority, with weights and keys."""
        beta = self.beta
        if callable(beta):
            beta = beta(self._added * self.n_envs)
        batch = self.buffer.sample(batch_size, view=self._view(env), beta=beta)
        found = self._tensors(batch, env, weights=batch.weight[:, None])
        return PrioritizedReplayBufferSamples(**found, keys=batch.key)

    def update_priorities(self, keys: ArrayLike, errors: Any) -> int:
        """Sets the priorities of transitions, of any earlier samples.

        Args:
            keys: `[B]`, `samples.keys`.
            errors: `[B]` or `[B, 1]`, of either sign, of NumPy or PyTorch on any device.

        Returns:
            How many keys were stale: their transitions have left the buffer.

        Raises:
            InvalidArgumentError: a shape or a value.
        """
        if hasattr(errors, "detach"):
            errors = errors.detach().cpu().numpy()
        return self.buffer.update_priorities(keys, np.abs(np.reshape(errors, -1)))
