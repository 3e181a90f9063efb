"""Checks of sampling: shapes, facts, chances, pieces, waits, priorities, datasets."""

from __future__ import annotations

import threading
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import optree

from reverie.errors import InvalidArgumentError, MissingDependencyError, WaitTimeoutError
from reverie.samplers import Lifo, MaxHeap, MinHeap, Prioritized, Uniform
from reverie.testing.manager_checks.kit import (
    Kit,
    chi_square_excess,
    equal,
    expect,
    raises,
    windows,
)

_INFO = {
    "key": np.uint64,
    "probability": np.float64,
    "table_size": np.int64,
    "priority": np.float64,
    "times_sampled": np.int32,
}


class SamplingChecks(Kit):
    """Shapes, facts, chances, pieces, waits, priorities, datasets."""

    def test_a_batch_has_its_shapes_and_dtypes(self, tmp_path: Path) -> None:
        """Leaves `[B, T, *shape]` in the spec's structure, info fields `[B]`."""
        with self.filled(tmp_path, range(1, 10), sequence_length=3) as manager:
            data, info = manager.sample(5)
            specs = optree.tree_leaves(self._spec)
            for leaf, spec in zip(optree.tree_leaves(data), specs, strict=True):
                equal(leaf.shape, (5, 3, *spec.shape), "shape of a leaf")
                equal(leaf.dtype, spec.dtype, "dtype of a leaf")
            equal(info._fields, tuple(_INFO), "fields of the info")
            for name, dtype in _INFO.items():
                field = getattr(info, name)
                equal((field.shape, field.dtype), ((5,), np.dtype(dtype)), f"info.{name}")

    def test_a_batch_holds_items_and_their_facts(self, tmp_path: Path) -> None:
        """The row of a key is that item; chances, size and priority are right."""
        with self.filled(tmp_path, range(1, 12), capacity=7) as manager:
            by_key = {key: self.numbers(item) for key, item in manager.iter_items()}
            equal(len(by_key), 7, "different keys of seven items")
            for _ in range(5):
                data, info = manager.sample(16)
                wanted = [by_key.get(key) for key in info.key.tolist()]
                equal(self.stacked(data), wanted, "rows by their keys")
                expect((abs(info.probability - 1 / 7) < 1e-9).all(), "a chance is not 1/7")
                expect((info.table_size == 7).all(), "table_size is not 7")
                expect((info.priority == 1).all(), "a new item's priority is not 1")

    def test_items_are_drawn_equally_often_and_independently(self, tmp_path: Path) -> None:
        """Each item, and each pair of neighbours in a batch, within chance."""
        with self.filled(tmp_path, range(1, 7)) as manager:
            order = {key: place for place, (key, _) in enumerate(manager.iter_items())}
            counts = np.zeros(5, np.int64)
            pairs = np.zeros((5, 5), np.int64)
            for _ in range(20):
                drawn = np.array([order[key] for key in manager.sample(120)[1].key.tolist()])
                np.add.at(counts, drawn, 1)
                np.add.at(pairs, (drawn[:-1:2], drawn[1::2]), 1)
            expect(chi_square_excess(counts) < 0, f"items were drawn {counts.tolist()} times")
            expect(
                chi_square_excess(pairs) < 0, f"neighbours were drawn {pairs.tolist()} times"
            )

    def test_times_sampled_counts_each_draw(self, tmp_path: Path) -> None:
        """The n-th draw of an item says n; looking at all items is no draw."""
        with self.filled(tmp_path, range(1, 6)) as manager:
            drawn: dict[int, list[int]] = {}
            for _ in range(4):
                info = manager.sample(8)[1]
                for key, times in zip(
                    info.key.tolist(), info.times_sampled.tolist(), strict=True
                ):
                    drawn.setdefault(key, []).append(times)
                manager.gather_all()
            for times in drawn.values():
                equal(
                    sorted(times), list(range(1, len(times) + 1)), "times_sampled of one item"
                )

    def test_pieces_of_items(self, tmp_path: Path) -> None:
        """A divisor of the length cuts each item into disjoint pieces, all of them drawn."""
        with self.filled(tmp_path, range(1, 5), sequence_length=4) as manager:
            for steps, wanted in ((2, [[1, 2], [3, 4]]), (1, [[1], [2], [3], [4]])):
                found = self.stacked(manager.sample(200, steps)[0])
                equal(sorted(map(list, {tuple(f) for f in found})), wanted, "pieces")
            for wrong in (3, 5, 8, 0, -1, 1.5, True):
                with raises(InvalidArgumentError, f"num_steps={wrong!r}"):
                    manager.sample(1, wrong)

    def test_out_is_filled(self, tmp_path: Path) -> None:
        """The caller's arrays, or InvalidArgumentError where they do not fit."""
        with self.filled(tmp_path, range(1, 9)) as manager:
            out = optree.tree_map(np.copy, manager.sample(6)[0])
            for leaf in optree.tree_leaves(out):
                leaf[...] = 1
            by_key = {key: self.numbers(item) for key, item in manager.iter_items()}
            data, info = manager.sample(6, out=out)
            pairs = zip(optree.tree_leaves(data), optree.tree_leaves(out), strict=True)
            expect(all(a is b for a, b in pairs), "the result is not what was passed as out")
            equal(self.stacked(out), [by_key[key] for key in info.key.tolist()], "rows of out")
            for wrong in (
                optree.tree_map(lambda leaf: leaf[:5], out),
                optree.tree_map(lambda leaf: leaf.astype(np.complex128), out),
                tuple(out)[:-1],
            ):
                with raises(InvalidArgumentError, "an out that does not fit"):
                    manager.sample(6, out=wrong)

    def test_what_is_handed_out_is_the_callers(self, tmp_path: Path) -> None:
        """Changing it changes neither the buffer nor the next batch."""
        with self.filled(tmp_path, range(1, 9)) as manager:
            first, second = manager.sample(5)[0], manager.sample(5)[0]
            kept = self.stacked(second)
            for data in (first, manager.gather_all(), next(iter(manager.iter_items()))[1]):
                for leaf in optree.tree_leaves(data):
                    leaf[...] = 1
            equal(self.stacked(second), kept, "another batch")
            equal(self.items(manager), windows(range(1, 9), 2), "items of the buffer")

    def test_bad_numbers_are_refused(self, tmp_path: Path) -> None:
        """InvalidArgumentError, whatever is wrong with them."""
        with self.filled(tmp_path, range(1, 5)) as manager:
            for batch_size in (0, -1, 1.5, True, None, "3"):
                with raises(InvalidArgumentError, f"batch_size={batch_size!r}"):
                    manager.sample(batch_size)
            for timeout in (-1, "1", float("nan"), True):
                with raises(InvalidArgumentError, f"timeout={timeout!r}"):
                    manager.sample(1, timeout=timeout)

    def test_an_empty_buffer_times_out(self, tmp_path: Path) -> None:
        """WaitTimeoutError, which is a TimeoutError; a step alone is no item."""
        with self.filled(tmp_path, [1]) as manager:
            for timeout in (0, 0.05):
                with raises(WaitTimeoutError, f"an empty buffer, timeout={timeout}"):
                    manager.sample(1, timeout=timeout)
            self.add(manager.get_replay_buffer_and_observer()[1], [2])
            equal(self.stacked(manager.sample(2, timeout=0)[0]), [[1, 2]] * 2, "a batch")
            expect(issubclass(WaitTimeoutError, TimeoutError), "no TimeoutError")

    def test_a_wait_ends_when_another_thread_adds(self, tmp_path: Path) -> None:
        """With what it added."""
        with self.manager(tmp_path) as manager:
            _, observer = manager.create_replay_buffer()
            timer = threading.Timer(0.1, self.add, (observer, [1, 2]))
            timer.start()
            try:
                batch = manager.sample(1, timeout=20)[0]
            finally:
                timer.join()
            equal(self.stacked(batch), [[1, 2]], "the batch")

    def test_priorities_are_kept_and_stale_keys_counted(self, tmp_path: Path) -> None:
        """By key, `[B]` or `[B, T]`, one number for all or one for each."""
        settings = {"capacity": 5, "sampler": Prioritized()}
        with self.filled(tmp_path, range(1, 7), **settings) as manager:
            keys = [key for key, _ in manager.iter_items()]
            equal(manager.update_priorities(keys, range(2, 7)), 0, "stale keys of five items")
            wanted = dict(zip(keys, (2.0, 3.0, 4.0, 5.0, 6.0), strict=True))
            self._check_priorities(manager, wanted)
            columns = np.repeat(np.array(keys[:2], np.uint64)[:, None], 2, axis=1)
            equal(manager.update_priorities(columns, 9.0), 0, "stale keys of [B, T]")
            self._check_priorities(manager, {**wanted, keys[0]: 9.0, keys[1]: 9.0})
            self.add(manager.get_replay_buffer_and_observer()[1], [7, 8])
            stale = manager.update_priorities(keys, 1.5)
            equal(stale, 2, "stale keys after two evictions")
            left = {key: 1.5 for key in keys[2:]}
            fresh = [key for key, _ in manager.iter_items() if key not in left]
            self._check_priorities(manager, {**left, **dict.fromkeys(fresh, 1.0)})

    def test_keys_are_never_used_again(self, tmp_path: Path) -> None:
        """After evictions, and after clear(), the old ones are stale."""
        settings = {"capacity": 4, "sampler": Prioritized()}
        with self.filled(tmp_path, range(1, 9), **settings) as manager:
            seen = [key for key, _ in manager.iter_items()]
            for start in (10, 20):
                manager.clear()
                equal(manager.update_priorities(seen, 2.0), len(seen), "stale keys")
                observer = manager.get_replay_buffer_and_observer()[1]
                self.add(observer, range(start, start + 7))
                fresh = [key for key, _ in manager.iter_items()]
                expect(not set(seen) & set(fresh), "a key was used again")
                equal(manager.update_priorities(seen, 2.0), len(seen), "stale keys")
                self._check_priorities(manager, dict.fromkeys(fresh, 1.0))
                seen += fresh

    def test_bad_priorities_change_nothing(self, tmp_path: Path) -> None:
        """InvalidArgumentError for negative, not finite, or as many as there are not keys."""
        with self.filled(tmp_path, [1, 2, 3], sampler=Prioritized()) as manager:
            keys = [key for key, _ in manager.iter_items()]
            for priorities in ([5.0, -1.0], [5.0, np.nan], [np.inf, 5.0], [5.0], [5.0] * 3):
                with raises(InvalidArgumentError, f"priorities {priorities}"):
                    manager.update_priorities(keys, priorities)
            for wrong in ([1.5], ["a"], [-1]):
                with raises(InvalidArgumentError, f"keys {wrong}"):
                    manager.update_priorities(wrong, [1.0])
            self._check_priorities(manager, dict.fromkeys(keys, 1.0))

    def test_priorities_that_nothing_reads_are_refused(self, tmp_path: Path) -> None:
        """InvalidArgumentError, even of no keys, where no selector reads them; else taken."""
        unread: tuple[dict[str, Any], ...] = ({}, {"remover": Lifo()}, {"remover": Uniform()})
        for number, settings in enumerate(unread):
            with self.filled(tmp_path / f"unread{number}", [1, 2, 3], **settings) as manager:
                buffer, _ = manager.get_replay_buffer_and_observer()
                keys = [key for key, _ in manager.iter_items()]
                for some in (keys, []):
                    priorities = [2.0] * len(some)
                    with raises(InvalidArgumentError, f"update_priorities({some})"):
                        manager.update_priorities(some, priorities)
                    with raises(InvalidArgumentError, f"the buffer's, of {some}"):
                        buffer.update_priorities(np.array(some, np.uint64), priorities)
                self._check_priorities(manager, dict.fromkeys(keys, 1.0))
        for selector in (Prioritized(), Prioritized(0.0), MinHeap(), MaxHeap()):
            for role in ("sampler", "remover"):
                folder = tmp_path / f"{selector!r} as {role}"
                with self.filled(folder, [1, 2, 3], **{role: selector}) as manager:
                    keys = [key for key, _ in manager.iter_items()]
                    equal(manager.update_priorities(keys, 2.0), 0, "stale keys of two items")

    def test_adding_and_sampling_go_together(self, tmp_path: Path) -> None:
        """Every batch drawn meanwhile holds whole windows."""
        with self.filled(tmp_path, range(1, 4), sequence_length=3, capacity=20) as manager:
            observer = manager.get_replay_buffer_and_observer()[1]
            thread = threading.Thread(target=self.add, args=(observer, range(4, 150)))
            thread.start()
            try:
                batches = 0
                while thread.is_alive() or batches < 10:
                    batches += 1
                    for steps in self.stacked(manager.sample(8, timeout=20)[0]):
                        equal(steps, list(range(steps[0], steps[0] + 3)), "a window")
            finally:
                thread.join()
            equal(self.items(manager), windows(range(1, 150), 3)[-20:], "items afterwards")

    def test_a_dataset_has_the_same_items(self, tmp_path: Path) -> None:
        """Leaves `[B, T, *shape]`, info fields `[B, T]`. Needs TensorFlow."""
        with self.filled(tmp_path, range(1, 9), sequence_length=4) as manager:
            try:
                dataset = manager.get_dataset(batch_size=6)
            except MissingDependencyError as error:
                raise unittest.SkipTest(str(error)) from error
            by_key = {key: self.numbers(item) for key, item in manager.iter_items()}
            for data, info in dataset.take(3):
                rows = self.stacked(_in_numpy(data, self._spec))
                keys = np.asarray(info.key)
                equal(keys.shape, (6, 4), "shape of info.key")
                equal(rows, [by_key[key] for key in keys[:, 0].tolist()], "rows by their keys")
            pieces = {tuple(steps) for steps in by_key.values()}
            halves = {p[:2] for p in pieces} | {p[2:] for p in pieces}
            for data, _ in manager.get_dataset(8, 2).take(5):
                found = {tuple(steps) for steps in self.stacked(_in_numpy(data, self._spec))}
                expect(found <= halves, f"pieces {sorted(found - halves)}")
            for batch_size, steps in ((0, None), (-1, None), (4, 3), (4, 8), (4, 0)):
                with raises(InvalidArgumentError, f"get_dataset({batch_size}, {steps})"):
                    manager.get_dataset(batch_size, steps)

    def _check_priorities(self, manager: Any, wanted: dict[int, float]) -> None:
        """Draws until each item was seen; its priority must be as wanted."""
        found: dict[int, float] = {}
        for _ in range(60):
            info = manager.sample(32)[1]
            found |= dict(zip(info.key.tolist(), info.priority.tolist(), strict=True))
            if found.keys() >= wanted.keys():
                break
        equal(found, wanted, "priorities by key")


def _in_numpy(nest: Any, spec: Any) -> Any:
    """By the spec's structure: TensorFlow wraps the dicts of its elements."""
    if isinstance(spec, dict):
        return {key: _in_numpy(nest[key], spec[key]) for key in spec}
    if isinstance(spec, tuple):
        children = [_in_numpy(a, b) for a, b in zip(nest, spec, strict=True)]
        return type(spec)(*children) if hasattr(spec, "_fields") else tuple(children)
    return np.asarray(nest)
