"""Columns that are missing or unknown are named, all of them; Reverb counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table

from reverie.errors import StepMismatchError
from reverie.nests.codec import TensorSpec

F32 = np.dtype(np.float32)
SIGNATURE = {
    "o": {name: TensorSpec((None,), F32) for name in "abc"},
    "r": TensorSpec((None,), F32),
}
STEP = {"o": {"a": np.float32(1), "d": np.float32(2)}, "e/f": np.float32(3)}
APART = r"missing \['o/b', 'o/c', 'r'\], unknown \['e~1f', 'o/d'\]"


def test_of_an_item_that_is_not_its_table_s(serve: Serve) -> None:
    client = serve(fifo_table(signature=SIGNATURE))
    writer = client.trajectory_writer(1)
    writer.append(STEP)
    history = writer.history
    item = {"o": {key: history["o"][key][:] for key in "ad"}, "e/f": history["e/f"][:]}
    with pytest.raises(ValueError, match=APART):
        writer.create_item("t", 1.0, item)


def test_of_an_item_of_the_legacy_writer(serve: Serve) -> None:
    client = serve(fifo_table(signature=SIGNATURE))
    with pytest.raises(ValueError, match=APART):
        client.insert(STEP, {"t": 1.0})
    with client.writer(3) as writer:
        writer.append_sequence({"x": np.zeros(3, F32)})
        with pytest.raises(ValueError, match=r"unknown \['x'\]"):
            writer.create_item("t", 3, 1.0)


def test_of_a_step_of_the_legacy_writer(serve: Serve) -> None:
    with serve().writer(4) as writer:
        step: dict[str, Any] = {"a": 1, "b": {"c": 2, "d": 3}}
        writer.append(step)
        for _ in range(2):
            with pytest.raises(
                StepMismatchError, match=r"was 3, but is now 2\..*missing \['b/d'\]\."
            ):
                writer.append({"a": 1, "b": {"c": 2}})
        with pytest.raises(StepMismatchError, match=r"missing \['a'\], unknown \['e', 'f'\]"):
            writer.append({"e": 1, "f": 1, "b": {"c": 2, "d": 3}})
        with pytest.raises(StepMismatchError, match="different data types") as caught:
            writer.append({**step, "a": 1.0})
        assert "names" not in str(caught.value)
        with pytest.raises(TypeError, match=r"no leaf for column \('b', 'c'\): it is None"):
            writer.append({"a": 1, "b": {"c": None, "d": 3}})
        writer.append(step)


def test_of_a_first_step_none_is_unknown(serve: Serve) -> None:
    with serve().writer(4) as writer:
        with pytest.raises(ValueError, match="scalar tensor at index 0") as caught:
            writer.append_sequence({"a": 1.0})
        assert "unknown" not in str(caught.value)


def test_of_names_that_hold_nothing_else_nothing_is_said(serve: Serve) -> None:
    """Reverb compares items with signatures by position; so do we."""
    client = serve(fifo_table(signature={"a": TensorSpec((None,), F32)}))
    writer = client.trajectory_writer(1)
    writer.append({"x": np.float32(1)})
    writer.create_item("t", 1.0, {"x": writer.history["x"][:]})
