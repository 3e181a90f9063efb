"""Views: what becomes of an item when it is sampled. Values for `view=`.

Steps are stored once, and an item is a step to begin at. A view says what is gathered from
there on, in the core, in one pass: so `n_step`, `gamma` or `length` can change without
filling the buffer anew, and nothing ever crosses the end of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.runtime.checks import as_float, check_int
from reverie.tables.roles import Roles

__all__ = ["Episodes", "Sequences", "Transitions"]

_ANY = 2**32 - 1
_NEXT = "next_"


class Gathered(NamedTuple):
    """What the core gathers for a view.

    Attributes:
        arrays: one for each column that the plan asks for.
        records: int64 `[B]`, records of each row: its steps, and one more.
        hows: int32 `[B]`, how the episode ended with the row's last record; 0: it goes on.
    """

    arrays: list[NDArray[Any]]
    records: NDArray[np.int64]
    hows: NDArray[np.int32]

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """Of each row's last step."""
        found: NDArray[np.bool_] = self.hows == _core.TERMINATED
        return found

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Of each row's last step: the episode ended there for another reason."""
        found: NDArray[np.bool_] = (self.hows != 0) & (self.hows != _core.TERMINATED)
        return found


class Fields:
    """Where the leaves of a step stand among a record's columns.

    Args:
        nest: of a step, a dict at its top.
        roles: of its keys.
    """

    def __init__(self, nest: Nest, roles: Roles) -> None:
        self.nest, self.roles = nest, roles
        numbers = nest.unflatten(list(range(len(nest.columns))))
        self.places: dict[str, list[int]] = {}
        self._parts: dict[str, Nest] = {}
        for key, spec in nest.spec.items():
            self._parts[key] = part = Nest({key: spec})
            self.places[key] = part.leaves({key: numbers[key]})

    def columns(
        self, key: str, first: int, steps: int, spare: int = 0, *, squeeze: bool = False
    ) -> list[tuple[int, int, int, int, bool]]:
        """A key's columns, as the core's `sample_view` wants them."""
        return [(place, first, steps, spare, squeeze) for place in self.places[key]]

    def take(self, key: str, arrays: list[NDArray[Any]]) -> Any:
        """Removes a key's arrays from the front of the list; as its part of a step."""
        part = self._parts[key]
        count = len(part.columns)
        found, arrays[:] = arrays[:count], arrays[count:]
        return part.unflatten(found)[key]


