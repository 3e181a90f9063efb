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
            observer({"obs": np.full(4, t), "action": 1})
        # The boundary record ends the episode: what its last action led to.
        observer({"obs": np.full(4, 10), "action": 0}, last=True)
        data, info = manager.sample(256)  # leaves are [256, 2, ...]
        manager.save()

    again = reverie.open("checkpoints")  # needs neither the spec nor this code
"""

import importlib
import typing

from reverie import errors, limiters, observers, removers, samplers, views, weights
from reverie._version import __version__
from reverie.errors import ReverieError
from reverie.manager import ReplayBufferManager
from reverie.mixtures import Mixture, mix
from reverie.nests.specs import ArraySpec
from reverie.nests.trajectory import Trajectory
from reverie.opening import open_buffer as open
from reverie.replay_buffer import ReplayBuffer
from reverie.runtime.install import install_as_reverb
from reverie.runtime.waiting import set_patience
from reverie.sample import Batch, SampleInfo, Updated
from reverie.tables.info import BufferInfo

if typing.TYPE_CHECKING:
    from reverie import reverb

__all__ = [
    "ArraySpec",
    "Batch",
    "BufferInfo",
    "Mixture",
    "ReplayBuffer",
    "ReplayBufferManager",
    "ReverieError",
    "SampleInfo",
    "Trajectory",
    "Updated",
    "__version__",
    "errors",
    "install_as_reverb",
    "limiters",
    "mix",
    "observers",
    "open",
    "removers",
    "reverb",
    "samplers",
    "set_patience",
    "views",
    "weights",
]


def __getattr__(name: str) -> typing.Any:
    """Reverb's API, imported when it is first used: `import reverie` stays quick."""
    if name == "reverb":
        return importlib.import_module("reverie.reverb")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names alone."""
    return list(__all__)
