"""Batches for PyTorch; a stand-in for the GPU shows when memory is written to."""

from __future__ import annotations

import importlib
import itertools
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from tests.door_support import filled
from tests.project.test_layers import loaded_by

import reverie
from reverie import Batch, SampleInfo
from reverie.errors import InvalidArgumentError, MissingDependencyError

torch = pytest.importorskip("torch", reason="needs PyTorch")
door = importlib.import_module("reverie.torch")
Transfer = importlib.import_module("reverie.torch.sending").Transfer
DataLoader = torch.utils.data.DataLoader


def test_the_door_loads_no_other_framework() -> None:
    missing = "sys.modules['stable_baselines3']"  # it would bring gymnasium
    found = loaded_by(f"{missing} = None\nimport reverie.torch, reverie.sb3\ndel {missing}")
    assert "torch" in found
    assert not found & {"jax", "tensorflow", "tensordict", "gymnasium", "stable_baselines3"}


# On the CPU -------------------------------------------------------------------------------


def test_tensors_share_the_memory_of_the_batch_and_keys_stay() -> None:
    with filled() as buffer:
        batch = buffer.sample(16)
        found = door.tensors(batch)
    for key, array in batch.data.items():
        tensor = found.data[key]
        assert tensor.data_ptr() == array.ctypes.data
        assert tensor.shape == array.shape
        assert str(tensor.dtype) == f"torch.{array.dtype}"
    assert isinstance(found, door.TensorBatch)
    assert found.key is batch.key
    assert found.reward is found.data["reward"]
    assert found.info.probability.dtype == torch.float64


def test_nests_scalars_and_every_dtype_become_tensors() -> None:
    names = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
    names += ["float16", "float32", "float64", "complex64"]
    leaves = {name: np.ones((2, 3), name) for name in names}
    data = {"deep": (leaves, [np.zeros(2)]), "none": None, "zero": np.float32([1])[0:0]}
    found = door.tensors(Batch(data, _info(2))).data
    assert found["none"] is None
    for name in names:
        assert str(found["deep"][0][name].dtype) == f"torch.{name}"
    assert found["zero"].shape == (0,)


def test_bfloat16_and_float8_keep_their_bits_and_others_are_refused_by_name() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([1, -2.5, 0], np.float32)
    for name in ("bfloat16", "float8_e4m3fn"):
        array = values.astype(getattr(ml_dtypes, name))
        found = door.tensors(Batch({"x": array}, _info(3))).data["x"]
        assert str(found.dtype) == f"torch.{name}"
        assert found.float().tolist() == array.astype(np.float32).tolist()
        assert found.data_ptr() == array.ctypes.data
    for name in ("int4", "float8_e4m3b11fnuz"):
        bad = {"a": {"b": np.zeros(3, getattr(ml_dtypes, name))}}
        with pytest.raises(InvalidArgumentError, match=f"'a/b': found {name}"):
            door.tensors(Batch(bad, _info(3)))


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="it is a double here")
def test_a_long_double_is_refused_on_the_way_to_any_device() -> None:
    bad = Batch({"a": np.zeros(3, np.longdouble)}, _info(3))
    for send in (door.tensors, Transfer(Link()).send):
        with pytest.raises(InvalidArgumentError, match=r"'a': found (float128|longdouble)"):
            send(bad)


def test_priorities_come_back_from_tensors() -> None:
    with filled(sampler=reverie.samplers.Prioritized(1.0)) as buffer:
        batch = door.tensors(buffer.sample(32))
        errors = (batch.action + 1).float()
        buffer.update_priorities(batch.key, errors)
        found = dict(
            zip(*(buffer.item_info()[k].tolist() for k in ("key", "priority")), strict=True)
        )
        for key, action in zip(batch.key.tolist(), batch.action.tolist(), strict=True):
            assert found[key] == pytest.approx(action + 1)
        with pytest.raises(InvalidArgumentError, match=r"Pass priorities\.detach\(\)\."):
            buffer.update_priorities(batch.key, errors.requires_grad_())
        with pytest.raises(InvalidArgumentError, match=r"Pass priorities\.cpu\(\)\."):
            buffer.update_priorities(batch.key, torch.ones(32, device="meta"))
        buffer.update_priorities(torch.from_numpy(batch.key), errors.detach())


