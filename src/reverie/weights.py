"""What prioritized replay computes beside the buffer: weights, their schedule, priorities.

Pure functions over NumPy arrays and values without a state. The formulas are those of Schaul
et al. 2016 (arXiv:1511.05952) and of Kapturowski et al. 2019, R2D2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_array, as_float, as_int, describe
from reverie.sample import SampleInfo, WeightedInfo

__all__ = [
    "LinearSchedule",
    "emphasize_recent",
    "importance_weights",
    "sequence_priorities",
]

_SMALLEST = float(np.finfo(np.float32).tiny)
_tuple: Any = tuple.__new__  # a third of the time of `_make`
_LARGEST = float(np.finfo(np.float32).max)


def importance_weights(
    probability: ArrayLike,
    table_size: ArrayLike,
    beta: float,
    *,
    normalize: Literal["buffer", "batch"] | None = "buffer",
    min_probability: float | None = None,
) -> NDArray[np.float32]:
    """`(N * P) ** -beta` of each sampled item, divided by the largest such weight.

    They undo, wholly at beta 1, that some items are sampled more often than others. `P` is the
    probability with which the sampler chose the item, so the exponent alpha is in it already:
    priorities appear nowhere here. One weight an item: for items of T steps, whose losses are
    `[B, T]`, it is `weights[:, None]`.

    Where the sampler leaves nothing to chance (FIFO, LIFO, a heap) every P is 1, and with a
    uniform one every P is 1 / N: then all weights are 1 if they are divided by anything.

    Args:
        probability: P of each item, `[B]`, within (0, 1], as `SampleInfo.probability` has it.
        table_size: N, the number of items when it was sampled: `[B]`, or one for all.
        beta: how much of the bias is undone, 0 (nothing: all weights are 1) to 1 (all of it).
        normalize: by which weight all are divided, so that they only scale updates down: the
            largest that any item of the buffer would have, which does not depend on who else
            is in the batch ("buffer"); the largest of the batch ("batch"); by none (None).
        min_probability: the smallest positive probability of any item in the table at that
            time, of the same kind as P. Needed by "buffer", and by nothing else.

    Returns:
        Weights `[B]`, float32, computed in float64; all positive and finite (what float32 has
        no number for is its nearest), and at most 1 unless `normalize` is None.

    Raises:
        TypeError: `beta` or `min_probability` is no number.
        InvalidArgumentError: `beta` is outside [0, 1] or NaN; a probability is not within
            (0, 1] (no item without one is ever sampled); a size is not positive; the shapes
            differ; `min_probability` is missing, out of range, or larger than a probability;
            `normalize` is another word.
    """
    chances = _chances(probability)
    sizes = _sizes(table_size, chances)
    least = _least(min_probability, chances) if normalize == "buffer" else 0.0
    return weights_of(chances, sizes, beta, normalize, least)


def weights_of(
    chances: NDArray[np.float64],
    sizes: NDArray[Any],
    beta: float,
    normalize: Literal["buffer", "batch"] | None,
    least: float,
) -> NDArray[np.float32]:
    """`importance_weights` of numbers that are known to be good, as those of a batch are.

    Args:
        chances: the probabilities `[B]`.
        sizes: N.
        beta: see there.
        normalize: see there.
        least: the smallest probability, for "buffer".

    Raises:
        TypeError: see there.
        InvalidArgumentError: `beta` or `normalize`.
    """
    if normalize not in ("buffer", "batch", None):
        raise InvalidArgumentError(
            f"normalize: found {normalize!r:.200}, wanted 'buffer', 'batch' or None."
        )
    exponent = _within("beta", beta, "0 (no correction) to 1 (a full one)")
    highest = 1.0
    if normalize == "buffer":
        # N stands in both weights, so that what is left is the ratio of probabilities.
        weights = (least / chances) ** exponent
    elif normalize == "batch":
        scaled = chances * sizes
        weights = (scaled.min(initial=math.inf) / scaled) ** exponent
    else:
        highest = _LARGEST
        with np.errstate(over="ignore"):
            weights = (chances * sizes) ** -exponent
    return np.minimum(np.maximum(weights, _SMALLEST), highest).astype(np.float32)


def with_weights(
    info: SampleInfo,
    beta: float,
    normalize: Literal["buffer", "batch"] | None,
    least: float,
) -> WeightedInfo:
    """Facts about a batch, with its weights; arguments and errors as `weights_of`'s."""
    weight = weights_of(info.probability, info.table_size, beta, normalize, least)
    made: WeightedInfo = _tuple(WeightedInfo, (*info, weight))
    return made


