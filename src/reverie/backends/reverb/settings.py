"""A manager's settings as Reverb's classes want them: checks and specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
from tf_agents.trajectories import trajectory

from reverie.backends.settings import BufferSettings
from reverie.errors import InvalidArgumentError, SpecError, UnsupportedError
from reverie.nests.casts import convert
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import ItemSelector
from reverie.tables.settings import MAX_ITEMS


def check(settings: BufferSettings) -> None:
    """Raises InvalidArgumentError or SpecError for what Reverb or its classes refuse."""
    check_int("capacity", settings.table.max_size, 1, MAX_ITEMS)
    check_int("sequence_length", settings.sequence_length, 1, 2**31 - 2)
    check_int("stride_length", settings.stride_length, 1, 2**31 - 1)
    if settings.seed is not None:
        raise InvalidArgumentError(
            f"seed: found {settings.seed!r:.200}, wanted None: Reverb's samplers cannot be "
            'seeded. Use backend="embedded" for runs that can be repeated.'
        )
    if settings.server_address is not None:
        _check_address(settings.server_address)
    StepSpec.of(settings.data_spec)


def _check_address(address: Any) -> None:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
        raise InvalidArgumentError(
            f"server_address: found {address!r:.200}, wanted 'host:port', for example "
            "'localhost:8000'."
        )


def selector_of(selector: ItemSelector) -> Any:
    """Reverb's own form of a sampler or remover.

    Raises:
        UnsupportedError: it has none.
    """
    if selector.removes_alone:
        raise UnsupportedError(
            f'remover: found {selector!r} with backend="reverb", wanted another: Reverb has '
            'none such. backend="embedded" has.'
        )
    if selector.kind == "prioritized":
        return reverb.selectors.Prioritized(selector.exponent)
    # "min_heap" is MinHeap there, "fifo" Fifo.
    return getattr(reverb.selectors, selector.kind.title().replace("_", ""))()


def limiter_of(limiter: Limiter) -> Any:
    """Reverb's own form of a limiter."""
    return reverb.rate_limiters.RateLimiter(
        samples_per_insert=limiter.samples_per_insert,
        min_size_to_sample=limiter.min_size_to_sample,
        min_diff=limiter.min_diff,
        max_diff=limiter.max_diff,
    )


@dataclass(frozen=True, slots=True, eq=False)
class StepSpec:
    """What one step looks like, for Reverie and for Reverb.

    Attributes:
        nest: the structure of the user's spec; its columns stand in Reverb's order.
        tensors: a TF-Agents Trajectory of `tf.TensorSpec`.
    """

    nest: Nest
    tensors: Any

    @classmethod
    def of(cls, data_spec: Any) -> StepSpec:
        """Reads a data spec.

        Raises:
            SpecError: it is no Trajectory, or a leaf cannot be stored.
        """
        nest = Nest(data_spec)
        fields = getattr(type(nest.spec), "_fields", None)
        if nest.boundary is None or fields != trajectory.Trajectory._fields:
            raise SpecError(
                f"The data spec is a {type(data_spec).__name__}; backend='reverb' wants a "
                "Trajectory (TF-Agents' or reverie.Trajectory) whose step_type and "
                "next_step_type are int32 scalars, as TF-Agents' observers need. "
                'backend="embedded" takes any nest.'
            )
        specs = [
            tf.TensorSpec(c.spec.shape, tf.as_dtype(c.spec.dtype), c.path.split("/")[-1])
            for c in nest.columns
        ]
        tensors = trajectory.Trajectory(*nest.unflatten(specs))
        return cls(nest, tensors)

    def signature(self) -> Any:
        """The table's signature: whole items, so with a time axis in front."""
        return tf.nest.map_structure(
            lambda leaf: tf.TensorSpec([None, *leaf.shape], leaf.dtype, leaf.name),
            self.tensors,
        )

    def step(self, step: Any) -> Any:
        """One step as a TF-Agents Trajectory of arrays of just the spec's dtypes.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
        """
        leaves = [
            convert(leaf, column)
            for leaf, column in zip(self.nest.leaves(step), self.nest.columns, strict=True)
        ]
        return trajectory.Trajectory(*self.nest.unflatten(leaves))

    def misfit(self, signature: Any) -> str:
        """How a table's signature differs from this spec, in words; "" for not at all."""
        found = [
            (leaf.dtype.as_numpy_dtype, tuple(leaf.shape)[1:])
            for leaf in tf.nest.flatten(signature)
        ]
        columns = self.nest.columns
        if len(found) != len(columns):
            return f"it has {len(found)} columns, the data spec has {len(columns)}"
        for (dtype, shape), column in zip(found, columns, strict=True):
            if (np.dtype(dtype), shape) != (column.spec.dtype, column.spec.shape):
                return (
                    f"column {column.path!r:.200} is {np.dtype(dtype)} of shape {shape}, the "
                    f"data spec has {column.spec.dtype} of shape {column.spec.shape}"
                )
        return ""
