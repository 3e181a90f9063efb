"""The step record of TF-Agents, for those who do without TensorFlow.

`Trajectory` has the fields, the order and the meaning of TF-Agents' own
(`tf_agents.trajectories.Trajectory`), which Smart Control's users write. Steps of
either kind know where their episode ends.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FIRST = 0
MID = 1
LAST = 2


class Trajectory(NamedTuple):
    """One step: what was seen, what was done, what came of it.

    An episode of k transitions is k + 1 of these. The last one is the
    *boundary*: its `step_type` is LAST, its `next_step_type` FIRST, its
    observation the final one; its action and reward mean nothing.

    Attributes:
        step_type: FIRST, MID or LAST, int32.
        observation: nest of arrays.
        action: nest of arrays, taken after `observation`.
        policy_info: nest of arrays, often `()`.
        next_step_type: `step_type` of the step after, int32.
        reward: what `action` earned, float32.
        discount: 0.0 where `action` ended the episode for good (terminated),
            else 1.0 or the environment's, float32.
    """

    step_type: Any
    observation: Any
    action: Any
    policy_info: Any
    next_step_type: Any
    reward: Any
    discount: Any

    def is_boundary(self) -> Any:
        """Whether this step closes an episode; elementwise for batches."""
        return np.asarray(self.step_type) == LAST


class BoundaryColumns(NamedTuple):
    """Leaf indices of a spec whose steps know their boundary."""

    step_type: int
    next_step_type: int


def boundary_columns(spec_nest: Any) -> BoundaryColumns | None:
    """Where a `Trajectory`-like spec keeps its step types; None for other nests.

    A named tuple counts as one if it has int32 scalars `step_type` and
    `next_step_type` and a method `is_boundary`, as TF-Agents' Trajectory has.
    """
    from reverie.nests.specs import ArraySpec, columns_of

    fields = getattr(type(spec_nest), "_fields", ())
    if not {"step_type", "next_step_type"} <= set(fields) or not callable(
        getattr(spec_nest, "is_boundary", None)
    ):
        return None
    scalar = ArraySpec((), np.dtype(np.int32))
    if any(
        not isinstance(spec, ArraySpec)
        or (spec.shape, spec.dtype) != (scalar.shape, scalar.dtype)
        for spec in (spec_nest.step_type, spec_nest.next_step_type)
    ):
        return None
    paths = [column.path for column in columns_of(spec_nest)]
    return BoundaryColumns(paths.index("step_type"), paths.index("next_step_type"))