def sequence_priorities(
    td: ArrayLike, mask: ArrayLike | None = None, eta: float = 0.9
) -> NDArray[np.float64]:
    """One priority for each sequence: `eta * max + (1 - eta) * mean` of its steps' errors.

    So does R2D2, with eta 0.9: the mean alone hides a single large error in a long sequence.
    Steps that the mask leaves out (padding, burn-in) count in neither.

    Args:
        td: errors `[B, T]`, of either sign; their sizes count.
        mask: which steps count, `[B, T]` of bool, or of the numbers 0 and 1; None: all.
        eta: the share of the largest, 0 to 1.

    Returns:
        Priorities `[B]`, float64, each >= 0.

    Raises:
        TypeError: `eta` is no number.
        InvalidArgumentError: `eta` is outside [0, 1] or NaN; the errors are not `[B, T]` or the
            mask is of another shape or holds other numbers; an error that counts is infinite
            or NaN, or a sequence has no step that counts.
    """
    share = _within("eta", eta, "0 (the mean alone) to 1 (the largest alone)")
    errors = np.abs(_numbers("td", td, 2, "[B, T], the error of each step"))
    counts = np.ones(errors.shape, np.bool_) if mask is None else _mask(mask, errors.shape)
    empty = np.flatnonzero(~counts.any(axis=1))
    if len(empty):
        raise InvalidArgumentError(
            f"mask[{empty[0]}]: found no step that counts among {errors.shape[1]}, wanted at "
            "least one: such a sequence has no priority. Leave it out of the update."
        )
    kept = np.where(counts, errors, 0.0)
    bad = np.argwhere(~np.isfinite(kept))
    if len(bad):
        row, step = bad[0]
        raise InvalidArgumentError(
            f"td[{row}, {step}]: found {errors[row, step]}, wanted finite numbers wherever the "
            "mask is True."
        )
    mean = (kept / counts.sum(axis=1, keepdims=True)).sum(axis=1)
    largest = kept.max(axis=1, initial=0.0)
    return np.asarray(share * largest + (1 - share) * mean, np.float64)


def emphasize_recent(
    size: int, update: int, updates: int, *, eta: float = 0.996, least: int = 5000
) -> int:
    """Among how many of the newest steps an update should draw: `max(N eta^(1000 k / K), c)`.

    Emphasizing recent experience (Wang and Ross 2019, arXiv:1906.04009): of the K updates
    that follow an episode the first draws from nearly all, the last from few. For
    `buffer.sample(256, newest=...)`.

    Args:
        size: N, steps in the buffer.
        update: k, 1 to K.
        updates: K.
        eta: 0 to 1; towards 1 over training, where all steps count alike.
        least: c.

    Raises:
        TypeError: a number is of another type.
        InvalidArgumentError: one is out of range.
    """
    share = _within("eta", eta, "0 to 1")
    size, updates = as_int("size", size), as_int("updates", updates)
    update, least = as_int("update", update), as_int("least", least)
    if size < 1 or least < 1 or not 1 <= update <= updates:
        raise InvalidArgumentError(
            f"size, update, updates, least: found {size}, {update}, {updates}, {least}; wanted "
            "numbers above 0, and update at most updates."
        )
    found: int = max(math.floor(size * share ** (1000 * update / updates)), least)
    return min(size, found)


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """A number that goes in a straight line from one value to another, and stays there.

    The usual beta: `LinearSchedule(0.4, 1.0, steps=100_000)`. A value: it counts nothing
    itself, so one may be shared, compared and saved.

    Args:
        start: at step 0 and before.
        end: at `steps` and after.
        steps: how long it takes, at least 1.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: a number is infinite or NaN, or `steps` is below 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Checks, and brings the numbers into their canonical form."""
        for name in ("start", "end"):
            number = as_float(name, getattr(self, name))
            if not math.isfinite(number):
                raise InvalidArgumentError(f"{name}: found {number}, wanted a finite number.")
            object.__setattr__(self, name, number)
        steps = as_int("steps", self.steps)
        if steps < 1:
            raise InvalidArgumentError(f"steps: found {steps}, wanted at least 1.")
        object.__setattr__(self, "steps", steps)

    def __call__(self, step: float) -> float:
        """The value at a step, exactly `start` at 0 and `end` from `steps` on.

        Raises:
            TypeError: `step` is no number.
            InvalidArgumentError: it is NaN.
        """
        at = as_float("step", step)
        if math.isnan(at):
            raise InvalidArgumentError("step: found NaN, wanted how many steps there were.")
        if at >= self.steps:
            return self.end
        done = max(at, 0.0) / self.steps
        value = (1 - done) * self.start + done * self.end
        return min(max(value, min(self.start, self.end)), max(self.start, self.end))


