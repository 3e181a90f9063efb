"""Doors without their framework, and what comes back from one: no framework is needed here."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from tests.door_support import filled

import reverie
from reverie.errors import (
    ClosedError,
    InvalidArgumentError,
    MissingDependencyError,
    StepMismatchError,
)


@pytest.mark.parametrize(
    ("door", "framework", "extra"),
    [
        ("torch", "torch", "torch"),
        ("jax", "jax", "jax"),
        ("sb3", "torch", "torch"),
        ("torchrl", "torchrl", "torchrl"),
        ("tf", "tensorflow", "tf"),
    ],
)
def test_a_door_without_its_framework_says_what_to_install(
    door: str, framework: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, framework, None)
    for name in list(sys.modules):
        if name.startswith(("reverie.torch", "reverie.jax", "reverie.sb3", "reverie.tf")):
            monkeypatch.delitem(sys.modules, name)
    command = rf"reverie\.(torch|{door}) needs.*pip install 'reverie-replay\[{extra}\]'"
    with pytest.raises(MissingDependencyError, match=command):
        importlib.import_module(f"reverie.{door}")


class Tensor:
    """What NumPy does not take, as PyTorch's tensors of these kinds."""

    def __init__(self, device: str = "cpu", grad: bool = False, dtype: str = "float32") -> None:
        self.requires_grad, self.dtype = grad, f"torch.{dtype}"
        self.device = SimpleNamespace(type=device)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("not this way")


@pytest.mark.parametrize(
    ("tensor", "way_out"),
    [
        (Tensor(grad=True), r"\.detach\(\)"),
        (Tensor("cuda"), r"\.cpu\(\)"),
        (Tensor("cuda", grad=True), r"\.detach\(\)\.cpu\(\)"),
        (Tensor(dtype="bfloat16"), r"\.float\(\)"),
    ],
)
def test_a_tensor_that_is_no_array_is_refused_with_the_way_out(
    tensor: Tensor, way_out: str
) -> None:
    with filled(sampler=reverie.samplers.Prioritized(1.0)) as buffer:
        keys = buffer.item_info()["key"]
        before = buffer.item_info()["priority"]
        with pytest.raises(InvalidArgumentError, match=rf"Pass priorities{way_out}\.$"):
            buffer.update_priorities(keys, tensor)
        with pytest.raises(InvalidArgumentError, match=rf"Pass keys{way_out}\.$"):
            buffer.update_priorities(tensor, np.ones(len(keys)))
        assert np.array_equal(buffer.item_info()["priority"], before)
        obs = np.zeros(3, np.float32)
        with pytest.raises(StepMismatchError, match=rf"pass its {way_out}\. Nothing"):
            buffer.add(obs, 0, tensor, obs, False, False)
        assert len(buffer) == 50


def test_items_are_gathered_by_key_and_a_stale_key_is_told() -> None:
    with filled() as buffer:
        keys = buffer.item_info()["key"]
        data = buffer.gather(keys[[7, 3, 7]])
        assert data["action"].tolist() == [7, 3, 7]
        assert data["next_observation"][:, 0].tolist() == [24, 12, 24]
        before = buffer.info().samples
        buffer.gather(keys, reverie.views.Transitions(3))
        assert buffer.info().samples == before
        buffer.clear()
        with pytest.raises(KeyError):
            buffer.gather(keys[:1])
    for call in (lambda: buffer.gather(keys), buffer.end_episodes):
        with pytest.raises(ClosedError):
            call()


def test_an_episode_that_was_ended_from_outside_is_cut_off_and_breaks_nothing() -> None:
    with reverie.ReplayBuffer(filled().nest.spec, 100, seed=0) as buffer:
        for env_ids in (None, [1]):
            buffer.end_episodes(env_ids)  # there is none yet
            for n in range(2):
                states = np.full((2, 3), n, np.float32)
                buffer.add(states, [0, 1], [0.0, 1.0], states + 1, [False] * 2, [False] * 2)
            buffer.end_episodes(env_ids)
        steps = buffer.steps()
        assert len(buffer) == 8
        assert not steps.terminated.any()
        ended = steps.data["action"][steps.truncated]
        assert sorted(ended.tolist()) == [0, 1, 1]
        with pytest.raises(InvalidArgumentError, match=r"found \[2\], wanted 0 to 1"):
            buffer.end_episodes([2])
