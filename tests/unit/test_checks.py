"""Arguments in all the forms in which callers have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_keys


@pytest.mark.parametrize("keys", [[3, 2**64 - 1], (2**63, 3), [np.uint64(2**63), 3], []])
def test_lists_of_large_keys_are_keys(keys: Any) -> None:
    """NumPy alone makes floats of them, which would be other keys."""
    found = as_keys(keys)
    assert found.dtype == np.uint64
    assert found.tolist() == list(keys)


@pytest.mark.parametrize("keys", [[1.5], [-1, 2**63], [2**64], ["a"], [[[1]]], [1.0, 2**63]])
def test_what_is_no_key_is_refused(keys: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="keys"):
        as_keys(keys)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_arrays_of_keys_that_cannot_hold_one_are_refused(
    dtype: type, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"lost their upper half.*jax_enable_x64"):
        as_keys(np.ones(shape, dtype))


def test_an_empty_array_and_a_list_of_small_integers_are_keys() -> None:
    assert as_keys(np.zeros(0, np.uint32)).tolist() == []
    assert as_keys([1, 2]).tolist() == [1, 2]
