"""One table of the core by itself, with any selectors, whose items hold their own number."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.sample import SampleInfo

KINDS = {
    "uniform": _core.UNIFORM,
    "fifo": _core.FIFO,
    "lifo": _core.LIFO,
    "prioritized": _core.PRIORITIZED,
    "min_heap": _core.MIN_HEAP,
    "max_heap": _core.MAX_HEAP,
}


class CoreTable:
    """Items of one step, the n-th of which holds n. Also a buffer to the model's checker."""

    def __init__(
        self,
        capacity: int,
        *,
        sampler: str = "uniform",
        remover: str = "fifo",
        sampler_exponent: float = 1.0,
        remover_exponent: float = 1.0,
        max_times_sampled: int = 0,
        seed: int = 1,
    ) -> None:
        self.store = _core.Store()
        self.table = self.store.create_table(
            max_size=capacity,
            sampler=KINDS[sampler],
            remover=KINDS[remover],
            min_size_to_sample=1,
            samples_per_insert=1.0,
            min_diff=-math.inf,
            max_diff=math.inf,
            seed=seed,
            sampler_exponent=sampler_exponent,
            remover_exponent=remover_exponent,
            max_times_sampled=max_times_sampled,
        )
        self.layout = _core.RecordLayout([(np.dtype(np.int64), ())])
        self.writer = self.store.create_writer(
            self.layout,
            [self.table],
            sequence_length=1,
            stride_length=1,
            priority=1.0,
            pad_end=False,
            tile_end=False,
            pad_record=bytes(8),
            boundary_column=-1,
            boundary_value=0,
        )
        self.inserted = 0
        self.arguments = {
            "capacity": capacity,
            "sampler": sampler,
            "remover": remover,
            "sampler_exponent": sampler_exponent,
            "remover_exponent": remover_exponent,
            "max_times_sampled": max_times_sampled,
        }

    def restored(self, leave_out: str = "") -> CoreTable:
        """A copy by way of a snapshot, made with another seed, which that must replace."""
        copy = CoreTable(**self.arguments, seed=99)
        copy.inserted = self.inserted
        snapshot = self.store.snapshot()
        ids, nexts = snapshot.chunks["id"], snapshot.chunks["next"]
        for row, (number, count) in enumerate(zip(ids, snapshot.chunks["count"], strict=True)):
            copy.store.restore_chunk(copy.layout, number, count)[:] = snapshot.data(row)
        copy.store.link_chunks(ids[nexts != 0], nexts[nexts != 0])
        (table,) = snapshot.tables
        state = {name: column for name, column in table.items.items() if name != leave_out}
        state |= {"free_keys": table.free_keys, "rng_state": table.rng_state}
        copy.table.restore({**state, "counters": table.counters})
        copy.store.seal_restore()
        return copy

    def insert(self, priority: float | None) -> None:
        self.writer.set_priority(priority)
        assert self.writer.append([np.int64(self.inserted)], 0) == -1
        self.inserted += 1

    def numbers(self) -> list[int]:
        """What its items hold, oldest first."""
        return self.gather_all().ravel().tolist()

    def sample(self, n: int) -> tuple[NDArray[np.int64], SampleInfo] | None:
        """A batch: numbers [n, 1], info [n]."""
        found = self.table.sample(self.layout, n, 1, 1, False, None)
        return found and (found[0][0], SampleInfo(*found[1]))

    def sample_items(self, n: int) -> tuple[NDArray[np.int64], SampleInfo] | None:
        """The same one item at a time: at most n."""
        found = self.table.sample_items(n)
        if found is None:
            return None
        *info, columns = zip(*found, strict=True)
        data = np.array([column for (column,) in columns])
        return data, SampleInfo(*(np.array(field) for field in info))

    def update(self, keys: Any, priorities: Any) -> int:
        return self.table.update_priorities(
            np.array(keys, np.uint64), np.array(priorities, np.float64)
        )

    def delete(self, keys: Any) -> int:
        return self.table.delete(np.array(keys, np.uint64))

    # What `reverie.testing.model.Checker` wants of a buffer.

    def num_frames(self) -> int:
        return self.table.size

    def get_table_info(self) -> Any:
        return SimpleNamespace(
            **self.table.info(), items=self.table.size, steps=self.store.info()["num_steps"]
        )

    def item_info(self) -> dict[str, NDArray[Any]]:
        return self.table.items()

    def gather_all(self) -> NDArray[np.int64]:
        """Numbers [N, 1]."""
        return self.table.gather(self.layout, None, 1)[0][0]
