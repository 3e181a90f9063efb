"""New values for steps that are stored: whose, how many, and what is refused."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer, Updated
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.views import Episodes, Hindsight, Sequences, Transitions, View, Windows

SPEC = {
    "observation": ArraySpec((2,), np.float32),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
    "value": ArraySpec((), np.float32),
    "policy": {"visits": ArraySpec((3,), np.uint8)},
    "version": ArraySpec((), np.uint16),
}
MAY = ("value", "policy")


def made(
    steps: int, capacity: int = 100, view: View | None = None, **more: Any
) -> ReplayBuffer:
    settings: dict[str, Any] = {"updatable": MAY, "version": "version", "seed": 0, **more}
    buffer = ReplayBuffer(SPEC, capacity, view=view, **settings)
    add(buffer, 0, steps)
    return buffer


def add(buffer: ReplayBuffer, first: int, steps: int, version: int = 1) -> None:
    for t in range(first, first + steps):
        extra = {"value": t, "policy": {"visits": [t % 200] * 3}, "version": version}
        buffer.add([t, t], t, t, [t + 1, t + 1], t % 5 == 4, False, extra=extra)


def values(buffer: ReplayBuffer, key: str = "value") -> list[Any]:
    found: list[Any] = buffer.steps(Transitions()).data[key].tolist()
    return found


def test_the_counts_say_what_became_of_the_values() -> None:
    buffer = made(4)
    found = buffer.update(buffer.steps().key, {"value": [9, 8, 7, 6]}, [1, 2, 3, 0])
    assert found == Updated(updated=2, stale=0, rejected=2)
    assert values(buffer) == [0, 8, 7, 3]
    assert values(buffer, "version") == [1, 2, 3, 1]


def test_all_but_the_values_stays_as_it_was() -> None:
    buffer = made(12)
    before = buffer.steps()
    buffer.update(before.key, {"policy": {"visits": np.full((12, 3), 7, np.uint8)}})
    after = buffer.steps()
    assert (after.data["policy"]["visits"] == 7).all()
    for name in before.data.keys() - {"policy"}:
        assert (before.data[name] == after.data[name]).all(), name
    assert (before.key == after.key).all()


def test_a_recycled_slot_is_not_overwritten() -> None:
    buffer = made(10, 10)
    old = buffer.sample(64)
    add(buffer, 10, 10)  # into the same slots
    assert buffer.update(old.key, {"value": np.full(64, -1)}) == Updated(0, 64, 0)
    assert values(buffer) == list(range(10, 20))


@pytest.mark.parametrize("order", list(itertools.permutations([2, 3, 4])))
def test_the_newest_targets_stay_in_any_order_of_arrival(order: tuple[int, ...]) -> None:
    buffer = made(3)
    key = buffer.steps().key
    counts = [buffer.update(key, {"value": np.full(3, v)}, v) for v in order]
    assert values(buffer) == [4, 4, 4]
    assert sum(one.updated for one in counts) + sum(one.rejected for one in counts) == 9
    assert buffer.update(key, {"value": np.zeros(3)}, 4) == Updated(0, 0, 3)


def test_without_a_version_to_compare_the_last_values_stay() -> None:
    buffer = made(3)
    key = buffer.steps().key
    buffer.update(key, {"value": [1, 2, 3]}, 9)
    assert buffer.update(key[[0, 0]], {"value": [5, 6]}) == Updated(2, 0, 0)
    assert values(buffer) == [6, 2, 3]
    assert values(buffer, "version") == [9, 9, 9]


def test_a_second_save_has_the_new_values(tmp_path: Path) -> None:
    buffer = made(20, checkpoint_dir=tmp_path)
    buffer.save()
    key = buffer.steps().key
    buffer.update(key, {"value": np.arange(20) + 100}, 5)
    buffer.save()
    with reverie.open(tmp_path) as again:
        assert values(again) == list(range(100, 120))
        assert again.update(key, {"value": np.zeros(20)}, 5) == Updated(0, 0, 20)
        assert again.update(key[:1], {"value": [1]}, 6) == Updated(1, 0, 0)
        assert values(again)[:2] == [1, 101]


def test_a_snapshot_under_way_and_an_update_do_not_wait_for_each_other() -> None:
    buffer = made(20)
    snapshot = buffer.table.store.core.snapshot()
    assert buffer.update(buffer.steps().key, {"value": np.zeros(20)}).updated == 20
    assert sum(snapshot.data(row).shape[0] for row in range(len(snapshot.chunks["id"]))) == 24


def test_sequences_are_written_up_to_their_end() -> None:
    buffer = made(7, view=Sequences(4, stride=2))  # an episode of 5 steps, and 2 of the next
    batch = buffer.steps()
    new = np.arange(16.0).reshape(4, 4) + 100
    assert batch.data["length"].tolist() == [4, 3, 1, 2]
    assert buffer.update(batch.key[:2], {"value": new[:2]}) == Updated(7, 0, 0)
    assert values(buffer) == [100, 104, 106, 5]  # of each item's first step
    assert buffer.steps().data["value"][3].tolist() == [5, 6, 0, 0]
    mask = np.zeros((4, 4), bool)
    mask[0, 1] = mask[2, 3] = True  # the latter is padding
    assert buffer.update(batch.key, {"value": new}, mask=mask) == Updated(1, 0, 0)
    assert buffer.steps().data["value"][0].tolist() == [100, 101, 104, 105]


def test_what_a_view_gives_once_is_taken_once() -> None:
    view = Sequences(3, once=("policy",))
    buffer = made(4, view=view)
    key = buffer.steps().key[:1]
    new = {"policy": {"visits": [[7, 7, 7]]}, "value": [[50, 51, 52]]}
    assert buffer.update(key, new, mask=[[1, 0, 1]]) == Updated(2, 0, 0)
    data = buffer.steps(Sequences(3)).data
    assert data["value"][0].tolist() == [50, 1, 52]
    assert data["policy"]["visits"][0, :, 0].tolist() == [7, 1, 2]
    assert buffer.update(key, {"policy": {"visits": [[8, 8, 8]]}}) == Updated(1, 0, 0)


def test_nothing_to_update_is_no_error() -> None:
    for view in (None, Sequences(3), Episodes()):
        buffer = made(4, view=view)
        shape = (0, 3) if view else (0,)
        found = buffer.update(
            [], {"value": np.zeros(shape)}, if_version=[], mask=np.zeros(shape)
        )
        assert found == Updated(0, 0, 0)


def test_an_update_of_thousands_is_the_same_as_of_few() -> None:
    buffer = made(3000, 3000)
    key = np.repeat(buffer.steps().key, 3)
    new = np.arange(9000)
    assert buffer.update(key, {"value": new}, np.tile([5, 4, 6], 3000)) == Updated(
        6000, 0, 3000
    )
    assert values(buffer) == new[2::3].tolist()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"values": {"unknown": [1] * 4}}, r"values: found \['unknown'\].*made with as updatable="),
    ({"values": {"observation": np.zeros((4, 2))}}, "values: .*states are shared by two steps"),
    ({"values": {"action": [1] * 4}}, r"values: found \['action'\], wanted keys of \['value'"),
    ({"values": {"version": [1] * 4}}, r"values: found \['version'\]"),
    ({"values": {}}, "values: found dict .*, wanted a dict of new values by key"),
    ({"values": [1, 2, 3, 4]}, r"values: found builtins.list of 4, wanted a dict"),
    (
        {"values": {"value": np.zeros((4, 2))}},
        r"shape \(4, 2\); wanted float32 of shape \(4,\)",
    ),
    ({"values": {"value": 1.0}}, r"values: Step leaf 'value': .*shape \(\); wanted"),
    ({"values": {"value": ["a"] * 4}}, r"values: Step leaf 'value'.*Nothing was changed"),
    ({"values": {"value": [None] * 4}}, "values: Step leaf 'value'"),
    ({"values": {"policy": np.zeros((4, 3))}}, "policy"),
    ({"values": {"policy": {"visits": np.full((4, 3), 256)}}}, "Nothing was changed"),
    ({"values": {"policy": {"visits": [[256] * 3] * 4}}}, "found the value 256, wanted uint8"),
    ({"values": {"policy": {"visits": [[-1] * 3] * 4}}}, "found the value -1"),
    ({"values": {"policy": {"visits": np.zeros((4, 3))}}}, "a fraction would be lost"),
    ({"view": Sequences(3)}, r"wanted float32 of shape \(4, 3\), \[B, T, ...\]"),
    ({"view": Episodes()}, "but this buffer's items are those of"),
    ({"view": Windows(2)}, "Windows"),
    ({"view": "transitions"}, "view: found 'transitions'"),
    ({"mask": [True]}, r"mask: .*of shape \(4,\)"),
    ({"mask": [0, 1, 2, 1]}, "mask: found"),
    ({"mask": ["a"] * 4}, "mask: found"),
    ({"if_version": 1.5}, "if_version: found 1.5, wanted an integer, or 4, one for each key"),
    ({"if_version": True}, "if_version: found True"),
    ({"if_version": -1}, "if_version: found -1, .* 0 to 65535"),
    ({"if_version": 65536}, "if_version: found 65536"),
    ({"if_version": [1, 2]}, r"if_version: found \[1, 2\]"),
    ({"if_version": 2**70}, "if_version: found"),
    ({"keys": [0.5] * 4}, "keys: found float64"),
    ({"keys": np.zeros(4, np.int32)}, "they lost their upper half"),
    ({"keys": [-1] * 4}, "keys: found"),
    ({"keys": "abcd"}, "keys: found"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused_and_changes_nothing(
    wrong: dict[str, Any], words: str
) -> None:
    buffer = made(4)
    call = {"keys": buffer.steps().key, "values": {"value": [9.0] * 4}, **wrong}
    with pytest.raises((InvalidArgumentError, StepMismatchError), match=words):
        buffer.update(call.pop("keys"), call.pop("values"), **call)
    assert values(buffer) == [0, 1, 2, 3]


def test_one_wrong_key_leaves_the_others_as_they_were() -> None:
    buffer = made(4)
    new = {"value": [9.0] * 4, "policy": {"visits": [[1] * 2] * 4}}
    with pytest.raises(StepMismatchError, match="policy/visits"):
        buffer.update(buffer.steps().key, new)
    assert values(buffer) == [0, 1, 2, 3]


def test_keys_that_are_none_are_stale() -> None:
    buffer = made(4)
    found = buffer.update(np.array([2**63, 5 << 32], np.uint64), {"value": [9, 9]})
    assert found == Updated(0, 2, 0)


def test_ragged_episodes_say_what_to_pass() -> None:
    buffer = made(5, view=Episodes(ragged=True))
    key = buffer.steps().key
    with pytest.raises(InvalidArgumentError, match=r"pass view=Episodes\(\)"):
        buffer.update(key, {"value": [[1, 2, 3, 4, 5]]})
    assert buffer.update(key, {"value": [[9, 8, 7]]}, view=Episodes()).updated == 3


def doubled(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "value": 2 * data["value"], "more": data["value"]}


@pytest.mark.parametrize("own", [True, False])
def test_of_views_that_change_batches_the_steps_themselves_are_written(own: bool) -> None:
    for view in (
        Transitions().map(doubled),
        Sequences(2).map(doubled).map(doubled),
        Sequences(2, once=("value",)).map(doubled),
    ):
        buffer = made(4, view=view if own else view.saved)
        batch = buffer.sample(1, view=view)
        new = np.full(batch.data["value"].shape, 9)
        assert buffer.update(batch.key, {"value": new}, view=None if own else view).updated
        assert 9 in values(buffer)


def test_of_hindsight_rows_with_their_own_goal_are_written() -> None:
    goal = ArraySpec((2,), np.float32)
    spec = {**SPEC, "observation": {"achieved_goal": goal, "desired_goal": goal}}
    view = Hindsight(compute_reward=lambda achieved, *_: np.zeros(len(achieved)))
    buffer = ReplayBuffer(spec, 10, view=view, updatable=MAY, seed=0)
    for t in range(4):
        obs, after = ({"achieved_goal": [n, n], "desired_goal": [9, 9]} for n in (t, t + 1))
        extra = {"value": 0, "policy": {"visits": [0] * 3}, "version": 0}
        buffer.add(obs, 0, 0, after, t == 3, False, extra=extra)
    batch = buffer.sample(10)
    own = ~batch.data["relabelled"]
    found = buffer.update(batch.key, {"value": np.ones(10)}, mask=own)
    assert found == buffer.update(batch.key, {"value": np.ones(10)}, view=view, mask=own)
    assert found == Updated(2, 0, 0)


def test_a_buffer_whose_steps_stay_says_how_to_make_another() -> None:
    buffer = made(4, updatable=())
    with pytest.raises(InvalidArgumentError, match=r"stay as they were .*updatable="):
        buffer.update(buffer.steps().key, {"value": [1] * 4})
    assert buffer.table.store.core.snapshot().data(0).flags.owndata is False


def test_without_a_version_nothing_can_be_compared() -> None:
    buffer = made(4, version=None)
    with pytest.raises(InvalidArgumentError, match=r"if_version: .*no version to compare"):
        buffer.update(buffer.steps().key, {"value": [1] * 4}, 3)


def test_a_managers_buffer_refuses(tmp_path: Path) -> None:
    with reverie.ReplayBufferManager(SPEC, 10, str(tmp_path)) as manager:
        buffer, _ = manager.create_replay_buffer()
        with pytest.raises(InvalidArgumentError, match=r"update\(\): found a manager's"):
            buffer.update([1], {"value": [1]})


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"updatable": ("unknown",)}, r"updatable: found .*wanted keys of the step, each once"),
    ({"updatable": ("value", "value")}, "updatable: found .*each once"),
    ({"updatable": (3,)}, "updatable: found"),
    ({"updatable": 3}, "updatable: found 3"),
    ({"updatable": (["value"],)}, "updatable: found"),
    ({"updatable": ("observation",)}, r"updatable: found the states \['observation'\]"),
    ({"updatable": ("value", "version")}, "updatable: found 'version', which is the version"),
    (
        {"updatable": "action", "group": "action", "group_size": 2, "view": Episodes()},
        "updatable: found 'action', which is the group, too",
    ),
    ({"version": "value"}, "version: 'value' is"),
    ({"version": "unknown"}, "version: found 'unknown', wanted a key of the step"),
]


@pytest.mark.parametrize(("wrong", "words"), SETTINGS, ids=lambda value: str(value)[:50])
def test_keys_that_cannot_change_are_refused_at_once(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        made(0, **wrong)


def test_one_key_needs_no_tuple() -> None:
    buffer = made(2, updatable="value")
    assert buffer.update(buffer.steps().key, {"value": [5, 6]}).updated == 2


@pytest.mark.parametrize("view", [Transitions(), Sequences(4, stride=2), Windows(4)])
def test_no_batch_and_no_save_has_half_of_a_value(view: View, tmp_path: Path) -> None:
    """A value is a kilobyte of equal numbers."""
    spec = {"observation": ArraySpec((), np.int64), "value": ArraySpec((128,), np.int64)}
    buffer = ReplayBuffer(spec, 300, view=view, updatable="value", seed=0)
    states = np.arange(301)
    buffer.add_episode({"observation": states, "value": np.zeros((300, 128), np.int64)})
    errors: list[BaseException] = []
    done = threading.Event()

    def looks() -> None:
        try:
            while not done.is_set():
                for data in (buffer.sample(32).data, buffer.steps().data):
                    assert (data["value"] == data["value"][..., :1]).all()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=looks)
    thread.start()
    keys = buffer.steps().key
    shape = (len(keys),) if view.time_axis is None else (len(keys), view.time_axis)
    for i in range(300):
        buffer.update(keys, {"value": np.full((*shape, 128), i)})
        if i % 60 == 0:
            buffer.save(path=tmp_path)
    done.set()
    thread.join()
    assert not errors
    with reverie.open(tmp_path) as again:
        data = again.steps().data["value"]
        assert (data == data[..., :1]).all()


def test_windows_that_overlap_agree_however_memory_is_moved() -> None:
    spec = {"observation": ArraySpec((64,), np.int64), "value": ArraySpec((), np.int64)}
    buffer = ReplayBuffer(spec, 5000, view=Windows(4), updatable="value", seed=0)
    states = np.repeat(np.arange(3001), 64).reshape(3001, 64)
    buffer.add_episode({"observation": states, "value": np.arange(3000)}, terminated=False)
    keys = buffer.steps().key
    core = buffer.table.core
    core.delete(keys[np.arange(len(keys)) % 10 > 1])  # pairs are left, which share three steps
    buffer.table.store.core.tidy()
    batch = buffer.steps()
    for key in batch.key[::2]:
        buffer.update([key], {"value": -buffer.gather([key])["value"]})
    found = buffer.steps().data["value"]
    steps = batch.data["observation"][..., 0]
    written = np.unique(steps[::2])
    assert (found == np.where(np.isin(steps, written), -steps, steps)).all()


def test_large_batches_are_the_same_with_updates_and_without() -> None:
    """They are copied a part at a time, and what is drawn for a row goes by its number."""
    image = ArraySpec((32, 32), np.uint8)
    spec = {"observation": image, "value": ArraySpec((), np.int64)}
    states = np.random.default_rng(0).integers(0, 256, (101, 32, 32)).astype(np.uint8)
    batches = []
    for updatable in ((), ("value",)):
        buffer = ReplayBuffer(spec, 100, updatable=updatable, seed=0)
        buffer.add_episode({"observation": states, "value": np.arange(100)}, terminated=False)
        batches.append(buffer.sample(6000, view=Transitions().shift(observation=4)).data)
    for name, value in batches[0].items():
        assert (value == batches[1][name]).all(), name
