"""TensorFlow's tensors, and what they give, come out of every door as NumPy sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.dtype_support import (  # noqa: E402
    DOORS,
    DTYPES,
    SHAPES,
    ByServer,
    check,
    stored_by_all_doors,
    values_of,
)

from reverie import reverb  # noqa: E402

# Of ml_dtypes' own, TensorFlow has these; its tensors of 4 bits are not NumPy's.
LEAST = {"bool", "uint8", "int64", "uint64", "float16", "float32", "complex64", "bfloat16"}


def tensor(values: np.ndarray) -> Any:
    """None where TensorFlow has no such dtype, or cannot give it back."""
    try:
        found = tf.constant(values)
        return found if found.numpy().dtype == values.dtype else None
    except (TypeError, ValueError, tf.errors.OpError):
        return None


def applied(change: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    def spell(values: np.ndarray) -> Any:
        found = tensor(values)
        return None if found is None else change(found)

    return spell


SPELLINGS = {
    "tensor": applied(lambda found: found),
    "numpy()": applied(lambda found: found.numpy()),
    "variable": applied(tf.Variable),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_tensors_are_what_numpy_sees(spelling: str, tmp_path: Path) -> None:
    stored = stored_by_all_doors(SPELLINGS[spelling], tmp_path, DOORS)
    # NumPy before 2 makes no array of a lone tensor of it, only of what numpy() gives.
    assert stored >= LEAST - {"bfloat16"} if spelling == "tensor" else stored >= LEAST


def test_what_tensorflows_client_inserts_comes_out() -> None:
    """The graph's own way in: `reverb.TFClient.insert`."""

    def make(client: reverb.Client) -> Callable[[Any], None]:
        tf_client = reverb.TFClient(client.server_address)
        tables, priorities = tf.constant(["t"]), tf.constant([1.0], tf.float64)
        return lambda value: tf_client.insert([value], tables, priorities)

    stored = set()
    for dtype in DTYPES:
        for shape in SHAPES:
            values = values_of(dtype, shape, seed=7)
            value = tensor(values)
            if value is not None:
                into = ByServer(make)
                assert check(into, value, values) == "stored"
                into.close()
                stored.add(dtype.name)
    assert stored >= LEAST
