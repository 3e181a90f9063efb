"""What the columns of a buffer's steps are to a learner: states, an action, a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_NAMES = ("observation", "action", "reward")
_USE = ("group", "group_size", "batch_size", "max_staleness", "version")
AUTORESETS = ("NextStep", "SameStep", "Disabled")
"""How environments begin their next episode: `adding.autoreset`."""


@dataclass(frozen=True, slots=True)
class Use:
    """How episodes are used that are used once: rollouts of a policy.

    Attributes:
        group: key of the steps, an integer: those that have the same are used together; None:
            each by itself.
        group_size: how many a group has.
        batch_size: how many each version of the policy is trained on; None: no matter.
        max_staleness: by how many versions the policy that played one may be behind the one
            that is trained on it; None: no matter.
        version: of the policy, when this was saved.
    """

    group: str | None = None
    group_size: int = 1
    batch_size: int | None = None
    max_staleness: int | None = None
    version: int = 0

    def as_json(self) -> dict[str, object]:
        """As a checkpoint's manifest has it."""
        return {name: getattr(self, name) for name in _USE}

    @classmethod
    def from_json(cls, value: object) -> Use:
        """The reverse of `as_json`.

        Raises:
            ValueError: it is malformed; says how.
        """
        if not isinstance(value, dict) or value.keys() != set(_USE):
            raise ValueError(
                f"use: found {value!r:.200}, wanted an object with the keys {_USE}"
            )
        group, numbers = value["group"], [value[name] for name in _USE[1:]]
        size, batch, staleness, version = numbers
        if not isinstance(group, str | None):
            raise ValueError(f"use: found the group {group!r:.200}, wanted a key or null")
        for number, least in ((size, 1), (batch, 1), (staleness, 0), (version, 0)):
            if number is not None and (type(number) is not int or not least <= number < 2**63):
                raise ValueError(f"use: found {value!r:.200}, with a number out of range")
        if size is None or version is None or (batch is None) != (staleness is None):
            raise ValueError(f"use: found {value!r:.200}, wanted numbers")
        if (group is None) != (size == 1) or (batch is not None and batch % size):
            raise ValueError(f"use: found {value!r:.200}, which does not fit together")
        return cls(group, size, batch, staleness, version)


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
        version: key, an integer: which policy a step is of; None: none.
        use: how its episodes are used once; None: they are replayed.
        updatable: keys whose values may be replaced in steps that are stored; no states.
    """

    state: tuple[str, ...]
    observation: str | None = None
    action: str | None = None
    reward: str | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    autoreset: str = "Disabled"
    version: str | None = None
    use: Use | None = None
    updatable: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """As a checkpoint's manifest has it."""
        names = {name: getattr(self, name) for name in _NAMES}
        parts: dict[str, object] = {"view": dict(self.view), "autoreset": self.autoreset}
        if self.version is not None:
            parts["version"] = self.version
        if self.use is not None:
            parts["use"] = self.use.as_json()
        if self.updatable:
            parts["updatable"] = list(self.updatable)
        return {"state": list(self.state), **names, **parts}

    @classmethod
    def from_json(cls, value: object) -> Roles:
        """The reverse of `as_json`.

        Raises:
            ValueError: it is malformed; says how.
        """
        keys = {"state", "view", "autoreset", *_NAMES}
        more = {"version", "use", "updatable"}
        if not isinstance(value, dict) or value.keys() - more != keys:
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
        version, updatable = value.get("version"), value.get("updatable", [])
        if "version" in value and not isinstance(version, str):
            raise ValueError(f"version: found {version!r:.200}, wanted a key")
        if not isinstance(updatable, list) or not all(
            isinstance(key, str) for key in updatable
        ):
            raise ValueError(f"updatable: found {updatable!r:.200}, wanted a list of keys")
        use = Use.from_json(value["use"]) if "use" in value else None
        if use is not None and use.max_staleness is not None and version is None:
            raise ValueError("use: found a bound of staleness, and no version")
        names = {name: value[name] for name in _NAMES}
        return cls(
            tuple(state),
            view=view,
            autoreset=autoreset,
            version=version,
            use=use,
            updatable=tuple(updatable),
            **names,
        )
