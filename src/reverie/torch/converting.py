"""Arrays as tensors that share their memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.optional import require
from reverie.sample import Batch

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.torch")


def map_batch(function: Callable[[Any, Any], Any], batch: Batch) -> Batch:
    """A batch with `function(leaf, path)` for each leaf; the keys stay what they are."""
    info = {
        name: function(value, ("info", name))
        for name, value in batch.info._asdict().items()
        if name != "key"
    }
    return Batch(map_data(function, batch.data), batch.info._replace(**info))


def map_data(function: Callable[[Any, Any], Any], data: Any) -> Any:
    """`function(leaf, path)` for each leaf."""
    return optree.tree_map_with_path(lambda path, leaf: function(leaf, path), data)


def tensor_of(array: NDArray[Any], path: Any) -> Any:
    """A tensor of the array's memory."""
    dtype = dtype_of(array, path)
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    plain = np.uint8 if array.dtype.itemsize == 1 else np.int16  # as bfloat16
    return torch.from_numpy(array.view(plain)).view(dtype)


def dtype_of(array: NDArray[Any], path: Any) -> Any:
    """PyTorch's dtype of the same name.

    Raises:
        InvalidArgumentError: it has none.
    """
    name = array.dtype.name
    found = getattr(torch, name, None)
    # Of fewer bits PyTorch has names alone.
    if not isinstance(found, torch.dtype) or re.fullmatch("u?int[1-7]", name):
        raise InvalidArgumentError(
            f"Leaf {'/'.join(map(str, path))!r:.200}: found {name}, which PyTorch has not. "
            "Leave it out, or store it as another dtype."
        )
    return found
