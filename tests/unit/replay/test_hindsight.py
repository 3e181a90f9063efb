"""Goals that were reached take the place of those that were wanted (Andrychowicz 2017)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import InvalidArgumentError
from reverie.views import Hindsight, Transitions
from reverie.views import hindsight as module

SPEC = {
    "observation": {
        "achieved_goal": ArraySpec((2,), np.float32),
        "desired_goal": ArraySpec((2,), np.float32),
        "observation": ArraySpec((), np.float32),
    },
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}
LENGTHS = (1, 4, 9, 2, 6)


def goal(number: float) -> np.ndarray[Any, Any]:
    return np.array([number, -number], np.float32)


def filled(lengths: tuple[int, ...] = LENGTHS, *, opens: bool = False, **settings: Any) -> Any:
    """State t of episode e reaches goal 100 e + t; -e is wanted; rewards are 7."""
    buffer = ReplayBuffer(SPEC, settings.pop("capacity", 100), seed=0, **settings)
    for e, length in enumerate(lengths, 1):
        for t in range(length):
            now, after = (
                {
                    "achieved_goal": goal(100 * e + k),
                    "desired_goal": goal(-e),
                    "observation": np.float32(100 * e + k),
                }
                for k in (t, t + 1)
            )
            ends = t == length - 1 and not (opens and e == len(lengths))
            buffer.add(now, t, 7.0, after, ends, False)
    return buffer


class Reward:
    """0 where the goal is reached, else -1; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, achieved: Any, desired: Any, info: Any) -> Any:
        assert achieved.shape == desired.shape
        self.calls.append(len(achieved))
        return -(achieved != desired).any(axis=-1).astype(np.float64)


