"""What came of a step of each of some environments, by column, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.difference import kind_name
from reverie.nests.specs import ArraySpec, Column
from reverie.runtime.checks import as_array


class Arrivals:
    """One step of each of N environments: what was before it, and what it led to.

    Args:
        columns: of a step.
        before: for each column its leaf before the step, `[N, *shape]`; None where it is
            no state. As they came, until `exact` or the core wants another dtype.
        after: the leaves after it, likewise.
        ends: bool `[N]`, terminated.
        cut: bool `[N]`, truncated.
        ids: int64 `[N]`, which environments; None: all.
        sides: what the caller calls `before` and `after`.
        alone: leaves have no batch axis; N is 1.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        before: list[Any],
        after: list[Any],
        ends: NDArray[np.bool_],
        cut: NDArray[np.bool_],
        ids: NDArray[np.int64] | None,
        sides: tuple[str, str],
        *,
        alone: bool = False,
    ) -> None:
        self.columns, self.before, self.after = columns, before, after
        self.ends, self.cut, self.ids = ends, cut, ids
        self._sides = sides
        self.alone = alone

    def __len__(self) -> int:
        """N."""
        return len(self.ends)

    @property
    def over(self) -> NDArray[np.bool_]:
        """Bool `[N]`: whether the episode is, for one reason or the other."""
        return self.ends | self.cut

    def numbers(self) -> list[int]:
        """Which environments."""
        return list(range(len(self))) if self.ids is None else self.ids.tolist()

    def exact(self, place: int, *, before: bool = False) -> NDArray[Any]:
        """A column as an array of just its dtype, `[N, *shape]`; it stays so.

        Raises:
            StepMismatchError: a dtype, a shape or a value; says what may have caused it.
        """
        side = self.before if before else self.after
        leaf, spec = side[place], self.columns[place].spec
        if self.alone:
            if not is_exact(leaf, spec):
                side[place] = leaf = self._cast(leaf, place, before)
            return leaf[None]  # type: ignore[no-any-return]
        if not is_exact(leaf, spec, (len(self),)):
            side[place] = leaf = self._cast(leaf, place, before)
        return leaf  # type: ignore[no-any-return]

    def recast(self, misfit: int) -> None:
        """Casts the leaf that the core has no use for: see `append_arrivals`.

        Raises:
            StepMismatchError: as `exact`.
        """
        place = misfit % len(self.columns)
        before = misfit >= len(self.columns)
        side = self.before if before else self.after
        side[place] = self._cast(side[place], place, before)

    def state_bytes(self, places: Sequence[int], row: int, *, before: bool) -> bytes:
        """The states of an environment, as the core would store them."""
        return b"".join(self.exact(i, before=before)[row].tobytes() for i in places)

    def only(self, keep: NDArray[np.bool_]) -> Arrivals:
        """Those of some rows.

        Raises:
            StepMismatchError: as `exact`.
        """
        rows = np.flatnonzero(keep)
        every = [i for i, leaf in enumerate(self.before) if leaf is not None]
        before: list[Any] = [None] * len(self.columns)
        for place in every:
            before[place] = self.exact(place, before=True)[rows]
        after = [self.exact(place)[rows] for place in range(len(self.columns))]
        ids = np.array(self.numbers(), np.int64)[rows]
        return Arrivals(
            self.columns, before, after, self.ends[rows], self.cut[rows], ids, self._sides
        )

    def _cast(self, leaf: Any, place: int, before: bool) -> NDArray[Any]:
        column = self.columns[place]
        prefix = f"{self._sides[not before]}: " if self.before[place] is not None else ""
        count = None if self.alone else len(self)
        leading = () if count is None else (count,)
        wanted = ArraySpec((*leading, *column.spec.shape), column.spec.dtype)
        found = shape_of(leaf)
        if found is not None and found != wanted.shape:
            why = cause(found, column.spec.shape, count)
            raise StepMismatchError(
                f"{prefix}Step leaf {column.path!r}: found {kind_name(leaf)}, shape {found}; "
                f"wanted {wanted.dtype} of shape {wanted.shape}{why}. Nothing was stored."
            )
        try:
            return convert(leaf, Column(column.path, wanted))
        except StepMismatchError as error:
            raise StepMismatchError(f"{prefix}{error}") from None


def is_exact(leaf: Any, spec: ArraySpec, leading: tuple[int, ...] = ()) -> bool:
    """Whether it is an array of just this dtype and shape, one value after the other."""
    return (
        type(leaf) is np.ndarray
        and leaf.dtype == spec.dtype
        and leaf.shape == (*leading, *spec.shape)
        and leaf.flags.c_contiguous
    )


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """The shape of anything; None where NumPy cannot say."""
    try:
        return tuple(np.shape(leaf))
    except Exception:  # whatever a foreign __array__ raises; whoever casts it tells
        return None


