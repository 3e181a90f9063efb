"""What a checkpoint says of a step's keys, and what it may not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reverie.tables.roles import Roles

ROLES = Roles(("b", "a"), None, "act", "rew", {"kind": "transitions"}, "SameStep")


CHANGING = replace(ROLES, version="net", updatable=("value", "policy"))


@pytest.mark.parametrize("roles", [ROLES, CHANGING])
def test_they_come_back_from_a_manifest(roles: Roles) -> None:
    assert Roles.from_json(roles.as_json()) == roles


def test_what_steps_have_not_is_not_in_it() -> None:
    assert CHANGING.as_json().keys() - ROLES.as_json().keys() == {"version", "updatable"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"state": "ab"}, "state: found 'ab', wanted a list"),
        ({"state": [1]}, "state: found"),
        ({"view": None}, "view: found None, wanted an object"),
        ({"autoreset": "never"}, "autoreset: found 'never', wanted one of"),
        ({"autoreset": ["NextStep"]}, "autoreset: found"),
        ({"action": 1}, "action: found 1, wanted a key"),
        ({"version": None}, "version: found None, wanted a key"),
        ({"updatable": "value"}, "updatable: found 'value', wanted a list of keys"),
        ({"updatable": [1]}, "updatable: found"),
        ({"more": 1}, "wanted an object with the keys"),
    ],
)
def test_what_is_malformed_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Roles.from_json({**ROLES.as_json(), **wrong})
