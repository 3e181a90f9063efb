"""Checks of checkpoints: that they load as they were, are never lost, and touch nothing."""

from __future__ import annotations

import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    ClosedError,
)
from reverie.samplers import Prioritized
from reverie.testing.manager_checks.kit import (
    Kit,
    entries,
    equal,
    expect,
    raises,
    windows,
    within,
)


class CheckpointChecks(Kit):
    """That they load as they were, are never lost, and touch nothing of others."""

    def test_a_checkpoint_loads_as_it_was(self, tmp_path: Path) -> None:
        """Items, their order and bytes, priorities and draws, in another manager."""
        settings = {"capacity": 12, "sampler": Prioritized()}
        with self.filled(tmp_path, range(1, 20), sequence_length=3, **settings) as manager:
            keys = [key for key, _ in manager.iter_items()]
            manager.update_priorities(keys, np.arange(1.0, 13.0))
            draws = self._draws(manager, manager.sample(50)[1].key)
            path = manager.save()
            expect(path.is_dir() and path.parent == tmp_path, f"save() returned {path}")
            wanted = self.items(manager)
        with self.manager(tmp_path, 3, **settings) as other:
            buffer, observer = other.load_replay_buffer()
            equal((other.num_frames(), buffer.num_frames()), (12, 12), "items after loading")
            equal(self.items(other), wanted, "items after loading")
            info = other.sample(300)[1]
            place = {key: n for n, (key, _) in enumerate(other.iter_items())}
            for key, priority in zip(info.key.tolist(), info.priority.tolist(), strict=True):
                equal(priority, 1.0 + place[key], "priority after loading")
            first = {
                place[key]: int(info.times_sampled[info.key == key].min()) - 1
                for key in set(info.key.tolist())
            }
            by_place = {keys.index(key): n for key, n in draws.items()}
            equal(first, {n: by_place.get(n, 0) for n in first}, "draws after loading")
            self.add(observer, [50, 51, 52])
            equal(self.items(other), [*wanted[1:], [50, 51, 52]], "items added after loading")

    def test_loading_nothing_is_an_error(self, tmp_path: Path) -> None:
        """No folder, an empty one, a foreign one; and the live buffer stays as it is."""
        foreign = tmp_path / "foreign"
        _plant(foreign)
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "missing", tmp_path / "empty", foreign):
            with self.filled(folder, [1, 2, 3]) as manager:
                buffer, _ = manager.get_replay_buffer_and_observer()
                with raises(CheckpointNotFoundError, f"loading from {folder.name}"):
                    manager.load_replay_buffer()
                equal(self.items(manager), [[1, 2], [2, 3]], "items after a failed load")
                equal(buffer.num_frames(), 2, "items of the old handle after a failed load")
            with self.manager(folder) as manager:
                with raises(CheckpointNotFoundError, f"loading from {folder.name}"):
                    manager.load_replay_buffer()
                equal(manager.num_frames(), 0, "items after a failed load")

    def test_loading_ends_the_old_handles(self, tmp_path: Path) -> None:
        """They raise ClosedError; the new ones hold the checkpoint."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            manager.save()
            old_buffer, old_observer = manager.get_replay_buffer_and_observer()
            self.add(old_observer, [4, 5])
            pair = manager.load_replay_buffer()
            again = manager.get_replay_buffer_and_observer()
            expect(again[0] is pair[0] and again[1] is pair[1], "the pair changed")
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the checkpoint")
            with raises(ClosedError, "the old buffer"):
                old_buffer.num_frames()
            with raises(ClosedError, "the old observer"):
                old_observer(self.step(9))

    def test_foreign_entries_survive(self, tmp_path: Path) -> None:
        """Through saves, removals of old checkpoints, loads, clears and closing."""
        before = _plant(tmp_path)
        for _ in range(2):
            with self.manager(tmp_path, max_to_keep=1) as manager:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    _, observer = manager.create_replay_buffer()
                for number in range(1, 5):
                    self.add(observer, [number, number + 1])
                    path = manager.save()
                    expect(path.is_dir(), "the checkpoint that was just saved is gone")
                manager.clear()
                manager.load_replay_buffer()
                equal(manager.num_frames(), 7, "items of the newest checkpoint")
        found = {name: data for name, data in entries(tmp_path).items() if name in before}
        equal(found, before, "foreign entries")

    def test_the_newest_checkpoints_are_kept(self, tmp_path: Path) -> None:
        """`max_to_keep` of them, and all with None."""
        for keep, wanted in ((1, 1), (2, 2), (None, 5)):
            folder = tmp_path / str(keep)
            with self.manager(folder, max_to_keep=keep) as manager:
                _, observer = manager.create_replay_buffer()
                paths = []
                for number in range(1, 6):
                    observer(self.step(number))
                    paths.append(manager.save())
                equal(len(set(paths)), 5, "different paths of five saves")
                there = [path.exists() for path in paths]
                equal(there, [False] * (5 - wanted) + [True] * wanted, "which are there")
                manager.load_replay_buffer()
                equal(self.items(manager), windows(range(1, 6), 2), "items of the newest")

    def test_there_is_a_whole_checkpoint_at_every_moment(self, tmp_path: Path) -> None:
        """While the next one is being saved, the one before can be loaded."""
        with self.filled(tmp_path, [1, 2, 3], max_to_keep=1) as manager:
            manager.save()
            seen: list[list[list[int]]] = []

            def look(done: int, total: int) -> None:
                with self.manager(tmp_path, max_to_keep=1) as other:
                    other.load_replay_buffer()
                    seen.append(self.items(other))

            self.add(manager.get_replay_buffer_and_observer()[1], [4])
            manager.save(progress=look)
            expect(seen, "progress was never called")
            before = [[1, 2], [2, 3]]
            expect(all(items == before for items in seen[:1]), f"found {seen[0]} meanwhile")
            manager.load_replay_buffer()
            equal(self.items(manager), [*before, [3, 4]], "items of the newest")

    def test_a_damaged_checkpoint_is_never_an_empty_or_partial_buffer(
        self, tmp_path: Path
    ) -> None:
        """CheckpointError, and the live buffer stays; or the items, if no harm was done."""
        with self.filled(tmp_path / "good", range(1, 40)) as manager:
            path = manager.save()
            wanted = self.items(manager)
        files = sorted(file.name for file in path.iterdir() if file.stat().st_size)
        for name in files:
            size = (path / name).stat().st_size
            for cut in (0, size // 2, size - 1, None):
                folder = tmp_path / f"{name}-{cut}"
                shutil.copytree(tmp_path / "good", folder)
                file = folder / path.name / name
                data = bytearray(file.read_bytes())
                if cut is None:
                    data[size // 2] ^= 0x10
                file.write_bytes(data[:cut])
                self._load_damaged(folder, f"{name} changed at {cut}", wanted)
            folder = tmp_path / f"{name}-missing"
            shutil.copytree(tmp_path / "good", folder)
            (folder / path.name / name).unlink()
            self._load_damaged(folder, f"{name} missing", wanted)

    def test_fallback_takes_the_checkpoint_before(self, tmp_path: Path) -> None:
        """With a warning; without it the damage is an error."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            manager.save()
            self.add(manager.get_replay_buffer_and_observer()[1], [4])
            path = manager.save()
        largest = max(path.iterdir(), key=lambda file: file.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-20])
        with self.manager(tmp_path) as manager:
            with raises(CheckpointError, "loading a damaged checkpoint"):
                manager.load_replay_buffer()
        with self.manager(tmp_path, on_corrupt="fallback") as manager:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                manager.load_replay_buffer()
            expect(caught, "falling back did not warn")
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the one before")

    def test_a_checkpoint_that_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        """CheckpointMismatchError, and the live buffer stays."""
        with self.filled(tmp_path, range(1, 10)) as manager:
            manager.save()
        other = self._spec._replace(discount=self._spec.observation)
        for what, settings in {
            "capacity": {"capacity": 7},
            "data spec": {"data_spec": other},
            "sequence_length": {"sequence_length": 3},
        }.items():
            with self.manager(tmp_path, **settings) as manager:
                with raises(CheckpointMismatchError, f"a checkpoint of another {what}"):
                    manager.load_replay_buffer()
                equal(manager.num_frames(), 0, "items after a refused load")

    def test_a_larger_capacity_holds_more_after_loading(self, tmp_path: Path) -> None:
        """The manager's capacity counts, not that of the checkpoint."""
        with self.filled(tmp_path, range(1, 10), capacity=5) as manager:
            manager.save()
        with self.manager(tmp_path, capacity=9) as manager:
            _, observer = manager.load_replay_buffer()
            equal(manager.info().capacity, 9, "capacity after loading")
            self.add(observer, range(20, 27))
            wanted = windows(range(1, 10), 2)[-3:] + windows(range(20, 27), 2)
            equal(self.items(manager), wanted, "items of the larger buffer")

    def test_the_buffers_client_saves_as_the_manager_does(self, tmp_path: Path) -> None:
        """`replay_buffer.py_client.checkpoint()`, and the observer's, return the path."""
        with self.filled(tmp_path, [1, 2, 3], max_to_keep=2) as manager:
            for handle in manager.get_replay_buffer_and_observer():
                path = Path(handle.py_client.checkpoint())
                expect(path.is_dir() and path.parent == tmp_path, f"the path is {path}")
            manager.clear()
            manager.load_replay_buffer()
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the checkpoint")

    def test_the_names_save_checkpoint_and_load_checkpoint_work(self, tmp_path: Path) -> None:
        """By the names of Smart Control's later versions; the path comes as text."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            path = manager.save_checkpoint()
            expect(isinstance(path, str) and Path(path).parent == tmp_path, f"path: {path!r}")
            manager.clear()
            pair = manager.load_checkpoint()
            equal(self.items(manager), [[1, 2], [2, 3]], "items of the checkpoint")
            again = manager.get_replay_buffer_and_observer()
            expect(again[0] is pair[0] and again[1] is pair[1], "the pair is another")

    def test_what_comes_after_a_save_is_not_in_it(self, tmp_path: Path) -> None:
        """Nor is anything missing that came before, in the background too."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            observer = manager.get_replay_buffer_and_observer()[1]
            for wait, start in ((True, 10), (False, 20)):
                wanted = self.items(manager)
                path = manager.save(wait=wait)
                expect((path is None) == (not wait), f"save(wait={wait}) returned {path}")
                self.add(observer, [start, start + 1], ends=True)
                _, observer = manager.load_replay_buffer()
                equal(self.items(manager), wanted, f"items of a save(wait={wait})")
                self.add(observer, [start, start + 1], ends=True)

    def test_closing_waits_for_a_background_save(self, tmp_path: Path) -> None:
        """Afterwards it is there, whole, and nothing temporary is left."""
        with self.filled(tmp_path, range(1, 30)) as manager:
            path = manager.save()
            manager.save(wait=False)
        names = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
        equal(len(names), 2, f"folders after two saves ({sorted(names)})")
        expect(path.name in names, "the first save is gone")
        with self.manager(tmp_path) as manager:
            manager.load_replay_buffer()
            equal(self.items(manager), windows(range(1, 30), 2), "items of the newest")

    def test_a_failed_save_says_so_and_harms_nothing(self, tmp_path: Path) -> None:
        """At once, or, in the background, on the next call, once."""
        with self.filled(tmp_path / "file" / "folder", [1, 2, 3]) as manager:
            (tmp_path / "file").write_text("in the way")
            with raises(CheckpointWriteError, "a save into an impossible folder"):
                manager.save()
            equal(manager.num_frames(), 2, "items after a failed save")
            with raises(CheckpointWriteError, "a background save into an impossible folder"):
                manager.save(wait=False)
                expect(within(20, lambda: _fails(manager.num_frames)), "it never failed")
                raise CheckpointWriteError
            equal(manager.num_frames(), 2, "items after a failed save")

    def test_saves_while_a_thread_adds_are_consistent(self, tmp_path: Path) -> None:
        """Each holds a run of whole windows."""
        with self.filled(tmp_path, range(1, 4), sequence_length=3, capacity=30) as manager:
            observer = manager.get_replay_buffer_and_observer()[1]
            stop = threading.Event()

            def collect() -> None:
                number = 4
                while not stop.is_set():
                    observer(self.step(number))
                    number += 1
                    stop.wait(0.0005)

            thread = threading.Thread(target=collect)
            thread.start()
            try:
                for _ in range(4):
                    manager.save()
                    with self.manager(tmp_path, 3, capacity=30) as other:
                        other.load_replay_buffer()
                        found = self.items(other)
                    first = found[0][0]
                    wanted = windows(range(first, first + len(found) + 2), 3)
                    equal(found, wanted, "a checkpoint saved meanwhile")
            finally:
                stop.set()
                thread.join()

    def _load_damaged(self, folder: Path, what: str, wanted: list[list[int]]) -> None:
        with self.manager(folder) as manager:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.add(manager.create_replay_buffer()[1], [1, 2])
            try:
                manager.load_replay_buffer()
            except CheckpointError:
                equal(self.items(manager), [[1, 2]], f"the live buffer after {what}")
            else:
                equal(self.items(manager), wanted, f"items after {what}, without an error")

    def _draws(self, manager: Any, keys: Any) -> dict[int, int]:
        found, counts = np.unique(keys, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _plant(folder: Path) -> dict[str, bytes | None]:
    """Puts foreign entries into a folder, names before and after any checkpoint's."""
    for name in ("1_mydata", "zzz", ".hidden", "ckpt-notes", "0"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "file").write_bytes(b"precious")
        (folder / name / "file").write_bytes(b"precious")
    for name in ("notes.txt", ".config", "~backup", "9.tfrecord", "DONE.txt"):
        (folder / name).write_bytes(b"precious")
    return entries(folder)


def _fails(call: Any) -> bool:
    try:
        call()
    except CheckpointWriteError:
        return True
    return False
