"""Images are padded and cropped at random in the gather: beside NumPy's, slow and obvious."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shift_support import PLANTED, check_shifted, crop, image

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import InvalidArgumentError
from reverie.views import Episodes, Hindsight, Sequences, Transitions, View, Windows

PAD = 2
DTYPES = ("uint8", "bool", "int16", "float16", "float32", "float64", "complex128")
SHAPES = {
    (9, 7): -2,
    (2, 5, 18): -2,
    (4, 40): -2,
    (3, 9, 7): -2,
    (9, 7, 3): -3,
    (1, 5, 5): -2,
    (6, 5, 1): -3,
}


def filled(
    shape: tuple[int, ...] = (9, 7),
    dtype: Any = np.uint8,
    view: View | None = None,
    *,
    lengths: tuple[int, ...] = (3, 9, 5),
    **settings: Any,
) -> ReplayBuffer:
    """State t of episode e is image 20 e + t."""
    spec = {
        "observation": ArraySpec(shape, dtype),
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 1000, view=view, **{"seed": 0, **settings})
    for e, length in enumerate(lengths):
        buffer.add_episode(
            {
                "observation": np.stack(
                    [image(shape, dtype, 20 * e + t) for t in range(length + 1)]
                ),
                "action": np.arange(20 * e, 20 * e + length),
                "reward": np.ones(length, np.float32),
            }
        )
    return buffer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_row_is_one_of_the_crops_of_its_padded_image(
    shape: tuple[int, ...], dtype: str
) -> None:
    buffer = filled(shape, dtype)
    batch = buffer.sample(64, view=Transitions(2).shift(observation=PAD))
    wanted = buffer.gather(batch.key, Transitions(2))
    for key in ("observation", "next_observation"):
        check_shifted(batch.data[key], wanted[key], SHAPES[shape], PAD)
        assert batch.data[key].dtype == np.dtype(dtype)
    for key in wanted.keys() - {"observation", "next_observation"}:
        np.testing.assert_array_equal(batch.data[key], wanted[key])


VIEWS = [
    Transitions(3, 0.5, stack={"observation": 4}),
    Transitions(stack={"observation": 2}, stack_padding="zeros"),
    Sequences(4, burn_in=1),
    Sequences(6, stack={"observation": 3}),
    Sequences(4, once=("observation",)),
    Windows(3, stride=2),
    Episodes(),
    Episodes(ragged=True),
    Episodes(max_length=4, stack={"observation": 2}),
]


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_frames_and_steps_of_a_row_are_shifted_alike_and_padding_stays_zeros(
    view: View,
) -> None:
    buffer = filled(view=view)
    batch = buffer.sample(64, view=view.shift(observation=PAD))
    wanted = buffer.gather(batch.key, view)
    assert batch.data.keys() == wanted.keys()
    for key, value in wanted.items():
        found = batch.data[key]
        assert found.shape == value.shape
        assert found.dtype == value.dtype
        if "observation" not in key:
            np.testing.assert_array_equal(found, value)
        elif view == Episodes(ragged=True) and key == "observation":
            ends = wanted["offsets"]
            for first, last in itertools.pairwise(ends):
                check_shifted(found[None, first:last], value[None, first:last], -2, PAD)
        else:
            check_shifted(found, value, -2, PAD)
    if "mask" in wanted and not getattr(view, "once", ()):
        assert not batch.data["observation"][~wanted["mask"]].any()
        assert not view.stacks or (~wanted["mask"]).any()


def test_windows_go_over_the_seams_of_chunks() -> None:
    buffer = filled((84, 84), lengths=(200, 150))
    assert len(np.unique(buffer.table.core.items()["key"])) == 350
    view = Sequences(150)
    batch = buffer.sample(3, view=view.shift(observation=4))
    check_shifted(batch.observation, buffer.gather(batch.key, view)["observation"], -2, 4)


def nested(view: View | None = None) -> ReplayBuffer:
    spec = {
        "observation": {
            "left": {"rgb": ArraySpec((6, 5, 3), np.uint8), "depth": ArraySpec((6, 5), "f4")},
            "right": ArraySpec((6, 5), np.uint8),
            "velocity": ArraySpec((2,), np.float32),
        },
        "mask": ArraySpec((8, 8), np.bool_),
        "a/b": ArraySpec((7, 8), np.uint8),
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 100, seed=0, view=view)
    rng = np.random.default_rng(0)

    def state() -> Any:
        return {
            "left": {
                "rgb": rng.integers(0, 256, (6, 5, 3), np.uint8),
                "depth": rng.random((6, 5), np.float32),
            },
            "right": rng.integers(0, 256, (6, 5), np.uint8),
            "velocity": rng.random(2, np.float32),
        }

    now = state()
    for t in range(40):
        after = state()
        extra = {
            "mask": rng.random((8, 8)) < 0.5,
            "a/b": rng.integers(0, 256, (7, 8), np.uint8),
        }
        buffer.add(now, 0, 0.0, after, t % 10 == 9, False, extra=extra)
        now = after
    return buffer


def test_names_are_keys_paths_and_keys_within_the_observation() -> None:
    buffer = nested()
    view = Transitions()
    shifted = view.shift({"left": 2, "observation/right": 1, "mask": 3, "a/b": 2})
    batch = buffer.sample(200, view=shifted)
    wanted = buffer.gather(batch.key, view)
    found: dict[str, Any] = {}
    for side in ("", "next_"):
        one, other = batch.data[f"{side}observation"], wanted[f"{side}observation"]
        for name in ("rgb", "depth"):
            found[side + name] = check_shifted(
                one["left"][name], other["left"][name], -3 if name == "rgb" else -2, 2
            )
        found[f"{side}right"] = check_shifted(one["right"], other["right"], -2, 1)
        np.testing.assert_array_equal(one["velocity"], other["velocity"])
    found["mask"] = check_shifted(batch.data["mask"], wanted["mask"], -2, 3)
    found["a/b"] = check_shifted(batch.data["a/b"], wanted["a/b"], -2, 2)
    # Under one name alike, of other names and of the other side not.
    assert found["rgb"] == found["depth"]
    assert found["next_rgb"] == found["next_depth"]
    assert found["rgb"] != found["next_rgb"]
    clipped = [tuple(max(-1, min(1, n)) for n in each) for each in found["rgb"]]
    assert clipped != found["right"]


def test_the_axes_may_be_said() -> None:
    buffer = filled((2, 4, 5, 4))
    for axes in ((1, 2), (-3, -2), (-2, -3), (2, 3), (3, 2)):
        low = -3 if 1 in axes or -3 in axes else -2
        batch = buffer.sample(32, view=Transitions().shift(observation=2, axes=axes))
        wanted = buffer.gather(batch.key, Transitions())
        check_shifted(batch.observation, wanted["observation"], low, 2)


def test_the_same_seed_gives_the_same_crops_and_a_checkpoint_goes_on(tmp_path: Path) -> None:
    view = Transitions().shift(observation=PAD)
    one, two, other = filled(), filled(), filled(seed=1)
    first = one.sample(32, view=view).observation
    np.testing.assert_array_equal(two.sample(32, view=view).observation, first)
    assert (other.sample(32, view=view).observation != first).any()
    one.save(path=tmp_path)
    again = reverie.open(tmp_path)
    np.testing.assert_array_equal(
        again.sample(32, view=view).next_observation, one.sample(32, view=view).next_observation
    )


GOLDEN = {
    "action": [28, 21, 42, 44, 44, 42, 1, 1],
    "observation": [(0, 2), (2, -2), (0, -2), (1, 2), (1, -1), (-2, -1), (0, 2), (-2, -1)],
    "next_observation": [(2, 2), (-1, 0), (0, 2), (0, 1), (-1, -2), (2, 2), (-2, 2), (0, 2)],
}


def test_crops_by_seed_are_these() -> None:
    buffer = filled(seed=7)
    batch = buffer.sample(8, view=Transitions().shift(observation=PAD))
    wanted = buffer.gather(batch.key, Transitions())
    assert batch.action.tolist() == GOLDEN["action"]
    for key in ("observation", "next_observation"):
        assert check_shifted(batch.data[key], wanted[key], -2, PAD) == GOLDEN[key]


def test_views_without_shifts_draw_as_before() -> None:
    """And one batch after a shifted one is another."""
    one, two = filled(), filled()
    for _ in range(3):
        keys = one.sample(16).key
        np.testing.assert_array_equal(two.sample(16, view=Transitions().map(dict)).key, keys)
    two.sample(16, view=Transitions().shift(observation=1))
    one.sample(16)
    assert (one.sample(16).key != two.sample(16).key).any()


def test_batches_do_not_depend_on_how_many_threads_gather(monkeypatch: Any) -> None:
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr("reverie.tables.store._GATHER_THREADS", threads)
        buffer = filled((84, 84), lengths=(100,))
        view = Transitions().shift(observation=4)  # 14 MiB: for all threads
        found.append(buffer.sample(1000, view=view).data)
    for other in found[1:]:
        for key, value in found[0].items():
            np.testing.assert_array_equal(other[key], value)


def test_as_a_buffers_own_view_it_is_for_samples_alone(tmp_path: Path) -> None:
    view = Transitions(2, 0.9).shift(observation=PAD)
    buffer = filled(view=view, sampler=reverie.samplers.Prioritized())
    assert buffer.view == view
    batch = buffer.sample(32, beta=0.4)
    wanted = buffer.gather(batch.key)
    assert len({*check_shifted(batch.observation, wanted["observation"], -2, PAD)}) > 5
    still = filled(view=Transitions(2, 0.9))
    for found, one in (
        (buffer.steps().data, still.steps().data),
        (next(buffer.epoch(50, seed=0)).data, next(still.epoch(50, seed=0)).data),
    ):
        for key, value in one.items():
            np.testing.assert_array_equal(found[key], value)
    for call in (
        buffer.steps,
        lambda v: buffer.gather(batch.key, v),
        lambda v: buffer.epoch(1, view=v),
    ):
        with pytest.raises(InvalidArgumentError, match="chance is a part"):
            call(view)
    buffer.save(path=tmp_path)
    assert reverie.open(tmp_path).view == Transitions(2, 0.9)


def test_mixtures_and_functions_take_it() -> None:
    def floats(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "observation": data["observation"].astype(np.float32) / 255}

    view = Transitions().shift(observation=PAD).map(floats)
    assert Transitions().map(floats).shift(observation=PAD) == view
    both = reverie.mix({"a": filled(), "b": filled(seed=1)})
    batch = both.sample(32, view=view)
    parts = [
        b.gather(batch.key[batch.source == n]) for n, b in enumerate(both.buffers.values())
    ]
    wanted = np.concatenate([part["observation"] for part in parts])
    check_shifted(batch.observation, wanted.astype(np.float32) / 255, -2, PAD)


def test_later_shifts_of_a_name_hold_and_values_compare() -> None:
    view = Transitions().shift(observation=2)
    assert view == Transitions().shift({"observation": 2})
    assert hash(view) == hash(Transitions().shift({"observation": 2}))
    assert view.shift(observation=4) == Transitions().shift(observation=4)
    assert view.shift(mask=1) == Transitions().shift({"mask": 1, "observation": 2})
    assert view != Transitions()
    assert view != Transitions().shift(observation=2, axes=(0, 1))
    assert repr(view) == "Transitions(n_step=1, gamma=1.0).shift({'observation': 2})"
    several = view.shift(mask=1, axes=(-2, -1))
    assert eval(repr(several), {"Transitions": Transitions}) == several


def test_hindsight_keeps_goals_as_they_are() -> None:
    spec = {
        "observation": {
            "achieved_goal": ArraySpec((9, 9), np.uint8),
            "desired_goal": ArraySpec((9, 9), np.uint8),
            "pixels": ArraySpec((9, 9), np.uint8),
        },
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 100, seed=0)
    for t in range(20):
        now, after = (
            {
                "achieved_goal": image((9, 9), np.uint8, k),
                "desired_goal": image((9, 9), np.uint8, 0),
                "pixels": image((9, 9), np.uint8, k),
            }
            for k in (t, t + 1)
        )
        buffer.add(now, t, 0.0, after, t == 19, False)
    view = Hindsight(lambda had, goal, _: (had == goal).all(axis=(1, 2)) * 1.0)
    batch = buffer.sample(64, view=view.shift(pixels=3))
    for side in ("observation", "next_observation"):
        check_shifted(batch.data[side]["pixels"], batch.data[side]["achieved_goal"], -2, 3)
    assert batch.reward.any()
    for name in ("observation", "achieved_goal", "desired_goal"):
        with pytest.raises(InvalidArgumentError, match=r"goal' is what Hindsight.* comput"):
            buffer.sample(1, view=view.shift({name: 1}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), {}), r"shift\(\): found None, wanted how many pixels"),
        ((({},), {}), r"shift\(\): found {}, wanted how many"),
        (((4,), {}), r"shift\(\): found 4, wanted how many"),
        ((({3: 1},), {}), r"found the name 3, wanted text"),
        (((), {"observation": 0}), r"shift\['observation'\]: found 0, wanted"),
        (((), {"observation": -1}), r"shift\['observation'\]: found -1"),
        (((), {"observation": True}), r"shift\['observation'\]: found True"),
        (((), {"observation": 1.5}), r"shift\['observation'\]: found 1.5"),
        (((), {"observation": 1, "axes": 2}), r"axes: found 2, wanted two numbers"),
        (((), {"observation": 1, "axes": (0, 1, 2)}), r"axes: found \(0, 1, 2\), wanted two"),
        (((), {"observation": 1, "axes": (0, "w")}), r"axes\[1\]: found 'w'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Transitions().shift(*arguments[0], **arguments[1])


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((9, 7), {"image": 1}, "shift: found 'image', wanted the name of an image"),
        ((9, 7), {"action": 1}, r"leaf 'action' has the shape \(\), wanted an image"),
        ((9, 7), {"observation": 7}, "9 by 7 pixels: found a shift by 7, wanted less than 7"),
        ((7, 9), {"observation": 7}, "7 by 9 pixels: found a shift by 7, wanted less than 7"),
        ((9,), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((4, 4, 4), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((9, 3, 9), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((3, 9, 3), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((4, 4, 9), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((2, 3, 9, 9), {"observation": 1}, "has the shape .*Say which axes are height"),
        ((9, 7), {"observation": 1, "axes": (0, 2)}, r"found axes=\(0, 2\), wanted two of"),
        ((9, 7), {"observation": 1, "axes": (1, 1)}, r"found axes=\(1, 1\), wanted two of"),
        ((9, 7), {"observation": 1, "axes": (0, -3)}, r"found axes=\(0, -3\), wanted two of"),
        ((9, 7, 3), {"observation": 1, "axes": (0, 2)}, "one right after the other"),
        ((), {"observation": 1, "axes": (0, 1)}, "wanted two of its axes"),
    ],
)
def test_what_is_no_image_or_unclear_is_refused(
    shape: tuple[int, ...], arguments: Any, words: str
) -> None:
    view = Transitions().shift(**arguments)
    with pytest.raises(InvalidArgumentError, match=words):
        filled(shape).sample(1, view=view)
    with pytest.raises(InvalidArgumentError, match=words):
        filled(shape, view=view)


def test_episodes_that_are_used_once_are_not_shifted_but_mapped() -> None:
    spec = {"pixels": ArraySpec((9, 7), np.uint8), "prompt": ArraySpec((), np.int64)}
    used: dict[str, Any] = {"next_of": ("pixels",), "group": "prompt", "group_size": 2}
    with pytest.raises(InvalidArgumentError, match=r"view: found Episodes.*chance is"):
        ReplayBuffer(spec, 100, view=Episodes().shift(pixels=1), **used)
    view = Episodes().map(lambda data: {"n": data["length"]})
    buffer = ReplayBuffer(spec, 100, view=view, **used)
    for length in (3, 4):
        images = np.zeros((length + 1, 9, 7), np.uint8)
        buffer.add_episode({"pixels": images, "prompt": np.zeros(length, np.int64)})
    assert sorted(buffer.sample(2).data["n"].tolist()) == [3, 4]


def test_an_image_is_named_once() -> None:
    with pytest.raises(InvalidArgumentError, match="'observation/right' is named twice"):
        nested().sample(1, view=Transitions().shift({"right": 1, "observation/right": 2}))
    with pytest.raises(
        InvalidArgumentError, match=r"'observation/velocity' has the shape \(2,\)"
    ):
        nested().sample(1, view=Transitions().shift(observation=1))


def test_the_core_refuses_shifts_that_no_column_has() -> None:
    layout = filled()._layout
    columns = [(1, 0, 1, 0, True), (0, 1, 1, 0, True), (1, reverie._core.OTHER, 1, 0, True)]
    plan = reverie._core.ViewPlan
    plan(layout, columns, 2, 0, 1, [(0, 0, 4, 1, 9, 7)])
    for bad in (
        (3, 0, 4, 1, 9, 7),
        (2, 0, 4, 1, 9, 7),
        (0, 2**31, 4, 1, 9, 7),
        (0, 0, 0, 1, 9, 7),
        (0, 0, 7, 1, 9, 7),
        (0, 0, 4, 0, 9, 7),
        (0, 0, 4, 2, 9, 7),
        (0, 0, 4, 1, 8, 7),
        (0, 0, 4, 2**63, 9, 7),
        (1, 0, 4, 1, 9, 7),
    ):
        with pytest.raises(ValueError, match="no such"):
            plan(layout, columns, 2, 0, 1, [bad])
    still = plan(layout, columns[:1], 2, 0, 0, [(0, 0, 4, 1, 9, 7)])
    with pytest.raises(ValueError, match="drawn for samples"):
        filled().table.core.gather_view(still, None)


@pytest.mark.parametrize("fault", PLANTED)
def test_the_comparison_sees(fault: str) -> None:
    wanted: NDArray[Any] = np.stack([image((9, 7), np.uint8, k) for k in range(50)])
    rng = np.random.default_rng(0)
    at = rng.integers(-PAD, PAD + 1, (50, 2))
    right = np.stack(
        [crop(one, -2, PAD, *map(int, o)) for one, o in zip(wanted, at, strict=True)]
    )
    check_shifted(right, wanted, -2, PAD)
    wrong = np.stack(
        [PLANTED[fault](one, -2, PAD, *map(int, o)) for one, o in zip(wanted, at, strict=True)]
    )
    with pytest.raises(AssertionError):
        check_shifted(wrong, wanted, -2, PAD)
