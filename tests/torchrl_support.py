"""Steps as TorchRL's collectors give them, and its own buffer, to compare with."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


def _torch() -> Any:
    return importlib.import_module("torch")


class World:
    """N environments whose episodes end at times of their own, terminated or cut off."""

    def __init__(self, envs: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (envs,)
        self.state = self.rng.normal(size=(envs, 3)).astype(np.float32)
        self.trajectory = np.arange(envs)

    def collect(self, steps: int) -> Any:
        """`[N, T]`, as a collector of a vector environment gives them."""
        return _torch().stack([self.step() for _ in range(steps)], 1)

    def step(self) -> Any:
        """`[N]`."""
        n = self.shape[0]
        after = self.rng.normal(size=(n, 3)).astype(np.float32)
        terminated = self.rng.random((n, 1)) < 0.15
        truncated = ~terminated & (self.rng.random((n, 1)) < 0.15)
        done = terminated | truncated
        never = np.zeros((n, 1), bool)
        step = {
            "observation": self.state,
            "agents": {"mood": self.state[:, :1] * 2},
            "action": self.rng.integers(0, 4, n),
            "done": never,
            "terminated": never,
            "truncated": never,
            "collector": {"traj_ids": self.trajectory.copy()},
            "next": {
                "observation": after,
                "agents": {"mood": after[:, :1] * 2},
                "reward": self.rng.normal(size=(n, 1)),
                "done": done,
                "terminated": terminated,
                "truncated": truncated,
            },
        }
        fresh = self.rng.normal(size=(n, 3)).astype(np.float32)
        self.state = np.where(done, fresh, after)
        self.trajectory = self.trajectory + n * done[:, 0]
        tensordict = importlib.import_module("tensordict")
        return tensordict.TensorDict(_tensors(step), [n])


def _tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _tensors(value) for key, value in tree.items()}
    return _torch().from_numpy(np.array(tree))


def theirs(capacity: int, **settings: Any) -> Any:
    """TorchRL's buffer."""
    data = importlib.import_module("torchrl.data")
    storage = data.LazyTensorStorage(capacity)
    return data.TensorDictReplayBuffer(storage=storage, **settings)


def flat(data: Any) -> dict[Any, Any]:
    """Leaves by key."""
    return {key: value for key, value in data.items(True, True) if key != "index"}


def same(found: Any, wanted: Any) -> None:
    """Two TensorDicts are equal, bit for bit, dtypes and keys included."""
    left, right = flat(found), flat(wanted)
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].dtype == right[key].dtype, key
        assert _torch().equal(left[key], right[key]), key


def by_time(data: Any) -> Any:
    """`[N, T]` in the order in which steps are numbered."""
    return data.transpose(0, 1).reshape(-1)
