"""Whole episodes, as arrays, become the records of arrivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.views import Fields


def records_of(
    fields: Fields, episode: Mapping[str, Any], tail: Mapping[str, Any] | None, end: bool
) -> tuple[list[NDArray[Any]], int]:
    """The columns of an episode's records, one more than it has steps; and its steps."""
    nest, roles = fields.nest, fields.roles
    leaves = [np.asarray(leaf) for leaf in nest.leaves(episode)]
    others = [
        place
        for key, places in fields.places.items()
        if key not in roles.state
        for place in places
    ]
    states = [place for key in roles.state for place in fields.places[key]]
    lengths = {len(leaves[place]) if leaves[place].ndim else -1 for place in others}
    if not others:
        lengths = {min(len(leaves[place]) for place in states) - (tail is None)}
    length = next(iter(lengths))
    if len(lengths) != 1 or length < 1:
        raise InvalidArgumentError(
            f"An episode: found keys of {sorted(lengths)} steps, wanted one number, above 0."
        )
    tails: dict[int, Any] = {}
    if tail is not None:
        part = Nest({key: nest.spec[key] for key in roles.state})
        tails = dict(zip(states, part.leaves({k: tail[k] for k in roles.state}), strict=True))
    columns = []
    for place, leaf in enumerate(leaves):
        zero = np.zeros((1, *leaf.shape[1:]), leaf.dtype)
        if place not in states:
            columns.append(np.concatenate([zero, leaf]))
        elif place in tails:
            columns.append(np.concatenate([leaf[:length], np.asarray(tails[place])[None]]))
        elif len(leaf) == length + 1:
            columns.append(leaf)
        elif end and len(leaf) == length:
            columns.append(np.concatenate([leaf, zero]))
        else:
            raise InvalidArgumentError(
                f"An episode of {length} steps that was cut off: {nest.columns[place].path!r} "
                f"holds {len(leaf)} states, wanted {length + 1}, the last one after the last "
                "step. Or pass that as after=."
            )
    return columns, length
