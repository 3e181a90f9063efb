"""Checks of a manager's life: before there is a buffer, create, clear, close."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reverie.errors import ClosedError, InvalidArgumentError, NotInitializedError
from reverie.testing.manager_checks.kit import Kit, equal, expect, raises

# Every call of a manager but close(), by what must have come before it.
NEED_A_BUFFER: dict[str, Callable[[Any], Any]] = {
    "get_dataset": lambda m: m.get_dataset(),
    "new_observer": lambda m: m.new_observer(),
    "sample": lambda m: m.sample(1),
    "gather_all": lambda m: m.gather_all(),
    "iter_items": lambda m: m.iter_items(),
    "update_priorities": lambda m: m.update_priorities([1], [1.0]),
    "info": lambda m: m.info(),
    "save": lambda m: m.save(),
    "save_checkpoint": lambda m: m.save_checkpoint(),
}
ANY_TIME: dict[str, Callable[[Any], Any]] = {
    "num_frames": lambda m: m.num_frames(),
    "clear": lambda m: m.clear(),
    "create_replay_buffer": lambda m: m.create_replay_buffer(),
    "load_replay_buffer": lambda m: m.load_replay_buffer(),
    "load_checkpoint": lambda m: m.load_checkpoint(),
    "get_replay_buffer_and_observer": lambda m: m.get_replay_buffer_and_observer(),
}
# What is None before there is a buffer.
MADE = ("replay_buffer", "observer", "server")
_BAD_SETTINGS: dict[str, list[Any]] = {
    "capacity": [0, -1, 1.5, True, None, "3"],
    "sequence_length": [0, -1, 1.5, True, None],
    "stride_length": [0, -1, 1.5, True],
    "max_to_keep": [0, -1, 1.5],
    "table_name": ["", None, 3],
    "on_corrupt": ["skip", None],
    "on_misfit": ["skip", None],
    "tile_end_of_episodes": [True],
}


class LifeChecks(Kit):
    """Before there is a buffer, create, clear, close."""

    def test_bad_settings_are_refused_at_once(self, tmp_path: Path) -> None:
        """Numbers out of range and settings that contradict: InvalidArgumentError."""
        for name, values in _BAD_SETTINGS.items():
            for value in values:
                with raises(InvalidArgumentError, f"{name}={value!r}"):
                    self.manager(tmp_path, **{name: value}).close()

    def test_before_there_is_a_buffer_calls_say_so(self, tmp_path: Path) -> None:
        """NotInitializedError, but it holds nothing and clearing does nothing."""
        with self.manager(tmp_path / "none") as manager:
            for name, call in NEED_A_BUFFER.items():
                with raises(NotInitializedError, f"{name}() before there is a buffer"):
                    call(manager)
            manager.clear()
            equal(manager.num_frames(), 0, "num_frames() before there is a buffer")
        expect(not (tmp_path / "none").exists(), "a folder was made without a save")

    def test_its_attributes_are_what_was_asked_for_and_made(self, tmp_path: Path) -> None:
        """By the names that Smart Control's manager has."""
        asked: dict[str, Any] = {"capacity": 7, "sequence_length": 3, "table_name": "mine"}
        with self.manager(tmp_path, **asked) as manager:
            equal({name: getattr(manager, name) for name in asked}, asked, "attributes")
            expect(manager.data_spec is self.data_spec, "data_spec is another")
            equal(Path(manager.checkpoint_dir), tmp_path, "checkpoint_dir")
            made = [getattr(manager, name) for name in MADE]
            equal(made, [None, None, None], f"{', '.join(MADE)} before there is a buffer")
            buffer, observer = manager.create_replay_buffer()
            expect(manager.replay_buffer is buffer, "replay_buffer is another")
            expect(manager.observer is observer, "observer is another")
            expect(manager.server is not None, "server is None")
            equal(list(manager.server.localhost_client().server_info()), ["mine"], "tables")

    def test_the_pair_is_made_when_first_asked_for_and_then_stays(self, tmp_path: Path) -> None:
        """`get_replay_buffer_and_observer` creates once."""
        with self.manager(tmp_path) as manager:
            buffer, observer = manager.get_replay_buffer_and_observer()
            self.add(observer, [1, 2, 3])
            again = manager.get_replay_buffer_and_observer()
            expect(again[0] is buffer and again[1] is observer, "the pair changed")
            equal(manager.num_frames(), 2, "items after asking for the pair again")

    def test_creating_again_empties_and_ends_the_old_handles(self, tmp_path: Path) -> None:
        """A fresh buffer; the old one's handles raise ClosedError."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            old_buffer, old_observer = manager.get_replay_buffer_and_observer()
            buffer, observer = manager.create_replay_buffer()
            equal((buffer.num_frames(), manager.num_frames()), (0, 0), "items of a new buffer")
            with raises(ClosedError, "the old buffer"):
                old_buffer.num_frames()
            with raises(ClosedError, "the old observer"):
                old_observer(self.step(9))
            self.add(observer, [4, 5])
            equal(self.items(manager), [[4, 5]], "items of a new buffer")

    def test_creating_neither_loads_nor_deletes_checkpoints(self, tmp_path: Path) -> None:
        """It is empty, it warns, and the checkpoint still loads."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            manager.save()
        with self.manager(tmp_path) as manager:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                buffer, _ = manager.create_replay_buffer()
            expect(
                any(issubclass(each.category, UserWarning) for each in caught),
                "creating over a checkpoint did not warn",
            )
            equal((buffer.num_frames(), manager.num_frames()), (0, 0), "items of a new buffer")
            equal(self.items(manager), [], "items of a new buffer")
            manager.load_replay_buffer()
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the checkpoint")

    def test_clear_empties_and_handles_stay_valid(self, tmp_path: Path) -> None:
        """Nothing is left, nothing comes back, and adding goes on with the old handles."""
        with self.filled(tmp_path, [1, 2, 3, 4]) as manager:
            buffer, observer = manager.get_replay_buffer_and_observer()
            manager.save()
            manager.clear()
            equal((manager.num_frames(), buffer.num_frames()), (0, 0), "items after clear()")
            equal(self.items(manager), [], "items after clear()")
            equal((manager.info().items, manager.info().inserts), (0, 0), "info after clear()")
            again = manager.get_replay_buffer_and_observer()
            expect(again[0] is buffer and again[1] is observer, "clear() changed the handles")
            self.add(observer, [5, 6, 7])
            equal(self.items(manager), [[5, 6], [6, 7]], "items added after clear()")
            equal(buffer.num_frames(), 2, "num_frames() of the old buffer handle")

    def test_no_window_joins_steps_from_before_and_after_clear(self, tmp_path: Path) -> None:
        """For any length, and for every observer."""
        for length in (2, 3, 5):
            with self.manager(tmp_path / str(length), length) as manager:
                _, first = manager.create_replay_buffer()
                second = manager.new_observer()
                for observer in (first, second):
                    self.add(observer, range(1, length))
                manager.clear()
                for observer in (first, second):
                    self.add(observer, range(50, 50 + length))
                wanted = [list(range(50, 50 + length))] * 2
                equal(self.items(manager), wanted, f"windows of {length} after clear()")

    def test_clear_leaves_the_checkpoints(self, tmp_path: Path) -> None:
        """They load again when that is asked for, and only then."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            path = manager.save()
            before = entries_of(path)
            manager.clear()
            equal(entries_of(path), before, "files of the checkpoint after clear()")
            equal(manager.num_frames(), 0, "items after clear()")
            manager.load_replay_buffer()
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the checkpoint")

    def test_close_is_idempotent_and_later_calls_say_so(self, tmp_path: Path) -> None:
        """ClosedError from every call of the manager and of its handles."""
        for created in (False, True):
            manager = self.manager(tmp_path)
            handles = manager.create_replay_buffer() if created else None
            manager.close()
            manager.close()
            for name, call in {**NEED_A_BUFFER, **ANY_TIME}.items():
                with raises(ClosedError, f"{name}() after close()"):
                    call(manager)
            if handles is not None:
                with raises(ClosedError, "num_frames() of a buffer after close()"):
                    handles[0].num_frames()
                with raises(ClosedError, "an observer after close()"):
                    handles[1](self.step(1))
                handles[1].close()

    def test_a_with_block_closes(self, tmp_path: Path) -> None:
        """Also on an error, which comes through."""
        with raises(ZeroDivisionError, "an error in a with block"):
            with self.filled(tmp_path, [1, 2]) as manager:
                raise ZeroDivisionError
        with raises(ClosedError, "a manager after its with block"):
            manager.num_frames()

    def test_closing_ends_the_waits_of_other_threads(self, tmp_path: Path) -> None:
        """A sampling thread gets ClosedError, soon."""
        manager = self.manager(tmp_path)
        manager.create_replay_buffer()
        timer = threading.Timer(0.05, manager.close)
        timer.start()
        try:
            with raises(ClosedError, "a sample() during close()"):
                manager.sample(1, timeout=20)
        finally:
            timer.join()

    def test_info_tells_the_sizes(self, tmp_path: Path) -> None:
        """Name, items, capacity, sequence length, inserts and samples."""
        with self.filled(tmp_path, range(1, 12), capacity=5, table_name="mine") as manager:
            manager.sample(3)
            info = manager.info()
            equal(
                (info.name, info.items, info.capacity, info.sequence_length),
                ("mine", 5, 5, 2),
                "name, items, capacity and sequence length",
            )
            equal((info.inserts, info.samples, info.deletes), (10, 3, 5), "counters")

    def test_a_seed_repeats_the_batches_or_is_refused(self, tmp_path: Path) -> None:
        """The same seed and calls give the same batches, where the engine has seeds."""
        try:
            managers = [self.filled(tmp_path, range(1, 30), seed=7) for _ in range(2)]
        except InvalidArgumentError:
            return
        batches = [[self.stacked(m.sample(16)[0]) for _ in range(3)] for m in managers]
        for manager in managers:
            manager.close()
        equal(batches[0], batches[1], "batches of the same seed")

    def test_errors_are_pythons_too(self, tmp_path: Path) -> None:
        """So that `except` clauses written without Reverie's classes still hold."""
        with self.manager(tmp_path) as manager:
            with raises(RuntimeError, "a call before there is a buffer"):
                manager.info()
            with raises(FileNotFoundError, "a load of nothing"):
                manager.load_replay_buffer()
        with raises(ValueError, "a call after close()"):
            manager.num_frames()


def entries_of(path: Path) -> dict[str, bytes]:
    """The files of a checkpoint's folder."""
    return {file.name: file.read_bytes() for file in path.iterdir()}
