"""Batches for JAX: without a copy where they can be, and never from memory that is reused."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from tests.door_support import SPEC, filled
from tests.project.test_layers import loaded_by

import reverie

jax = pytest.importorskip("jax", reason="needs JAX")
door = importlib.import_module("reverie.jax")


def test_the_door_loads_no_other_framework() -> None:
    found = loaded_by("import reverie.jax")
    assert "jax" in found
    assert not found & {"torch", "tensorflow"}


def test_arrays_share_the_memory_of_the_batch_and_keys_stay() -> None:
    with filled() as buffer:
        batch = buffer.sample(64)
        found = door.arrays(batch, jax.devices("cpu")[0])
        others = [door.arrays(buffer.sample(64)) for _ in range(5)]
    for key in ("observation", "next_observation", "reward"):  # int64 becomes int32
        assert found.data[key].unsafe_buffer_pointer() == batch.data[key].ctypes.data
    for key in SPEC:
        assert np.array_equal(found.data[key], batch.data[key])
    assert found.key is batch.key
    assert found.key.dtype == np.uint64
    pointers = {each.observation.unsafe_buffer_pointer() for each in (found, *others)}
    assert len(pointers) == 6


def test_arrays_stay_what_they_were_while_the_buffer_goes_on() -> None:
    with filled() as buffer:
        batches = [door.arrays(buffer.sample(256)) for _ in range(20)]
        for batch in batches:
            assert np.array_equal(batch.observation[:, 0], 3 * np.asarray(batch.action))


def test_a_batch_goes_where_a_sharding_says() -> None:
    with filled() as buffer:
        mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:1]), ("batch",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
        batch = door.arrays(buffer.sample(8), sharding)
        assert batch.observation.sharding == sharding
        assert batch.info.probability.sharding == sharding


def test_priorities_come_back_from_jax() -> None:
    with filled(sampler=reverie.samplers.Prioritized(1.0)) as buffer:
        batch = door.arrays(buffer.sample(32))
        assert buffer.update_priorities(batch.key, jax.numpy.abs(batch.reward) + 1) == 0
        found = buffer.item_info()["priority"]
        assert found.max() == np.max(batch.reward) + 1
