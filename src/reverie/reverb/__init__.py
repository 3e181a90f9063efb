"""Reverb's API, served in this process by Reverie: `from reverie import reverb`.

The names, arguments and behaviour are those of dm-reverb, so a program written for
it runs with this import alone, or unchanged after `reverie.install_as_reverb()`.
Names are imported when they are first used. Those of TensorFlow datasets and
clients need TensorFlow; nothing else does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.reverb import (
        cc,
        client,
        errors,
        item_selectors,
        pattern_dataset,
        platform,
        pybind,
        rate_limiters,
        replay_sample,
        reverb_types,
        server,
        structured_writer,
        tf_client,
        timestep_dataset,
        trajectory_dataset,
        trajectory_writer,
    )
    from reverie.reverb import item_selectors as selectors
    from reverie.reverb import structured_writer as structured
    from reverie.reverb.client import Client, Writer
    from reverie.reverb.errors import DeadlineExceededError, ReverbError
    from reverie.reverb.pattern_dataset import PatternDataset
    from reverie.reverb.platform.default import checkpointers
    from reverie.reverb.replay_sample import ReplaySample, SampleInfo
    from reverie.reverb.server import Server, Table
    from reverie.reverb.tf_client import TFClient
    from reverie.reverb.timestep_dataset import TimestepDataset
    from reverie.reverb.trajectory_dataset import TrajectoryDataset
    from reverie.reverb.trajectory_writer import TrajectoryColumn, TrajectoryWriter

__all__ = [
    "Client",
    "DeadlineExceededError",
    "PatternDataset",
    "ReplaySample",
    "ReverbError",
    "SampleInfo",
    "Server",
    "TFClient",
    "Table",
    "TimestepDataset",
    "TrajectoryColumn",
    "TrajectoryDataset",
    "TrajectoryWriter",
    "Writer",
    "cc",
    "checkpointers",
    "client",
    "errors",
    "item_selectors",
    "pattern_dataset",
    "platform",
    "pybind",
    "rate_limiters",
    "replay_sample",
    "reverb_types",
    "selectors",
    "server",
    "structured",
    "structured_writer",
    "tf_client",
    "timestep_dataset",
    "trajectory_dataset",
    "trajectory_writer",
]

# Where a name stands that is no module of its own name.
_HOMES = {
    "Client": "client",
    "DeadlineExceededError": "errors",
    "PatternDataset": "pattern_dataset",
    "ReplaySample": "replay_sample",
    "ReverbError": "errors",
    "SampleInfo": "replay_sample",
    "Server": "server",
    "TFClient": "tf_client",
    "Table": "server",
    "TimestepDataset": "timestep_dataset",
    "TrajectoryColumn": "trajectory_writer",
    "TrajectoryDataset": "trajectory_dataset",
    "TrajectoryWriter": "trajectory_writer",
    "Writer": "client",
}
_ALIASES = {
    "checkpointers": "platform.default.checkpointers",
    "selectors": "item_selectors",
    "structured": "structured_writer",
}


def __getattr__(name: str) -> Any:
    """Imports what is first asked for.

    Raises:
        MissingDependencyError: it needs TensorFlow, which is not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, _ALIASES.get(name, name))}")
    value = getattr(module, name) if name in _HOMES else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
