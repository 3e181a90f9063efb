"""Images shifted at random, within the gather."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.nests.specs import escaped
from reverie.runtime.checks import check_int
from reverie.views.base import Column, Fields, Shift, View
from reverie.views.over import Over

Axes = tuple[int, int]


@dataclass(frozen=True, repr=False)
class Shifted(Over):
    """See `View.shift`.

    Args:
        view: whose images are shifted.
        by: name, pad and axes of each, by name.
    """

    by: tuple[tuple[str, int, Axes | None], ...]

    def __repr__(self) -> str:
        """`Transitions(n_step=1, gamma=1.0).shift({'observation': 4})`."""
        words = [f"{self.view!r}"]
        for axes in dict.fromkeys(axes for _, _, axes in self.by):
            pads = {name: pad for name, pad, own in self.by if own == axes}
            words.append(f".shift({pads!r})" if axes is None else f".shift({pads!r}, {axes=})")
        return "".join(words)

    @property
    def still(self) -> View:
        """See the base."""
        return self.view.still

    def shift(
        self,
        pads: Mapping[str, int] | None = None,
        /,
        *,
        axes: Axes | None = None,
        **named: int,
    ) -> View:
        """See the base; of a name that was shifted already, this is what holds."""
        fresh = settled(pads, named, axes)
        names = {name for name, *_ in fresh}
        return Shifted(self.view, _sorted(*fresh, *(e for e in self.by if e[0] not in names)))

    def check(self, fields: Fields) -> None:
        """See the base."""
        super().check(fields)
        computed, seen = set(self.view.computed(fields)), set[int]()
        for name, pad, axes in self.by:
            for place in self._places(fields, name):
                column = fields.nest.columns[place]
                where = f"shift: the leaf {column.path!r:.200}"
                if place in computed:
                    raise InvalidArgumentError(
                        f"{where} is what {self.view!r:.200} computes with, wanted another."
                    )
                if place in seen:
                    raise InvalidArgumentError(
                        f"{where} is named twice in {[each[0] for each in self.by]!r:.200}, "
                        "wanted once."
                    )
                seen.add(place)
                _, height, width = _image(where, column.spec.shape, axes)
                if pad >= min(height, width):
                    raise InvalidArgumentError(
                        f"{where} holds images of {height} by {width} pixels: found a shift "
                        f"by {pad}, wanted less than {min(height, width)}."
                    )

    def shifts(self, fields: Fields, columns: list[Column]) -> list[Shift]:
        """See the base."""
        found: list[Shift] = []
        draws = itertools.count()
        for name, pad, axes in self.by:
            places = self._places(fields, name)
            shapes = {place: fields.nest.columns[place].spec.shape for place in places}
            times = Counter[int]()
            draw_of: dict[int, int] = {}  # by how often the leaf has appeared before
            for number, (place, *_) in enumerate(columns):
                if place in shapes:
                    if times[place] not in draw_of:
                        draw_of[times[place]] = next(draws)
                    image = _image("shift", shapes[place], axes)
                    found.append((number, draw_of[times[place]], pad, *image))
                    times[place] += 1
        return found

    def _places(self, fields: Fields, name: str) -> list[int]:
        """Where the leaves of this name stand: of a step, or within its observation."""
        paths = [column.path for column in fields.nest.columns]
        observation = fields.roles.observation
        within = [] if observation is None else [f"{escaped(observation)}/{name}"]
        for path in (escaped(name) if name in fields.places else name, *within):
            found = [
                place
                for place, each in enumerate(paths)
                if each == path or each.startswith(f"{path}/")
            ]
            if found:
                return found
        raise InvalidArgumentError(
            f"shift: found {name!r:.200}, wanted the name of an image, or of what holds "
            f"images: one of the paths {paths!r:.300}, or the beginning of some."
        )


def settled(
    pads: Mapping[str, int] | None, named: Mapping[str, int], axes: Axes | None
) -> tuple[tuple[str, int, Axes | None], ...]:
    """The arguments of `View.shift`, checked.

    Raises:
        InvalidArgumentError: see there.
    """
    if not isinstance(pads, Mapping | None) or not (pads or named):
        raise InvalidArgumentError(
            f"shift(): found {pads!r:.200}, wanted how many pixels images are shifted by, by "
            'name, as shift(observation=4) or shift({"observation/left": 4}).'
        )
    if axes is not None:
        found: Any = axes
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InvalidArgumentError(
                f"axes: found {axes!r:.200}, wanted two numbers: the axes of a step's image "
                "that are its height and width, as (0, 1) or (-2, -1)."
            )
        axes = (
            check_int("axes[0]", found[0], -32, 31),
            check_int("axes[1]", found[1], -32, 31),
        )
    by = {**(pads or {}), **named}
    odd = [name for name in by if not isinstance(name, str)]
    if odd:
        raise InvalidArgumentError(f"shift(): found the name {odd[0]!r:.200}, wanted text.")
    most = 2**31 - 1
    return _sorted(
        *((k, check_int(f"shift[{k!r:.100}]", n, 1, most), axes) for k, n in by.items())
    )


def _sorted(
    *by: tuple[str, int, Axes | None],
) -> tuple[tuple[str, int, Axes | None], ...]:
    return tuple(sorted(by, key=lambda each: each[0]))


def _image(where: str, shape: tuple[int, ...], axes: Axes | None) -> tuple[int, int, int]:
    """Planes, height and width; raises InvalidArgumentError where they are not clear."""
    if axes is None:
        low, high = _guessed(where, shape)
    else:
        low, high = sorted(axis % len(shape) if shape else axis for axis in axes)
        if not all(-len(shape) <= axis < len(shape) for axis in axes) or low + 1 != high:
            raise InvalidArgumentError(
                f"{where}, of shape {shape}: found axes={axes!r}, wanted two of its axes, one "
                "right after the other."
            )
    return math.prod(shape[:low]), shape[low], shape[high]


def _guessed(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) == 2:
        return 0, 1
    if len(shape) == 3:
        first, middle, last = shape
        if first < min(middle, last):
            return 1, 2
        if last < min(first, middle):
            return 0, 1
    raise InvalidArgumentError(
        f"{where} has the shape {shape}, wanted an image: [height, width], or three axes, of "
        "which the smallest, the first or the last, are channels. Say which axes are height "
        "and width, as axes=(-2, -1), or name the images alone."
    )
