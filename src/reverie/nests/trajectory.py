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