def cause(found: tuple[int, ...], step: tuple[int, ...], count: int | None) -> str:
    """Why a shape may be another than was wanted, in words that follow on; "" for no idea.

    Args:
        found: the shape.
        step: that of one environment's step.
        count: environments; None: the step alone was wanted.
    """
    wanted = step if count is None else (count, *step)
    if count is None and found[1:] == step:
        return (
            f": there is a batch axis, of {found[0]}, and this buffer's steps are those of a "
            "single environment. Make it with num_envs=, or for_env(), for several"
        )
    if count is not None and found == step:
        return (
            f": the batch axis is missing, with a row for each of {count} environments. For "
            "one of them pass env_ids=[i], and value[None]"
        )
    if count is not None and found[1:] == step:
        many = f": there are {found[0]} environments, and {count} were wanted"
        return f"{many}. For some of them pass env_ids=" if found[0] < count else many
    if [n for n in found if n != 1] == [n for n in wanted if n != 1]:
        return ": the axes of 1 are not the same. reshape() it"
    if found and found == (*step, found[-1] if count is None else count):
        return ": the batch axis stands last. np.moveaxis(value, -1, 0) brings it to the front"
    if sorted(found) == sorted(wanted):
        return ": is it transposed? The axes are there, in another order"
    return ""


def count_of(columns: Sequence[Column], leaves: Sequence[Any], side: str) -> int | None:
    """How many environments states are of, as the first ones tell; None: one, no batch axis.

    Raises:
        StepMismatchError: a shape is neither that of a step nor of a batch, or they are of
            unlike numbers.
    """
    counts: dict[str, int | None] = {}
    for column, leaf in zip(columns, leaves, strict=True):
        found, step = shape_of(leaf), column.spec.shape
        if found is None:
            convert(leaf, column)  # raises
            raise AssertionError(f"{leaf!r:.200} has no shape")
        if found != step and (found[1:] != step or not found or not found[0]):
            why = cause(found, step, None)
            raise StepMismatchError(
                f"{side}: Step leaf {column.path!r}: found {kind_name(leaf)}, shape {found}; "
                f"wanted {column.spec.dtype} of shape {step} of a single environment, or "
                f"{('N', *step)} of N, at least one{why}. Nothing was stored."
            )
        counts[column.path] = None if found == step else found[0]
    if len(set(counts.values())) != 1:
        raise StepMismatchError(
            f"{side}: found leaves of {counts!r:.300} environments (None: no batch axis), "
            "wanted one number. Nothing was stored."
        )
    return next(iter(counts.values()))


def as_flags(name: str, value: Any, count: int, alone: bool) -> NDArray[np.bool_]:
    """`terminated` or `truncated` as bools `[N]`. None: false, of all.

    Raises:
        StepMismatchError: another shape.
        InvalidArgumentError: it is neither true nor false.
    """
    if alone and type(value) is bool:  # what most environments return
        return np.array([value])
    if value is None:
        return np.zeros(count, np.bool_)
    found = value if type(value) is np.ndarray else _array(name, value)
    if found.dtype != np.bool_:
        if found.dtype.kind not in "iuf" or not np.isin(found, (0, 1)).all():
            raise InvalidArgumentError(
                f"{name}: found {value!r:.200}, wanted True or False (0 or 1). Nothing was "
                "stored."
            )
        found = found.astype(np.bool_)
    if alone and found.shape == ():
        found = found[None]
    elif alone or found.shape != (count,):
        wanted = "one bool" if alone else f"bools of shape ({count},)"
        why = cause(found.shape, (), None if alone else count)
        raise StepMismatchError(
            f"{name}: found shape {found.shape}, wanted {wanted}{why}. Nothing was stored."
        )
    return found


def as_ids(env_ids: ArrayLike, num_envs: int | None) -> NDArray[np.int64]:
    """`env_ids` as int64 `[N]`, each known, each once.

    Args:
        env_ids: as passed.
        num_envs: how many there are; None: steps have no batch axis.

    Raises:
        InvalidArgumentError: they are not so.
    """
    ids = _array("env_ids", env_ids)
    if num_envs is None:
        raise InvalidArgumentError(
            f"env_ids: found {env_ids!r:.100}, but this buffer's steps are those of a single "
            "environment, without a batch axis. Make it with num_envs=, or for_env(), for "
            "several. Nothing was stored."
        )
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise InvalidArgumentError(
            f"env_ids: found {env_ids!r:.100}, wanted a list of integers, the number of an "
            "environment for each row. Nothing was stored."
        )
    numbers: list[int] = ids.tolist()
    if numbers and not 0 <= min(numbers) <= max(numbers) < num_envs:
        strange = [n for n in numbers if not 0 <= n < num_envs]
        raise InvalidArgumentError(
            f"env_ids: found {strange!r:.100}, wanted 0 to {num_envs - 1}: there are "
            f"{num_envs} environments. Nothing was stored."
        )
    if len(set(numbers)) != len(numbers):
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        raise InvalidArgumentError(
            f"env_ids: found {twice!r:.100} twice, wanted one step a call of each environment. "
            "Nothing was stored."
        )
    return ids.astype(np.int64)


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        return as_array(name, values)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{error} Nothing was stored.") from None
