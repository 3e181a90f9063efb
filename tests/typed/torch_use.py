"""What users of PyTorch write, and which types they get back. It also runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.door_support import filled
from torch.utils.data import DataLoader
from typing_extensions import assert_type

import reverie
from reverie import samplers
from reverie.torch import Frozen, Loader, TensorBatch, tensors, whole


def loss(batch: TensorBatch) -> torch.Tensor:
    """Of values that are all zero."""
    return (batch.weight * (batch.reward + batch.discount).square()).mean()


def train(buffer: reverie.ReplayBuffer) -> None:
    """Batches, one by one and from a loader."""
    batch = tensors(buffer.sample(8, beta=0.4), device="cpu")
    assert_type(batch, TensorBatch)
    assert_type(batch.reward, torch.Tensor)
    assert_type(batch.discount, torch.Tensor)
    assert_type(batch.terminated, torch.Tensor)
    assert_type(batch.truncated, torch.Tensor)
    assert_type(batch.n_steps, torch.Tensor)
    assert_type(batch.weight, torch.Tensor)
    assert_type(batch.probability, torch.Tensor)
    assert_type(batch.key, NDArray[np.uint64])
    assert_type(batch.observation, Any)
    data, info = batch
    assert_type(data, Any)
    assert_type(info.key, NDArray[np.uint64])
    assert_type(info.priority, torch.Tensor)
    assert_type(info.weight, torch.Tensor | None)
    assert_type(loss(batch), torch.Tensor)
    buffer.update_priorities(batch.key, batch.reward.abs().detach().cpu())
    for each in Loader(buffer, 8, steps=2, beta=0.4):
        assert_type(each, TensorBatch)
    frozen = Frozen(buffer)
    assert_type(frozen[0], dict[str, Any])
    for _ in DataLoader(frozen, 8, shuffle=True, collate_fn=whole):
        pass


def main(folder: Path) -> None:
    """Runs all of it."""
    with filled(sampler=samplers.Prioritized(0.6)) as buffer:
        train(buffer)
