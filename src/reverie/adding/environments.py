"""What an environment of gymnasium's says about itself, by its attributes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError

STANDARD = ("observation", "action", "reward")
"""Keys of its steps."""


def spec_of(env: Any, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """What its steps look like: those of one environment, where it is several.

    Raises:
        InvalidArgumentError: it has no spaces, or `extra` is no dict of other keys.
    """
    spaces = [
        getattr(env, f"single_{name}_space", getattr(env, f"{name}_space", None))
        for name in STANDARD[:2]
    ]
    if any(space is None for space in spaces):
        raise InvalidArgumentError(
            f"env: found {type(env).__name__}, wanted a gymnasium environment: it has an "
            "observation_space and an action_space. For others pass a spec: "
            "ReplayBuffer({...}, capacity)."
        )
    extra = {} if extra is None else extra
    if not isinstance(extra, Mapping) or extra.keys() & set(STANDARD):
        raise InvalidArgumentError(
            f"extra: found {extra!r:.200}, wanted a dict of specs with other keys than "
            f"{list(STANDARD)}, which are the environment's."
        )
    return dict(zip(STANDARD, [*spaces, np.zeros((), np.float32)], strict=True), **extra)


def settings_of(env: Any) -> dict[str, Any]:
    """Of the buffer: how many environments it is, and how they begin the next episode."""
    if hasattr(env, "num_envs"):
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode", "NextStep")
        return {"autoreset": mode, "num_envs": env.num_envs}
    return {"autoreset": "NextStep"} if _resets_itself(env) else {}


def _resets_itself(env: Any) -> bool:
    """Whether gymnasium's wrapper Autoreset is around a single environment."""
    wrappers = 0
    while env is not None and wrappers < 100:
        if type(env).__name__ == "Autoreset":
            return True
        env, wrappers = getattr(env, "env", None), wrappers + 1
    return False
