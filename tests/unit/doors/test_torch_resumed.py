"""Loaders go on where a state was taken, and take views over views."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.door_support import filled
from tests.shift_support import check_shifted, image

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import InvalidArgumentError
from reverie.views import Transitions

torch = pytest.importorskip("torch", reason="needs PyTorch")
door = importlib.import_module("reverie.torch")
DataLoader = torch.utils.data.DataLoader
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")  # no accelerator here


def stateful() -> Any:
    reason = "needs torchdata"
    return pytest.importorskip("torchdata.stateful_dataloader", reason=reason)


def pictures() -> ReplayBuffer:
    spec = {
        "observation": ArraySpec((3, 9, 7), np.uint8),
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 100, seed=0)
    states = np.stack([image((3, 9, 7), np.uint8, number) for number in range(21)])
    buffer.add_episode(
        {
            "observation": states,
            "action": np.arange(20),
            "reward": np.ones(20, np.float32),
        }
    )
    return buffer


def flipped(data: dict[str, Any]) -> dict[str, Any]:
    """Casts, turns the channels around, and adds a column."""
    image = data["observation"][:, ::-1]
    return {**data, "observation": image, "bright": image.mean(axis=(1, 2, 3))}


def same(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        one, other = (getattr(batch, "data", batch) for batch in (one, other))
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key


def test_a_loader_takes_shifted_and_mapped_views() -> None:
    buffer = pictures()
    view = Transitions().shift(observation=2).map(flipped)
    for batch in door.Loader(buffer, 8, steps=3, view=view):
        wanted = buffer.gather(batch.key)["observation"]
        check_shifted(batch.observation.numpy()[:, ::-1], wanted, -2, 2)
        assert batch.data["bright"].shape == (8,)
        assert batch.observation.dtype == torch.uint8


@pytest.mark.parametrize("collate", [None, "whole"])
def test_a_frozen_buffer_takes_mapped_views_and_shifted_ones_are_for_samples(
    collate: str | None,
) -> None:
    buffer = pictures()
    data = door.Frozen(buffer, Transitions().map(flipped))
    more = {} if collate is None else {"collate_fn": door.whole}
    (found,) = DataLoader(data, 20, **more)
    wanted = flipped(buffer.steps().data)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key].numpy(), value)
    with pytest.raises(InvalidArgumentError, match="chance is a part"):
        door.Frozen(buffer, Transitions().shift(observation=2))


def resumed(path: Path) -> ReplayBuffer:
    """The buffer of the checkpoint, to which more was added."""
    buffer = reverie.open(path)
    buffer.add_episode(
        {"observation": np.zeros((3, 3)), "action": np.full(2, 99), "reward": np.zeros(2)}
    )
    return buffer


def test_a_frozen_buffer_is_the_same_items_again_after_a_checkpoint(tmp_path: Path) -> None:
    with filled() as buffer:
        data = door.Frozen(buffer)
        wanted = data.__getitems__(range(50)).data
        buffer.save(path=tmp_path / "buffer")
        torch.save(data.state_dict(), tmp_path / "state")
    again = door.Frozen(resumed(tmp_path / "buffer"))
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert len(again) == 50
    same([again.__getitems__(range(50)).data], [wanted])


def test_what_is_no_state_of_these_items_is_refused() -> None:
    with filled() as buffer, filled(10) as other:
        data = door.Frozen(buffer)
        keys = data.state_dict()["keys"]
        for bad in ({}, {"keys": None}, {"keys": keys.float()}, {"keys": keys, "x": 1}):
            with pytest.raises(
                InvalidArgumentError, match=r"(?s)state: found .*wanted what state_d"
            ):
                data.load_state_dict(bad)
        with pytest.raises(
            InvalidArgumentError, match="50 items, of which 40 are not in Replay"
        ):
            door.Frozen(other).load_state_dict({"keys": keys})
        data.load_state_dict({"keys": keys[:7]})
        keys[:] = 0  # no longer its own
        assert len(data) == len(data.__getitems__(range(7))) == 7


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_stateful_data_loader_goes_on_with_the_batches_of_a_loader(
    taken: int, tmp_path: Path
) -> None:
    loader_of = stateful().StatefulDataLoader

    def loader(buffer: ReplayBuffer) -> Any:
        return loader_of(door.Loader(buffer, 4, steps=5), batch_size=None)

    with filled() as buffer:
        one = loader(buffer)
        passing = iter(one)
        for _ in range(taken):
            next(passing)
        state = one.state_dict()
        buffer.save(path=tmp_path)
        rest = list(passing)
        following = list(one)
    two = loader(reverie.open(tmp_path))
    two.load_state_dict(state)
    assert len(rest) == 5 - taken
    same(list(two), rest)
    same(list(two), following)


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("collate", [None, "whole"])
def test_a_stateful_data_loader_goes_on_with_the_order_of_a_frozen_buffer(
    taken: int, grown: bool, collate: str | None, tmp_path: Path
) -> None:
    more = {} if collate is None else {"collate_fn": door.whole}

    def loader(data: Any, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        make = stateful().StatefulDataLoader
        return make(data, 12, shuffle=True, generator=generator, **more)

    with filled() as buffer:
        data = door.Frozen(buffer)
        one = loader(data, 0)
        passing = iter(one)
        seen = [next(passing) for _ in range(taken)]
        state, items = one.state_dict(), data.state_dict()
        buffer.save(path=tmp_path)
        rest = list(passing)
    again = resumed(tmp_path) if grown else reverie.open(tmp_path)
    data = door.Frozen(again)
    if grown:
        refused = loader(door.Frozen(again), 1)
        refused.load_state_dict(state)
        with pytest.raises(
            InvalidArgumentError, match="50 items, but a sampler has counted 52"
        ):
            list(refused)
        data.load_state_dict(items)
    two = loader(data, 1)
    two.load_state_dict(state)
    found = list(two)
    same(found, rest)
    actions = torch.cat([batch["action"] for batch in (*seen, *found)])
    assert sorted(actions.tolist()) == list(range(50))


def test_what_functions_turn_around_or_transpose_becomes_tensors() -> None:
    def turned(data: dict[str, Any]) -> dict[str, Any]:
        image = data["observation"]
        return {
            "flipped": image[..., ::-1],
            "last": np.moveaxis(image, 1, -1),
            "floats": np.moveaxis(image.astype(np.float32), 1, -1),
            "times": data["action"][::-1],
        }

    buffer = pictures()
    (batch,) = door.Loader(buffer, 4, steps=1, view=Transitions().map(turned))
    wanted = turned(buffer.gather(batch.key))
    for key, value in wanted.items():
        np.testing.assert_array_equal(batch.data[key].numpy(), value)
