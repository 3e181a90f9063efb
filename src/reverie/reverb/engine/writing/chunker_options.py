"""Settings of a writer's columns, under Reverb's names."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_int


class ChunkerOptions:
    """Base of the settings of a column."""

    num_keep_alive_refs: int


@dataclass(frozen=True)
class AutoTunedChunkerOptions(ChunkerOptions):
    """Of a column whose chunks have the length that the writer thinks best.

    Attributes:
        num_keep_alive_refs: latest cells that new items may refer to.
        throughput_weight: without effect here.
    """

    num_keep_alive_refs: int
    throughput_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises TypeError for what is no integer."""
        as_int("num_keep_alive_refs", self.num_keep_alive_refs)


@dataclass(frozen=True)
class ConstantChunkerOptions(ChunkerOptions):
    """Of a column with chunks of one length.

    Attributes:
        max_chunk_length: without effect here: chunks are cut by size.
        num_keep_alive_refs: latest cells that new items may refer to.
    """

    max_chunk_length: int
    num_keep_alive_refs: int

    def __post_init__(self) -> None:
        """Raises TypeError for what is no integer."""
        as_int("max_chunk_length", self.max_chunk_length)
        as_int("num_keep_alive_refs", self.num_keep_alive_refs)


def keep_of(options: ChunkerOptions) -> int:
    """How many cells of a column stay.

    Raises:
        InvalidArgumentError: less than 1.
    """
    keep = as_int("num_keep_alive_refs", options.num_keep_alive_refs)
    if keep <= 0:
        raise InvalidArgumentError(f"num_keep_alive_refs must be > 0 but got {keep}.")
    return min(keep, 2**32 - 1)
