"""The code of users in tests/typed runs, and what it gets back is what its types say."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from tests.door_support import filled

import reverie
from reverie import samplers


@pytest.mark.parametrize("name", ["jax", "sb3", "tf", "torch"])
def test_the_typed_code_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip({"jax": "jax", "tf": "tensorflow"}.get(name, "torch"))
    importlib.import_module(f"tests.typed.{name}_use").main(tmp_path)


@pytest.mark.parametrize(
    ("framework", "door", "convert", "kind"),
    [
        ("torch", "torch", "tensors", "Tensor"),
        ("jax", "jax", "arrays", "Array"),
        ("tensorflow", "tf", "tensors", "Tensor"),
    ],
)
@pytest.mark.parametrize("beta", [None, 0.4])
def test_facts_are_of_the_framework_but_for_the_keys(
    framework: str, door: str, convert: str, kind: str, beta: float | None
) -> None:
    array = getattr(pytest.importorskip(framework), kind)
    converted = getattr(importlib.import_module(f"reverie.{door}"), convert)
    with filled(sampler=samplers.Prioritized()) as buffer:
        batch = converted(buffer.sample(4, beta=beta))
    key, *facts, weight, source = batch.info
    assert batch.key is key
    assert isinstance(key, np.ndarray)
    assert all(isinstance(fact, array) for fact in facts)
    assert isinstance(batch.reward, array)
    assert batch.probability is facts[0]
    assert source is None
    if beta is None:
        with pytest.raises(AttributeError, match=r"beta=0\.4"):
            batch.weight  # noqa: B018
    else:
        assert batch.weight is weight
        assert isinstance(weight, array)


@pytest.mark.parametrize(
    ("framework", "door", "convert"),
    [("torch", "torch", "tensors"), ("jax", "jax", "arrays"), ("tensorflow", "tf", "tensors")],
)
def test_a_mixture_takes_priorities_of_a_converted_batch(
    framework: str, door: str, convert: str
) -> None:
    pytest.importorskip(framework)
    converted = getattr(importlib.import_module(f"reverie.{door}"), convert)
    buffers = {name: filled(sampler=samplers.Prioritized()) for name in ("a", "b")}
    mixture = reverie.mix(buffers)
    batch = converted(mixture.sample(8, beta=0.4))
    assert np.bincount(np.asarray(batch.source)).tolist() == [4, 4]
    assert mixture.update_priorities(batch, np.full(8, 5.0)) == 0
    for buffer in buffers.values():
        assert buffer.item_info()["priority"].max() > 4
        with pytest.raises(AttributeError, match="of one buffer"):
            converted(buffer.sample(1)).source  # noqa: B018
