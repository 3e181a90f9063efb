"""TorchRL's ways to save a buffer, through checkpoints."""

from __future__ import annotations

import importlib
import pickle
from typing import Any

import pytest
from tests.torchrl_support import World, same

from reverie import samplers
from reverie.errors import CheckpointError, CheckpointMismatchError, InvalidArgumentError

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("torchrl", reason="needs TorchRL")
ReplayBuffer = importlib.import_module("reverie.torchrl").ReplayBuffer


@pytest.mark.parametrize("way", ["dumps", "state_dict", "pickle"])
@pytest.mark.parametrize("n_step", [1, 3])
def test_a_saved_buffer_goes_on(way: str, n_step: int, tmp_path: Any) -> None:
    settings = {"sampler": samplers.Prioritized(0.7), "beta": 0.5, "n_step": n_step}
    world, buffer = World(2), ReplayBuffer(30, batch_size=8, **settings)
    for _ in range(3):
        buffer.extend(world.collect(10))
    if way == "pickle":
        again = pickle.loads(pickle.dumps(buffer))
    else:
        again = ReplayBuffer(30, batch_size=8, **settings)
        again.extend(World(2, seed=5).collect(3))
        if way == "dumps":
            buffer.dumps(tmp_path / "rb")
            buffer.dumps(tmp_path / "rb")
            assert len(list((tmp_path / "rb" / "storage").glob("ckpt-*"))) == 1
            again.loads(tmp_path / "rb")
        else:
            again.load_state_dict(buffer.state_dict())
    assert again.write_count == 60
    left, right = again.sample(), buffer.sample()
    same(left, right)
    assert torch.equal(left["index"], right["index"])
    more = world.collect(4)
    assert torch.equal(again.extend(more.clone()), buffer.extend(more))
    same(again[:], buffer[:])
    with pytest.raises(CheckpointMismatchError, match="wanted"):
        ReplayBuffer(30, batch_size=8).load_state_dict(buffer.state_dict())


def test_a_state_that_would_write_elsewhere_or_is_damaged_changes_nothing() -> None:
    buffer = ReplayBuffer(30)
    buffer.extend(World(1).collect(3)[0])
    state, before = buffer.state_dict(), buffer[:].clone()
    name, content = max(state["_storage"].items(), key=lambda item: len(item[1]))
    flipped = content.clone()
    flipped[len(flipped) // 2] ^= 1
    for files, error, words in (
        ({"../elsewhere": content}, InvalidArgumentError, r"found the path '\.\./elsewhere'"),
        ({**state["_storage"], name: flipped}, CheckpointError, None),
    ):
        with pytest.raises(error, match=words):
            buffer.load_state_dict({**state, "_storage": files})
        same(buffer[:], before)


@pytest.mark.parametrize("way", ["dumps", "state_dict", "pickle"])
def test_an_empty_one_is_saved_too(way: str, tmp_path: Any) -> None:
    buffer, again = ReplayBuffer(30), ReplayBuffer(30)
    again.extend(World(1).collect(3)[0])
    if way == "pickle":
        again = pickle.loads(pickle.dumps(buffer))
    elif way == "dumps":
        buffer.dumps(tmp_path / "rb")
        again.loads(tmp_path / "rb")
        again.extend(World(1).collect(3)[0])
        again.dumps(tmp_path / "rb")
        with pytest.raises(InvalidArgumentError, match="Choose another folder"):
            buffer.dumps(tmp_path / "rb")
        again.load_state_dict(buffer.state_dict())
    else:
        again.load_state_dict(buffer.state_dict())
    assert len(again) == again.write_count == 0


@pytest.mark.parametrize("way", [None, "state_dict", "pickle"])
def test_numbers_are_never_used_twice(way: str | None) -> None:
    world, buffer = World(1), ReplayBuffer(10)
    buffer.extend(world.collect(7)[0])
    buffer.empty()
    assert (len(buffer), buffer.write_count) == (0, 0)
    if way == "pickle":
        buffer = pickle.loads(pickle.dumps(buffer))
    elif way == "state_dict":
        state, buffer = buffer.state_dict(), ReplayBuffer(10)
        buffer.load_state_dict(state)
    assert buffer.extend(world.collect(2)[0]).tolist() == [7, 8]
    assert sorted(set(buffer.sample(50)["index"].tolist())) == [7, 8]
    assert 8 in buffer.storage
    assert 6 not in buffer.storage
    with pytest.raises(IndexError, match=r"found 6, wanted .* 7 to 8"):
        buffer[6]
