"""What was found in a checkpoint that was verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a sound checkpoint holds.

    Attributes:
        sequence_number: its place among ours; 0 for one of Reverb's.
        library_version: what wrote it; "" where it does not say.
        saved_at: when, for people; "" where it does not say.
        nbytes: bytes of its files, the manifest left out.
        num_files: its files, the manifest among them.
        num_chunks: chunks.
        num_records: their records; a cell of a trajectory's column is one, too.
        num_ends: ends of episodes that are known.
        num_items: items of each table, by name.
        extra_files: names that are not its own.
    """

    sequence_number: int
    library_version: str
    saved_at: str
    nbytes: int
    num_files: int
    num_chunks: int
    num_records: int
    num_ends: int
    num_items: Mapping[str, int]
    extra_files: tuple[str, ...]
