"""What of Stable-Baselines3 the classes of this door are made of, where it is installed.

They inherit from SB3's, which its algorithms demand of a buffer (`isinstance`), and which a
type checker sees. Only names and SB3's small helpers come with that: no `__init__` of SB3's
runs, so that none of its arrays is ever allocated. Without SB3 each base is `object`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

from reverie.runtime.optional import require

__all__ = [
    "HAS_SB3",
    "DictReplayBuffer",
    "DictReplayBufferSamples",
    "HerReplayBuffer",
    "NStepReplayBuffer",
    "ReplayBuffer",
    "ReplayBufferSamples",
    "untested",
]

TESTED = ("2.9",)
"""Versions of SB3, as far as they are tested with."""

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.sb3")  # before SB3 misses it, in other words


class ReplayBufferSamples(NamedTuple):
    """What `sample` returns: tensors on the buffer's device. With SB3 it is SB3's class.

    Attributes:
        observations: `[B, *shape]`.
        actions: `[B, action_dim]`.
        next_observations: `[B, *shape]`.
        dones: float32 `[B, 1]`: 1 where the environment ended, not where time was up.
        rewards: float32 `[B, 1]`; of n steps, their discounted sum.
        discounts: float32 `[B, 1]`, gamma^m of m steps; None: the algorithm's own.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    dones: torch.Tensor
    rewards: torch.Tensor
    discounts: torch.Tensor | None = None


class DictReplayBufferSamples(NamedTuple):
    """The same of a Dict space: observations by key. With SB3 it is SB3's class.

    Attributes:
        observations: `[B, *shape]` each.
        actions: see ReplayBufferSamples, as for the others.
        next_observations: `[B, *shape]` each.
        dones: see there.
        rewards: see there.
        discounts: see there.
    """

    observations: dict[str, torch.Tensor]
    actions: torch.Tensor
    next_observations: dict[str, torch.Tensor]
    dones: torch.Tensor
    rewards: torch.Tensor
    discounts: torch.Tensor | None = None


if TYPE_CHECKING:
    from stable_baselines3.common.buffers import (
        DictReplayBuffer,
        NStepReplayBuffer,
        ReplayBuffer,
    )
    from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

    HAS_SB3 = True
else:
    try:
        from stable_baselines3 import __version__ as version
        from stable_baselines3.common.buffers import (
            DictReplayBuffer,
            NStepReplayBuffer,
            ReplayBuffer,
        )
        from stable_baselines3.common.type_aliases import (
            DictReplayBufferSamples,
            ReplayBufferSamples,
        )
        from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

        HAS_SB3 = True
    except ModuleNotFoundError as error:
        # One that is there and broken must not look as if it were not.
        if str(error.name).partition(".")[0] != "stable_baselines3":
            raise
        HAS_SB3 = False
        DictReplayBuffer = HerReplayBuffer = NStepReplayBuffer = ReplayBuffer = object


def untested(version: str) -> str:
    """What to tell of this version of SB3; empty where it is tested with."""
    if ".".join(version.split(".")[:2]) in TESTED:
        return ""
    return (
        f"reverie.sb3: found Stable-Baselines3 {version}, which it was not tested with; it was "
        f"with {', '.join(TESTED)}. Should something be odd, install one of these."
    )


if not TYPE_CHECKING and HAS_SB3 and untested(version):
    warnings.warn(untested(version), stacklevel=2)
