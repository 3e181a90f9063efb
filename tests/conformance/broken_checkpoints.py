"""Managers with a defect, for the suite to reject: checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.conformance.broken import Broken, Proxy, quiet

from reverie.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ClosedError,
)


class LoadForgetsPriorities(Broken):
    def load_replay_buffer(self, **settings: Any) -> Any:
        pair = super().load_replay_buffer(**settings)
        self.update_priorities([key for key, _ in self.iter_items()], 1.0)
        return pair


class LoadOfNothingIsEmpty(Broken):
    def load_replay_buffer(self, **settings: Any) -> Any:
        try:
            return super().load_replay_buffer(**settings)
        except CheckpointNotFoundError:
            return self.create_replay_buffer()


class LoadOfDamageIsEmpty(Broken):
    def load_replay_buffer(self, **settings: Any) -> Any:
        try:
            return super().load_replay_buffer(**settings)
        except CheckpointCorruptError:
            return quiet(self.create_replay_buffer)


class LoadKeepsOldHandles(Broken):
    class Buffer(Proxy):
        def num_frames(self) -> int:
            try:
                return int(self.good.num_frames())
            except ClosedError:
                return 0

    broken_buffer = staticmethod(Buffer)


class LoadNeedsNoRoom(Broken):
    def load_replay_buffer(self, **settings: Any) -> Any:
        try:
            return super().load_replay_buffer(**settings)
        except CheckpointCorruptError:
            raise
        except ValueError:  # a mismatch
            return quiet(self.create_replay_buffer)


class TakesOtherWindows(Broken):
    def load_replay_buffer(self, **settings: Any) -> Any:
        try:
            return super().load_replay_buffer(**settings)
        except CheckpointMismatchError as error:
            if "sequence_length" not in str(error):
                raise
            return quiet(self.create_replay_buffer)


class TakesTheSavedCapacity(Broken):
    saved = 0

    def save(self, *args: Any, **kwargs: Any) -> Any:
        TakesTheSavedCapacity.saved = self._settings.table.max_size
        return super().save(*args, **kwargs)

    def load_replay_buffer(self, **settings: Any) -> Any:
        table = dataclasses.replace(self._settings.table, max_size=self.saved)
        self._settings = dataclasses.replace(self._settings, table=table)
        return super().load_replay_buffer(**settings)


class SweepsForeignFiles(Broken):
    def save(self, *args: Any, **kwargs: Any) -> Any:
        path = super().save(*args, **kwargs)
        for entry in self._settings.checkpoint_dir.iterdir():
            if entry.is_dir() and entry != path:
                shutil.rmtree(entry)
        return path


class KeepsOne(Broken):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "max_to_keep": 1})


class RemovesFirst(Broken):
    def save(self, *args: Any, **kwargs: Any) -> Any:
        for path in self._settings.checkpoint_dir.glob("ckpt-0*"):
            shutil.rmtree(path)
        return super().save(*args, **kwargs)


class NeverFallsBack(Broken):
    def __init__(self, *args: Any, on_corrupt: str = "raise", **settings: Any) -> None:
        super().__init__(*args, **settings)


class ClientSavesElsewhere(Broken):
    class Client(Proxy):
        def checkpoint(self) -> str:
            return str(Path(self.good.checkpoint()) / "manifest.json")

    class Buffer(Proxy):
        @property
        def py_client(self) -> Any:
            return ClientSavesElsewhere.Client(self.good.py_client)

    broken_buffer = staticmethod(Buffer)


class LoadCheckpointMakesAnEmptyOne(Broken):
    def load_checkpoint(self) -> Any:
        return quiet(self.create_replay_buffer)


class SavesLate(Broken):
    late = False

    def save(self, wait: bool = True, **kwargs: Any) -> Any:
        if wait:
            return super().save(**kwargs)
        self.late = True
        return None

    def load_replay_buffer(self, **settings: Any) -> Any:
        if self.late:
            super().save()
        return super().load_replay_buffer(**settings)


class DropsBackgroundSaves(Broken):
    def save(self, wait: bool = True, **kwargs: Any) -> Any:
        return super().save(**kwargs) if wait else None


class HidesFailedSaves(Broken):
    def save(self, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(CheckpointError):
            return super().save(*args, **kwargs)
        return None


class LosesAMiddleItem(Broken):
    def save(self, *args: Any, **kwargs: Any) -> Any:
        keys = [key for key, _ in self.iter_items()]
        backend: Any = self._backend
        backend.buffer.table.core.delete(np.array(keys[1:2], np.uint64))
        return super().save(*args, **kwargs)


DEFECTS: dict[type[Broken], str] = {
    LoadForgetsPriorities: "a_checkpoint_loads_as_it_was",
    LoadOfNothingIsEmpty: "loading_nothing_is_an_error",
    LoadKeepsOldHandles: "loading_ends_the_old_handles",
    SweepsForeignFiles: "foreign_entries_survive",
    KeepsOne: "the_newest_checkpoints_are_kept",
    RemovesFirst: "there_is_a_whole_checkpoint_at_every_moment",
    LoadOfDamageIsEmpty: "a_damaged_checkpoint_is_never_an_empty_or_partial_buffer",
    NeverFallsBack: "fallback_takes_the_checkpoint_before",
    LoadNeedsNoRoom: "a_checkpoint_that_does_not_fit_is_refused",
    TakesOtherWindows: "a_checkpoint_that_does_not_fit_is_refused",
    TakesTheSavedCapacity: "a_larger_capacity_holds_more_after_loading",
    ClientSavesElsewhere: "the_buffers_client_saves_as_the_manager_does",
    LoadCheckpointMakesAnEmptyOne: "the_names_save_checkpoint_and_load_checkpoint_work",
    SavesLate: "what_comes_after_a_save_is_not_in_it",
    DropsBackgroundSaves: "closing_waits_for_a_background_save",
    HidesFailedSaves: "a_failed_save_says_so_and_harms_nothing",
    LosesAMiddleItem: "saves_while_a_thread_adds_are_consistent",
}
"""Each defect, and the check that must see it."""
