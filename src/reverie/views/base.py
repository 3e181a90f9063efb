"""What views have in common: the columns of a step, and how they look back from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, NamedTuple

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int
from reverie.tables.roles import Roles

ANY = 2**32 - 1
"""Records of a row: as many as there are."""
NEXT = "next_"

Padding = Literal["first", "zeros"]
Stack = Mapping[str, int] | Sequence[tuple[str, int]] | None
Column = tuple[int, int, int, int, bool]
Shift = tuple[int, int, int, int, int, int]


class Gathered(NamedTuple):
    """What the core gathers for a view.

    Attributes:
        arrays: one for each column that the plan asks for.
        steps: int64 `[B]`, of each row.
        terminated: bool `[B]`, of each row's last step.
        truncated: bool `[B]`, likewise: the episode ended there for another reason.
    """

    arrays: list[NDArray[Any]]
    steps: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class Fields:
    """Where the leaves of a step stand among a record's columns.

    Args:
        nest: of a step, a dict at its top.
        roles: of its keys.
        own: the buffer's own view.
    """

    def __init__(self, nest: Nest, roles: Roles, own: View) -> None:
        self.nest, self.roles, self.own = nest, roles, own
        numbers = nest.unflatten(list(range(len(nest.columns))))
        self.places: dict[str, list[int]] = {}
        self._parts: dict[str, Nest] = {}
        for key, spec in nest.spec.items():
            self._parts[key] = part = Nest({key: spec})
            self.places[key] = part.leaves({key: numbers[key]})

    def columns(
        self,
        key: str,
        first: int,
        steps: int,
        spare: int = 0,
        *,
        back: int = 0,
        squeeze: bool = False,
    ) -> list[Column]:
        """A key's columns, as `_core.ViewPlan` wants them.

        Args:
            key: of the step.
            first: the first record, counted from the row's step, or from its end.
            steps: records; 0: as many as the longest row has.
            spare: of its last ones, zeros.
            back: so many more records before the first.
            squeeze: no time axis.
        """
        first += (self.own.lead if first >= 0 else 0) - back
        count = steps + back if steps else 0
        return [(place, first, count, spare, squeeze) for place in self.places[key]]

    def places_of(self, keys: Sequence[str]) -> list[int]:
        """Where the leaves of a part of a step stand, by the keys that lead to it."""
        part = self.nest.unflatten(list(range(len(self.nest.columns))))
        for key in keys:
            part = part[key]
        found: list[int] = optree.tree_leaves(part)
        return found

    def leaves(self, key: str, value: Any) -> list[Any]:
        """The leaves of a key's value, as they are.

        Raises:
            StepMismatchError: its structure is not the spec's; says where.
        """
        return self._parts[key].leaves({key: value})

    def take(self, key: str, arrays: list[NDArray[Any]]) -> Any:
        """Removes a key's arrays from the front of the list; as its part of a step."""
        part = self._parts[key]
        count = len(part.columns)
        found, arrays[:] = arrays[:count], arrays[count:]
        return part.unflatten(found)[key]