def test_a_tensordict_has_the_data() -> None:
    with filled() as buffer:
        batch = buffer.sample(8)
        try:
            found = door.tensordict(batch)
        except MissingDependencyError as error:
            assert "reverie-replay[tensordict]" in str(error)  # noqa: PT017
            return
        assert found.batch_size == torch.Size([8])
        assert found["action"].tolist() == batch.action.tolist()


# Loader -----------------------------------------------------------------------------------


def test_a_loader_gives_passes_of_fresh_batches() -> None:
    with filled() as buffer:
        loader = door.Loader(buffer, 8, steps=3, view=reverie.views.Transitions(2))
        assert len(loader) == 3
        batches = list(loader)
        assert [len(batch.action) for batch in batches] == [8, 8, 8]
        assert len({batch.action.data_ptr() for batch in batches}) == 3
        assert (batches[0].n_steps <= 2).all()
        next(iter(loader))
        assert len(list(loader)) == 3
        endless = door.Loader(buffer, 4)
        assert len(list(itertools.islice(endless, 20))) == 20
        with pytest.raises(TypeError, match="no end"):
            len(endless)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # no accelerator here
def test_a_data_loader_takes_a_loader_and_its_keys_go_back() -> None:
    with filled(sampler=reverie.samplers.Prioritized(1.0)) as buffer:
        loader = DataLoader(door.Loader(buffer, 8, steps=3), batch_size=None)
        batches = list(loader)
        assert len(batches) == len(loader) == 3
        for batch in batches:
            assert isinstance(batch.action, torch.Tensor)
            assert buffer.update_priorities(batch.key, (batch.action + 1).float()) == 0


def test_a_loader_goes_on_where_its_state_was_taken() -> None:
    with filled() as buffer:
        loader = door.Loader(buffer, 4, steps=5)
        passing = iter(loader)
        next(passing), next(passing)
        state = loader.state_dict()
        other = door.Loader(buffer, 4, steps=5)
        other.load_state_dict(state)
        assert len(list(other)) == 3
        assert len(list(other)) == 5
        for bad in ({"done": 6}, {"done": -1}, {}, {"done": 1, "x": 2}):
            with pytest.raises(InvalidArgumentError, match="state"):
                other.load_state_dict(bad)