def rows(batch: reverie.Batch) -> Any:
    """(episode, step, goal's episode, goal's step, whether relabelled) of each row."""
    obs, after = batch.observation, batch.next_observation
    number = obs["observation"].astype(int)
    # The goal is the same before and after the step; nothing else has changed.
    np.testing.assert_array_equal(obs["desired_goal"], after["desired_goal"])
    np.testing.assert_array_equal(obs["achieved_goal"][:, 0], number)
    np.testing.assert_array_equal(after["achieved_goal"][:, 0], number + 1)
    np.testing.assert_array_equal(obs["desired_goal"][:, 0], -obs["desired_goal"][:, 1])
    np.testing.assert_array_equal(batch.action, number % 100)
    wanted = obs["desired_goal"][:, 0].astype(int)
    changed = batch.data["relabelled"]
    assert (wanted[~changed] == -(number[~changed] // 100)).all()
    assert (batch.reward[~changed] == 7).all()
    reached = after["achieved_goal"][:, 0] == wanted
    np.testing.assert_array_equal(batch.reward[changed], np.where(reached, 0, -1)[changed])
    assert batch.reward.dtype == np.float32
    of = zip(number // 100, number % 100, wanted // 100, wanted % 100, changed, strict=True)
    return [tuple(map(int, each)) for each in of]


def follows(strategy: str, lengths: tuple[int, ...], row: Any) -> bool:
    """Whether a relabelled row's goal is one that the strategy may choose."""
    e, t, goal_of, g, _ = row
    last = lengths[e - 1]
    if strategy == "random":
        return 1 <= g <= lengths[goal_of - 1]
    low, high = {"future": (t + 1, last), "final": (last, last), "episode": (1, last)}[strategy]
    return goal_of == e and low <= g <= high


@pytest.mark.parametrize("strategy", ["future", "final", "episode", "random"])
def test_goals_are_those_of_the_strategy(strategy: Any) -> None:
    reward = Reward()
    buffer = filled()
    view = Hindsight(reward, strategy=strategy)
    seen = Counter()
    for _ in range(60):
        for row in rows(buffer.sample(50, view=view)):
            if row[-1]:
                assert follows(strategy, LENGTHS, row)
                seen[row[:4]] += 1
    assert reward.calls == [40] * 60  # once a batch, for all that are relabelled
    episode, step = 3, 4  # of nine steps: five later ones, itself included
    found = {
        g: n for (e, t, of, g), n in seen.items() if (e, t, of) == (episode, step, episode)
    }
    wanted = {"future": range(5, 10), "final": range(9, 10), "episode": range(1, 10)}
    if strategy != "random":
        assert found.keys() == set(wanted[strategy])
    else:
        goals = Counter((of, g) for (_, _, of, g), n in seen.items() for _ in range(n))
        assert len(goals) == sum(LENGTHS)


def test_later_steps_are_equally_likely() -> None:
    buffer = filled((6,))
    view = Hindsight(Reward(), k=np.inf)
    found: Counter[tuple[int, int]] = Counter()
    for _ in range(100):
        found.update((t, g) for _, t, _, g, _ in rows(buffer.sample(300, view=view)))
    for t in range(6):
        counts = [found[t, g] for g in range(t + 1, 7)]
        expected = sum(counts) / len(counts)
        assert sum((n - expected) ** 2 / expected for n in counts) < 30, (t, counts)


@pytest.mark.parametrize(
    ("k", "size", "count"), [(4, 10, 8), (4, 5, 4), (4, 9, 7), (1, 9, 4), (0, 9, 0), (3, 1, 0)]
)
def test_the_share_is_exact(k: float, size: int, count: int) -> None:
    reward = Reward()
    batch = filled().sample(size, view=Hindsight(reward, k=k))
    assert batch.data["relabelled"].sum() == count
    assert reward.calls == ([count] if count else [])
    assert (batch.discount == ~batch.terminated).all()
    assert (batch.n_steps == 1).all()


def test_an_open_episode_takes_part_with_its_steps_so_far() -> None:
    buffer = filled((3, 5), opens=True)
    for strategy in ("future", "final", "episode"):
        batch = buffer.sample(200, view=Hindsight(Reward(), strategy=strategy))
        found = rows(batch)
        assert all(follows(strategy, (3, 5), row) for row in found if row[-1])
        assert {row[0] for row in found if row[-1]} == {1, 2}
        last = np.array([(e, t) == (1, 2) for e, t, *_ in found])
        np.testing.assert_array_equal(batch.terminated, last)


def test_what_has_left_is_no_goal() -> None:
    buffer = filled((9, 5), capacity=8)  # steps 6, 7 and 8 of the first episode are left
    view = Hindsight(Reward(), strategy="episode", k=np.inf)
    found = {(e, g) for e, _, _, g, _ in rows(buffer.sample(500, view=view))}
    assert {g for e, g in found if e == 2} == {1, 2, 3, 4, 5}
    assert {9, 8} <= {g for e, g in found if e == 1} <= {6, 7, 8, 9}


def test_long_episodes_in_many_chunks() -> None:
    buffer = ReplayBuffer(
        {
            "state": ArraySpec((4000,), np.float32),
            "goal": ArraySpec((), np.int64),
            "had": ArraySpec((), np.int64),
            "reward": ArraySpec((), np.float32),
        },
        1000,
        next_of=("state", "goal", "had"),
        seed=0,
    )
    for t in range(300):
        now, after = (
            {"state": np.full(4000, k, np.float32), "goal": -1, "had": k} for k in (t, t + 1)
        )
        buffer.add_step({**now, "reward": 0.0}, after, t == 299)
    for strategy, low in (("future", 0), ("episode", 1)):
        view = Hindsight(
            lambda had, goal, info: had == goal,
            np.inf,
            strategy,
            achieved="had",
            desired="goal",
        )
        batch = buffer.sample(2000, view=view)
        goals, step = batch.data["goal"], batch.data["had"]
        assert (batch.data["state"][:, 0] == step).all()
        assert (batch.data["next_goal"] == goals).all()
        assert goals.max() == 300
        assert (goals > step).all() if strategy == "future" else goals.min() <= 5
        assert goals.min() >= low


def test_goals_may_be_nests() -> None:
    one = {"at": ArraySpec((2,), np.float32), "held": ArraySpec((), np.bool_)}
    spec = {
        "observation": {"achieved_goal": one, "desired_goal": one},
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 100, seed=0)
    for t in range(20):
        now, after = (
            {
                "achieved_goal": {"at": goal(k), "held": k % 2 == 0},
                "desired_goal": {"at": goal(-5), "held": False},
            }
            for k in (t, t + 1)
        )
        buffer.add(now, t, 0.0, after, t == 19, False)
    view = Hindsight(lambda had, goal, _: (had["held"] == goal["held"]) * 1.0, k=np.inf)
    batch = buffer.sample(50, view=view)
    reached = batch.observation["desired_goal"]
    np.testing.assert_array_equal(reached["held"], reached["at"][:, 0] % 2 == 0)
    held = batch.next_observation["achieved_goal"]["held"]
    np.testing.assert_array_equal(batch.reward, held == reached["held"])


def test_as_a_buffers_own_view(tmp_path: Any) -> None:
    view = Hindsight(Reward())
    buffer = filled(view=view, sampler=reverie.samplers.Prioritized())
    batch = buffer.sample(10, beta=0.4)
    assert batch.data["relabelled"].sum() == 8
    assert buffer.update_priorities(batch.key, np.ones(10)) == 0
    assert "Hindsight(" in repr(buffer)
    assert "relabelled" not in buffer.steps().data
    buffer.save(path=tmp_path)
    again = reverie.open(tmp_path)
    assert again.view == Transitions()
    assert again.sample(10, view=view).data["relabelled"].sum() == 8


def test_the_same_seed_gives_the_same_goals() -> None:
    found = [rows(filled().sample(64, view=Hindsight(Reward()))) for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"achieved": "goal"}, "found no 'goal' among the states"),
        ({"desired": "observation"}, "two of the same form"),
        ({"strategy": "past"}, "strategy: found 'past'"),
        ({"k": -1}, "k: found -1"),
        ({"k": float("nan")}, "k: found nan"),
        ({"compute_reward": None}, "wanted a function"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        filled().sample(1, view=Hindsight(**{"compute_reward": Reward(), **settings}))


def test_wrong_rewards_and_uses_are_refused() -> None:
    buffer = filled()
    with pytest.raises(InvalidArgumentError, match=r"found rewards of shape \(\) for 4 goals"):
        buffer.sample(5, view=Hindsight(lambda *_: 0.0))
    for call in (buffer.steps, lambda view: buffer.gather(buffer.sample(1).key, view)):
        with pytest.raises(InvalidArgumentError, match="chance is a part"):
            call(Hindsight(Reward()))
    spec = {key: SPEC[key] for key in ("observation", "action")}
    with pytest.raises(InvalidArgumentError, match="wanted one that is the reward"):
        ReplayBuffer(spec, 10, view=Hindsight(Reward()))


def look(strategy: str, batch: reverie.Batch) -> None:
    assert all(follows(strategy, LENGTHS, row) for row in rows(batch) if row[-1])


TRAPS = {
    "the goal of the state before": lambda m: m.setitem(module._OTHERS, "future", 0),
    "only the next state's goal is changed": lambda m: m.setattr(module, "_put", _put_once()),
}


def _put_once() -> Any:
    calls = []

    def put(to: Any, of: Any, count: int) -> None:
        calls.append(1)
        if len(calls) % 2 == 0:
            to[:count] = of[:count]

    return put


@pytest.mark.parametrize("trap", TRAPS)
def test_the_checks_see(trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    TRAPS[trap](monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        look("future", filled().sample(100, view=Hindsight(Reward())))


def in_another_order(state: dict[str, Any]) -> dict[str, Any]:
    """The same keys, as an environment may have them."""
    return {key: state[key] for key in ("observation", "desired_goal", "achieved_goal")}


def by_place(state: dict[str, Any]) -> dict[str, Any]:
    """Planted: values by their places, whatever their names."""
    wanted = ("achieved_goal", "desired_goal", "observation")
    return dict(zip(wanted, (state["desired_goal"], state["achieved_goal"], 0.0), strict=True))


def test_goals_go_by_their_names_whatever_the_order_of_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add = ReplayBuffer.add

    def filled_by(change: Any) -> reverie.Batch:
        def added(self: Any, obs: Any, *arguments: Any) -> int:
            action, reward, after, *ends = arguments
            return add(self, change(obs), action, reward, change(after), *ends)

        with monkeypatch.context() as patched:
            patched.setattr(ReplayBuffer, "add", added)
            return filled().sample(100, view=Hindsight(Reward()))

    look("future", filled_by(in_another_order))
    with pytest.raises(AssertionError):
        look("future", filled_by(by_place))


def look_at_calls(kind: type[Hindsight]) -> None:
    """Just 8 of 10 (Andrychowicz et al. 2017, k = 4), and their rewards in one call."""
    reward = Reward()
    for _ in range(5):
        assert filled().sample(10, view=kind(reward)).data["relabelled"].sum() == 8
    assert reward.calls == [8] * 5


class OneByOne(Hindsight):
    """Asks for the reward of each row."""

    def _relabel(self, fields: Any, data: Any, goals: Any, count: int) -> None:
        reward = self.compute_reward

        def each(achieved: Any, desired: Any, info: Any) -> Any:
            pairs = zip(achieved, desired, strict=True)
            return np.concatenate([reward(a[None], d[None], info) for a, d in pairs])

        object.__setattr__(self, "compute_reward", each)
        super()._relabel(fields, data, goals, count)


class ByChance(Hindsight):
    """Relabels each row with the probability k / (k + 1)."""

    def arrange(self, fields: Any, found: Any) -> Any:
        data = super().arrange(fields, found)
        data["relabelled"] = np.random.default_rng(0).random(10) < 0.8
        return data


def test_a_share_by_chance_and_rewards_one_by_one_are_found_out() -> None:
    look_at_calls(Hindsight)
    for planted in (OneByOne, ByChance):
        with pytest.raises(AssertionError):
            look_at_calls(planted)


def test_an_old_reward_for_a_new_goal_is_found_out() -> None:
    class Stored(Hindsight):
        """Leaves the reward as it was."""

        def _relabel(self, fields: Any, data: Any, goals: Any, count: int) -> None:
            old = data["reward"].copy()
            super()._relabel(fields, data, goals, count)
            data["reward"] = old

    with pytest.raises(AssertionError):
        look("future", filled().sample(100, view=Stored(Reward())))