class View:
    """Base of the views: values, without a state of their own."""

    kind = ""
    stack: Stack = None
    stack_padding: Padding = "first"
    once: Sequence[str] = ()

    def __repr__(self) -> str:
        """`Transitions(n_step=3, gamma=0.99)`."""
        hidden = () if self.stack else ("stack", "stack_padding")
        names = [field.name for field in fields(self) if field.name not in hidden]  # type: ignore[arg-type]
        parts = [f"{name}={getattr(self, name)!r}" for name in names if name != "stack"]
        if self.stack:
            parts.insert(-1, f"stack={self.stacks!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def stride(self) -> int:
        """Steps from one item to the next, in a buffer whose own view it is."""
        return 1

    @property
    def items(self) -> int:
        """What items a buffer with this view is filled with: one of the core's kinds."""
        return _core.ANCHORS

    @property
    def has_each_step(self) -> bool:
        """Whether each step is an item, in a buffer whose own view it is."""
        return self.items == _core.ANCHORS and self.stride == 1

    @property
    def comes(self) -> str:
        """When an item is there, in words."""
        return "with each step"

    @property
    def item_records(self) -> int:
        """How many records an item has from its step on, at most."""
        return self.stride + 1

    @property
    def still(self) -> View:
        """What takes its place where nothing may be drawn: itself, unless chance has a part."""
        return self

    @property
    def saved(self) -> View:
        """What a checkpoint has in its place."""
        return self.still

    @property
    def other(self) -> int:
        """Which other record each row has: one of the core's kinds; 0: none."""
        return 0

    @property
    def is_drawn(self) -> bool:
        """Whether chance has a part in its data: then it is for samples alone."""
        return self.still is not self

    @property
    def fixed(self) -> View:
        """Itself, or what gives the same in batches of one shape, whatever they hold.

        Raises:
            InvalidArgumentError: the shape depends on what a batch holds.
        """
        return self

    @property
    def time_axis(self) -> int | None:
        """Steps of each row; 0: as many as the longest has. None: one, without an axis."""
        return None

    @property
    def shares_steps(self) -> bool:
        """Whether items of a buffer with this view have steps in common."""
        return False

    @property
    def stacks(self) -> dict[str, int]:
        """How many frames of a state are stacked, by key."""
        return dict(self.stack or ())

    @property
    def lead(self) -> int:
        """Records before a step that it looks back to."""
        return max(self.stacks.values(), default=1) - 1

    def map(self, function: Callable[[dict[str, Any]], dict[str, Any]]) -> View:
        """The same view, its data gone through a function of yours.

            view = Transitions().map(normalise)

        For `sample`, `steps`, `gather`, `epoch` and all else that takes views. In a checkpoint
        a buffer's own view is this one without it: functions are not stored.

        Args:
            function: `function(data)` of a batch's data, a dict of arrays `[B, ...]`; called
                once a batch, in the thread that asked for it. Returns such a dict, which may
                be the same: the arrays are the batch's own, to be changed as it likes.

        Raises:
            InvalidArgumentError: it is no function. Or later: it returned no dict.
        """
        from reverie.views.over import Mapped

        return Mapped(self, function)

    def shift(
        self,
        pads: Mapping[str, int] | None = None,
        /,
        *,
        axes: tuple[int, int] | None = None,
        **named: int,
    ) -> View:
        """The same view, its images shifted at random: padded and cropped, while gathered.

            view = Transitions(n_step=3, gamma=0.99).shift(observation=4)

        By up to `pad` pixels up or down, and as many left or right, each of these equally
        likely; pixels at the edge are repeated where nothing else is. (Kostrikov et al. 2020,
        "Image Augmentation Is All You Need", "DrQ".) Images of any dtype keep their dtype and
        shape. Of a row, `observation` and `next_observation` are shifted independently, and
        all frames of a stack, all steps of a sequence and all images under one name alike.
        The buffer's seed decides, and a checkpoint goes on where it was. For `sample` alone:
        `steps`, `gather` and `epoch` draw nothing, and of a buffer's own view, as in a
        checkpoint, give images as they are. Shifted first, whatever `map` comes before.

        Args:
            pads: pixels, >= 1 and less than an image's sides, by name: a key of the step, a
                path such as "observation/left", or a key within the observation.
            axes: of a single step's image, which two are height and width, one right after
                the other. None: of two axes both, and of three not the smallest one, which
                is the first or the last.
            **named: the same as `pads`.

        Raises:
            InvalidArgumentError: no name, or a number is out of range. Or once it is used: a
                name is unknown, a leaf is no image, or it is not clear what its axes are.
        """
        from reverie.views.shifted import Shifted, settled

        return Shifted(self, settled(pads, named, axes))

    def check(self, fields: Fields) -> None:
        """Raises InvalidArgumentError where the steps lack what the view needs."""

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """The most records of a row from its step on, and the columns."""
        raise NotImplementedError

    def computed(self, fields: Fields) -> list[int]:
        """Where the leaves stand with whose values more is computed: not to be shifted."""
        return []

    def shifts(self, fields: Fields, columns: list[Column]) -> list[Shift]:
        """How columns of the plan are shifted, as `_core.ViewPlan` wants it."""
        return []

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """The data of a batch."""
        raise NotImplementedError

    def _settle_stack(self) -> None:
        """Makes `stack` a value that can be compared.

        Raises:
            InvalidArgumentError: it is no mapping of keys to numbers, or the padding unknown.
        """
        stack: Any = self.stack
        try:
            pairs = sorted(dict(stack or ()).items())
        except (TypeError, ValueError):
            raise InvalidArgumentError(
                f"stack: found {stack!r:.200}, wanted how many frames of a state, by key, as "
                'stack={"observation": 4}.'
            ) from None
        pairs = [(k, check_int(f"stack[{k!r:.100}]", n, 1, 10_000)) for k, n in pairs]
        object.__setattr__(self, "stack", tuple(pairs))
        if self.stack_padding not in ("first", "zeros"):
            raise InvalidArgumentError(
                f"stack_padding: found {self.stack_padding!r:.200}, wanted 'first' or 'zeros'."
            )


def plan_of(view: View, fields: Fields, layout: _core.RecordLayout) -> _core.ViewPlan:
    """What the core gathers for a view that fits."""
    most, columns = view.plan(fields)
    lead = fields.own.lead
    shifts = view.shifts(fields, columns)
    return _core.ViewPlan(layout, columns, min(ANY, most + lead), lead, view.other, shifts)


def check_stack(view: View, fields: Fields) -> None:
    """Raises InvalidArgumentError where frames of something else are stacked, or too many."""
    odd = [key for key in view.stacks if key not in fields.roles.state]
    if odd:
        raise InvalidArgumentError(
            f"stack: found {odd!r:.200}, wanted states: {list(fields.roles.state)!r:.200}. "
            "Name those of your own as next_of=."
        )
    own = fields.own
    if view.lead > own.lead or (view.lead and view.stack_padding != own.stack_padding):
        raise InvalidArgumentError(
            f"{view!r}: this buffer keeps {own.lead} frames before a step, and before an "
            f"episode {own.stack_padding!r}: those of its own view, {own!r:.200}. Make it with "
            f"view={view!r:.200}; views with smaller stacks then fit, too."
        )


def check_states(view: View, fields: Fields) -> None:
    """Raises InvalidArgumentError where a step has no state."""
    if not fields.roles.state:
        raise InvalidArgumentError(
            f"{view!r}: found the keys {list(fields.places)!r:.200}, wanted one or more that "
            'are states, whose value is there after a step, too. Name them as next_of=("obs",).'
        )


def check_names(view: View, fields: Fields, taken: set[str]) -> None:
    """Raises InvalidArgumentError where a step has a key that the view itself gives."""
    clash = sorted(taken & fields.places.keys() - {"terminated", "truncated"})
    if clash:
        raise InvalidArgumentError(
            f"{view!r}: the step has keys {clash!r:.200}, which are names of what the view "
            "gives beside the step's own. Give them others."
        )


def check_changes(fields: Fields) -> None:
    """Looks at which keys of stored steps may change.

    Raises:
        InvalidArgumentError: one is none of the step, a state, or a number that tells what is
            to become of the step.
    """
    roles, may = fields.roles, fields.roles.updatable
    if any(key not in fields.places for key in may) or len(set(may)) != len(may):
        raise InvalidArgumentError(
            f"updatable: found {may!r:.200}, wanted keys of the step, each once: "
            f"{list(fields.places)!r:.200}."
        )
    states = [key for key in may if key in roles.state]
    if states:
        raise InvalidArgumentError(
            f"updatable: found the states {states!r:.200}, wanted keys of a step alone: a "
            "state is shared by the step before it and the one after it."
        )
    told = {"version": roles.version, "group": roles.use and roles.use.group}
    for name, key in told.items():
        if key in may:
            raise InvalidArgumentError(
                f"updatable: found {key!r:.200}, which is the {name}, too; wanted keys that "
                "nothing else depends on. update(if_version=) sets versions."
            )
