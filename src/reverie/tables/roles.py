"""What the columns of a buffer's steps are to a learner: states, an action, a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_NAMES = ("observation", "action", "reward")
AUTORESETS = ("NextStep", "SameStep", "Disabled")
"""How environments begin their next episode: `adding.autoreset`."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The keys of a step, a dict, by what they are; saved with the table.

    Records of such a table are arrivals: beside a state stands what led to it, so that a
    step is whole, with the state after it, as soon as it is stored.

        steps     (s0, a0, r0, s1)  (s1, a1, r1, s2)
        records   (s0, -, -)  (s1, a0, r0)  (s2, a1, r1)

    Attributes:
        state: keys whose values are there before and after a step.
        observation: of these, the one that `add` calls so; None: none.
        action: key; None: none.
        reward: key; None: none.
        view: the buffer's own view, as JSON: `views.as_json`.
        autoreset: how the environments begin their next episode: one of AUTORESETS.
    """

    state: tuple[str, ...]
    observation: str | None = None
    action: str | None = None
    reward: str | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    autoreset: str = "Disabled"

    def as_json(self) -> dict[str, object]:
        """As a checkpoint's manifest has it."""
        names = {name: getattr(self, name) for name in _NAMES}
        parts = {"view": dict(self.view), "autoreset": self.autoreset}
        return {"state": list(self.state), **names, **parts}

    @classmethod
    def from_json(cls, value: object) -> Roles:
        """The reverse of `as_json`.

        Raises:
            ValueError: it is malformed; says how.
        """
        keys = {"state", "view", "autoreset", *_NAMES}
        if not isinstance(value, dict) or value.keys() != keys:
            raise ValueError(f"found {value!r:.200}, wanted an object with the keys {keys}")
        state, view, autoreset = value["state"], value["view"], value["autoreset"]
        if not isinstance(state, list) or not all(isinstance(key, str) for key in state):
            raise ValueError(f"state: found {state!r:.200}, wanted a list of keys")
        if not isinstance(view, dict):
            raise ValueError(f"view: found {view!r:.200}, wanted an object")
        if autoreset not in AUTORESETS:
            raise ValueError(f"autoreset: found {autoreset!r:.200}, wanted one of {AUTORESETS}")
        for name in _NAMES:
            if not isinstance(value[name], str | None):
                raise ValueError(f"{name}: found {value[name]!r:.200}, wanted a key or null")
        names = {name: value[name] for name in _NAMES}
        return cls(tuple(state), view=view, autoreset=autoreset, **names)
