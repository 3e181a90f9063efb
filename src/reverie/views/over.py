"""Views over another one, of which they change what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.views.base import Column, Fields, Gathered, Shift, View


@dataclass(frozen=True, repr=False)
class Over(View):
    """Base of those: all that is not changed is the other's.

    Args:
        view: the other.
    """

    view: View

    @property
    def stride(self) -> int:
        """See the base."""
        return self.view.stride

    @property
    def items(self) -> int:
        """See the base."""
        return self.view.items

    @property
    def comes(self) -> str:
        """See the base."""
        return self.view.comes

    @property
    def item_records(self) -> int:
        """See the base."""
        return self.view.item_records

    @property
    def still(self) -> View:
        """See the base."""
        return self.view.still

    @property
    def saved(self) -> View:
        """See the base."""
        return self.view.saved

    @property
    def fixed(self) -> View:
        """See the base."""
        inner = self.view.fixed
        return self if inner is self.view else replace(self, view=inner)

    @property
    def other(self) -> int:
        """See the base."""
        return self.view.other

    @property
    def stacks(self) -> dict[str, int]:
        """See the base."""
        return self.view.stacks

    def check(self, fields: Fields) -> None:
        """See the base."""
        self.view.check(fields)

    def computed(self, fields: Fields) -> list[int]:
        """See the base."""
        return self.view.computed(fields)

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        return self.view.plan(fields)

    def shifts(self, fields: Fields, columns: list[Column]) -> list[Shift]:
        """See the base."""
        return self.view.shifts(fields, columns)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        return self.view.arrange(fields, found)


@dataclass(frozen=True, repr=False)
class Mapped(Over):
    """See `View.map`."""

    function: Callable[[dict[str, Any]], dict[str, Any]] = field(hash=False)

    def __post_init__(self) -> None:
        """Checks the function."""
        if not callable(self.function):
            raise InvalidArgumentError(
                f"map(): found {self.function!r:.200}, wanted a function of a batch's data, a "
                "dict of arrays, that returns such a dict."
            )

    def __repr__(self) -> str:
        """`Transitions(n_step=1, gamma=1.0).map(normalise)`."""
        return f"{self.view!r}.map({self._name})"

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", None) or f"{self.function!r:.100}"

    @property
    def still(self) -> View:
        """See the base."""
        inner = self.view.still
        return self if inner is self.view else Mapped(inner, self.function)

    def shift(
        self,
        pads: Mapping[str, int] | None = None,
        /,
        *,
        axes: tuple[int, int] | None = None,
        **named: int,
    ) -> View:
        """See the base: images are shifted first, and the value says so."""
        return Mapped(self.view.shift(pads, axes=axes, **named), self.function)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        data = self.function(self.view.arrange(fields, found))
        if not isinstance(data, dict):
            returned = "None" if data is None else f"a {type(data).__name__}"
            raise InvalidArgumentError(
                f"{self._name:.200}, the function of map(), returned {returned}, wanted a "
                "dict: the batch's data. One that changes them in place returns them, too."
            )
        return data
