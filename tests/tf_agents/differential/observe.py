"""What a run has shown, in values that two runs have in common."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Raised:
    """An exception: its class and those above it, for a subclass will do."""

    names: tuple[str, ...]
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        return cls(tuple(c.__name__ for c in type(error).__mro__), str(error)[:300])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Raised):
            return NotImplemented
        return (
            self.names[0] in other.names
            or other.names[0] in self.names
            or any(each.allows(self, other) or each.allows(other, self) for each in ON_PURPOSE)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, slots=True)
class OnPurpose:
    """Where Reverb raises one thing and Reverie another, for the docs' stated reason."""

    theirs: str
    message: str
    ours: str

    def allows(self, theirs: Raised, ours: Raised) -> bool:
        return (
            theirs.names[0] == self.theirs
            and self.message in theirs.message
            and self.ours in ours.names
        )


# "Where it differs on purpose" in docs/reverb.md has a line for each.
ON_PURPOSE = (
    OnPurpose("TypeError", "len() of unsized object", "ValueError"),
    OnPurpose("ValueError", "cannot contain any None data references", "KeyError"),
    OnPurpose("TypeError", "'NoneType' object is not iterable", "ValueError"),
    OnPurpose("IndexError", "tuple index out of range", "ValueError"),
    OnPurpose("LeftOut", "", "ValueError"),
)


def canonical(value: Any) -> Any:
    """A nest of arrays as tuples: containers, dtypes, shapes and values count, NaN is NaN."""
    if isinstance(value, dict):
        return ("dict", *((name, canonical(value[name])) for name in sorted(value)))
    if isinstance(value, tuple | list):
        return (type(value).__name__, *map(canonical, value))
    if isinstance(value, np.ndarray | np.generic):
        kind = type(value).__name__ if isinstance(value, np.ndarray) else "scalar"
        return (kind, str(value.dtype), value.shape, repr(value.tolist()))
    return (type(value).__name__, repr(value))


class Keys:
    """Keys of items as the order in which a run has seen them first."""

    def __init__(self) -> None:
        self._order: dict[int, int] = {}
        self._keys: list[int] = []

    def number(self, key: int) -> int:
        if key not in self._order:
            self._order[key] = len(self._keys)
            self._keys.append(key)
        return self._order[key]

    def key(self, number: int) -> int:
        """The key, or one that no item has."""
        return self._keys[number] if 0 <= number < len(self._keys) else 1_000_003 + abs(number)


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """The first operation of which two runs tell different things."""

    index: int
    op: Any
    first: Any
    second: Any


def first_difference(
    ops: tuple[Any, ...], first: list[Any], second: list[Any]
) -> Difference | None:
    """Where two runs of the same operations part, or None."""
    for index, op in enumerate(ops):
        one = first[index] if index < len(first) else "not reached"
        two = second[index] if index < len(second) else "not reached"
        if one != two:
            return Difference(index, op, one, two)
    return None
