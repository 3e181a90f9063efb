"""Managers with a defect, for the suite to reject: life and adding."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any

import numpy as np
from tests.conformance.broken import Broken, Proxy, quiet

from reverie.errors import (
    CheckpointError,
    ClosedError,
    InvalidArgumentError,
    NotInitializedError,
    StepMismatchError,
    WaitTimeoutError,
)
from reverie.nests.trajectory import MID


class TakesAnyCapacity(Broken):
    def __init__(self, *args: Any, capacity: Any, **settings: Any) -> None:
        good = capacity if type(capacity) is int and capacity > 0 else 5
        super().__init__(*args, capacity=good, **settings)


class CreatesUnasked(Broken):
    def _require(self, call: str) -> Any:
        if self._backend is None and not self._closed:
            self.create_replay_buffer()
        return super()._require(call)


class MakesANewPairEachTime(Broken):
    def get_replay_buffer_and_observer(self) -> Any:
        return self.create_replay_buffer()


class CreateLoads(Broken):
    def create_replay_buffer(self) -> Any:
        with contextlib.suppress(CheckpointError):
            return self.load_replay_buffer()
        return super().create_replay_buffer()


class CreateKeepsOldItems(Broken):
    def create_replay_buffer(self) -> Any:
        return super().get_replay_buffer_and_observer()


class ClearBringsBackTheCheckpoint(Broken):
    def clear(self) -> None:
        super().clear()
        with contextlib.suppress(CheckpointError):
            if self._backend is not None:
                self.load_replay_buffer()


class ClearMakesNewHandles(Broken):
    def clear(self) -> None:
        if self._backend is None:
            super().clear()
        else:
            quiet(self.create_replay_buffer)


class ClearKeepsOpenEpisodes(Broken):
    class Observer(Proxy):
        last: Any = None

        def __call__(self, step: Any) -> None:
            if self.last is not None and self._cached_steps == 0 and self.last.step_type != 2:
                self.good(self.last)
            self.last = step
            self.good(step)

    broken_observer = staticmethod(Observer)


class ClearRemovesCheckpoints(Broken):
    def clear(self) -> None:
        super().clear()
        for path in self._settings.checkpoint_dir.glob("ckpt-0*"):
            shutil.rmtree(path)


class ClosesOnce(Broken):
    def close(self) -> None:
        self._check_open()
        super().close()


class StaysOpen(Broken):
    def close(self) -> None:
        self._finish_saving()


class ClosingDoesNotWake(Broken):
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().sample(*args, **kwargs)
        except ClosedError:
            if self._backend is None and self._closed:
                raise WaitTimeoutError("slept through it") from None
            raise


class ForgetsItsName(Broken):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "table_name": "table"})


class NamesAnotherFolder(Broken):
    @property
    def checkpoint_dir(self) -> Any:
        return f"{super().checkpoint_dir}-2"


class KeepsItsServerSecret(Broken):
    @property
    def server(self) -> Any:
        return None


class IgnoresItsSeed(Broken):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "seed": None})


class SaysKeyError(Broken):
    def info(self) -> Any:
        try:
            return super().info()
        except NotInitializedError as error:
            raise KeyError(str(error)) from None


class LosesASeventhStep(Broken):
    class Observer(Proxy):
        calls = 0

        def __call__(self, step: Any) -> None:
            self.calls += 1
            if self.calls % 7:
                self.good(step)

    broken_observer = staticmethod(Observer)


class NumFramesLags(Broken):
    lag = 0

    def num_frames(self) -> int:
        now, self.lag = self.lag, super().num_frames()
        return min(now, self.lag)


class CrossesBoundaries(Broken):
    class Observer(Proxy):
        def __call__(self, step: Any) -> None:
            self.good(step._replace(step_type=np.asarray(min(step.step_type, MID), np.int32)))

    broken_observer = staticmethod(Observer)


class PadsNothing(Broken):
    def __init__(self, *args: Any, **settings: Any) -> None:
        settings = {k: v for k, v in settings.items() if k != "pad_end_of_episodes"}
        super().__init__(*args, **{**settings, "tile_end_of_episodes": False})


class TilesNothing(Broken):
    def __init__(self, *args: Any, **settings: Any) -> None:
        if settings.get("pad_end_of_episodes"):
            settings["tile_end_of_episodes"] = False
        super().__init__(*args, **settings)


class SharesOneObserver(Broken):
    def new_observer(self) -> Any:
        return self.get_replay_buffer_and_observer()[1]


class SharesAnObserverAmongThreads(SharesOneObserver):
    pass


class KeepsReferences(Broken):
    class Observer(Proxy):
        first: Any = None
        calls = 0

        def __call__(self, step: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                self.first = step
                return
            if self.calls == 2:
                self.good(self.first)
            self.good(step)

    broken_observer = staticmethod(Observer)


class RoundsValues(Broken):
    class Observer(Proxy):
        def __call__(self, step: Any) -> None:
            self.good(step._replace(reward=np.nan_to_num(step.reward)))

    broken_observer = staticmethod(Observer)


class StoresHalfSteps(Broken):
    class Observer(Proxy):
        def __call__(self, step: Any) -> None:
            try:
                self.good(step)
                self.whole = step
            except StepMismatchError:
                self.good(self.whole)
                raise

    broken_observer = staticmethod(Observer)


class ResetsOnlyWhereItWorks(Broken):
    class Observer(Proxy):
        def reset(self, write_cached_steps: bool = True) -> None:
            if write_cached_steps and self._cached_steps == 2:
                raise InvalidArgumentError("steps would be lost, so they are kept")
            self.good.reset(write_cached_steps)

    broken_observer = staticmethod(Observer)


class ObserverNeverCloses(Broken):
    class Observer(Proxy):
        def close(self) -> None:
            pass

    broken_observer = staticmethod(Observer)


class HoldsOneMore(Broken):
    def __init__(self, *args: Any, capacity: Any, **settings: Any) -> None:
        good = type(capacity) is int and capacity > 0
        super().__init__(*args, capacity=capacity + 1 if good else capacity, **settings)


DEFECTS: dict[type[Broken], str] = {
    TakesAnyCapacity: "bad_settings_are_refused_at_once",
    CreatesUnasked: "before_there_is_a_buffer_calls_say_so",
    MakesANewPairEachTime: "the_pair_is_made_when_first_asked_for_and_then_stays",
    CreateKeepsOldItems: "creating_again_empties_and_ends_the_old_handles",
    CreateLoads: "creating_neither_loads_nor_deletes_checkpoints",
    ClearBringsBackTheCheckpoint: "clear_empties_and_handles_stay_valid",
    ClearMakesNewHandles: "clear_empties_and_handles_stay_valid",
    ClearKeepsOpenEpisodes: "no_window_joins_steps_from_before_and_after_clear",
    ClearRemovesCheckpoints: "clear_leaves_the_checkpoints",
    ClosesOnce: "close_is_idempotent_and_later_calls_say_so",
    StaysOpen: "a_with_block_closes",
    ClosingDoesNotWake: "closing_ends_the_waits_of_other_threads",
    ForgetsItsName: "info_tells_the_sizes",
    NamesAnotherFolder: "its_attributes_are_what_was_asked_for_and_made",
    KeepsItsServerSecret: "its_attributes_are_what_was_asked_for_and_made",
    IgnoresItsSeed: "a_seed_repeats_the_batches_or_is_refused",
    SaysKeyError: "errors_are_pythons_too",
    LosesASeventhStep: "every_window_is_an_item_in_insertion_order",
    NumFramesLags: "num_frames_counts_every_finished_call",
    CrossesBoundaries: "windows_never_cross_a_boundary",
    PadsNothing: "padding_fills_the_rest_of_an_episode",
    TilesNothing: "tiling_starts_a_window_at_each_last_step",
    SharesOneObserver: "two_observers_never_share_a_window",
    SharesAnObserverAmongThreads: "threads_add_together",
    KeepsReferences: "steps_are_copied",
    RoundsValues: "values_come_back_bit_for_bit",
    StoresHalfSteps: "a_step_that_does_not_match_is_refused_whole",
    ResetsOnlyWhereItWorks: "a_reset_ends_the_episode",
    ObserverNeverCloses: "a_closed_observer_says_so_and_opens_again",
    HoldsOneMore: "the_oldest_item_makes_room",
}
"""Each defect, and the check that must see it."""
