"""What the checks of a manager are made of: numbered steps, and finding them again.

Step n holds n in every leaf, as far as the leaf's dtype can, so an item says
which steps it consists of, and one wrong byte is seen. Numbers start at 1: zeros
are padding.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.nests.specs import ArraySpec, array_spec_nest
from reverie.nests.trajectory import FIRST, LAST, MID, Trajectory

# Numbers are taken modulo these where the dtype is narrow.
_MODULUS = {"bool": 2, "int8": 113, "uint8": 251, "float16": 2039}

DATA_SPEC = Trajectory(
    step_type=ArraySpec((), np.dtype(np.int32)),
    observation={
        "position": ArraySpec((3,), np.dtype(np.float32)),
        "camera": (
            ArraySpec((2, 2), np.dtype(np.uint8)),
            ArraySpec((), np.dtype(np.bool_)),
        ),
    },
    action=ArraySpec((2,), np.dtype(np.float64)),
    policy_info=(),
    next_step_type=ArraySpec((), np.dtype(np.int32)),
    reward=ArraySpec((), np.dtype(np.float32)),
    discount=ArraySpec((), np.dtype(np.float32)),
)


class Found(AssertionError):
    """What a check found wrong."""


def expect(holds: Any, otherwise: str) -> None:
    """Raises `Found` unless it holds; `assert` would vanish under `python -O`."""
    if not holds:
        raise Found(otherwise)


def equal(found: Any, wanted: Any, what: str) -> None:
    """Raises `Found` unless the two are equal."""
    expect(found == wanted, f"{what}: found {found!r:.500}, wanted {wanted!r:.500}")


@contextlib.contextmanager
def raises(kind: type[Exception], what: str) -> Iterator[None]:
    """Raises `Found` unless the block raises just this kind of error."""
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise Found(
            f"{what}: found {type(error).__name__} ({error!s:.200}), wanted {kind.__name__}"
        ) from error
    raise Found(f"{what}: found no error, wanted {kind.__name__}")


class Kit:
    """Base of the checks: managers, steps and items. One object for each check.

    Attributes:
        data_spec: a Trajectory of specs, which `make_manager` is given.
    """

    data_spec: Any = DATA_SPEC

    def make_manager(self, folder: Path, **settings: Any) -> Any:
        """A new manager with its checkpoints in `folder`. To be written by the user."""
        raise NotImplementedError("Write make_manager(self, folder, **settings).")

    def manager(self, folder: Path, sequence_length: int = 2, **settings: Any) -> Any:
        """A manager of this check."""
        given = {"data_spec": self.data_spec, "capacity": 100, **settings}
        return self.make_manager(folder, sequence_length=sequence_length, **given)

    def step(self, number: int, *, last: bool = False, first: bool = False) -> Any:
        """Step `number`, in the structure of the data spec."""
        filled: Any = optree.tree_map(lambda leaf: _filled(leaf, number), self._spec)
        return filled._replace(
            step_type=np.asarray(LAST if last else FIRST if first else MID, np.int32),
            next_step_type=np.asarray(FIRST if last else MID, np.int32),
        )

    def add(self, observer: Any, numbers: Sequence[int], *, ends: bool = False) -> None:
        """Calls the observer with these steps; `ends`: the last one is a boundary."""
        for position, number in enumerate(numbers):
            last = ends and position == len(numbers) - 1
            observer(self.step(number, last=last, first=position == 0))

    def filled(self, folder: Path, numbers: Sequence[int], **settings: Any) -> Any:
        """A manager with the steps of one open episode."""
        manager = self.manager(folder, **settings)
        self.add(manager.create_replay_buffer()[1], numbers)
        return manager

    def numbers(self, data: Any) -> list[int]:
        """Which steps an item `[T, ...]` consists of; every leaf must say the same."""
        leaves = optree.tree_leaves(data)
        specs = optree.tree_leaves(self._spec)
        expect(len(leaves) == len(specs), f"an item has {len(leaves)} leaves, not {len(specs)}")
        wide = [s.dtype.name not in _MODULUS and s.dtype.kind in "iuf" for s in specs]
        # The step types stand first and last among the rest, and hold no number.
        types = [leaf is data.step_type or leaf is data.next_step_type for leaf in leaves]
        index = next(i for i, w in enumerate(wide) if w and not types[i] and specs[i].nbytes)
        found = [
            int(value)
            for value in np.asarray(leaves[index]).reshape(len(leaves[index]), -1)[:, 0]
        ]
        for leaf, spec, is_type in zip(leaves, specs, types, strict=True):
            array = np.asarray(leaf)
            equal(array.dtype, spec.dtype, "dtype of a leaf")
            equal(array.shape, (len(found), *spec.shape), "shape of a leaf")
            wanted = np.stack([_filled(spec, n) for n in found]) if found else array
            expect(
                is_type or array.tobytes() == wanted.tobytes(),
                f"a leaf of steps {found} holds {array!r:.300}",
            )
        return found

    def items(self, manager: Any) -> list[list[int]]:
        """The steps of every item, in insertion order; both ways to read must agree."""
        one_by_one = [self.numbers(item) for _, item in manager.iter_items()]
        lengths = {len(steps) for steps in one_by_one}
        if len(lengths) == 1:
            equal(self.stacked(manager.gather_all()), one_by_one, "gather_all()")
        return one_by_one

    def stacked(self, data: Any) -> list[list[int]]:
        """The steps of each row of a batch `[B, T, ...]`."""
        rows = len(np.asarray(data.reward))
        return [
            self.numbers(optree.tree_map(lambda x, r=row: x[r], data)) for row in range(rows)
        ]

    @property
    def _spec(self) -> Any:
        return array_spec_nest(self.data_spec)


def _filled(spec: ArraySpec, number: int) -> NDArray[Any]:
    value = number % _MODULUS.get(spec.dtype.name, 2**31)
    return np.full(spec.shape, value, spec.dtype)


def windows(numbers: Sequence[int], length: int, stride: int = 1) -> list[list[int]]:
    """The windows of one episode, by the obvious rule."""
    starts = range(0, len(numbers) - length + 1, stride)
    return [list(numbers[start : start + length]) for start in starts]


def chi_square_excess(counts: NDArray[np.int64]) -> float:
    """By how much equal chances are refuted: above 0 happens once in ten million tables."""
    mean = counts.sum() / counts.size
    statistic = float(((counts - mean) ** 2).sum() / mean)
    freedom = counts.size - 1
    part = 2 / (9 * freedom)  # Wilson and Hilferty's normal approximation
    return statistic - freedom * (1 - part + 5.2 * math.sqrt(part)) ** 3


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold in this time."""
    import time

    end = time.monotonic() + seconds
    for wait in itertools.repeat(0.005):
        if holds():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(wait)
    raise AssertionError("unreachable")


def entries(folder: Path) -> dict[str, bytes | None]:
    """Everything below `folder` by its path there: files with their bytes."""
    found = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in found
    }
