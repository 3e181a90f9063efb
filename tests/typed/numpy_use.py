"""What users of NumPy write, and which types they get back. It also runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import reverie
from reverie import samplers, views, weights

SPEC = {
    "observation": reverie.ArraySpec((4,), np.float32),
    "action": reverie.ArraySpec([], "int64"),
    "reward": np.zeros((), np.float32),
}


def fill(buffer: reverie.ReplayBuffer, steps: int = 40) -> None:
    """Steps of two environments, then an episode."""
    obs: NDArray[np.float32] = np.zeros((2, 4), np.float32)
    over = np.zeros(2, np.bool_)
    for t in range(steps):
        over[:] = t % 10 == 9, t % 7 == 6
        assert_type(buffer.add(obs, [0, 1], np.ones(2), obs, over, over & False), int)
    step = {"observation": obs, "action": np.array([0, 1]), "reward": [1.0, 1.0]}
    assert_type(buffer.add_step(step, {"observation": obs}, over, over & False), int)
    assert_type(buffer.end_episodes(), None)
    episode = {"observation": np.zeros((4, 4)), "action": [0, 1, 0], "reward": [1.0] * 3}
    assert_type(buffer.add_episode(episode, terminated=False), int)
    assert_type(buffer.add_episodes([episode, episode]), int)


def learn(buffer: reverie.ReplayBuffer) -> None:
    """Batches, and their priorities."""
    beta = weights.LinearSchedule(0.4, 1.0, 10)
    assert_type(beta(3), float)
    assert_type(buffer.sample(256, beta=0.4).weight, NDArray[np.float32])
    batch = buffer.sample(8, view=views.Transitions(n_step=3, gamma=0.9), beta=beta(0))
    assert_type(batch, reverie.Batch)
    assert_type(batch.reward, NDArray[Any])
    assert_type(batch.discount, NDArray[Any])
    assert_type(batch.terminated, NDArray[Any])
    assert_type(batch.truncated, NDArray[Any])
    assert_type(batch.n_steps, NDArray[Any])
    assert_type(batch.key, NDArray[np.uint64])
    assert_type(batch.probability, NDArray[np.float64])
    # Leaves of a nest may be nests themselves.
    assert_type(batch.observation, Any)
    assert_type(batch.action, Any)
    assert_type(batch.next_observation, Any)
    data, info = batch
    assert_type(data, Any)
    assert_type(info.key, NDArray[np.uint64])
    assert_type(info.probability, NDArray[np.float64])
    assert_type(info.table_size, NDArray[np.int64])
    assert_type(info.priority, NDArray[np.float64])
    assert_type(info.times_sampled, NDArray[np.int32])
    if isinstance(info, reverie.SampleInfo):
        assert_type(info, reverie.SampleInfo)
    else:
        assert_type(info.weight, NDArray[np.float32])
    target = batch.reward + batch.discount
    assert_type(buffer.update_priorities(batch.key, np.abs(target)), int)
    sequences = buffer.sample(4, view=views.Sequences(8, burn_in=2, once=["action"]))
    assert_type(sequences.mask, NDArray[Any])
    assert_type(
        weights.importance_weights(info.probability, info.table_size, 0.4, normalize="batch"),
        NDArray[np.float32],
    )


def look(buffer: reverie.ReplayBuffer) -> None:
    """What a buffer says of itself, and all that it holds."""
    assert_type(len(buffer), int)
    assert_type(buffer.capacity, int)
    assert_type(buffer.num_frames(), int)
    assert_type(buffer.info(), reverie.BufferInfo)
    assert_type(buffer.info().broken_episodes, int)
    assert_type(buffer.item_info(), dict[str, NDArray[Any]])
    assert_type(buffer.steps(), reverie.Batch)
    assert_type(buffer.episodes(), Iterator[dict[str, Any]])
    for episode in buffer.episodes():
        assert_type(episode["reward"], Any)
    assert_type(buffer[0], Any)
    assert_type(buffer[-3:], Any)
    assert_type(next(iter(buffer)), Any)
    keys = buffer.steps().key
    assert_type(buffer.gather(keys[:2], views.Transitions(2)), dict[str, Any])


def main(folder: Path) -> None:
    """Runs all of it."""
    with reverie.ReplayBuffer(
        SPEC,
        1_000,
        next_of=["observation"],
        sampler=samplers.Prioritized(alpha=0.6),
        view=views.Transitions(n_step=3, gamma=0.99),
        num_envs=2,
        seed=0,
        checkpoint_dir=folder,
    ) as buffer:
        assert_type(buffer, reverie.ReplayBuffer)
        fill(buffer)
        learn(buffer)
        look(buffer)
        assert_type(buffer.save(), Path)
        assert_type(buffer.save(path=folder / "more"), Path)
        assert_type(buffer.save(wait=False), Path | None)
        mixed = reverie.mix({"a": buffer}).sample(4)
        assert_type(mixed, reverie.Batch)
        assert_type(mixed.source, NDArray[np.int64])
        assert_type(buffer.clear(), None)
    again = reverie.open(folder)
    assert_type(again, reverie.ReplayBuffer)
    learn(again)
    try:
        again.sample(0)
    except reverie.ReverieError as error:
        assert_type(error, reverie.ReverieError)


def halved(data: dict[str, Any]) -> dict[str, Any]:
    """Of a batch."""
    return {key: value / 2 for key, value in data.items()}


def made_of_spaces(env: Any) -> reverie.ReplayBuffer:
    """A buffer for an environment of gymnasium."""
    extra = {"log_prob": reverie.ArraySpec((), np.float32)}
    view = views.Transitions(n_step=3, stack={"observation": 4})
    assert_type(view.shift(observation=4).map(halved), views.View)
    assert_type(view.shift({"observation/left": 4}, axes=(0, 1)), views.View)
    return reverie.ReplayBuffer.for_env(env, 1_000, extra=extra, view=view, seed=0)
