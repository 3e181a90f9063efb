"""DrQ's random shift as NumPy has it, and wrong ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def image(shape: tuple[int, ...], dtype: Any, number: int) -> NDArray[Any]:
    """One of random pixels, none of them zero, by number."""
    rng = np.random.default_rng(number)
    if np.dtype(dtype) == np.bool_:
        return rng.random(shape) < 0.5
    return (1 + rng.integers(0, 255, shape)).astype(dtype)


def crop(one: NDArray[Any], axis: int, pad: int, down: int, right: int) -> NDArray[Any]:
    """An image, padded by its edges and cropped: `axis` is its height, the next its width."""
    axis %= one.ndim
    width = [(pad, pad) if a in (axis, axis + 1) else (0, 0) for a in range(one.ndim)]
    padded = np.pad(one, width, mode="edge")
    height, breadth = one.shape[axis : axis + 2]
    places: list[Any] = [slice(None)] * one.ndim
    places[axis] = slice(pad + down, pad + down + height)
    places[axis + 1] = slice(pad + right, pad + right + breadth)
    return padded[tuple(places)]


def check_shifted(
    found: NDArray[Any], wanted: NDArray[Any], axis: int, pad: int
) -> list[tuple[int, int]]:
    """Raises AssertionError unless each row is shifted, all its images by one offset.

    Args:
        found: `[B, ..., *image]`.
        wanted: the same, not shifted.
        axis: of an image, its height, from the back; the next one is its width.
        pad: at most so far.

    Returns:
        How far down and right, of each row; the least where several fit.
    """
    assert found.shape == wanted.shape
    places = range(-pad, pad + 1)
    near = sorted(itertools.product(places, places), key=lambda at: abs(at[0]) + abs(at[1]))
    each = []
    for row, (one, other) in enumerate(zip(found, wanted, strict=True)):
        fits = [at for at in near if (crop(other, axis, pad, *at) == one).all()]
        assert fits, f"row {row} is no crop of its image"
        each.append(fits[0])
    return each


Crop = Callable[[NDArray[Any], int, int, int, int], NDArray[Any]]


def _zeros(one: NDArray[Any], axis: int, pad: int, down: int, right: int) -> NDArray[Any]:
    found = crop(one, axis, pad, down, right).copy()
    seen = crop(np.ones_like(one), axis, pad, down, right)
    inside = np.pad(np.ones_like(one), pad)[
        pad + down : pad + down + one.shape[0], pad + right : pad + right + one.shape[1]
    ]
    return np.where(inside == seen, found, 0)


PLANTED: dict[str, Crop] = {
    "zeros at the edge": _zeros,
    "one pixel too far": lambda one, axis, pad, down, right: crop(
        one, axis, pad + 1, down + 1, right
    ),
    "rolled around": lambda one, axis, pad, down, right: np.roll(one, (down, right), (0, 1)),
    "mirrored at the edge": lambda one, axis, pad, down, right: np.pad(
        one, pad, mode="symmetric"
    )[pad + down : pad + down + one.shape[0], pad + right : pad + right + one.shape[1]],
    "height for width": lambda one, axis, pad, down, right: np.ascontiguousarray(
        crop(one.reshape(one.shape[::-1]), axis, pad, down, right)
    ).reshape(one.shape),
}
