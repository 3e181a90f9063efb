"""SB3's other replay buffers: of dict observations, and of n-step returns."""

from __future__ import annotations

from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_float
from reverie.sb3 import bases
from reverie.sb3.replay_buffer import ReplayBuffer


class DictReplayBuffer(ReplayBuffer, bases.DictReplayBuffer):  # type: ignore[misc]
    """SB3's name for a ReplayBuffer of a Dict space; ours takes both by itself.

    Args:
        buffer_size: see ReplayBuffer, as for all others.
        observation_space: a Dict.
        *args: see there.
        **kwargs: see there.

    Raises:
        InvalidArgumentError: it is no Dict; or as ReplayBuffer's.
    """

    def __init__(
        self, buffer_size: int, observation_space: Any, *args: Any, **kwargs: Any
    ) -> None:
        if not hasattr(observation_space, "spaces"):
            raise InvalidArgumentError(
                f"observation_space: found {observation_space!r:.200}, wanted a Dict. Others "
                "are for ReplayBuffer."
            )
        super().__init__(buffer_size, observation_space, *args, **kwargs)

    def sample(  # type: ignore[override]
        self, batch_size: int, env: Any = None
    ) -> bases.DictReplayBufferSamples:
        """See ReplayBuffer."""
        found: Any = super().sample(batch_size, env)
        return found  # type: ignore[no-any-return]


class NStepReplayBuffer(ReplayBuffer, bases.NStepReplayBuffer):  # type: ignore[misc]
    """Transitions over n steps, as `reverie.views.Transitions` has them.

    With m the steps to the episode's end or to the newest one, at most n: the rewards are
    `sum of gamma^k r[t + k]`, the next observation is that after m steps, and `discounts`
    are gamma^m, which SB3's algorithms take in the place of their own gamma. Dict spaces
    are taken, too. An environment that normalizes rewards does so before they are summed.

    Args:
        *args: see ReplayBuffer.
        n_steps: n.
        gamma: the algorithm's own, in all likelihood.
        **kwargs: see ReplayBuffer.

    Raises:
        InvalidArgumentError: a number is out of range; or as ReplayBuffer's.
    """

    def __init__(
        self, *args: Any, n_steps: int = 3, gamma: float = 0.99, **kwargs: Any
    ) -> None:
        self.n_steps, self.gamma = n_steps, as_float("gamma", gamma)
        super().__init__(*args, **kwargs)
