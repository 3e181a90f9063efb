"""Whole episodes at once hold what the same steps hold, added one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reverie
from reverie.errors import InvalidArgumentError, ReverieError, StepMismatchError
from reverie.views import Episodes, Sequences, Transitions

SPEC = {
    "z": {"b": np.zeros(2, np.float32), "a": np.zeros((), np.int64)},
    "act": np.zeros(3, np.int32),
    "rew": np.zeros((), np.float32),
    "a": np.zeros((2, 1), np.uint8),
}
ROLES: dict[str, Any] = {"next_of": ("z", "a"), "action": "act", "reward": "rew"}
STATES = ROLES["next_of"]


def buffer_of(view: Any = None) -> reverie.ReplayBuffer:
    return reverie.ReplayBuffer(SPEC, 1000, view=view, **ROLES)


def episode(steps: int, seed: int, states: int | None = None) -> dict[str, Any]:
    """An episode of random steps; of so many states, steps + 1 if not said."""
    rng = np.random.default_rng(seed)
    n = steps + 1 if states is None else states
    return {
        "z": {"b": rng.random((n, 2), np.float32), "a": rng.integers(-9, 9, n)},
        "act": rng.integers(0, 9, (steps, 3), np.int32),
        "rew": rng.random(steps, np.float32),
        "a": rng.integers(0, 255, (n, 2, 1), np.uint8),
    }


def at(nest: Any, place: Any) -> Any:
    return optree.tree_map(lambda leaf: leaf[place], nest)


def one_by_one(buffer: reverie.ReplayBuffer, steps: dict[str, Any], terminated: bool) -> None:
    count = len(steps["rew"])
    for t in range(count):
        after = {key: at(steps[key], t + 1) for key in STATES}
        step = {key: at(steps[key], t) for key in steps}
        is_last = t == count - 1
        buffer.add_step(step, after, is_last and terminated, is_last and not terminated)


def equal(one: reverie.ReplayBuffer, other: reverie.ReplayBuffer, view: Any = None) -> bool:
    a, b = one.steps(view).data, other.steps(view).data
    same = optree.tree_map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return len(one) == len(other) and all(optree.tree_leaves(same))


@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), max_size=6),
    view=st.sampled_from([Transitions(), Transitions(3, 0.5), Sequences(4, 1), Episodes()]),
)
def test_they_are_the_same_as_one_by_one(lengths: Any, view: Any) -> None:
    bulk, each, single = buffer_of(view), buffer_of(view), buffer_of(view)
    episodes, tails = [], []
    for seed, (length, terminated, apart) in enumerate(lengths):
        steps = episode(length, seed)
        one_by_one(single, steps, terminated)
        tail = None
        if apart:
            tail = {key: at(steps[key], -1) for key in STATES}
            steps.update({key: at(steps[key], slice(None, -1)) for key in STATES})
        assert each.add_episode(steps, tail, terminated=terminated) == length
        episodes.append(steps)
        tails.append(tail)
    ends = [terminated for _, terminated, _ in lengths]
    count = bulk.add_episodes(episodes, tails, terminated=ends)
    assert count == sum(length for length, _, _ in lengths)
    assert equal(bulk, single)
    assert equal(each, single)
    if not isinstance(view, Episodes):
        assert equal(bulk, single, Transitions(2, 0.9))


def test_the_state_after_a_terminated_episode_may_be_left_out() -> None:
    buffer = buffer_of()
    assert buffer.add_episode(episode(3, 0, states=3)) == 3
    data = buffer.steps().data
    assert data["terminated"].tolist() == [False, False, True]
    assert data["next_z"]["b"][2].tolist() == [0, 0]
    assert data["discount"].tolist() == [1, 1, 0]


def test_what_is_not_of_the_dtype_is_cast_as_single_steps_are() -> None:
    steps = episode(4, 0)
    other = {
        "z": {"b": steps["z"]["b"].astype(np.float64), "a": steps["z"]["a"].tolist()},
        "act": steps["act"].tolist(),
        "rew": [float(reward) for reward in steps["rew"]],
        "a": np.asfortranarray(steps["a"]),
    }
    mixed, single = buffer_of(), buffer_of()
    mixed.add_episodes([other, steps, other])  # what is beside it changes nothing
    for _ in range(3):
        one_by_one(single, steps, True)
    assert equal(mixed, single)


def test_large_integers_stay_exact_beside_others() -> None:
    spec = {"s": np.zeros((), np.uint64), "a": np.zeros(())}
    buffer = reverie.ReplayBuffer(spec, 10, next_of=("s",))
    big = 2**63 + 1
    buffer.add_episodes(
        [{"s": np.array([big, 1], np.uint64), "a": [1]}, {"s": [1, big], "a": np.ones(1)}]
    )
    data = buffer.steps().data
    assert (data["s"].tolist(), data["next_s"].tolist()) == ([big, 1], [1, big])


def test_states_alone_make_an_episode() -> None:
    buffer = reverie.ReplayBuffer({"s": np.zeros(())}, 10, next_of=("s",))
    assert buffer.add_episode({"s": [1, 2, 3]}) == 2
    assert buffer.add_episode({"s": [4.0]}, {"s": 5.0}) == 1
    assert buffer.steps().data["next_s"].tolist() == [2, 3, 5]


def test_no_episode_is_no_step() -> None:
    buffer = buffer_of()
    assert buffer.add_episodes([]) == 0
    assert buffer.add_episodes([], [], terminated=[]) == 0


def test_open_episodes_of_environments_go_on_beside_them() -> None:
    buffer, single = buffer_of(), buffer_of()
    steps = episode(4, 1)
    for t in range(4):
        after = {key: at(steps[key], t + 1) for key in STATES}
        buffer.add_step({key: at(steps[key], t) for key in steps}, after)
        buffer.add_episode(episode(2, t))
    assert buffer.info().broken_episodes == 0
    one_by_one(single, steps, True)
    wanted = single.steps(Transitions(3)).data["rew"]
    assert buffer.steps(Transitions(3)).data["rew"][::3].tolist() == wanted.tolist()


GOOD = episode(3, 0)
TAIL = {key: at(GOOD[key], -1) for key in STATES}
SHORT = episode(3, 0, states=3)
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no step": ([episode(0, 0)], {}, r"Episode 0: found .*0.* steps, wanted one number"),
    "of two lengths": (
        [GOOD, {**GOOD, "rew": np.zeros(2)}],
        {},
        r"Episode 1: found .*'act': 3, 'rew': 2.* steps, wanted one number",
    ),
    "no time axis": ([{**GOOD, "rew": 1.0}], {}, r"'rew': found float, shape \(\).*\('T',\)"),
    "a batch axis": (
        [optree.tree_map(lambda leaf: leaf[None], GOOD)],
        {},
        r"Episode 0: Step leaf 'a': found ndarray, shape \(1, 4, 2, 1\); .*\('T', 2, 1\)",
    ),
    "cut off without the last state": (
        [SHORT],
        {"terminated": False},
        r"of 3 steps that was cut off: 'a' holds 3 states, wanted 4, .*Or pass that as after=",
    ),
    "too many states": (
        [episode(3, 0, states=5)],
        {},
        r"of 3 steps that ended: 'a' holds 5 states, wanted 4",
    ),
    "too few": ([episode(3, 0, states=2)], {"after": [TAIL]}, "'a' holds 2 states, wanted 3"),
    "the last state twice": (
        [GOOD],
        {"after": [TAIL]},
        "'a' holds 4 states, wanted 3, .*the last step is in after=",
    ),
    "a key is missing": (
        [{key: GOOD[key] for key in GOOD if key != "rew"}],
        {},
        r"Episode 0: .*missing \['rew'\]",
    ),
    "an unknown key": ([GOOD, {**GOOD, "raw": 1}], {}, r"Episode 1: .*unknown \['raw'\]"),
    "after of an unknown key": (
        [SHORT],
        {"after": [{**TAIL, "rew": 1}]},
        r"Episode 0: after: .*unknown \['rew'\]",
    ),
    "after without a key": ([SHORT], {"after": [{"a": TAIL["a"]}]}, r"after: .*missing \['z/"),
    "after with a time axis": (
        [SHORT],
        {"after": [optree.tree_map(lambda leaf: leaf[None], TAIL)]},
        r"after: Step leaf 'a': found ndarray, shape \(1, 2, 1\)",
    ),
    "after of another number": (
        [SHORT],
        {"after": []},
        "after: found .*list of 0, wanted",
    ),
    "after is one dict": ([SHORT], {"after": TAIL}, "after: found dict .*wanted a list of 1"),
    "terminated of another number": (
        [GOOD],
        {"terminated": [True, False]},
        r"terminated: found shape \(2,\), wanted bools of shape \(1,\)",
    ),
    "terminated is text": ([GOOD], {"terminated": "False"}, "terminated: found .*False"),
    "terminated is None": ([GOOD], {"terminated": None}, "terminated: found .*None"),
    "terminated is NaN": ([GOOD], {"terminated": [np.nan]}, "terminated: found .*nan"),
    "a dict": (GOOD, {}, r"episodes: found dict, wanted a list of dicts.*add_episode\(\)"),
    "an iterator": (iter([GOOD]), {}, "episodes: found list_iterator, wanted a list"),
    "a list of lists": ([[1, 2]], {}, "Episode 0: .*at the root: found .*list of 2, wanted"),
    "a value that does not fit": (
        [GOOD, {**GOOD, "act": np.full((3, 3), 2**40)}],
        {},
        r"Episode 1: Step leaf 'act': found the value 1099511627776",
    ),
    "a dtype that cannot be cast": (
        [{**GOOD, "act": np.zeros((3, 3))}],
        {},
        r"'act': found ndarray, dtype float64; wanted int32",
    ),
    "masked": (
        [{**GOOD, "rew": np.ma.masked_array(np.zeros(3), [1, 0, 0])}],
        {},
        r"'rew': found a masked array",
    ),
    "ragged": ([{**GOOD, "act": [[1], [1, 2, 3], [1]]}], {}, "'act': found list, which is no"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_with_nothing_stored(name: str) -> None:
    buffer = buffer_of()
    buffer.add_episode(GOOD)
    episodes, arguments, words = WRONG[name]
    with pytest.raises(ReverieError, match=f"(?s){words}") as caught:
        buffer.add_episodes(episodes, **arguments)
    assert isinstance(caught.value, InvalidArgumentError | StepMismatchError)
    assert "othing was stored" in str(caught.value)
    single = buffer_of()
    one_by_one(single, GOOD, True)
    assert equal(buffer, single)
