"""How vector environments begin their next episode, and what that makes of their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError


class Autoreset:
    """Which of a vector environment's results are steps, and what they led to.

    After an episode's end gymnasium's vector environments begin the next one by themselves:

        NextStep   at the next call, whose action is ignored: that is no step
        SameStep   at once: the observation is the new episode's first, and the old one's
                   last stands in `infos["final_obs"]`
        Disabled   not at all: whoever steps resets

    Args:
        mode: one of the three, or gymnasium's AutoresetMode; None: Disabled.

    Raises:
        InvalidArgumentError: another mode.
    """

    MODES = ("NextStep", "SameStep", "Disabled")

    def __init__(self, mode: Any) -> None:
        name = "Disabled" if mode is None else str(getattr(mode, "value", mode))
        found = [each for each in self.MODES if each.lower() == name.replace("_", "").lower()]
        if not found:
            raise InvalidArgumentError(
                f"autoreset: found {mode!r:.100}, wanted one of {', '.join(self.MODES)}."
            )
        self.mode = found[0]
        self._ended: set[int] = set()

    def steps(self, ids: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which of these environments' results are steps; None: all."""
        if self.mode != "NextStep" or not self._ended:
            return None
        return np.array([each not in self._ended for each in ids.tolist()], np.bool_)

    def remember(self, ids: NDArray[np.int64], ended: NDArray[np.bool_]) -> None:
        """These environments' results are dealt with; some have ended an episode."""
        if self.mode == "NextStep":
            self._ended.difference_update(ids.tolist())
            self._ended.update(ids[ended].tolist())

    def forget(self) -> None:
        """All environments were reset."""
        self._ended.clear()

    def after(self, next_obs: Any, ended: NDArray[np.bool_], infos: Any, spec: Any) -> Any:
        """The observations that steps led to.

        Raises:
            InvalidArgumentError: SameStep, an episode ended, and `infos` does not hold
                its last observation.
        """
        if self.mode != "SameStep" or not ended.any():
            return next_obs
        infos = infos if isinstance(infos, Mapping) else {}
        final = next((infos[k] for k in ("final_obs", "final_observation") if k in infos), None)
        rows = np.flatnonzero(ended)
        if final is None:
            raise InvalidArgumentError(
                f'infos: found no "final_obs", wanted the last observations of environments '
                f"{rows.tolist()!r:.100}, whose episodes ended: with autoreset {self.mode} "
                "next_obs is the next episode's first. Pass the infos that step() returned, or "
                "say how the environment resets as autoreset=. Nothing was stored."
            )
        mixed = optree.tree_map(lambda leaf: np.array(leaf), next_obs)
        leaves, structure = optree.tree_flatten(mixed)
        for row in rows.tolist():
            one = (
                final[row]
                if isinstance(final, np.ndarray) and final.dtype == object
                else optree.tree_map(lambda leaf, row=row: leaf[row], final)
            )
            if one is None:
                raise InvalidArgumentError(
                    f'infos["final_obs"][{row}] is None, but its episode ended. Nothing was '
                    "stored."
                )
            for leaf, value in zip(leaves, structure.flatten_up_to(one), strict=True):
                leaf[row] = value
        return structure.unflatten(leaves)
