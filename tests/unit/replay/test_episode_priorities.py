"""Priorities made of an episode's return: the best stay, all items of an episode alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import reverie
from reverie import limiters, removers, samplers, views
from reverie.adding import filled_buffer
from reverie.errors import InvalidArgumentError
from reverie.rollouts.returns import rate

SPEC = {
    "observation": reverie.ArraySpec((), np.float32),
    "action": reverie.ArraySpec((), np.int64),
    "reward": reverie.ArraySpec((), np.float32),
}


def best(capacity: int = 12, **settings: Any) -> reverie.ReplayBuffer:
    settings = {"remover": removers.MinHeap(), "episode_priority": lambda r: r, **settings}
    return reverie.ReplayBuffer(SPEC, capacity, seed=0, **settings)


def play(
    buffer: reverie.ReplayBuffer, number: int, rewards: list[float], *, open_: int = 0
) -> None:
    """An episode whose observations are number, number + 0.01, ...; `open_`: not its end."""
    for t, reward in enumerate(rewards):
        at = number + np.float32(t / 100)
        last = t == len(rewards) - 1 and not open_
        buffer.add(at, number, reward, number + np.float32((t + 1) / 100), last, False)


def priorities(buffer: reverie.ReplayBuffer) -> dict[int, set[float]]:
    batch = buffer.steps()
    found: dict[int, set[float]] = {}
    for action, priority in zip(batch.action, batch.info.priority, strict=True):
        found.setdefault(int(action), set()).add(float(priority))
    return found


def test_the_best_episodes_stay() -> None:
    buffer = best()
    returns = [3.0, -1.0, 7.0, 0.5, 5.0, -20.0, 6.0]
    for number, total in enumerate(returns):
        play(buffer, number, [total - 3, 1.0, 1.0, 1.0])
    assert priorities(buffer) == {2: {7.0}, 4: {5.0}, 6: {6.0}}


def test_an_open_episode_stays_until_its_return_is_known() -> None:
    buffer = best(8)
    play(buffer, 0, [5.0] * 4)
    play(buffer, 1, [4.0] * 4)
    play(buffer, 2, [-9.0] * 3, open_=True)
    assert sorted(priorities(buffer)) == [0, 1, 2]
    buffer.add(np.float32(2.03), 2, -9.0, np.float32(2.04), True, False)
    assert priorities(buffer)[2] == {-36.0}
    play(buffer, 3, [9.0] * 4)
    assert sorted(priorities(buffer)) == [0, 3]


@pytest.mark.parametrize("how", ["truncated", "end_episodes", "broken"])
def test_however_an_episode_ends(how: str) -> None:
    buffer = best(50)
    play(buffer, 1, [1.0, 2.0], open_=True)
    if how == "truncated":
        buffer.add(np.float32(1.02), 1, 4.0, np.float32(1.03), False, True)
        assert priorities(buffer)[1] == {7.0}
        return
    if how == "end_episodes":
        buffer.end_episodes()
    else:
        play(buffer, 2, [1.0], open_=True)
    assert priorities(buffer)[1] == {3.0}


def test_of_several_environments_each_has_its_own() -> None:
    buffer = best(100, num_envs=3)
    for t in range(6):
        obs = np.arange(3, dtype=np.float32) * 100 + t
        ends = np.array([t == 2, t == 5, t == 3])
        buffer.add(obs, [0, 1, 2], [1.0, 10.0, 100.0], obs + 1, ends, [False] * 3)
    buffer.end_episodes()
    found = priorities(buffer)
    assert found[1] == {60.0}
    assert found[0] == {3.0}
    assert found[2] == {400.0, 200.0}


@pytest.mark.parametrize("stack", [None, {"observation": 3}])
def test_whole_episodes_at_once(stack: Any) -> None:
    buffer = best(40, view=views.Transitions(stack=stack))
    episodes = [
        {
            "observation": np.arange(n + 1, dtype=np.float32),
            "action": np.full(n, n),
            "reward": np.arange(n, dtype=np.float32) + 1,
        }
        for n in (2, 5, 3)
    ]
    buffer.add_episodes(episodes)
    assert priorities(buffer) == {2: {3.0}, 5: {15.0}, 3: {6.0}}


def test_of_sequences_and_of_episodes_as_items() -> None:
    for view in (views.Sequences(3, stride=2), views.Episodes()):
        buffer = best(40, view=view)
        for number, total in enumerate([4.0, 2.0]):
            play(buffer, number, [total, 0.0, 0.0, 0.0, 0.0])
        items = buffer.item_info()
        assert set(items["priority"]) == {4.0, 2.0}


def test_as_weights_they_are_sampled() -> None:
    buffer = best(
        100,
        remover=None,
        sampler=samplers.Prioritized(1.0),
        episode_priority=lambda returns: np.exp(returns),
    )
    play(buffer, 0, [1.0, 1.0])
    play(buffer, 1, [0.0, 0.0])
    share = (buffer.sample(4_000).action == 0).mean()
    assert abs(share - np.exp(2) / (np.exp(2) + 1)) < 0.03
    buffer.rate_episodes(lambda returns: returns)
    with pytest.raises(InvalidArgumentError, match="not negative"):
        play(buffer, 2, [-1.0])
    assert len(buffer) == 5  # it is stored all the same


def test_episodes_that_were_open_when_saved_can_leave(tmp_path: Path) -> None:
    buffer = best(8)
    play(buffer, 0, [5.0] * 4)
    play(buffer, 1, [-2.0] * 3, open_=True)
    again = reverie.open(buffer.save(path=tmp_path))
    again.rate_episodes(lambda returns: returns)
    assert priorities(again) == {0: {20.0}, 1: {-6.0}}
    play(again, 2, [9.0] * 4)
    assert sorted(priorities(again)) == [0, 2]


def mistaken(returns: NDArray[np.float64]) -> Any:
    return returns[:0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"remover": None}, "neither|read priorities"),
        ({"episode_priority": 3}, "wanted a function"),
        ({"reward": "step"}, "float32"),
        ({"limiter": limiters.Queue(3)}, "limiter"),
    ],
)
def test_what_could_not_work_is_refused(settings: dict[str, Any], words: str) -> None:
    spec = {**SPEC, "step": reverie.ArraySpec((), np.int64)}
    settings = {
        "remover": removers.MinHeap(),
        "episode_priority": lambda returns: returns,
        **settings,
    }
    with pytest.raises(InvalidArgumentError, match=words):
        reverie.ReplayBuffer(spec, 10, **settings)


def test_a_function_that_gives_something_else() -> None:
    buffer = best(episode_priority=mistaken)
    with pytest.raises(InvalidArgumentError, match=r"found a result of shape \(0,\)"):
        play(buffer, 0, [1.0])
    buffer = best(episode_priority=lambda returns: returns * np.nan)
    with pytest.raises(InvalidArgumentError, match="finite"):
        play(buffer, 0, [1.0])
    with pytest.raises(InvalidArgumentError, match="before the first"):
        buffer.rate_episodes(None)


# Planted faults.


def rates_the_last_item_alone(table: Any, function: Any, ended: Any) -> int:
    return rate(table, function, [(total, keys[-1:]) for total, keys in ended])


def leaves_the_last_reward_out(table: Any, function: Any, ended: Any) -> int:
    return rate(table, function, [(total - 1, keys) for total, keys in ended])


@pytest.mark.parametrize("view", [views.Transitions(), views.Sequences(3, stride=1)])
@pytest.mark.parametrize("planted", [rates_the_last_item_alone, leaves_the_last_reward_out])
def test_all_items_of_an_episode_have_its_whole_return(
    planted: Any, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> None:
        buffer = best(40, view=view)
        play(buffer, 0, [1.0, 1.0, 1.0])
        assert set(buffer.item_info()["priority"]) == {3.0}

    look()
    monkeypatch.setattr(filled_buffer, "rate", planted)
    with pytest.raises(AssertionError):
        look()


@pytest.mark.parametrize("unknown", [0.0, -1.0])
def test_what_is_not_known_yet_must_not_look_bad(
    unknown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_an_open_episode_stays_until_its_return_is_known()
    monkeypatch.setattr(filled_buffer, "first_priority", lambda settings: unknown)
    with pytest.raises(AssertionError):
        test_an_open_episode_stays_until_its_return_is_known()


def test_another_function_is_for_what_has_ended_and_an_open_episode_stays_unknown() -> None:
    buffer = best(8)
    play(buffer, 0, [5.0] * 4)
    play(buffer, 1, [-9.0] * 3, open_=True)
    before = priorities(buffer)[1]
    buffer.rate_episodes(lambda returns: returns * 2)
    assert priorities(buffer) == {0: {20.0}, 1: before}
    play(buffer, 1, [-9.0] * 1)  # which ends it, elsewhere, and so does this one
    assert priorities(buffer)[1] == {-54.0, -18.0}


def test_what_a_mistaken_function_left_unknown_the_next_one_rates() -> None:
    buffer = best(20, episode_priority=mistaken)
    play(buffer, 1, [1.0, 1.0], open_=True)
    with pytest.raises(InvalidArgumentError):
        buffer.end_episodes()
    play(buffer, 2, [5.0, 5.0], open_=True)
    before = priorities(buffer)[2]
    buffer.rate_episodes(lambda returns: returns)
    assert priorities(buffer) == {1: {2.0}, 2: before}