def _within(name: str, value: Any, wanted: str) -> float:
    """`value` as a float from 0 to 1."""
    number = as_float(name, value)
    if not 0 <= number <= 1:
        raise InvalidArgumentError(f"{name}: found {number}, wanted {wanted}.")
    return number


def _numbers(name: str, values: ArrayLike, ndim: int, wanted: str) -> NDArray[np.float64]:
    array = as_array(name, values)
    if array.ndim != ndim or not (array.dtype.kind in "iuf" or array.size == 0):
        raise InvalidArgumentError(
            f"{name}: found {describe(array)}, wanted real numbers of shape {wanted}."
        )
    return np.asarray(array, np.float64)


def _chances(probability: ArrayLike) -> NDArray[np.float64]:
    chances = _numbers(
        "probability", probability, 1, "[B], one an item (of those [B, T] take [:, 0])"
    )
    bad = np.flatnonzero(~((chances > 0) & (chances <= 1)))
    if len(bad):
        raise InvalidArgumentError(
            f"probability[{bad[0]}]: found {chances[bad[0]]}, wanted that with which the item "
            "was sampled, above 0 and at most 1. (A priority is none.)"
        )
    return chances


def _sizes(table_size: ArrayLike, chances: NDArray[np.float64]) -> NDArray[np.float64]:
    one = np.ndim(as_array("table_size", table_size)) == 0
    wanted = "[B], as the probabilities are, or one for all"
    sizes = _numbers("table_size", table_size, 0 if one else 1, wanted)
    if not one and sizes.shape != chances.shape:
        raise InvalidArgumentError(
            f"table_size: found {describe(sizes)} for {len(chances)} probabilities, wanted one "
            "for each, or one for all."
        )
    if not (sizes >= 1).all():
        raise InvalidArgumentError(
            f"table_size: found {sizes.min()}, wanted the number of items in the table, >= 1."
        )
    return sizes


def _least(min_probability: Any, chances: NDArray[np.float64]) -> float:
    if min_probability is None:
        raise InvalidArgumentError(
            "min_probability: found None, wanted the smallest probability of any item in the "
            "table: normalize='buffer' divides by the weight that it would have. Pass it, or "
            "normalize='batch' or None."
        )
    least = as_float("min_probability", min_probability)
    most = float(chances.min(initial=1.0))
    if not 0 < least <= most * (1 + float(np.finfo(np.float32).eps)):  # some come as float32
        raise InvalidArgumentError(
            f"min_probability: found {least}, wanted a number above 0 and at most {most}, the "
            "smallest of the batch: both must be probabilities, of the same time, and no "
            "priorities."
        )
    return least


def _mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = as_array("mask", mask)
    numbers = array.dtype.kind in "iuf" and bool(np.isin(array, (0, 1)).all())
    if array.shape != shape or not (numbers or array.dtype.kind == "b"):
        raise InvalidArgumentError(
            f"mask: found {describe(array)}, wanted bools (or 0 and 1) of the shape of td, "
            f"{shape}."
        )
    return array.astype(np.bool_)
