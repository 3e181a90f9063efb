"""Views as a checkpoint's manifest has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reverie.nests.nest import Nest
from reverie.tables.roles import Roles
from reverie.views.base import Fields, View, check_changes
from reverie.views.sequences import Episodes, Sequences, Windows
from reverie.views.transitions import Transitions


def as_json(view: View) -> dict[str, Any]:
    """As `Roles.view` has it."""
    values = asdict(view)  # type: ignore[call-overload]
    values["stack"] = view.stacks
    if not view.stack:  # as before there were any
        del values["stack"], values["stack_padding"]
    return {
        "kind": view.kind,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
    }


def from_json(value: Mapping[str, Any]) -> View:
    """The reverse of `as_json`.

    Raises:
        ValueError: it is no view; says why.
    """
    kinds: dict[object, type[View]] = {
        each.kind: each for each in (Transitions, Sequences, Windows, Episodes)
    }
    settings = dict(value)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"found a view of kind {kind!r:.100}, wanted one of {list(kinds)}")
    try:
        return kinds[kind](**settings)
    except TypeError as error:
        raise ValueError(f"view {kind!r}: {error!s:.200}") from None


def check_roles(roles: Roles, nest: Nest) -> None:
    """Looks at roles that came with a nest from elsewhere.

    Raises:
        ValueError: they do not fit each other; says why.
    """
    if not isinstance(nest.spec, dict):
        raise ValueError("its steps are no dict")
    named = [roles.observation, roles.action, roles.reward, roles.version]
    named.append(None if roles.use is None else roles.use.group)
    unknown = {*roles.state, *filter(None, named)} - nest.spec.keys()
    if unknown:
        raise ValueError(f"found the keys {sorted(unknown)!r:.200}, which its steps have not")
    numbers = [roles.version, None if roles.use is None else roles.use.group]
    for key in filter(None, numbers):
        leaves = [] if key in roles.state else Nest({key: nest.spec[key]}).types
        if len(leaves) != 1 or leaves[0][1] != () or leaves[0][0].kind not in "iu":
            raise ValueError(f"the key {key!r:.100} is not one integer")
    if roles.observation is not None and roles.observation not in roles.state:
        raise ValueError(f"the observation {roles.observation!r:.100} is no state")
    view = from_json(roles.view)
    fields = Fields(nest, roles, view)
    view.check(fields)
    check_changes(fields)
