"""Experience replay for reinforcement learning, anywhere Python runs.

Make a manager, call its observer with each step, sample:

    import numpy as np
    import reverie

    spec = {
        "obs": reverie.ArraySpec((4,), np.float32),
        "action": reverie.ArraySpec((), np.int64),
    }
    with reverie.ReplayBufferManager(spec, 100_000, "checkpoints") as manager:
        replay_buffer, observer = manager.create_replay_buffer()
        for t in range(10):
            observer({"obs": np.zeros(4), "action": 1}, last=t == 9)
        data, info = manager.sample(256)  # leaves are [256, 2, ...]
        manager.save()
"""

from reverie import errors
from reverie._version import __version__
from reverie.errors import ReverieError
from reverie.manager import ReplayBufferManager
from reverie.observer import TrajectoryObserver
from reverie.replay_buffer import ReplayBuffer
from reverie.sample import SampleInfo
from reverie.specs import ArraySpec
from reverie.table import TableInfo
from reverie.trajectory import Trajectory

__all__ = [
    "ArraySpec",
    "ReplayBuffer",
    "ReplayBufferManager",
    "ReverieError",
    "SampleInfo",
    "TableInfo",
    "Trajectory",
    "TrajectoryObserver",
    "__version__",
    "errors",
]
