"""Replay buffers with Stable-Baselines3's and CleanRL's calls. Imports torch; needs no SB3.

In CleanRL's single-file scripts one line changes:

    from reverie.sb3 import ReplayBuffer  # was: from cleanrl_utils.buffers import ReplayBuffer

and with SB3, of whose classes these then are subclasses, an argument:

    model = SAC("MlpPolicy", env, replay_buffer_class=reverie.sb3.ReplayBuffer)

`PrioritizedDQN`, `PrioritizedSAC` and `PrioritizedTD3` need SB3.
"""

from typing import TYPE_CHECKING, Any

from reverie.runtime.optional import require
from reverie.sb3.bases import DictReplayBufferSamples, ReplayBufferSamples
from reverie.sb3.hindsight import HerReplayBuffer
from reverie.sb3.kinds import DictReplayBuffer, NStepReplayBuffer
from reverie.sb3.prioritized import PrioritizedReplayBuffer, PrioritizedReplayBufferSamples
from reverie.sb3.replay_buffer import ReplayBuffer

if TYPE_CHECKING:
    from reverie.sb3.learners import PrioritizedDQN, PrioritizedSAC, PrioritizedTD3

__all__ = [
    "DictReplayBuffer",
    "DictReplayBufferSamples",
    "HerReplayBuffer",
    "NStepReplayBuffer",
    "PrioritizedDQN",
    "PrioritizedReplayBuffer",
    "PrioritizedReplayBufferSamples",
    "PrioritizedSAC",
    "PrioritizedTD3",
    "ReplayBuffer",
    "ReplayBufferSamples",
]


def __getattr__(name: str) -> Any:
    """SB3's algorithms, imported when they are first asked for."""
    if name in ("PrioritizedDQN", "PrioritizedSAC", "PrioritizedTD3"):
        require("stable_baselines3", "sb3", f"reverie.sb3.{name}")
        from reverie.sb3 import learners

        return getattr(learners, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names alone."""
    return list(__all__)
