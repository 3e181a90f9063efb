"""A replay buffer with Stable-Baselines3's and CleanRL's calls. Imports torch; no SB3.

In CleanRL's single-file scripts one line changes:

    from reverie.sb3 import ReplayBuffer  # was: from cleanrl_utils.buffers import ReplayBuffer
"""

from reverie.sb3.replay_buffer import ReplayBuffer, ReplayBufferSamples

__all__ = ["ReplayBuffer", "ReplayBufferSamples"]
