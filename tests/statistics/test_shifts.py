"""Images are shifted uniformly, and independently: of each other, of their rows and batches.

Chi-square tests as those of uniform sampling, and each refuses shifts that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.statistics.test_uniform import check_counts

from reverie import ArraySpec, ReplayBuffer
from reverie.views import Transitions

PAD = 2
PLACES = 2 * PAD + 1
SIDE = 8
BATCH, BATCHES = 500, 400

Offsets = NDArray[np.int64]  # [draws, 4]: 0 to 2 PAD, of the image and of the next one
Draw = Callable[[], Offsets]


def drawn(seed: int = 3) -> Offsets:
    """How far down and right, read off images whose pixels are their places."""
    spec = {
        "observation": ArraySpec((SIDE, SIDE, 2), np.int8),
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 10, seed=seed)
    image = np.stack(np.meshgrid(*2 * [np.arange(SIDE)], indexing="ij"), axis=-1)
    for _ in range(10):
        buffer.add(image, 0, 0.0, image, True, False)
    view = Transitions().shift(observation=PAD)
    found = []
    for _ in range(BATCHES):
        batch = buffer.sample(BATCH, view=view)
        sides = (batch.observation, batch.next_observation)
        # The pixel in the middle is never at an edge.
        found.append(np.hstack([s[:, SIDE // 2, SIDE // 2] - SIDE // 2 + PAD for s in sides]))
    return np.concatenate(found).astype(np.int64)


def check(offsets: Offsets) -> None:
    """Raises AssertionError unless all is uniform and independent, by pairs."""
    assert offsets.min() >= 0
    assert offsets.max() < PLACES, "an offset beyond the pad"
    for column in range(4):
        check_counts(np.bincount(offsets[:, column], minlength=PLACES))
        for other in range(column):
            check_pairs(offsets[:, column], offsets[:, other])
        for apart in (1, 2, BATCH):  # rows that follow each other, and batches
            pairs = offsets.reshape(-1, 2, apart, 4)  # that share no row
            for other in range(4):
                check_pairs(pairs[:, 0, :, column].ravel(), pairs[:, 1, :, other].ravel())
    whole = offsets @ [PLACES**3, PLACES**2, PLACES, 1]
    check_counts(np.bincount(whole, minlength=PLACES**4))


def check_pairs(one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    check_counts(np.bincount(one * PLACES + other, minlength=PLACES**2))


@pytest.mark.parametrize("seed", [3, 4])
def test_shifts_are_uniform_and_independent(seed: int) -> None:
    check(drawn(seed))


RNG = np.random.default_rng(5)


def fair() -> Offsets:
    return RNG.integers(0, PLACES, (BATCH * BATCHES, 4))


def both_alike() -> Offsets:
    return np.tile(fair()[:, :2], 2)


def down_is_right() -> Offsets:
    return fair()[:, [0, 0, 2, 2]]


def one_too_few() -> Offsets:
    return RNG.integers(0, PLACES - 1, (BATCH * BATCHES, 4))


def more_in_the_middle() -> Offsets:
    return (fair() + fair()) // 2


def each_batch_alike() -> Offsets:
    return np.tile(fair()[:BATCH], (BATCHES, 1))


def rows_of_the_next_batch() -> Offsets:
    """Seeds of batches that follow each other, where rows' seeds do."""
    found = fair()
    found[1:, 2:] = found[:-1, :2]
    return found


def test_fair_shifts_pass() -> None:
    for _ in range(5):
        check(fair())


@pytest.mark.parametrize(
    "wrong",
    [
        both_alike,
        down_is_right,
        one_too_few,
        more_in_the_middle,
        each_batch_alike,
        rows_of_the_next_batch,
    ],
)
def test_wrong_shifts_are_found_out(wrong: Draw) -> None:
    with pytest.raises(AssertionError, match="chi-square"):
        check(wrong())


def test_an_offset_beyond_the_pad_is_found_out() -> None:
    offsets: Any = fair()
    offsets[7, 1] = PLACES
    with pytest.raises(AssertionError, match="beyond the pad"):
        check(offsets)
