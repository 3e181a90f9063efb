"""A view's data go through a function of the user's, by whatever door they come."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import InvalidArgumentError
from reverie.views import Episodes, Hindsight, Sequences, Transitions, View, Windows
from reverie.views import over as module

SPEC = {
    "observation": ArraySpec((2,), np.uint8),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}
VIEWS = [
    Transitions(),
    Transitions(3, 0.5, stack={"observation": 2}),
    Sequences(4, burn_in=1),
    Sequences(3, stride=1, once=("action",)),
    Windows(3, stride=2),
    Episodes(),
    Episodes(ragged=True),
]


def scaled(data: dict[str, Any]) -> dict[str, Any]:
    """A cast, a new column, and one that goes."""
    found = {**data, "observation": data["observation"].astype(np.float32) / 255}
    found["double"] = data["reward"] * 2
    del found["action"]
    return found


def filled(view: View | None = None, **settings: Any) -> ReplayBuffer:
    buffer = ReplayBuffer(SPEC, 100, view=view, seed=0, **settings)
    for length in (3, 9, 5):
        states = np.arange(2 * (length + 1), dtype=np.uint8).reshape(-1, 2) * 3
        buffer.add_episode(
            {
                "observation": states,
                "action": np.arange(length),
                "reward": np.ones(length, np.float32),
            }
        )
    return buffer


def same(found: Any, wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for key in wanted:
        np.testing.assert_array_equal(found[key], wanted[key], key)
        assert found[key].dtype == wanted[key].dtype, key


def every_door(buffer: ReplayBuffer, view: View | None, keys: Any) -> list[dict[str, Any]]:
    """What each of the ways to data gives, without `sample`."""
    each = [*buffer.epoch(4, view=view, seed=3)]
    return [buffer.gather(keys, view), buffer.steps(view).data, *(b.data for b in each)]


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_every_door_gives_what_the_function_makes_of_the_views_data(view: View) -> None:
    plain, mapped = filled(view), filled(view)
    batch, other = plain.sample(6), mapped.sample(6, view=view.map(scaled))
    np.testing.assert_array_equal(batch.key, other.key)
    same(other.data, scaled(batch.data))
    for wanted, found in zip(
        every_door(plain, None, batch.key),
        every_door(mapped, view.map(scaled), batch.key),
        strict=True,
    ):
        same(found, scaled(wanted))


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_a_buffers_own_view_may_be_one_and_is_saved_without_it(
    view: View, tmp_path: Path
) -> None:
    own, plain = filled(view.map(scaled)), filled(view)
    assert own.view == view.map(scaled)
    batch = plain.sample(6)
    same(own.sample(6).data, scaled(batch.data))
    for wanted, found in zip(
        every_door(plain, None, batch.key), every_door(own, None, batch.key), strict=True
    ):
        same(found, scaled(wanted))
    assert own[0].keys() == own.steps().data.keys()
    assert ".map(scaled)" in repr(own)
    own.save(path=tmp_path)
    again = reverie.open(tmp_path)
    assert again.view == view
    same(again.sample(6).data, plain.sample(6).data)


def test_mixtures_take_it() -> None:
    view = Transitions(2, 0.5).map(scaled)
    both = reverie.mix({"a": filled(), "b": filled()})
    data = both.sample(8, view=view).data
    assert data["observation"].dtype == np.float32
    assert data["double"].shape == (8,)
    own = reverie.mix({"a": filled(view), "b": filled(view)})
    same(own.sample(8).data, data)
    with pytest.raises(InvalidArgumentError, match="found the view"):
        reverie.mix({"a": filled(view), "b": filled(Transitions(2, 0.5))})


def test_it_may_change_the_arrays_in_place_and_the_buffer_keeps_its_own() -> None:
    def zeroed(data: dict[str, Any]) -> dict[str, Any]:
        for value in data.values():
            value[...] = 0
        return data

    buffer = filled()
    before = buffer.steps().data
    assert not any(v.any() for v in buffer.steps(Transitions().map(zeroed)).data.values())
    same(buffer.steps().data, before)


def test_functions_are_applied_one_after_the_other() -> None:
    def halved(data: dict[str, Any]) -> dict[str, Any]:
        return {"half": data["double"] / 2}

    buffer = filled()
    found = buffer.steps(Transitions().map(scaled).map(halved)).data
    same(found, {"half": buffer.steps().data["reward"]})


def test_it_is_called_once_a_batch() -> None:
    sizes = []

    def count(data: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(data["action"]))
        return data

    buffer = filled()
    buffer.sample(7, view=Transitions().map(count))
    list(buffer.epoch(10, view=Transitions().map(count)))
    assert sizes == [7, 10, 7]


def test_over_hindsight_what_is_drawn_stays_for_samples() -> None:
    goal = ArraySpec((1,), np.float32)
    spec = {
        "observation": {"achieved_goal": goal, "desired_goal": goal},
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 10, seed=0)
    one = {"achieved_goal": np.ones(1), "desired_goal": np.zeros(1)}
    buffer.add(one, 0, 0.0, one, True, False)

    def few(data: dict[str, Any]) -> dict[str, Any]:
        return {"reward": data["reward"] + 1}

    view = Hindsight(lambda had, goal, info: np.full(len(had), 7), k=np.inf).map(few)
    assert buffer.sample(3, view=view).reward.tolist() == [8] * 3
    with pytest.raises(InvalidArgumentError, match="chance is a part"):
        buffer.steps(view)
    own = ReplayBuffer(spec, 10, view=view, seed=0)
    own.add(one, 0, 0.0, one, True, False)
    assert own.sample(3).reward.tolist() == [8] * 3
    assert own.steps().reward.tolist() == [1]


def test_values_are_compared_by_view_and_function() -> None:
    view, other = Transitions(2).map(scaled), Transitions(2).map(scaled)
    assert view == other
    assert hash(view) == hash(other)
    assert view != Transitions(2)
    assert view != Transitions(3).map(scaled)
    assert view != Transitions(2).map(lambda data: data)
    assert repr(view) == "Transitions(n_step=2, gamma=1.0).map(scaled)"
    assert repr(Transitions().map(functools.partial(scaled))).startswith(
        "Transitions(n_step=1, gamma=1.0).map(functools.partial(<function scaled"
    )

    class Odd:  # neither hashable nor named
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return self is other

        def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
            return {"n": data["action"]}

    assert filled().sample(2, view=Transitions().map(Odd())).data.keys() == {"n"}


def test_a_view_made_anew_for_each_batch_is_not_kept_for_ever() -> None:
    buffer = filled()
    for number in range(500):
        found = buffer.sample(1, view=Transitions().map(lambda data, n=number: {"n": n}))
        assert found.data["n"] == number
    assert len(buffer._plans) <= 64


@pytest.mark.parametrize("wrong", [None, 3, "scaled"])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"map\(\): found {wrong!r}, wanted a func"):
        Transitions().map(wrong)


@pytest.mark.parametrize(
    ("returned", "words"),
    [(None, "returned None"), ([1], "returned a list"), (np.zeros(3), "returned a ndarray")],
)
def test_what_returns_no_dict_is_refused_by_name(returned: Any, words: str) -> None:
    def forgetful(data: dict[str, Any]) -> Any:
        return returned

    with pytest.raises(InvalidArgumentError, match=f"forgetful, the function of map.*{words}"):
        filled().sample(1, view=Transitions().map(forgetful))


def test_its_own_errors_come_through() -> None:
    def broken(data: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("mine")

    buffer = filled()
    with pytest.raises(ZeroDivisionError, match="mine"):
        buffer.sample(1, view=Transitions().map(broken))
    buffer.sample(1)


def test_what_is_no_view_is_refused_by_every_door() -> None:
    buffer: Any = filled()
    for call in (
        lambda view: buffer.sample(1, view=view),
        buffer.steps,
        lambda view: buffer.gather(buffer.steps().key, view),
        lambda view: buffer.epoch(1, view=view),
    ):
        with pytest.raises(InvalidArgumentError, match="view: found 'x', wanted one of"):
            call("x")


def test_the_comparison_sees_a_door_without_the_function(monkeypatch: Any) -> None:
    monkeypatch.setattr(module.Mapped, "still", property(lambda self: self.view.still))
    own, plain = filled(Transitions().map(scaled)), filled()
    with pytest.raises(AssertionError):
        same(own.steps().data, scaled(plain.steps().data))
