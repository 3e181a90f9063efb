"""What was asked of a buffer whose episodes are used once: checked."""

from __future__ import annotations

from typing import Any

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int
from reverie.tables.limiters import Limiter, Staleness
from reverie.tables.roles import Use
from reverie.views.base import View


def use_of(
    view: View,
    capacity: int,
    limiter: Limiter | None,
    version: str | None,
    group: str | None,
    group_size: int,
) -> Use | None:
    """How episodes are used once; None: they are replayed.

    Raises:
        InvalidArgumentError: the arguments do not fit each other; says which.
    """
    size = check_int("group_size", group_size, 1, 2**31 - 1)
    if (group is None) != (size == 1):
        raise InvalidArgumentError(
            f"group_size: found {size} with group={group!r:.100}, wanted a key of the steps "
            "and how many episodes have the same, 2 or more; or neither."
        )
    bound = limiter if isinstance(limiter, Staleness) else None
    if bound is None and group is None:
        return None
    if view.items != _core.EPISODES:
        raise InvalidArgumentError(
            f"view: found {view!r:.200}, wanted reverie.views.Episodes(): a group, and what is "
            "used at a certain age, consist of whole episodes."
        )
    if view.is_drawn:
        raise InvalidArgumentError(
            f"view: found {view!r:.200}, of which chance is a part, wanted one without: what "
            "is used once comes as it is. Shift its images yourself, as view.map(function)."
        )
    if bound is None:
        if limiter is not None:
            raise InvalidArgumentError(
                f"limiter: found {limiter!r:.200}, wanted Staleness or none with a group: each "
                "group is used once."
            )
        if capacity < size:
            raise InvalidArgumentError(
                f"capacity: found {capacity}, wanted at least {size}, the group_size: a group "
                "waits until it is complete."
            )
        return Use(group, size)
    if version is None:
        raise InvalidArgumentError(
            f"version: found None, wanted with {bound!r} the key of the steps that says which "
            "policy played them, an integer."
        )
    most = bound.batch_size * (bound.max_staleness + 1)
    if capacity < most:
        raise InvalidArgumentError(
            f"capacity: found {capacity}, wanted at least {most}: so many rollouts may wait by "
            f"{bound!r}, batch_size * (max_staleness + 1)."
        )
    if bound.batch_size % size:
        raise InvalidArgumentError(
            f"limiter: found {bound!r}, wanted a batch_size that is a multiple of the "
            f"group_size, {size}: groups are used whole."
        )
    return Use(group, size, bound.batch_size, bound.max_staleness)


def check_number(argument: str, key: Any, nest: Nest, state: tuple[str, ...]) -> None:
    """Raises InvalidArgumentError where a key is none of the steps' that is an integer."""
    if not isinstance(key, str) or key not in nest.spec or key in state:
        keys = [one for one in nest.spec if one not in state]
        raise InvalidArgumentError(
            f"{argument}: found {key!r:.200}, wanted a key of the step that is no state: "
            f"{keys!r:.200}."
        )
    columns = Nest({key: nest.spec[key]}).columns
    spec = columns[0].spec
    if len(columns) != 1 or spec.shape != () or spec.dtype.kind not in "iu":
        found = [(str(column.spec.dtype), column.spec.shape) for column in columns]
        raise InvalidArgumentError(
            f"{argument}: {key!r:.100} is {found!r:.200}, wanted one integer: shape (), as "
            "ArraySpec((), np.int64)."
        )


def check_rewards(nest: Nest, reward: str | None) -> None:
    """Raises InvalidArgumentError where steps have no reward that could be summed up."""
    columns = [] if reward is None else Nest({reward: nest.spec[reward]}).columns
    found = [(str(column.spec.dtype), column.spec.shape) for column in columns]
    if len(columns) != 1 or found[0] not in [("float32", ()), ("float64", ())]:
        raise InvalidArgumentError(
            f"episode_priority: found the reward {reward!r:.100}, {found!r:.200}; wanted a "
            "scalar of float32 or float64: priorities are made of the sum of an episode's."
        )
