"""Several buffers in one batch: online steps beside offline ones, tasks, demonstrations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import optree
from numpy.typing import ArrayLike

from reverie import _core
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.replay_buffer import ReplayBuffer
from reverie.runtime.checks import as_array, as_float, check_int
from reverie.sample import Batch, MixedInfo, Named
from reverie.views.base import View

__all__ = ["Mixture", "mix"]

Fraction = float | Callable[[float], float]


def mix(
    buffers: Mapping[str, ReplayBuffer], fractions: Mapping[str, Fraction] | None = None
) -> Mixture:
    """Batches that take an exact share from each of several buffers.

        both = reverie.mix({"online": online, "offline": offline}, {"online": 0.5})
        batch = both.sample(256)                       # 128 of each: RLPD (Ball et al. 2023)
        both.update_priorities(batch, td_errors)       # each in its own buffer

    Args:
        buffers: at least one, by name; their steps have the same keys, dtypes and shapes,
            and their views are the same.
        fractions: the share of each, 0 to 1, or what gives it at a step, as
            `weights.LinearSchedule` does. One may be left out: it has the rest. None: all
            have the same.

    Raises:
        InvalidArgumentError: no buffer, an unknown name, fractions that do not add up to 1,
            or a buffer that does not fit the first; says which column.
    """
    return Mixture(buffers, fractions)


class Mixture:
    """See `mix`. Thread-safe, as the buffers are; holds no steps itself.

    Attributes:
        buffers: by name, in the order of `batch.source`.
    """

    def __init__(
        self,
        buffers: Mapping[str, ReplayBuffer],
        fractions: Mapping[str, Fraction] | None = None,
    ) -> None:
        if not isinstance(buffers, Mapping) or not buffers:
            raise InvalidArgumentError(
                f"buffers: found {buffers!r:.200}, wanted a dict of one or more, by name."
            )
        self.buffers: dict[str, ReplayBuffer] = dict(buffers)
        first = next(iter(self.buffers))
        for name, buffer in self.buffers.items():
            _check_fits(first, self.buffers[first], name, buffer)
        self._fractions = _all_fractions(list(self.buffers), fractions)
        self.fractions(0)

    def __repr__(self) -> str:
        """`Mixture(online: 0.5 of 4000 steps, offline: 0.5 of 100000 steps)`."""
        shares = self.fractions(0)
        parts = [f"{k}: {shares[k]:g} of {len(b)} steps" for k, b in self.buffers.items()]
        return f"Mixture({', '.join(parts)})"

    def __len__(self) -> int:
        """Steps that can be drawn now, of all buffers together."""
        return sum(len(buffer) for buffer in self.buffers.values())

    def fractions(self, step: float = 0) -> dict[str, float]:
        """The share of each buffer at a step, by name.

        Raises:
            InvalidArgumentError: they do not add up to 1 there, or one is out of range.
        """
        found: dict[str, float] = {}
        rest: list[str] = []
        for name, fraction in self._fractions.items():
            if fraction is None:
                rest.append(name)
                continue
            value = fraction(step) if callable(fraction) else fraction
            found[name] = as_float(f"fractions[{name!r:.100}]", value)
            if not 0 <= found[name] <= 1:
                raise InvalidArgumentError(
                    f"fractions[{name!r:.100}]: found {found[name]}, wanted 0 to 1."
                )
        total = math.fsum(found.values())
        left = 1 - total
        if left < -1e-9 or (not rest and left > 1e-9):
            raise InvalidArgumentError(
                f"fractions: found {found!r:.300}, which add up to {total:g}; wanted 1. One "
                "may be left out, and has the rest."
            )
        share = max(left, 0.0)
        return {name: found.get(name, share) for name in self._fractions}

    def counts(self, batch_size: int, step: float = 0) -> dict[str, int]:
        """How many items of a batch each buffer gives: exact, no chance is involved.

        Those up to a name are `floor(batch_size * sum of the shares up to it)`: of 255 and
        two halves 127 and 128. The last one has what is left.

        Raises:
            InvalidArgumentError: as `fractions`; `batch_size` is below 1.
        """
        batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        shares = self.fractions(step)
        found: dict[str, int] = {}
        share, taken = 0.0, 0
        for name, own in shares.items():
            share += own
            upto = batch_size if share > 1 - 1e-9 else math.floor(batch_size * share + 1e-9)
            found[name], taken = upto - taken, upto
        return found

    def sample(
        self,
        batch_size: int,
        *,
        step: float = 0,
        view: View | None = None,
        beta: float | None = None,
        normalize: Literal["buffer", "batch"] | None = "buffer",
        timeout: float | None = 0,
    ) -> Batch:
        """One batch, its rows by buffer, in the mixture's order.

        Args:
            batch_size: B, of all together.
            step: where schedules are.
            view: see `ReplayBuffer.sample`, as for the next three.
            beta: weights, of prioritized buffers; those of the others are 1.
            normalize: within each buffer.
            timeout: seconds to wait for each buffer's first step.

        Returns:
            Batch: `info` is a MixedInfo.

        Raises:
            WaitTimeoutError: a buffer that has a share is empty; says which.
            InvalidArgumentError: see `counts` and `ReplayBuffer.sample`.
            ClosedError: a buffer is closed.
        """
        parts: list[Batch] = []
        sources: list[int] = []
        for source, (name, count) in enumerate(self.counts(batch_size, step).items()):
            if count == 0:
                continue
            buffer = self.buffers[name]
            own = beta if buffer.table.settings.sampler.kind == "prioritized" else None
            try:
                part = buffer.sample(
                    count, view=view, beta=own, normalize=normalize, timeout=timeout
                )
            except WaitTimeoutError as error:
                raise WaitTimeoutError(
                    f"The buffer {name!r:.100} of a mixture, which gives {count} of "
                    f"{batch_size}: {error}"
                ) from None
            parts.append(part)
            sources.append(source)
        rows = [len(part.key) for part in parts]
        facts = [
            [*part.info[:5], part.info[5] if len(part.info) > 5 else np.ones(n, np.float32)]
            for part, n in zip(parts, rows, strict=True)
        ]
        columns = [np.concatenate(column) for column in zip(*facts, strict=True)]
        first, *others = (part.data for part in parts)
        data: Any = optree.tree_map(lambda *leaves: np.concatenate(leaves), first, *others)
        columns.append(np.repeat(np.array(sources, np.int64), rows))
        return Batch(data, MixedInfo._make(columns))

    def update_priorities(
        self, batch: Named[Any], priorities: ArrayLike, **settings: Any
    ) -> int:
        """Sets the priorities of a batch's items, each in its own buffer.

        Items of buffers that are not prioritized are left out.

        Args:
            batch: of this mixture, also as tensors on the CPU or as arrays of JAX.
            priorities: `[B]` or `[B, T]`; see `ReplayBuffer.update_priorities`.
            **settings: `mask` and `eta`, likewise.

        Returns:
            How many keys were stale.

        Raises:
            InvalidArgumentError: see there; no buffer is prioritized; `batch` is of one
                buffer alone.
        """
        if not hasattr(batch, "source"):
            raise InvalidArgumentError(
                "batch: found one of a single buffer, wanted what this mixture sampled."
            )
        values = as_array("priorities", priorities)
        mask = settings.pop("mask", None)
        mask = None if mask is None else as_array("mask", mask)
        if len(values) != len(batch.key):
            raise InvalidArgumentError(
                f"priorities: found {len(values)}, wanted one for each of {len(batch.key)}."
            )
        sources = as_array("batch.source", batch.source)
        stale, used = 0, False
        for source, buffer in enumerate(self.buffers.values()):
            if not buffer.table.settings.sampler.reads_priorities:
                continue
            used = True
            rows = np.flatnonzero(sources == source)
            if len(rows):
                own = None if mask is None else mask[rows]
                stale += buffer.update_priorities(
                    batch.key[rows], values[rows], mask=own, **settings
                )
        if not used:
            raise InvalidArgumentError(
                "update_priorities(): no buffer of this mixture has a sampler that reads "
                "priorities. Make one with sampler=reverie.samplers.Prioritized()."
            )
        return stale


def _all_fractions(
    names: list[str], fractions: Mapping[str, Fraction] | None
) -> dict[str, Fraction | None]:
    if fractions is None:
        return dict.fromkeys(names, 1 / len(names))
    unknown = [name for name in fractions if name not in names]
    if unknown:
        raise InvalidArgumentError(
            f"fractions: found {unknown!r:.200}, wanted names of the buffers: {names!r:.200}."
        )
    missing = [name for name in names if name not in fractions]
    if len(missing) > 1:
        raise InvalidArgumentError(
            f"fractions: found none for {missing!r:.200}; one buffer may be left out, and has "
            "the rest."
        )
    return {name: fractions.get(name) for name in names}


def _check_fits(first: str, wanted: ReplayBuffer, name: str, found: ReplayBuffer) -> None:
    if not isinstance(found, ReplayBuffer) or found.view is None:
        raise InvalidArgumentError(
            f"buffers[{name!r:.100}]: found {found!r:.200}, wanted a reverie.ReplayBuffer, "
            "with a view."
        )
    if found.view.items == _core.EPISODES:
        raise InvalidArgumentError(
            f"buffers[{name!r:.100}]: found the view {found.view!r:.200}, of which each batch "
            "is as long as its longest episode; wanted Sequences, Windows or Transitions."
        )
    if found.view != wanted.view:
        raise InvalidArgumentError(
            f"buffers[{name!r:.100}]: found the view {found.view!r:.200}, wanted "
            f"{wanted.view!r:.200}, as of {first!r:.100}: batches are put together."
        )
    columns, others = (
        {
            column.path: (str(column.spec.dtype), column.spec.shape)
            for column in buffer.nest.columns
        }
        for buffer in (found, wanted)
    )
    if columns != others:
        odd = {
            path: {name: columns.get(path), first: others.get(path)}
            for path in sorted({*columns, *others})
            if columns.get(path) != others.get(path)
        }
        raise InvalidArgumentError(
            f"buffers[{name!r:.100}]: its steps are not those of {first!r:.100}: found "
            f"{odd!r:.400}; wanted the same keys, dtypes and shapes."
        )
