"""What a manager was asked for, checked: all that its engine needs to know."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.checkpoint.folder.place import folder_to_save_into
from reverie.checkpoint.save import check_keep
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_choice, check_int
from reverie.tables.limiters import Limiter, MinSize
from reverie.tables.selectors import FifoSelector, UniformSelector
from reverie.tables.settings import Remover, Sampler, TableSettings
from reverie.tables.signature import item_signature


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSettings:
    """What a manager was asked for; the meaning of each is said there.

    Attributes:
        given_as_path: whether the folder of checkpoints was given as a `Path`.
    """

    table: TableSettings
    data_spec: Any
    nest: Nest
    checkpoint_dir: Path
    sequence_length: int
    stride_length: int
    pad_end_of_episodes: bool
    tile_end_of_episodes: bool
    seed: int | None
    max_to_keep: int | None
    on_corrupt: str
    on_misfit: str
    server_address: str | None = None
    given_as_path: bool = False

    @classmethod
    def of(
        cls,
        data_spec: Any,
        capacity: int,
        checkpoint_dir: str | os.PathLike[str],
        sequence_length: int,
        *,
        sampler: Sampler | None,
        remover: Remover | None,
        limiter: Limiter | None,
        table_name: str,
        stride_length: int,
        pad_end_of_episodes: bool,
        tile_end_of_episodes: bool,
        seed: int | None,
        max_to_keep: int | None,
        on_corrupt: str,
        on_misfit: str,
        server_address: str | None,
    ) -> BufferSettings:
        """A manager's arguments, as far as they concern every engine; errors as there."""
        folder = folder_to_save_into("checkpoint_dir", checkpoint_dir)
        if not isinstance(table_name, str) or not table_name:
            raise InvalidArgumentError(f"table_name: found {table_name!r:.200}, wanted a name.")
        check_choice("on_corrupt", on_corrupt, ("raise", "fallback"))
        check_choice("on_misfit", on_misfit, ("raise", "leave_out"))
        if tile_end_of_episodes and not pad_end_of_episodes:
            raise InvalidArgumentError(
                "Must set `pad_end_of_episodes=True` when using `tile_end_of_episodes`."
            )
        check_keep(max_to_keep)
        capacity = check_int("capacity", capacity, 1, 2**63 - 1)
        sequence_length = check_int("sequence_length", sequence_length, 1, 2**32 - 1)
        nest = Nest(data_spec)
        return cls(
            table=TableSettings(
                name=table_name,
                max_size=capacity,
                sampler=UniformSelector() if sampler is None else sampler,
                remover=FifoSelector() if remover is None else remover,
                limiter=MinSize(1) if limiter is None else limiter,
                signature=item_signature(nest),
                sequence_length=sequence_length,
            ),
            data_spec=data_spec,
            nest=nest,
            checkpoint_dir=folder,  # absolute: os.chdir() must not move it
            sequence_length=sequence_length,
            stride_length=stride_length,
            pad_end_of_episodes=pad_end_of_episodes,
            tile_end_of_episodes=tile_end_of_episodes,
            seed=seed,
            max_to_keep=max_to_keep,
            on_corrupt=on_corrupt,
            on_misfit=on_misfit,
            server_address=server_address,
            given_as_path=isinstance(checkpoint_dir, Path),
        )
