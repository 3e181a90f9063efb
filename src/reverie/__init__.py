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

import importlib
import typing

from reverie import errors
from reverie._version import __version__
from reverie.errors import ReverieError
from reverie.install import install_as_reverb
from reverie.manager import ReplayBufferManager
from reverie.nests.specs import ArraySpec
from reverie.nests.trajectory import Trajectory
from reverie.observers import (
    EpisodeObserver,
    ParallelObserver,
    TrajectoryObserver,
    TrajectorySequenceObserver,
)
from reverie.replay_buffer import ReplayBuffer
from reverie.sample import SampleInfo
from reverie.table import TableInfo

if typing.TYPE_CHECKING:
    from reverie import reverb
    from reverie.reverb import Table, rate_limiters, selectors

__all__ = [
    "ArraySpec",
    "EpisodeObserver",
    "ParallelObserver",
    "ReplayBuffer",
    "ReplayBufferManager",
    "ReverieError",
    "SampleInfo",
    "Table",
    "TableInfo",
    "Trajectory",
    "TrajectoryObserver",
    "TrajectorySequenceObserver",
    "__version__",
    "errors",
    "install_as_reverb",
    "rate_limiters",
    "reverb",
    "selectors",
]


def __getattr__(name: str) -> typing.Any:
    """Reverb's tables, imported when they are first used: `import reverie` stays quick."""
    if name in ("Table", "rate_limiters", "selectors"):
        return getattr(importlib.import_module("reverie.reverb"), name)
    if name == "reverb":
        return importlib.import_module("reverie.reverb")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