class View:
    """Base of the views: values, without a state of their own."""

    kind = ""

    @property
    def stride(self) -> int:
        """Steps from one item to the next, in a buffer whose own view it is."""
        return 1

    @property
    def items(self) -> int:
        """What items a buffer with this view is filled with: `_core.ANCHORS` or EPISODES."""
        return _core.ANCHORS

    def check(self, fields: Fields) -> None:
        """Raises InvalidArgumentError where the steps lack what the view needs."""

    def plan(self, fields: Fields) -> tuple[int, list[tuple[int, int, int, int, bool]]]:
        """The most records of a row, and the columns, as `sample_view` takes them."""
        raise NotImplementedError

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """The data of a batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class Transitions(View):
    """Steps with what came of them `n_step` steps later: `(s, a, r, s', done)`.

    With m the steps to the end of the episode, or to the newest one, but at most `n_step`:

        reward             sum of gamma^k * r[t + k] for k < m, float32 [B]
        next_<state>       s[t + m]
        discount           gamma^m, 0 where the last of these steps terminated, float32 [B]
        terminated         bool [B], of the last of these steps
        truncated          bool [B], likewise: the episode was cut off, and next_<state> is
                           its final state
        n_steps            m, int64 [B]

    Every other key is that of step t, `[B, *shape]`. A target is
    `reward + discount * value(next_observation)`, whatever ended the episode.
    (Sutton 1988; Hessel et al. 2018, "Rainbow".)

    Args:
        n_step: >= 1; above 1 the step needs a reward.
        gamma: 0 to 1.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    n_step: int = 1
    gamma: float = 1.0
    kind = "transitions"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        object.__setattr__(self, "n_step", check_int("n_step", self.n_step, 1, 10_000))
        gamma = as_float("gamma", self.gamma)
        if not 0 <= gamma <= 1:
            raise InvalidArgumentError(f"gamma: found {gamma!r}, wanted 0 to 1.")
        object.__setattr__(self, "gamma", gamma)

    def check(self, fields: Fields) -> None:
        """See the base."""
        _check_states(self, fields)
        taken = {_NEXT + key for key in fields.roles.state}
        taken |= {"discount", "n_steps", "terminated", "truncated"}
        _check_names(self, fields, taken)
        reward = fields.roles.reward
        if self.n_step > 1 and reward is None:
            raise InvalidArgumentError(
                f"{self!r}: found the keys {list(fields.places)!r:.200}, wanted one that is "
                "the reward: n-step returns sum it up. Pass its name as reward=."
            )
        if reward is not None and len(fields.places[reward]) != 1:
            raise InvalidArgumentError(
                f"{self!r}: the reward {reward!r:.100} is a nest of "
                f"{len(fields.places[reward])} leaves, wanted one array."
            )

    def plan(self, fields: Fields) -> tuple[int, list[tuple[int, int, int, int, bool]]]:
        """See the base."""
        columns = []
        for key in fields.places:
            if key in fields.roles.state:
                columns += fields.columns(key, 0, 1, squeeze=True)
                columns += fields.columns(key, -1, 1, squeeze=True)
            else:
                steps = self.n_step if key == fields.roles.reward else 1
                columns += fields.columns(key, 1, steps, squeeze=steps == 1)
        return self.n_step + 1, columns

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        arrays, steps = list(found.arrays), found.records - 1
        data: dict[str, Any] = {}
        for key in fields.places:
            value = fields.take(key, arrays)
            if key == fields.roles.reward:
                value = self._returns(value)
            data[key] = value
            if key in fields.roles.state:
                data[_NEXT + key] = fields.take(key, arrays)
        terminated = found.terminated
        data["discount"] = self._discounts()[steps] * ~terminated
        data["terminated"], data["truncated"] = terminated, found.truncated
        data["n_steps"] = steps
        return data

    def _discounts(self) -> NDArray[np.float32]:
        """gamma^m for m up to n_step."""
        return (self.gamma ** np.arange(self.n_step + 1)).astype(np.float32)

    def _returns(self, rewards: NDArray[Any]) -> NDArray[np.float32]:
        if self.n_step == 1:
            return np.asarray(rewards, np.float32)
        weights = self.gamma ** np.arange(self.n_step)
        exact = rewards.astype(np.float64, copy=False)
        return (
            np.tensordot(exact, weights, (1, 0)).astype(np.float32)
            if (rewards.ndim == 2)
            else np.moveaxis(exact, 1, -1).dot(weights).astype(np.float32)
        )


