"""Buffers that cannot be made: an error that names the setting and says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reverie
from reverie.errors import InvalidArgumentError, SpecError

SPEC = {"observation": np.zeros(3), "action": np.zeros(()), "reward": np.zeros(())}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"capacity": 0}, "capacity: found 0, wanted 1 to"),
    ({"capacity": -5}, "capacity: found -5"),
    ({"capacity": 2**32}, "capacity: found 4294967296"),
    ({"capacity": 1e6}, r"capacity: found 1000000.0 of type float, wanted an integer"),
    ({"capacity": True}, "capacity: found True of type bool"),
    ({"capacity": None}, "capacity: found None"),
    ({"seed": -1}, "seed: found -1"),
    ({"seed": 2**64}, "seed: found 18446744073709551616, wanted 0 to"),
    ({"seed": "0"}, "seed: found '0' of type str"),
    ({"timeout": -1}, "timeout: found -1, wanted seconds >= 0, or None"),
    ({"timeout": float("nan")}, "timeout: found nan"),
    ({"timeout": "1"}, "timeout: found '1'"),
    ({"max_to_keep": 0}, "max_to_keep: found 0"),
    ({"num_envs": 0}, "num_envs: found 0"),
    ({"num_envs": 2.0}, "num_envs: found 2.0"),
    ({"autoreset": "never"}, "autoreset: found 'never', wanted one of NextStep, SameStep"),
    ({"autoreset": True}, "autoreset: found True"),
    ({"next_of": ("obs",)}, r"next_of: found \['obs'\], wanted keys of the step: \['obs"),
    ({"next_of": 3}, r"next_of: found 3, wanted keys .*next_of=\(\"obs\",\)"),
    ({"next_of": ("observation", "observation")}, "next_of: found .*each once"),
    ({"next_of": ()}, r"found the keys .*Name them as next_of="),
    ({"action": "act"}, r"action: found \['act'\], wanted keys of the step"),
    ({"reward": "rew"}, r"reward: found \['rew'\], wanted keys of the step"),
    ({"reward": 3}, r"reward: found \[3\], wanted keys of the step"),
    ({"action": "observation"}, "action: found 'observation', which is one of next_of"),
    ({"reward": "observation"}, "reward: found 'observation', which is one of next_of"),
    ({"reward": "action"}, "reward: found 'action', which is the action, too"),
    ({"view": "transitions"}, r"view: found 'transitions', wanted one of reverie\.views"),
    ({"view": reverie.views.Transitions}, r"view: found .*wanted one of reverie\.views"),
    ({"sampler": "uniform"}, "sampler of .*: found 'uniform', wanted one of reverie"),
    ({"checkpoint_dir": 5}, "checkpoint_dir"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_setting_that_is_none_is_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidArgumentError, TypeError), match=words):
        reverie.ReplayBuffer(SPEC, **{"capacity": 10, **wrong})


@pytest.mark.parametrize(
    "spec",
    [
        [np.zeros(3)],
        np.zeros(3),
        (np.zeros(3), np.zeros(2)),
        reverie.Trajectory(*(np.zeros(()),) * 7),
    ],
)
def test_a_spec_that_is_no_dict_is_refused(spec: Any) -> None:
    with pytest.raises(SpecError, match=r"spec: found \w+, wanted a dict: .*have keys"):
        reverie.ReplayBuffer(spec, 10)


@pytest.mark.parametrize("spec", [{}, {"observation": "image"}, {"observation": None}, None, 5])
def test_a_spec_without_arrays_is_refused(spec: Any) -> None:
    with pytest.raises(SpecError):
        reverie.ReplayBuffer(spec, 10)


def test_keys_of_a_step_are_text() -> None:
    with pytest.raises(SpecError, match=r"spec: found the key 1, wanted text"):
        reverie.ReplayBuffer({1: np.zeros(3), "reward": np.zeros(())}, 10, next_of=(1,))
