"""How environments begin their next episode, and what that makes of their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reverie.adding.arrivals import Arrivals
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.nest import Nest
from reverie.tables.roles import AUTORESETS

_FINAL = ("final_obs", "final_observation")  # the second one gymnasium's before 1.0


class Autoreset:
    """Which of an environment's results are steps, and what they led to.

    After an episode's end gymnasium's vector environments begin the next one by themselves:

        NextStep   at the next call, whose action is ignored: that is no step
        SameStep   at once: the observation is the new episode's first, and the old one's
                   last stands in `infos["final_obs"]`
        Disabled   not at all: whoever steps resets

    With NextStep the call after an end is no step if it begins in the state that the
    episode ended in. If not, somebody has reset the environment before, and it is one.

    Args:
        mode: one of the three, or gymnasium's AutoresetMode; None: Disabled.

    Raises:
        InvalidArgumentError: another mode.
    """

    def __init__(self, mode: Any) -> None:
        name = "Disabled" if mode is None else str(getattr(mode, "value", mode))
        found = [each for each in AUTORESETS if each.lower() == name.replace("_", "").lower()]
        if not found:
            raise InvalidArgumentError(
                f"autoreset: found {mode!r:.100}, wanted one of {', '.join(AUTORESETS)}."
            )
        self.mode = found[0]
        self._final: dict[int, bytes] = {}  # by environment, the states that it ended in

    def steps(
        self, came: Arrivals, infos: Any, states: Nest, places: list[int], single: str | None
    ) -> Arrivals:
        """Of what came the steps, with what they led to.

        Args:
            came: of some environments.
            infos: as `step` returned them.
            states: the structure of the states.
            places: of their leaves, among the columns of a step.
            single: the key of the only state, which `final_obs` is then; None: it has
                several, and `final_obs` is a dict of them.

        Raises:
            StepMismatchError: a dtype, a shape or a value.
            InvalidArgumentError: SameStep, an episode ended, and `infos` does not hold
                its last observation.
        """
        if self.mode == "SameStep" and came.over.any():
            self._replace(came, infos, states, places, single)
        elif self.mode == "NextStep" and self._final:
            keep = np.ones(len(came), np.bool_)
            for row, number in enumerate(came.numbers()):
                final = self._final.get(number)
                if final is not None:
                    keep[row] = final != came.state_bytes(places, row, before=True)
            if not keep.all():
                return came.only(keep)
        return came

    def remember(self, came: Arrivals, steps: Arrivals, places: list[int]) -> None:
        """Of what came, these steps are stored; some have ended an episode."""
        if self._final:
            for number in came.numbers():
                self._final.pop(number, None)
        over = steps.over
        if over.any():
            numbers = steps.numbers()
            for row in np.flatnonzero(over).tolist():
                self._final[numbers[row]] = steps.state_bytes(places, row, before=False)

    def _replace(
        self, came: Arrivals, infos: Any, states: Nest, places: list[int], single: str | None
    ) -> None:
        """Puts the last states of episodes in the place of the next ones' first."""
        rows = np.flatnonzero(came.over).tolist()
        given = infos if isinstance(infos, Mapping) else {}
        name = next((key for key in _FINAL if given.get(key) is not None), None)
        if name is None:
            raise InvalidArgumentError(
                f'infos: found {_keys(infos)} and no "final_obs", wanted the last observations '
                f"of environments {[came.numbers()[row] for row in rows]!r:.100}, whose "
                f"episodes ended: with autoreset {self.mode} next_obs is the next episode's "
                "first. Pass the infos that step() returned, or say how the environment resets "
                "as autoreset=. Nothing was stored."
            )
        # All is looked at before anything is put in its place.
        finals = [_row(given[name], row, len(came), f"infos[{name!r}]") for row in rows]
        leaves = []
        for row, final in zip(rows, finals, strict=True):
            where = f"infos[{name!r}][{row}]"
            if final is None:
                raise InvalidArgumentError(
                    f"{where}: found None, wanted the last observation of environment "
                    f"{came.numbers()[row]}, whose episode ended. Nothing was stored."
                )
            try:
                found = states.leaves(final if single is None else {single: final})
                leaves.append(
                    [
                        convert(leaf, column)
                        for leaf, column in zip(found, states.columns, strict=True)
                    ]
                )
            except StepMismatchError as error:
                raise StepMismatchError(f"{where}: {error}") from None
        for nth, place in enumerate(places):
            mixed = np.array(came.exact(place))
            came.after[place] = mixed[0] if came.alone else mixed
            for row, found in zip(rows, leaves, strict=True):
                mixed[row] = found[nth]


def _row(final: Any, row: int, count: int, where: str) -> Any:
    """An environment's part of the last observations.

    gymnasium has an object array of observations, None where no episode ended; others have
    a list of such, or a batch.
    """
    if isinstance(final, Mapping):
        return {
            key: _row(value, row, count, f"{where}[{key!r}]") for key, value in final.items()
        }
    if isinstance(final, tuple):
        return tuple(_row(v, row, count, f"{where}[{i}]") for i, v in enumerate(final))
    found = len(final) if hasattr(final, "__len__") else 0
    if found != count:
        raise InvalidArgumentError(
            f"{where}: found {type(final).__name__} of {found}, wanted one of each of {count} "
            "environments. Nothing was stored."
        )
    return final[row]


def _keys(infos: Any) -> str:
    if isinstance(infos, Mapping):
        return f"the keys {list(infos)!r:.200}"
    return type(infos).__name__