@dataclass(frozen=True)
class Sequences(View):
    """Runs of `length` steps of one episode, padded with zeros and a mask at its end.

    Leaves are `[B, T, *shape]`, T = `length`: each state, and what was done in it. Beside
    them:

        mask               bool [B, T]: real steps; the rest are zeros
        burn_in_mask       bool [B, T]: of these, the first `burn_in`
        length             int64 [B]: how many are real
        next_<state>       [B, *shape]: the state after the last real step
        terminated         bool [B, T]: of each step
        truncated          bool [B, T]

    Columns named in `once` come as `[B, *shape]`, of the first step alone: a recurrent
    state that was stored with each step. In a buffer whose own view this is, each
    `stride`-th step of an episode begins an item, so that sequences overlap by
    `length - stride`, and an item comes once `stride` steps are there, or at the episode's
    end. (Kapturowski et al. 2019, "R2D2": `Sequences(80, burn_in=40)`.)

    Args:
        length: T, the burn-in included.
        burn_in: steps at the front that only bring the recurrent state up to date.
        stride: None: `length - burn_in`, so that every step is trained on once.
        once: keys.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    length: int
    burn_in: int = 0
    stride: int | None = None  # type: ignore[assignment]
    once: Sequence[str] = ()
    kind = "sequences"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        length = check_int("length", self.length, 1, 2**31 - 2)
        burn_in = check_int("burn_in", self.burn_in, 0, length - 1)
        stride = length - burn_in if self.stride is None else self.stride
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "burn_in", burn_in)
        object.__setattr__(self, "stride", check_int("stride", stride, 1, length))
        once = (self.once,) if isinstance(self.once, str) else tuple(self.once)
        object.__setattr__(self, "once", once)

    def check(self, fields: Fields) -> None:
        """See the base."""
        _check_states(self, fields)
        unknown = [key for key in self.once if key not in fields.places]
        if unknown:
            raise InvalidArgumentError(
                f"once: found {unknown!r:.200}, wanted keys of the step: "
                f"{list(fields.places)!r:.200}."
            )
        taken = {_NEXT + key for key in fields.roles.state if key not in self.once}
        taken |= {"mask", "burn_in_mask", "length", "terminated", "truncated"}
        _check_names(self, fields, taken)

    def plan(self, fields: Fields) -> tuple[int, list[tuple[int, int, int, int, bool]]]:
        """See the base."""
        return self.length + 1, self._columns(fields, self.length)

    def _columns(self, fields: Fields, steps: int) -> list[tuple[int, int, int, int, bool]]:
        columns = []
        for key in fields.places:
            state = key in fields.roles.state
            if key in self.once:
                columns += fields.columns(key, 0 if state else 1, 1, squeeze=True)
                continue
            columns += fields.columns(key, 0 if state else 1, steps, spare=int(state))
            if state:
                columns += fields.columns(key, -1, 1, squeeze=True)
        return columns

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        return _arranged(fields, found, self.length, self.burn_in, self.once)


@dataclass(frozen=True)
class Episodes(View):
    """Whole episodes, padded to the longest of the batch.

    An item is an episode, and there once it has ended. What a batch holds is what
    `Sequences` gives, T being the steps of the longest episode in it, at most `max_length`.

    Args:
        max_length: steps of each that are taken, from its first; None: all.

    Raises:
        InvalidArgumentError: `max_length` is below 1.
    """

    max_length: int | None = None
    kind = "episodes"

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.max_length is not None:
            check_int("max_length", self.max_length, 1, 2**31 - 2)

    @property
    def items(self) -> int:
        """See the base."""
        return _core.EPISODES

    def check(self, fields: Fields) -> None:
        """See the base."""
        Sequences(1).check(fields)

    def plan(self, fields: Fields) -> tuple[int, list[tuple[int, int, int, int, bool]]]:
        """See the base."""
        most = _ANY if self.max_length is None else self.max_length + 1
        return most, Sequences(1)._columns(fields, 0)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        return _arranged(fields, found, int(found.records.max(initial=1)) - 1, 0, ())


def _arranged(
    fields: Fields, found: Gathered, length: int, burn_in: int, once: Sequence[str]
) -> dict[str, Any]:
    """The data of a batch of sequences of `length` steps."""
    arrays, steps = list(found.arrays), found.records - 1
    data: dict[str, Any] = {}
    for key in fields.places:
        data[key] = fields.take(key, arrays)
        if key in fields.roles.state and key not in once:
            data[_NEXT + key] = fields.take(key, arrays)
    places = np.arange(length)
    data["mask"] = mask = places < steps[:, None]
    data["burn_in_mask"] = mask & (places < burn_in)
    data["length"] = steps
    last = places == steps[:, None] - 1
    data["terminated"] = last & found.terminated[:, None]
    data["truncated"] = last & found.truncated[:, None]
    return data


def as_json(view: View) -> dict[str, Any]:
    """As `Roles.view` has it."""
    values = asdict(view)  # type: ignore[call-overload]
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
        each.kind: each for each in (Transitions, Sequences, Episodes)
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
    named = [roles.observation, roles.action, roles.reward]
    unknown = {*roles.state, *filter(None, named)} - nest.spec.keys()
    if unknown:
        raise ValueError(f"found the keys {sorted(unknown)!r:.200}, which its steps have not")
    if roles.observation is not None and roles.observation not in roles.state:
        raise ValueError(f"the observation {roles.observation!r:.100} is no state")
    from_json(roles.view).check(Fields(nest, roles))


def _check_states(view: View, fields: Fields) -> None:
    if not fields.roles.state:
        raise InvalidArgumentError(
            f"{view!r}: found the keys {list(fields.places)!r:.200}, wanted one or more that "
            'are states, whose value is there after a step, too. Name them as next_of=("obs",).'
        )


def _check_names(view: View, fields: Fields, taken: set[str]) -> None:
    clash = sorted(taken & fields.places.keys() - {"terminated", "truncated"})
    if clash:
        raise InvalidArgumentError(
            f"{view!r}: the step has keys {clash!r:.200}, which are names of what the view "
            "gives beside the step's own. Give them others."
        )
