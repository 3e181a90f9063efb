"""TensorDicts as the columns of a buffer's steps, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError, SpecError, StepMismatchError
from reverie.nests.specs import ArraySpec
from reverie.torch.converting import tensor_of
from reverie.torchrl.bases import tensordict, torch
from reverie.views.base import NEXT

Key = tuple[str, ...]
Arrays = dict[Key, NDArray[Any]]

NUMBER = "number"
"""The column that counts steps: what TorchRL calls their index."""
REWARD: Key = ("next", "reward")
_FLAGS = ("done", "terminated", "truncated")
_ROOM = "td/"  # names of columns begin so, or a view's own could be among them
_OURS: tuple[Key, ...] = (("index",),)  # what a sample has beside its data


def leaves_of(data: Any) -> Arrays:
    """The arrays of a TensorDict by key, on the host.

    Raises:
        SpecError: a leaf is no tensor, or of a dtype that cannot be stored; names its key.
    """
    found: Arrays = {}
    leaves = data.items(True, True, is_leaf=tensordict.is_leaf_nontensor)
    for name, leaf in leaves:
        key = (name,) if isinstance(name, str) else tuple(name)
        if key in _OURS:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise SpecError(
                f"{key!r:.200}: found {type(leaf).__name__}, wanted a tensor. Leave it out by "
                "data.exclude(), or by a transform. Nothing was stored."
            )
        host = leaf.detach().cpu()
        try:
            found[key] = host.numpy()
        except (TypeError, RuntimeError) as error:
            raise SpecError(
                f"{key!r:.200}: found {leaf.dtype}, which NumPy has not ({error!s:.100}). "
                "Store it as another dtype. Nothing was stored."
            ) from None
    return found


@dataclass(frozen=True)
class Columns:
    """Where each entry of a TensorDict stands in a step.

    Attributes:
        both: keys that are there before a step and, within "next", after it: states, stored
            once.
        flags: of those within "next" alone, the flags of episodes' ends: states, too, so
            that they are those of the last of several steps.
        alone: all others, within "next" or not.
        specs: shape and dtype by key, as they are in the TensorDict.
    """

    both: tuple[Key, ...]
    flags: tuple[Key, ...]
    alone: tuple[Key, ...]
    specs: Mapping[Key, ArraySpec]

    @classmethod
    def of(cls, arrays: Arrays, dims: int) -> Columns:
        """For what such arrays are, with so many batch dimensions.

        Raises:
            InvalidArgumentError: nothing within "next" says where episodes end; or a name has
                a slash.
        """
        specs = {
            key: ArraySpec(array.shape[dims:], array.dtype) for key, array in arrays.items()
        }
        if not any(key[0] == "next" and key[-1] in _FLAGS for key in specs):
            raise InvalidArgumentError(
                f"data: found the keys {list(specs)!r:.400}, wanted one of ('next', 'done'), "
                "('next', 'terminated') and ('next', 'truncated'), which say where episodes "
                "end. Nothing was stored."
            )
        slashed = [key for key in specs if any("/" in part for part in key)]
        if slashed:
            raise InvalidArgumentError(
                f"data: found the key {slashed[0]!r:.200}, wanted one without a slash: it "
                "becomes the name of a column. Rename it by a transform. Nothing was stored."
            )
        both = [key for key in specs if specs.get(_after(key)) == specs[key]]
        after = {_after(key) for key in both}
        flags = [
            key for key in specs if key[0] == "next" and key[-1] in _FLAGS and key not in after
        ]
        alone = [key for key in specs if key not in {*both, *after, *flags}]
        return cls(tuple(both), tuple(flags), tuple(alone), specs)

    @classmethod
    def saved(cls, spec: Mapping[str, Any], states: Sequence[str]) -> Columns:
        """Of a buffer that was made by `spec`.

        Raises:
            InvalidArgumentError: its columns are no TensorDict's.
        """
        if NUMBER not in spec or not all(name.startswith(_ROOM) for name in {*spec} - {NUMBER}):
            raise InvalidArgumentError(
                f"found the columns {list(spec)!r:.200}, wanted those of a reverie.torchrl "
                "buffer."
            )
        specs = {_key(name): leaf for name, leaf in spec.items() if name != NUMBER}
        states_ = [_key(name) for name in states]
        both = [key for key in states_ if key[0] != "next"]
        flags = [key for key in states_ if key[0] == "next"]
        alone = [key for key in specs if key not in states_]
        specs.update({_after(key): specs[key] for key in both})
        return cls(tuple(both), tuple(flags), tuple(alone), specs)

    @property
    def spec(self) -> dict[str, ArraySpec]:
        """Of a step, for a `reverie.ReplayBuffer`."""
        keys = (*self.both, *self.flags, *self.alone)
        return {NUMBER: ArraySpec((), np.int64)} | {name_of(k): self.specs[k] for k in keys}

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the columns that are states."""
        return tuple(name_of(key) for key in (*self.both, *self.flags))

    def check(self, arrays: Arrays, dims: int) -> None:
        """Raises StepMismatchError where these are others, and names them."""
        missing = [key for key in self.specs if key not in arrays]
        unknown = [key for key in arrays if key not in self.specs]
        if missing or unknown:
            words = f"missing {missing!r:.200}" if missing else f"unknown {unknown!r:.200}"
            raise StepMismatchError(
                f"data: {words}; wanted the keys that the first data had, "
                f"{list(self.specs)!r:.400}. Nothing was stored."
            )
        for key, array in arrays.items():
            found, wanted = ArraySpec(array.shape[dims:], array.dtype), self.specs[key]
            if found != wanted:
                raise StepMismatchError(
                    f"data: {key!r:.200}: found {found.shape} {found.dtype}, wanted "
                    f"{wanted.shape} {wanted.dtype}, as in the first data. Nothing was stored."
                )

    def before(self, arrays: Arrays) -> Arrays:
        """The states before the steps; of a flag that is not known there: False."""
        found = {key: arrays[key] for key in self.both}
        return found | {key: np.zeros_like(arrays[key]) for key in self.flags}

    def after(self, arrays: Arrays) -> Arrays:
        """The states after them."""
        found = {key: arrays[_after(key)] for key in self.both}
        return found | {key: arrays[key] for key in self.flags}

    def others(self, arrays: Arrays) -> Arrays:
        """What is no state."""
        return {key: arrays[key] for key in self.alone}

    def tensordict_of(self, data: Mapping[str, Any]) -> Any:
        """The TensorDict `[B]` of a batch's data."""
        size = len(data[NUMBER])
        nested: dict[str, Any] = {}
        for key, array in self._entries(data):
            room = nested
            for part in key[:-1]:
                room = room.setdefault(part, {})
            # A view's returns are float32.
            room[key[-1]] = tensor_of(array.astype(self.specs[key].dtype, copy=False))
        return tensordict.TensorDict(nested, batch_size=[size])

    def _entries(self, data: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
        for key in self.alone:
            yield key, data[name_of(key)]
        for key in self.both:
            yield key, data[name_of(key)]
            yield _after(key), data[NEXT + name_of(key)]
        for key in self.flags:
            yield key, data[NEXT + name_of(key)]


def ends_of(arrays: Arrays) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which steps terminated, and which were cut off, `[N, T]`.

    The flags right within "next" say so; of an environment of several agents that has none
    there, an episode is over when it is for all of them.
    """
    flags = [key for key in arrays if key[0] == "next" and key[-1] in _FLAGS]
    flags = [key for key in flags if len(key) == 2] or flags
    over = dict.fromkeys(_FLAGS, None)
    for key in flags:
        array = arrays[key]
        value = array.reshape(*array.shape[:2], -1).astype(np.bool_).all(-1)
        earlier: Any = over[key[-1]]
        over[key[-1]] = value if earlier is None else earlier & value
    done, terminated, truncated = (over[name] for name in _FLAGS)
    shape = arrays[flags[0]].shape[:2]
    none = np.zeros(shape, np.bool_)
    cut: Any = none if truncated is None else truncated
    over_: Any = none if done is None else done
    if terminated is None:
        return over_ & ~cut, cut
    return terminated, (over_ | cut) & ~terminated


def name_of(key: Key) -> str:
    """The name of its column."""
    return _ROOM + "/".join(key)


def _key(name: str) -> Key:
    return tuple(name.removeprefix(_ROOM).split("/"))


def _after(key: Key) -> Key:
    return ("next", *key)
