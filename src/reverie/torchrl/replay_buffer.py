"""TorchRL's replay buffer, over Reverie's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from reverie import replay_buffer
from reverie.errors import InvalidArgumentError, UnsupportedError
from reverie.runtime.checks import check_int
from reverie.tables.selectors import ItemSelector
from reverie.torchrl.bases import TensorDictReplayBuffer
from reverie.torchrl.sampler import Sampler
from reverie.torchrl.storage import Storage
from reverie.torchrl.writer import Writer
from reverie.views import Transitions


class ReplayBuffer(TensorDictReplayBuffer):  # type: ignore[misc]
    """Steps as TorchRL's collectors give them, each state stored once.

        buffer = ReplayBuffer(1_000_000, batch_size=256, prefetch=2)
        collector = Collector(env, policy, frames_per_batch=100, replay_buffer=buffer)

    An element is a step. `extend` takes `[T]` steps of an environment, or `[N, T]` of N of
    them, `add` one, or `[N]`; the first data say what a step is. What a step has both at the
    root and within "next" is a state; what a state led to is the next step's root, byte for
    byte, and then stored once. A sample is what was extended, `[B]`, and has "index", the
    number of each step, which is never used twice. Choices are seeded by torch's generator.

    Args:
        capacity: steps, over all environments; the oldest make room.
        sampler: one of `reverie.samplers`; None: uniform, with replacement.
        beta: with `samplers.Prioritized`: samples have "priority_weight", `(N P(i))^-beta`, 1
            for the step that is least likely to be drawn. A scheduler of TorchRL's may change
            it: `LinearScheduler(buffer, "beta", ...)`.
        n_step: above 1, ("next", "reward") is the sum of `gamma^k` times the rewards of so
            many steps, of fewer where the episode ends before; all else within "next" is as
            the last of them left it, its flags included; "steps_to_next_obs" says how many
            they were, "gamma" is `gamma` to that power.
        gamma: 0 to 1, of that.
        batch_size: of `sample`, and of a loop over the buffer.
        prefetch: samples that are drawn ahead, in as many threads; needs a `batch_size`.
        pin_memory: whether samples are in pinned memory.
        transform: TorchRL's; forward on what is sampled, inverse on what is added.
        collate_fn: of a sample; None: it is what it is.
        priority_key: the entry that `update_tensordict_priority` reads: sizes of errors.
        generator: of torch; None: its global one. Drawn from once.

    Attributes:
        buffer: the `reverie.ReplayBuffer`, for all that TorchRL's has not; None before the
            first data.

    Raises:
        InvalidArgumentError: a number is out of range, or `beta` without such a sampler.
    """

    def __init__(
        self,
        capacity: int,
        *,
        sampler: ItemSelector | None = None,
        beta: float | None = None,
        n_step: int = 1,
        gamma: float = 1.0,
        batch_size: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool = False,
        transform: Any = None,
        collate_fn: Callable[[Any], Any] | None = None,
        priority_key: str = "td_error",
        generator: Any = None,
    ) -> None:
        if batch_size is not None:
            check_int("batch_size", batch_size, 1, 2**31 - 1)
        steps = Storage(capacity, sampler, Transitions(n_step, gamma), generator)
        super().__init__(
            storage=steps,
            sampler=Sampler(steps, beta),
            writer=Writer(steps),
            collate_fn=_as_it_is if collate_fn is None else collate_fn,
            batch_size=batch_size,
            prefetch=prefetch,
            pin_memory=pin_memory,
            transform=transform,
            priority_key=priority_key,
        )

    @property
    def buffer(self) -> replay_buffer.ReplayBuffer | None:
        """The `reverie.ReplayBuffer`."""
        found: replay_buffer.ReplayBuffer | None = self._storage.buffer
        return found

    def update_tensordict_priority(self, data: Any) -> None:
        """Sets priorities from `priority_key`; without it, or of another sampler, nothing.

        Raises:
            InvalidArgumentError: it has no "index", or the priorities are none.
        """
        errors = data.get(self.priority_key, None)
        if errors is None or not self._sampler.prioritized:
            return
        index = data.get("index", None)
        if index is None:
            raise InvalidArgumentError(
                f"data: found the keys {list(data.keys())!r:.200}, wanted 'index', which says "
                "whose priorities these are."
            )
        if index.shape != data.shape:  # as a transform may have expanded it
            index = index.reshape(*data.shape, -1)[..., 0]
        self.update_priority(index, errors)

    def share(self, shared: bool = True) -> ReplayBuffer:
        """Only with False: this buffer is of one process."""
        if shared:
            raise UnsupportedError(
                "share(): a reverie.torchrl buffer is of one process. Let the collectors of "
                "others yield what they collect, without replay_buffer=, and extend() it here."
            )
        found: ReplayBuffer = super().share(False)
        return found

    def set_sampler(self, sampler: Any) -> NoReturn:
        """Not there: see `sampler=`."""
        raise _fixed("set_sampler()", "sampler=reverie.samplers....")

    def set_storage(self, storage: Any, collate_fn: Any = None) -> NoReturn:
        """Not there: steps stand in memory, `capacity` of them."""
        raise _fixed("set_storage()", "another capacity")

    def set_writer(self, writer: Any) -> NoReturn:
        """Not there: the oldest make room."""
        raise _fixed("set_writer()", "another capacity")

    def close(self) -> None:
        """Frees memory; later use is refused. Idempotent."""
        if self.buffer is not None:
            self.buffer.close()


def _fixed(what: str, way: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what}: storage, sampler and writer of a reverie.torchrl buffer are one. Make a new "
        f"one, with {way}."
    )


def _as_it_is(data: Any) -> Any:
    return data
