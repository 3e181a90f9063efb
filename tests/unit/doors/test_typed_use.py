"""The code of users in tests/typed runs, and what it gets back is what its types say."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from tests.door_support import filled

from reverie import samplers


@pytest.mark.parametrize("name", ["jax", "sb3", "torch"])
def test_the_typed_code_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip("jax" if name == "jax" else "torch")
    importlib.import_module(f"tests.typed.{name}_use").main(tmp_path)


@pytest.mark.parametrize(
    ("framework", "convert", "kind"),
    [("torch", "tensors", "Tensor"), ("jax", "arrays", "Array")],
)
@pytest.mark.parametrize("beta", [None, 0.4])
def test_facts_are_of_the_framework_but_for_the_keys(
    framework: str, convert: str, kind: str, beta: float | None
) -> None:
    array = getattr(pytest.importorskip(framework), kind)
    door = importlib.import_module(f"reverie.{framework}")
    with filled(sampler=samplers.Prioritized()) as buffer:
        batch = getattr(door, convert)(buffer.sample(4, beta=beta))
    key, *facts, weight = batch.info
    assert batch.key is key
    assert isinstance(key, np.ndarray)
    assert all(isinstance(fact, array) for fact in facts)
    assert isinstance(batch.reward, array)
    assert batch.probability is facts[0]
    if beta is None:
        with pytest.raises(AttributeError, match=r"beta=0\.4"):
            batch.weight  # noqa: B018
    else:
        assert batch.weight is weight
        assert isinstance(weight, array)
