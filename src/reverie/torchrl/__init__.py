"""A replay buffer that TorchRL's collectors and trainers take. Imports torchrl and tensordict.

    from reverie.torchrl import ReplayBuffer

    buffer = ReplayBuffer(1_000_000, batch_size=256)
    collector = Collector(env, policy, frames_per_batch=100, replay_buffer=buffer)

It is a `TensorDictReplayBuffer` whose storage, sampler and writer are Reverie's; transforms,
prefetching, pinned memory and iteration are TorchRL's own.
"""

from reverie.torchrl.replay_buffer import ReplayBuffer

__all__ = ["ReplayBuffer"]
