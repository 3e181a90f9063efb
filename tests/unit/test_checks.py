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
