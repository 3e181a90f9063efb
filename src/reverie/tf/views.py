"""`tf.data` datasets of a replay buffer's batches, in the form of a view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int, check_timeout
from reverie.sample import SampleInfo, WeightedInfo
from reverie.tf.framework import tf
from reverie.tf.source import (
    BATCHES_PER_CALL,
    MAX_BATCHES_PER_CALL,
    PREFETCHED_BATCHES,
    Draw,
    Source,
)
from reverie.tf.specs import check_spec
from reverie.tf.windows import FACTS
from reverie.weights import weights_of

if TYPE_CHECKING:
    from reverie.replay_buffer import ReplayBuffer
    from reverie.views.base import View

Beta = float | Callable[[int], float]


def dataset(
    buffer: ReplayBuffer,
    batch_size: int,
    *,
    view: View | None = None,
    beta: Beta | None = None,
    normalize: Literal["buffer", "batch"] | None = "buffer",
    timeout_s: float | None = None,
) -> tf.data.Dataset:
    """An endless `tf.data.Dataset` of `(data, info)`, batches as `sample` gives them.

        for data, info in reverie.tf.dataset(buffer, 256, beta=0.4).take(10_000):
            td_errors = train(data, info.weight)
            buffer.update_priorities(info.key, td_errors)

    It runs ahead of its reader, by up to 15 batches where they are small: these count as
    sampled, have the priorities and weights of when they were chosen, and a reader meets
    them still after `clear()` or `close()`. Of a uniform sampler, beside threads that keep
    the interpreter busy, up to 99 may be ahead, 8 MiB a call at most. Making it again, for
    any buffer and view of the same shapes, traces nothing. The dataset, its iterators and
    what is derived from it keep the buffer alive.

    Shapes:
        data: a dict, as the view has it, leaves `[B, ...]`, all static; of
        `Episodes(max_length=n)` `[B, n, ...]`, padded. info: a SampleInfo of `[B]` tensors,
        the keys uint64; with `beta` a WeightedInfo, which has `weight`, too.

    Args:
        buffer: one of its own steps; of a manager's windows `manager.get_dataset` makes one.
        batch_size: B.
        view: another than the buffer's own: the same items, in another form.
        beta: with a prioritized sampler: see `sample`; or what gives it for the n-th batch
            of an iterator, n from 0, such as a `weights.LinearSchedule`.
        normalize: see `sample`.
        timeout_s: when set, a fetch that waits so long for a first step ends the dataset.
            Else it waits for ever, and says so in the log after 5 s.

    Raises:
        InvalidArgumentError: the buffer is a manager's, or none, or one whose episodes are
            used once, as of `limiters.Staleness`; the shape of a view's batches depends on
            the episodes in them; the data hold Python lists, None, keys of several types
            or a dtype that tf.data has not (float8): names where; a number is out of range,
            or weights are asked of another sampler.
        ClosedError: the buffer is closed. Reading on after that raises TensorFlow's
            InvalidArgumentError with our message in it.
    """
    if getattr(buffer, "view", None) is None or not hasattr(buffer, "item_spec"):
        raise InvalidArgumentError(
            f"buffer: found {buffer!r:.200}, wanted a reverie.ReplayBuffer that is seen "
            "through a view. A manager's windows: manager.get_dataset(), with flat=True "
            "their transitions."
        )
    roles = buffer.table.settings.roles
    if roles is not None and roles.use is not None:
        raise InvalidArgumentError(
            f"buffer: found {buffer!r:.200}, whose episodes are used once: a dataset runs "
            "ahead, and would use what nobody has read. Take reverie.tf.tensors(batch) of "
            "each batch that sample() gives."
        )
    batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
    timeout_s = check_timeout(timeout_s)
    if beta is not None:
        buffer.table.settings.check_weighted()
        one = np.ones(1)
        weights_of(one, one, _at(beta, 0), normalize, 1.0)  # or the error comes later
    spec = buffer.item_spec(view)
    check_spec(spec, Nest(spec).columns, "data")
    source = _Views(buffer, batch_size, view, beta, normalize).source(spec, timeout_s)
    return source.batches().prefetch(PREFETCHED_BATCHES)


class _Views:
    """Batches of a view, each sampled by itself: shares and weights are those of a batch."""

    def __init__(
        self, buffer: ReplayBuffer, size: int, view: View | None, beta: Any, normalize: Any
    ) -> None:
        self._buffer, self._size, self._beta = buffer, size, beta
        own = buffer.view if view is None else view
        assert own is not None
        self._arguments: dict[str, Any] = {"view": own.fixed, "normalize": normalize}

    def source(self, spec: dict[str, Any], timeout_s: float | None) -> Source:
        """What its dataset reads from; `spec` is an item's."""
        items = [(leaf.shape, leaf.dtype) for leaf in tf.nest.flatten(spec)]
        item_nbytes = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in items)
        count = len(items)
        weighted = self._beta is not None
        items += [((), dtype) for dtype in (*FACTS, *[np.dtype(np.float32)] * weighted)]
        kind = WeightedInfo if weighted else SampleInfo
        ahead = self._buffer.table.settings.may_run_ahead

        def pack(leaves: list[Any]) -> tuple[Any, Any]:
            data = tf.nest.pack_sequence_as(spec, leaves[:count])
            return data, kind(*leaves[count:])

        return Source(
            self._begin,
            [((self._size, *shape), dtype) for shape, dtype in items],
            pack,
            lambda batches: self._buffer.describe_wait(batches * self._size),
            least=BATCHES_PER_CALL,
            most=MAX_BATCHES_PER_CALL if ahead else BATCHES_PER_CALL,
            item_nbytes=item_nbytes,
            items=self._size,
            timeout_s=timeout_s,
        )

    def _begin(self) -> Draw:
        given = 0  # batches of this iterator

        def draw(batches: int, timeout: float) -> list[NDArray[Any]]:
            nonlocal given
            found: list[Sequence[Any]] = []
            try:
                for _ in range(batches):
                    batch = self._sample(given, 0 if found else timeout)
                    found.append(tf.nest.flatten(tuple(batch)))
                    given += 1
            except WaitTimeoutError:
                if not found:
                    raise
            if len(found) == 1:
                return [leaf[None] for leaf in found[0]]
            return [np.stack(leaves) for leaves in zip(*found, strict=True)]

        return draw

    def _sample(self, number: int, timeout: float) -> Any:
        beta = None if self._beta is None else _at(self._beta, number)
        return self._buffer.sample(self._size, beta=beta, timeout=timeout, **self._arguments)


def _at(beta: Beta, number: int) -> float:
    return beta(number) if callable(beta) else beta
