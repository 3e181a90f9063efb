"""PatternDataset, which is TensorFlow's ops, and StructuredWriter make the same items."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("google.protobuf", reason="needs protobuf")

from tests.structured_support import drained, random_config, tables  # noqa: E402

from reverie import reverb  # noqa: E402
from reverie.reverb.pattern_dataset import PatternDataset  # noqa: E402


def written(config: Any, rows: Any, ends: Any, clear: bool) -> list[Any]:
    server = reverb.Server(tables())
    client = reverb.Client(f"localhost:{server.port}")
    writer = client.structured_writer([config])
    for row, end in zip(rows, ends, strict=True):
        writer.append(tuple(row))
        if end:
            writer.end_episode(clear)
    return drained(client)


def streamed(config: Any, rows: Any, ends: Any, clear: bool) -> list[Any]:
    steps = tf.data.Dataset.from_tensor_slices((rows[:, 0], rows[:, 1], ends))
    dataset = PatternDataset(steps, [config], clear, lambda *step: step[2])
    return [[column.numpy().tolist() for column in item] for item in dataset]


def program(seed: int) -> tuple[Any, Any, Any]:
    rng = random.Random(seed)
    rows = np.array([[rng.randint(-3, 5) for _ in range(2)] for _ in range(30)])
    return random_config(rng, 2), rows, np.array([rng.random() < 0.2 for _ in rows])


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_both_make_the_same_items(seed: int, clear: bool) -> None:
    assert streamed(*program(seed), clear) == written(*program(seed), clear)


def test_the_comparison_sees_a_difference() -> None:
    assert any(
        streamed(*program(seed), True) != written(*program(seed), False) for seed in range(8)
    )