def test_a_loader_refuses_what_it_cannot_be() -> None:
    with filled() as buffer:
        with pytest.raises(InvalidArgumentError, match="batch_size"):
            door.Loader(buffer, 0)
        with pytest.raises(InvalidArgumentError, match="out: a loader"):
            door.Loader(buffer, 1, out={})
        for what in (door.Loader(buffer, 1), door.Frozen(buffer)):
            with pytest.raises(TypeError, match="num_workers=0"):
                pickle.dumps(what)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_worker_processes_are_refused_with_the_reason(context: str) -> None:
    with filled() as buffer:
        for what in (door.Loader(buffer, 1, steps=2), door.Frozen(buffer)):
            is_loader = isinstance(what, door.Loader)
            loader = DataLoader(
                what,
                batch_size=None if is_loader else 2,
                num_workers=1,
                multiprocessing_context=context,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of forks in a process with threads
                with pytest.raises((InvalidArgumentError, TypeError), match="num_workers=0"):
                    next(iter(loader))


# Frozen -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("collate", [None, "whole"])
def test_a_frozen_buffer_is_read_item_by_item_whole_or_not(collate: str | None) -> None:
    with filled() as buffer:
        data = door.Frozen(buffer)
        assert len(data) == 50
        assert data[3]["next_observation"].tolist() == [12, 13, 14]
        more = {} if collate is None else {"collate_fn": door.whole}
        batches = list(DataLoader(data, 20, shuffle=True, **more))
        assert [len(batch["action"]) for batch in batches] == [20, 20, 10]
        assert sorted(torch.cat([b["action"] for b in batches]).tolist()) == list(range(50))
        assert all((b["observation"][:, 0] == 3 * b["action"]).all() for b in batches)
        buffer.add_episode(
            {
                "observation": np.zeros((3, 3)),
                "action": np.full(2, 99),
                "reward": np.zeros(2),
            }
        )
        assert len(data) == 50
        with pytest.raises(IndexError):
            data[50]


def test_whole_is_for_what_a_frozen_buffer_gathers() -> None:
    with pytest.raises(InvalidArgumentError, match="found list, wanted what a Frozen gathers"):
        door.whole([1, 2])


def test_a_frozen_buffer_whose_items_left_says_so() -> None:
    with filled() as buffer:
        data = door.Frozen(buffer, reverie.views.Sequences(4))
        assert data[48]["mask"].tolist() == [True, True, False, False]
        buffer.clear()
        with pytest.raises(InvalidArgumentError, match="left the buffer"):
            data[0]
        assert len(door.Frozen(buffer)) == 0


# To a device ------------------------------------------------------------------------------


class Event:
    """Of a copy that is over when somebody waits for it, and no sooner."""

    def __init__(self, block: Any, offset: int, nbytes: int, copy: Any) -> None:
        self.source, self.copy = block[offset : offset + nbytes], copy
        self.seen = self.source.clone()
        self.over = False

    def synchronize(self) -> None:
        assert torch.equal(self.source, self.seen), "written to before the copy was over"
        self.copy.copy_(self.source)
        self.over = True


class Link:
    """To a device whose copies take their time."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.blocks: list[Any] = []

    def pinned(self, nbytes: int) -> Any:
        self.blocks.append(torch.zeros(nbytes, dtype=torch.uint8))
        return self.blocks[-1]

    def send(self, block: Any, offset: int, nbytes: int) -> tuple[Any, Event]:
        copy = torch.zeros(nbytes, dtype=torch.uint8)
        self.events.append(Event(block, offset, nbytes, copy))
        return copy, self.events[-1]


def test_a_slot_is_written_to_only_after_its_copy_is_over() -> None:
    link = Link()
    transfer = Transfer(link)
    with filled() as buffer:
        expected, found = [], []
        for n in range(12):
            with transfer.slot():
                batch = buffer.sample(16 if n < 8 else 64)
            expected.append({k: v.copy() for k, v in batch.data.items()})
            found.append(transfer.send(batch))
            open_copies = [event for event in link.events if not event.over]
            assert len(open_copies) == min(n + 1, 3)
            assert link.events[-3:] == open_copies[-3:]
    for event in link.events:
        if not event.over:
            event.synchronize()
    for wanted, batch in zip(expected, found, strict=True):
        assert batch.key.dtype == np.uint64
        for key, array in wanted.items():
            assert np.array_equal(batch.data[key].numpy(), array), key
            assert str(batch.data[key].dtype) == f"torch.{array.dtype}"


def test_batches_are_gathered_straight_into_slots_once_these_are_large_enough() -> None:
    link = Link()
    transfer = Transfer(link)
    with filled() as buffer:
        for n in range(9):
            with transfer.slot():
                batch = buffer.sample(32)
            within = any(
                np.shares_memory(batch.observation, block.numpy()) for block in link.blocks
            )
            assert within is (n >= 3)
            transfer.send(batch)
        assert len(link.blocks) == 6  # three small ones at first, and what was needed
        assert len(link.events) == 9  # one copy for each batch, whatever it holds


def test_a_batch_of_anybodys_is_sent_and_a_failed_sample_leaves_no_trace() -> None:
    link = Link()
    transfer = Transfer(link, slots=1)
    with pytest.raises(ZeroDivisionError), transfer.slot():
        _ = 1 / 0
    data = {"a": np.arange(6).reshape(2, 3).T, "b": np.zeros((3, 0)), "c": np.ones(3, np.bool_)}
    found = transfer.send(Batch(data, _info(3)))
    link.events[-1].synchronize()
    assert found.data["a"].tolist() == data["a"].tolist()
    assert found.data["b"].shape == (3, 0)
    assert found.data["c"].tolist() == [True] * 3
    with filled() as buffer:
        assert buffer.sample(4).observation.flags.owndata


def test_a_stand_in_that_is_written_to_too_early_is_seen() -> None:
    link = Link()
    transfer = Transfer(link, slots=1)
    transfer.send(Batch({"a": np.zeros(3)}, _info(3)))
    link.events[-1].source += 1
    with pytest.raises(AssertionError, match="before the copy was over"):
        transfer.send(Batch({"a": np.zeros(3)}, _info(3)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_what_was_sampled() -> None:
    with filled() as buffer:
        for batch in door.Loader(buffer, 4_096, device="cuda", steps=50):
            assert batch.action.device.type == "cuda"
            assert bool((batch.observation[:, 0] == 3 * batch.action).all())
        batch = buffer.sample(100)
        assert door.tensors(batch, "cuda").action.cpu().tolist() == batch.action.tolist()


def _info(count: int) -> SampleInfo:
    with filled() as buffer:
        return buffer.sample(count).info
