"""How many items an episode makes, and of which steps: closed formulas over a whole grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optree
import pytest

from reverie import ArraySpec, ReplayBufferManager, Trajectory
from reverie.nests.trajectory import FIRST, LAST, MID

LENGTHS, STRIDES, STEPS = range(1, 7), range(1, 6), range(13)
PADDINGS = [(False, False), (True, False), (True, True)]
PAD = -1  # stands for a pad step below

INT, FLOAT = ArraySpec((), np.int32), ArraySpec((), np.float32)
SPEC = Trajectory(INT, {"count": ArraySpec((), np.int64)}, INT, (), INT, FLOAT, FLOAT)


def closed_formula(n: int, length: int, stride: int, pad: bool, tile: bool) -> int:
    """Items of an episode of n steps, its boundary included."""
    if n == 0:
        return 0
    if tile:
        return (n - 1) // stride + 1
    if pad and n <= length:
        return 1
    return 0 if n < length else (n - length) // stride + 1


def trajectory(count: int, last: bool) -> Trajectory:
    step_type, next_step_type = (LAST, FIRST) if last else (MID, MID)
    return Trajectory(
        np.int32(step_type),
        {"count": np.int64(count)},
        np.int32(7),
        (),
        np.int32(next_step_type),
        np.float32(0.5),
        np.float32(1),
    )


def windows(
    folder: Path, n: int, length: int, stride: int, pad: bool, tile: bool
) -> list[list[int]]:
    """The items of one episode of n steps numbered from 1, which is not the first one."""
    manager = ReplayBufferManager(
        SPEC,
        100,
        folder,
        length,
        stride_length=stride,
        pad_end_of_episodes=pad,
        tile_end_of_episodes=tile,
        seed=1,
    )
    with manager:
        buffer, observer = manager.create_replay_buffer()
        for count in range(length + 3):
            observer(trajectory(100 + count, last=count == length + 2))
        before = buffer.num_frames()
        for count in range(1, n + 1):
            observer(trajectory(count, last=count == n))
        return list(decoded(buffer.gather_all()))[before:]


def decoded(items: Trajectory) -> Iterator[list[int]]:
    """Each item's counts, PAD for what is a pad step in every column."""
    columns = (items.step_type, items.next_step_type, items.observation["count"])
    others = (items.action, items.reward, items.discount)
    for row in range(len(items.step_type)):
        found = []
        for step in zip(*(column[row] for column in (*columns, *others)), strict=True):
            is_pad = step == (LAST, FIRST, 0, 0, 0, 0)
            found.append(PAD if is_pad else int(step[2]))
        yield found


def expected_windows(
    n: int, length: int, stride: int, pad: bool, tile: bool
) -> list[list[int]]:
    number = closed_formula(n, length, stride, pad, tile)
    padded = [*range(1, n + 1), *[PAD] * length]
    return [padded[i * stride : i * stride + length] for i in range(number)]


@pytest.mark.parametrize(("pad", "tile"), PADDINGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_episode_makes_just_the_windows_of_the_closed_formulas(
    tmp_path: Path, length: int, pad: bool, tile: bool
) -> None:
    for n, stride in itertools.product(STEPS, STRIDES):
        case = (n, length, stride, pad, tile)
        assert windows(tmp_path, *case) == expected_windows(*case), case


def test_a_tiled_episode_of_four_steps_ends_in_ever_more_padding(tmp_path: Path) -> None:
    assert windows(tmp_path, 4, 4, 1, True, True) == [
        [1, 2, 3, 4],
        [2, 3, 4, PAD],
        [3, 4, PAD, PAD],
        [4, PAD, PAD, PAD],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n, length, stride: n // stride,
        lambda n, length, stride: max(0, n - length + 1) // stride,
        lambda n, length, stride: max(0, n - length) // stride + 1,
    ],
    ids=["whole strides", "floor without + 1", "one too many"],
)
def test_the_grid_tells_wrong_formulas_from_the_right_one(wrong: Callable[..., int]) -> None:
    cases = list(itertools.product(STEPS, LENGTHS, STRIDES))
    for padding in PADDINGS:
        assert any(wrong(*case) != closed_formula(*case, *padding) for case in cases)


def test_decoding_sees_a_pad_step_with_anything_else_than_zeros() -> None:
    pad = trajectory(0, True)._replace(action=np.int32(0), reward=np.float32(0))
    for discount, expected in ((0, PAD), (1, 0)):
        step = pad._replace(discount=np.float32(discount))
        items = optree.tree_map(lambda leaf: np.full((1, 1), leaf), step)
        assert list(decoded(items)) == [[expected]]
