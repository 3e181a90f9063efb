"""Checks of adding: windows, boundaries, padding, observers, eviction, bad steps."""

from __future__ import annotations

import functools
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import optree

from reverie.errors import ClosedError, InvalidArgumentError, StepMismatchError
from reverie.nests.trajectory import LAST
from reverie.testing.manager_checks.kit import Kit, equal, expect, raises, windows


class AddingChecks(Kit):
    """Windows, boundaries, padding, observers, eviction, bad steps."""

    def test_every_window_is_an_item_in_insertion_order(self, tmp_path: Path) -> None:
        """For several lengths and strides."""
        for length, stride in ((1, 1), (2, 1), (3, 1), (5, 2), (2, 5)):
            folder = tmp_path / f"{length}-{stride}"
            with self.manager(folder, length, stride_length=stride) as manager:
                _, observer = manager.create_replay_buffer()
                self.add(observer, range(1, 15))
                wanted = windows(range(1, 15), length, stride)
                equal(self.items(manager), wanted, f"windows of {length}, stride {stride}")

    def test_num_frames_counts_every_finished_call(self, tmp_path: Path) -> None:
        """At once, from the manager and from the buffer."""
        with self.manager(tmp_path) as manager:
            buffer, observer = manager.create_replay_buffer()
            for number in range(1, 31):
                observer(self.step(number))
                frames = (manager.num_frames(), buffer.num_frames())
                equal(frames, (number - 1, number - 1), f"items after {number} calls")
                expect(type(frames[0]) is int, f"num_frames() gave a {type(frames[0])}")

    def test_windows_never_cross_a_boundary(self, tmp_path: Path) -> None:
        """A boundary may be the last step of a window, and ends its episode."""
        with self.manager(tmp_path, 3) as manager:
            _, observer = manager.create_replay_buffer()
            wanted = []
            for start, count in ((1, 5), (10, 2), (20, 3), (30, 1), (40, 4)):
                numbers = range(start, start + count)
                self.add(observer, numbers, ends=True)
                wanted += windows(numbers, 3)
            equal(self.items(manager), wanted, "windows of five episodes")
            types = np.asarray(manager.gather_all().step_type)
            expect((types[:, :-1] != LAST).all(), "a boundary is inside a window")

    def test_padding_fills_the_rest_of_an_episode(self, tmp_path: Path) -> None:
        """One padded item for a short episode; pads are boundaries of zeros."""
        with self.manager(tmp_path, 4, pad_end_of_episodes=True) as manager:
            _, observer = manager.create_replay_buffer()
            self.add(observer, [1, 2], ends=True)
            self.add(observer, [11, 12, 13, 14, 15], ends=True)
            wanted = [[1, 2, 0, 0], [11, 12, 13, 14], [12, 13, 14, 15]]
            equal(self.items(manager), wanted, "padded windows")
            types = np.asarray(manager.gather_all().step_type)[0].tolist()
            equal(types[1:], [LAST, LAST, LAST], "step types of the boundary and its pads")

    def test_tiling_starts_a_window_at_each_last_step(self, tmp_path: Path) -> None:
        """As TF-Agents' observer does."""
        settings = {"pad_end_of_episodes": True, "tile_end_of_episodes": True}
        with self.manager(tmp_path, 4, **settings) as manager:
            _, observer = manager.create_replay_buffer()
            self.add(observer, [1, 2, 3, 4], ends=True)
            wanted = [[1, 2, 3, 4], [2, 3, 4, 0], [3, 4, 0, 0], [4, 0, 0, 0]]
            equal(self.items(manager), wanted, "tiled windows")

    def test_two_observers_never_share_a_window(self, tmp_path: Path) -> None:
        """Each has an episode of its own, whatever order the calls come in."""
        with self.manager(tmp_path, 3) as manager:
            _, first = manager.create_replay_buffer()
            second = manager.new_observer()
            expect(second is not first, "new_observer() gave the old one")
            for number in range(1, 8):
                first(self.step(number))
                second(self.step(100 + number))
            wanted = windows(range(1, 8), 3) + windows(range(101, 108), 3)
            equal(sorted(self.items(manager)), wanted, "windows of two observers")

    def test_threads_add_together(self, tmp_path: Path) -> None:
        """With an observer each: no step is lost, none is torn."""
        with self.manager(tmp_path, 3, capacity=1000) as manager:
            manager.create_replay_buffer()
            streams = [range(start, start + 60) for start in (1, 1001, 2001)]
            errors: list[BaseException] = []

            def collect(numbers: range) -> None:
                try:
                    self.add(manager.new_observer(), numbers)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=collect, args=(each,)) for each in streams]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            equal(errors, [], "errors of the threads")
            wanted = [window for numbers in streams for window in windows(numbers, 3)]
            equal(sorted(self.items(manager)), wanted, "windows of three threads")

    def test_steps_are_copied(self, tmp_path: Path) -> None:
        """What the caller does with the arrays afterwards changes nothing."""
        with self.manager(tmp_path) as manager:
            _, observer = manager.create_replay_buffer()
            step = self.step(1)
            observer(step)
            for leaf in optree.tree_leaves(step):
                leaf[...] = 0
            observer(self.step(2))
            equal(self.items(manager), [[1, 2]], "items after the caller's arrays changed")

    def test_values_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        """NaN with its payload, infinities, -0.0, the extremes of integers."""
        rng = np.random.default_rng(0)

        def noise(leaf: Any, byte: int) -> Any:
            array = np.asarray(leaf)
            if array.dtype == np.bool_:
                return rng.integers(0, 2, array.shape).astype(np.bool_)
            raw = rng.integers(0, 256, array.nbytes, dtype=np.uint8)
            if byte:
                raw[:] = byte  # 0xFF is a NaN or -1, 0x80 a denormal or the least integer
            return raw.view(array.dtype).reshape(array.shape)

        with self.manager(tmp_path) as manager:
            _, observer = manager.create_replay_buffer()
            steps = []
            for number in range(1, 20):
                plain = self.step(number)
                byte = {1: 0xFF, 2: 0x80}.get(number, 0)
                noisy: Any = optree.tree_map(functools.partial(noise, byte=byte), plain)
                steps.append(
                    noisy._replace(
                        step_type=plain.step_type, next_step_type=plain.next_step_type
                    )
                )
                observer(steps[-1])
            found = optree.tree_leaves(manager.gather_all())
            wanted = [
                np.stack([np.stack(pair) for pair in itertools.pairwise(leaves)])
                for leaves in zip(*(optree.tree_leaves(step) for step in steps), strict=True)
            ]
            for ours, theirs in zip(found, wanted, strict=True):
                expect(np.asarray(ours).tobytes() == theirs.tobytes(), "a leaf changed")

    def test_a_step_that_does_not_match_is_refused_whole(self, tmp_path: Path) -> None:
        """StepMismatchError; nothing of it is stored, and the episode goes on."""
        with self.manager(tmp_path) as manager:
            _, observer = manager.create_replay_buffer()
            observer(self.step(1))
            good = self.step(2)
            bad: dict[str, Any] = {
                "a structure": tuple(good)[:-1],
                "nothing": None,
                "a dtype": good._replace(reward="much"),
                "a batch axis": optree.tree_map(lambda leaf: leaf[None], good),
                "a shape": good._replace(discount=np.zeros(2, np.float32)),
            }
            for what, step in bad.items():
                with raises(StepMismatchError, f"a step with {what} that does not match"):
                    observer(step)
            self.add(observer, [2, 3])
            equal(self.items(manager), [[1, 2], [2, 3]], "items around refused steps")

    def test_a_reset_ends_the_episode(self, tmp_path: Path) -> None:
        """Also where it raises because steps would be lost."""
        with self.manager(tmp_path, 3) as manager:
            _, observer = manager.create_replay_buffer()
            self.add(observer, [1, 2])
            with raises(InvalidArgumentError, "reset() with steps in no window"):
                observer.reset()
            self.add(observer, [10, 11, 12])
            observer.reset()
            self.add(observer, [20, 21])
            observer.reset(write_cached_steps=False)
            self.add(observer, [30, 31, 32])
            equal(self.items(manager), [[10, 11, 12], [30, 31, 32]], "items around resets")

    def test_a_closed_observer_says_so_and_opens_again(self, tmp_path: Path) -> None:
        """Its open episode is dropped, its items stay."""
        with self.filled(tmp_path, [1, 2, 3]) as manager:
            observer = manager.get_replay_buffer_and_observer()[1]
            observer.close()
            observer.close()
            with raises(ClosedError, "a closed observer"):
                observer(self.step(4))
            observer.open()
            self.add(observer, [5, 6])
            equal(self.items(manager), [[1, 2], [2, 3], [5, 6]], "items around a close()")

    def test_the_oldest_item_makes_room(self, tmp_path: Path) -> None:
        """A full buffer holds its newest `capacity` items."""
        for capacity in (1, 5):
            folder = tmp_path / str(capacity)
            with self.manager(folder, capacity=capacity) as manager:
                _, observer = manager.create_replay_buffer()
                for number in range(1, 30):
                    observer(self.step(number))
                    frames = manager.num_frames()
                    equal(frames, min(number - 1, capacity), "items of a full buffer")
                wanted = windows(range(1, 30), 2)[-capacity:]
                equal(self.items(manager), wanted, "the newest items")
