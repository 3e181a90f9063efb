"""What a buffer says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferInfo:
    """Sizes, counters and settings of a buffer at one moment; -1: its engine does not say.

    Attributes:
        name: of its table.
        items: items that can be sampled.
        capacity: the most items it holds; then its remover makes room.
        sequence_length: steps of the items that the observer makes.
        steps: stored steps, each counted once however many items share it.
        record_nbytes: bytes of one step.
        nbytes: bytes of all stored steps.
        allocated_nbytes: bytes of memory for steps and items, what is free or touched ahead
            of use included.
        inserts: items ever added, since the buffer was created or cleared.
        samples: items ever sampled, likewise.
        deletes: items evicted or deleted, likewise.
        min_size_to_sample: items that must be there before sampling starts.
        inserts_per_second: mean since this process created or loaded the buffer.
        samples_per_second: likewise.
        broken_episodes: episodes that ended as truncated because the next step did not begin
            in the state that the last one had led to, since the buffer was created or cleared.
    """

    name: str
    items: int
    capacity: int
    sequence_length: int
    steps: int
    record_nbytes: int
    nbytes: int
    allocated_nbytes: int
    inserts: int
    samples: int
    deletes: int
    min_size_to_sample: int
    inserts_per_second: float
    samples_per_second: float
    broken_episodes: int = 0
