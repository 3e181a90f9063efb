"""Shifted images of any shape, dtype and view are NumPy's, padded and cropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.shift_support import check_shifted, image

from reverie import ArraySpec, ReplayBuffer
from reverie.views import Episodes, Sequences, Transitions, View, Windows

DTYPES = ("bool", "uint8", "int16", "float32", "float64", "complex128")


@st.composite
def views(draw: Any) -> View:
    frames = draw(st.integers(1, 4))
    stack = {"observation": frames} if frames > 1 else None
    kind = draw(st.sampled_from((Transitions, Sequences, Windows, Episodes)))
    if kind is Transitions:
        return Transitions(draw(st.integers(1, 4)), 0.5, stack=stack)
    if kind is Episodes:
        return Episodes(draw(st.sampled_from((None, 2))), stack=stack)
    length = draw(st.integers(1, 3))
    return kind(length, stack=stack) if kind is Sequences else Windows(length, stack=stack)


@given(data=st.data())
def test_a_shifted_view_is_the_view_of_shifted_images(data: st.DataObject) -> None:
    sides = data.draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    before = data.draw(st.lists(st.integers(1, 3), max_size=2))
    after = data.draw(st.lists(st.integers(1, 3), max_size=2))
    pad = data.draw(st.integers(1, min(sides) - 1))
    dtype = data.draw(st.sampled_from(DTYPES))
    view, shape = data.draw(views()), (*before, *sides, *after)
    spec = {
        "observation": ArraySpec(shape, dtype),
        "action": ArraySpec((), np.int64),
        "reward": ArraySpec((), np.float32),
    }
    buffer = ReplayBuffer(spec, 100, view=view, seed=data.draw(st.integers(0, 99)))
    for number, length in enumerate((3, *data.draw(st.lists(st.integers(1, 9), max_size=3)))):
        states = [image(shape, dtype, 20 * number + t) for t in range(length + 1)]
        buffer.add_episode(
            {
                "observation": np.stack(states),
                "action": np.arange(length),
                "reward": np.ones(length, np.float32),
            }
        )
    axes = (len(before), len(before) + 1)
    batch = buffer.sample(8, view=view.shift(observation=pad, axes=axes))
    wanted = buffer.gather(batch.key)
    for key, value in wanted.items():
        if key.endswith("observation"):
            check_shifted(batch.data[key], value, -2 - len(after), pad)
        else:
            np.testing.assert_array_equal(batch.data[key], value, key)
    assert batch.data.keys() == wanted.keys()
