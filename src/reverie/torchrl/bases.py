"""What of TorchRL the classes of this door are made of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from reverie.runtime.optional import require

__all__ = [
    "TensorDictReplayBuffer",
    "samplers",
    "storages",
    "tensordict",
    "torch",
    "untested",
    "writers",
]

TESTED = "0.13", "0.14"
"""Versions of TorchRL, as far as they are tested with."""

if TYPE_CHECKING:
    import tensordict
    import torch
    from torchrl import __version__ as version
    from torchrl.data import TensorDictReplayBuffer
    from torchrl.data.replay_buffers import samplers, storages, writers
else:
    version = require("torchrl", "torchrl", "reverie.torchrl").__version__
    import tensordict
    import torch
    from torchrl.data import TensorDictReplayBuffer
    from torchrl.data.replay_buffers import samplers, storages, writers


def untested(found: str) -> bool:
    """Whether this is a version of TorchRL that the tests have not met."""
    return ".".join(found.split(".")[:2]) not in TESTED


if untested(str(version)):
    warnings.warn(
        f"reverie.torchrl is tested with TorchRL {' and '.join(TESTED)}; found {version}.",
        stacklevel=2,
    )
