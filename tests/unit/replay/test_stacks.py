"""Frames are stored once and stacked when they are sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import InvalidArgumentError
from reverie.views import Episodes, Sequences, Transitions

SPEC = {
    "observation": ArraySpec((2, 2), np.uint8),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}
FOUR = {"observation": 4}


def filled(
    view: Any, lengths: tuple[int, ...] = (1, 3, 9), capacity: int = 100
) -> ReplayBuffer:
    """Frame t of episode e is 20 e + t, everywhere."""
    buffer = ReplayBuffer(SPEC, capacity, view=view, seed=0)
    for e, length in enumerate(lengths):
        for t in range(length):
            now, after = (np.full((2, 2), 20 * e + k, np.uint8) for k in (t, t + 1))
            buffer.add(now, t, 1.0, after, t == length - 1, False)
    return buffer


@pytest.mark.parametrize("padding", ["first", "zeros"])
def test_equals_gymnasiums_stacks(padding: str) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.wrappers import FrameStackObservation

    class Frames(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.left = int(self.np_random.integers(1, 9))
            return self.frame(), {}

        def frame(self) -> Any:
            return self.np_random.integers(1, 255, (2, 2)).astype(np.uint8)

        def step(self, action: Any) -> Any:
            self.left -= 1
            return self.frame(), 1.0, self.left == 0, False, {}

    kind = {"first": "reset", "zeros": "zero"}[padding]
    single, stacked = Frames(), FrameStackObservation(Frames(), 4, padding_type=kind)
    buffer = ReplayBuffer.for_env(
        single, 1000, view=Transitions(stack=FOUR, stack_padding=padding)
    )
    wanted = []
    (obs, _), (stack, _) = single.reset(seed=1), stacked.reset(seed=1)
    for t in range(200):
        next_obs, reward, terminated, truncated, _ = single.step(t % 2)
        next_stack, *_ = stacked.step(t % 2)
        buffer.add(obs, t % 2, reward, next_obs, terminated, truncated)
        wanted.append((stack, next_stack))
        obs, stack = next_obs, next_stack
        if terminated:
            (obs, _), (stack, _) = single.reset(), stacked.reset()
    batch = buffer.steps()
    np.testing.assert_array_equal(batch.observation, np.stack([a for a, _ in wanted]))
    np.testing.assert_array_equal(batch.next_observation, np.stack([b for _, b in wanted]))


def test_frames_that_a_step_looks_back_to_stay_as_long_as_it_does() -> None:
    buffer = filled(Transitions(stack=FOUR), (19,), capacity=3)
    assert buffer.steps().observation[:, :, 0, 0].tolist() == [
        [13, 14, 15, 16],
        [14, 15, 16, 17],
        [15, 16, 17, 18],
    ]


def test_a_lead_costs_its_frames_alone() -> None:
    plain, stacked = (
        filled(Transitions(), (50,) * 5),
        filled(Transitions(stack=FOUR), (50,) * 5),
    )
    assert stacked.info().steps - plain.info().steps == 3 * 5
    assert len(stacked) == len(plain)


def test_smaller_stacks_fit() -> None:
    buffer = filled(Transitions(stack=FOUR))
    two = buffer.sample(50, view=Transitions(3, stack={"observation": 2}))
    assert two.observation.shape == two.next_observation.shape == (50, 2, 2, 2)
    assert buffer.sample(5, view=Transitions()).observation.shape == (5, 2, 2)
    many = buffer.sample(5, view=Sequences(6, stack=FOUR))
    assert many.observation.shape == (5, 6, 4, 2, 2)
    assert [len(each["action"]) for each in buffer.episodes()] == [1, 3, 9]
    assert [each["observation"][0, 0, 0] for each in buffer.episodes()] == [0, 20, 40]


def test_bulk_and_saved(tmp_path: Any) -> None:
    buffer = ReplayBuffer(SPEC, 100, view=Transitions(stack=FOUR))
    frames = np.arange(1, 8, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    episode = {"observation": frames, "action": np.arange(6), "reward": np.ones(6, np.float32)}
    buffer.add_episode(episode)
    buffer.save(path=tmp_path)
    for each in (buffer, reverie.open(tmp_path)):
        assert each.view == Transitions(stack=FOUR)
        assert each.steps().observation[:, :, 0, 0].tolist() == [
            [max(1, t - 2 + k) for k in range(4)] for t in range(6)
        ]
    again = reverie.open(tmp_path)
    again.add_episode(episode)
    assert again.steps().observation[6, :, 0, 0].tolist() == [1, 1, 1, 1]


def test_of_episodes_one_has_its_lead_too() -> None:
    buffer = filled(Episodes(stack={"observation": 2}))
    assert buffer.steps().observation.shape == (3, 9, 2, 2, 2)
    assert buffer.steps().data["length"].tolist() == [1, 3, 9]


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ({"action": 2}, r"found \['action'\], wanted states: \['observation'\]"),
        ({"pixels": 2}, "found .'pixels'., wanted states"),
        ({"observation": 0}, "stack.'observation'."),
        ({"observation": 2.5}, "stack.'observation'."),
        (4, 'stack={"observation": 4}'),
        ("observation", "how many frames"),
    ],
)
def test_what_cannot_be_stacked_is_refused(stack: Any, words: str) -> None:
    with pytest.raises((InvalidArgumentError, TypeError), match=words):
        ReplayBuffer(SPEC, 10, view=Transitions(stack=stack))


def test_a_larger_stack_or_another_padding_is_refused() -> None:
    buffer = filled(Transitions(stack={"observation": 2}))
    with pytest.raises(InvalidArgumentError, match=r"keeps 1 frames .* Make it with view="):
        buffer.sample(1, view=Transitions(stack=FOUR))
    zeros = Transitions(stack={"observation": 2}, stack_padding="zeros")
    with pytest.raises(InvalidArgumentError, match="before an episode 'first'"):
        buffer.sample(1, view=zeros)
    with pytest.raises(InvalidArgumentError, match="stack_padding: found 'edge'"):
        Transitions(stack=FOUR, stack_padding="edge")  # type: ignore[arg-type]


def test_an_ended_sequence_keeps_its_tail() -> None:
    buffer = ReplayBuffer(SPEC, 100, view=Sequences(4))
    for t in range(6):
        now, after = np.full((2, 2), t, np.uint8), np.full((2, 2), t + 1, np.uint8)
        buffer.add(now, t, 1.0, after, False, False)
    assert len(buffer) == 1
    buffer.end_episodes()
    assert buffer.steps().data["action"].tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert buffer.steps().truncated.tolist() == [[False] * 4, [False, True, False, False]]
