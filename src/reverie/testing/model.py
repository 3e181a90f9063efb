"""A slow, obvious model of one table and its observer, to check a real one against.

The model is plain Python over lists. It was written from the description of
TF-Agents' and Reverb's behaviour, not from this library's core, and shares no code
with it: where the two agree on random operations, both are probably right.

    model, checker = ModelTable(spec, capacity=3, sequence_length=2), Checker()
    for step in steps:
        observer(step)
        model.add(step)
        checker.check_contents(model, replay_buffer)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

from reverie.errors import InvalidArgumentError


@dataclass(slots=True)
class ModelItem:
    """One item: the window's steps, oldest first, and what the table knows of it.

    Attributes:
        serial: position among all items ever inserted. The model's key.
        steps: one list of leaves per step, each an array of the spec's dtype and shape.
        priority: as last set.
        times_sampled: draws so far.
        touched: rises with each insert and priority update of any item; of the last one
            of this item.
    """

    serial: int
    steps: list[list[np.ndarray[Any, Any]]]
    priority: float
    times_sampled: int = 0
    touched: int = 0


# Which item a selector that leaves nothing to chance chooses: the one that comes first.
ORDERS: dict[str, Callable[[ModelItem], tuple[float, ...]]] = {
    "fifo": lambda item: (item.serial,),
    "lifo": lambda item: (-item.serial,),
    "min_heap": lambda item: (item.priority, item.touched),
    "max_heap": lambda item: (-item.priority, item.touched),
}


@dataclass(slots=True)
class ModelTable:
    """A table, and the observer that feeds it. Not thread-safe.

    Every operation costs time in proportion to the table. Each rule stands in a
    method of its own, so that a test can break just that one.

    Args:
        data_spec: nest whose leaves have `shape` and `dtype`.
        capacity: the most items; the remover's choice makes room.
        sequence_length: L, steps of each item.
        stride_length: steps between the starts of two windows of one episode.
        priority: of each new item; None: the largest of those that are in, if it counts.
        pad_end_of_episodes: pad the rest of an episode.
        tile_end_of_episodes: every last step starts a padded window.
        sampler: what chooses samples: "uniform", "prioritized", or one of ORDERS.
        remover: what chooses the item to be evicted, likewise.
        sampler_exponent: of the priorities, for "prioritized".
        remover_exponent: likewise.
        max_times_sampled: an item goes with its so-manieth sample; 0 for never.

    Attributes:
        items: in insertion order, oldest first.
        episode: leaves of each step since the episode began, pad steps excepted.
        inserts: items ever inserted since creation or `clear()`.
        samples: draws, likewise.
        deletes: items evicted or deleted, likewise.
    """

    data_spec: Any
    capacity: int
    sequence_length: int
    stride_length: int = 1
    priority: float | None = 1.0
    pad_end_of_episodes: bool = False
    tile_end_of_episodes: bool = False
    sampler: str = "uniform"
    remover: str = "fifo"
    sampler_exponent: float = 1.0
    remover_exponent: float = 1.0
    max_times_sampled: int = 0
    items: list[ModelItem] = field(default_factory=list)
    episode: list[list[np.ndarray[Any, Any]]] = field(default_factory=list)
    inserts: int = 0
    samples: int = 0
    deletes: int = 0
    next_serial: int = 0
    clock: int = 0

    def add(self, step: Any, last: bool = False) -> None:
        """One observer call with a step that matches the spec.

        Args:
            step: nest of values, without a batch axis.
            last: the step ends its episode; a step with `is_boundary()` says so itself.
        """
        self.episode.append(self._leaves(step))
        self._insert_window_if_due(self.episode)
        if bool(step.is_boundary()) if hasattr(step, "is_boundary") else last:
            self.end_episode(write_rest=self.pad_end_of_episodes)

    def end_episode(self, write_rest: bool) -> None:
        """What `reset(write_cached_steps)` and a boundary do, once arguments are checked."""
        if write_rest and self.pad_end_of_episodes:
            padded = list(self.episode)
            for _ in range(self.num_pads(len(self.episode))):
                padded.append(self._leaves(self.pad_step()))
                self._insert_window_if_due(padded)
        self.episode = []

    def reset(self, write_cached_steps: bool = True) -> None:
        """Ends the open episode; see `TrajectoryObserver.reset` for the two repairs.

        Raises:
            InvalidArgumentError: `write_cached_steps` without padding, and some of the
                last steps are in no window. The episode is ended all the same.
        """
        rest = self.num_uncovered(len(self.episode))
        self.end_episode(write_cached_steps)
        if write_cached_steps and rest and not self.pad_end_of_episodes:
            raise InvalidArgumentError(f"The last {rest} steps fill no window.")

    def window_is_due(self, count: int) -> bool:
        """Whether the `count`-th step of an episode, from 1, completes a window."""
        past = count - self.sequence_length
        return past >= 0 and past % self.stride_length == 0

    def num_uncovered(self, count: int) -> int:
        """How many of an episode's last steps are in no window."""
        ends = [n for n in range(1, count + 1) if self.window_is_due(n)]
        return count - (ends[-1] if ends else 0)

    def num_pads(self, count: int) -> int:
        """Pad steps after an episode of `count` steps, with padding on."""
        if count == 0:
            return 0
        length = self.sequence_length
        return length - 1 if self.tile_end_of_episodes else max(0, length - count)

    def pad_step(self) -> Any:
        """A nest of zeros; a spec with `is_boundary` gets the step types of a boundary."""
        zeros: Any = self._nest(
            [np.zeros(spec.shape, spec.dtype) for spec in optree.tree_leaves(self.data_spec)]
        )
        if hasattr(zeros, "is_boundary"):
            last, first = np.asarray(2, np.int32), np.asarray(0, np.int32)
            zeros = zeros._replace(step_type=last, next_step_type=first)
        return zeros

    def evict(self, victim: int | None = None) -> None:
        """Makes room after an insert: the remover's choice goes, be it the newest item.

        Args:
            victim: serial of the item that a remover chose at random.

        Raises:
            AssertionError: the remover never chooses the victim, or none was given.
        """
        while len(self.items) > self.capacity:
            chances = self.probabilities(self.remover, self.remover_exponent)
            if victim is None:
                _expect("probability of the remover's choice", max(chances), 1.0)
                index = chances.index(1.0)
            else:
                index = [item.serial for item in self.items].index(victim)
                _expect("victim that the remover may choose", chances[index] > 0, True)
            self.items.pop(index)
            self.deletes += 1

    def probabilities(self, selector: str, exponent: float = 1.0) -> list[float]:
        """With which probability a selector chooses each item, in their order.

        Args:
            selector: a name as for `sampler`.
            exponent: of the priorities, for "prioritized". Their powers and the sum of
                those must be finite.
        """
        even = [1 / len(self.items) for _ in self.items]
        if selector == "uniform" or not self.items:
            return even
        if selector == "prioritized":
            weights = [self.weight(item.priority, exponent) for item in self.items]
            total = math.fsum(weights)
            return [weight / total for weight in weights] if total > 0 else even
        chosen = min(self.items, key=ORDERS[selector])
        return [float(item is chosen) for item in self.items]

    def weight(self, priority: float, exponent: float) -> float:
        """What a prioritized selector makes of a priority: 0 stays 0, whatever the exponent."""
        return priority**exponent if priority > 0 else 0.0

    def largest_priority(self) -> float:
        """Of all items, where a selector goes by weight; 1 elsewhere and of no items."""
        if not self.items or "prioritized" not in (self.sampler, self.remover):
            return 1.0
        return max(item.priority for item in self.items)

    def min_probability(self) -> float:
        """The smallest with which any item may be sampled; 0 without items."""
        chances = self.probabilities(self.sampler, self.sampler_exponent)
        return min((chance for chance in chances if chance > 0), default=0.0)

    def can_sample(self, n: int) -> bool:
        """Whether n samples can be taken before `max_times_sampled` has used up all items."""
        most = self.max_times_sampled
        left = sum(most - item.times_sampled for item in self.items) if most else n
        return bool(self.items) and n <= left

    def delete(self, serials: Sequence[int]) -> int:
        """Deletes items; returns how many of the serials were stale."""
        stale = 0
        for serial in serials:
            kept = [item for item in self.items if item.serial != serial]
            stale += len(kept) == len(self.items)
            self.deletes += len(self.items) - len(kept)
            self.items = kept
        return stale

    def update_priorities(self, serials: Sequence[int], priorities: Sequence[float]) -> int:
        """Sets priorities, the last one where a serial repeats; returns the stale ones."""
        stale = 0
        for serial, priority in zip(serials, priorities, strict=True):
            found = [item for item in self.items if item.serial == serial]
            stale += not found
            for item in found:
                item.priority = float(priority)
                self.touch(item)
        return stale

    def touch(self, item: ModelItem) -> None:
        """Notes that the item was inserted or updated just now, whatever its priority was."""
        item.touched = self.clock
        self.clock += 1

    def draw(self, serial: int) -> ModelItem:
        """Counts one sample of an item and returns it; KeyError where there is none.

        The item is deleted where that was its last.
        """
        for item in self.items:
            if item.serial == serial:
                item.times_sampled += 1
                self.samples += 1
                if item.times_sampled == self.max_times_sampled:
                    self.items.remove(item)
                    self.deletes += 1
                return item
        raise KeyError(serial)

    def clear(self) -> None:
        """Deletes all items, forgets the open episode, starts the counters anew."""
        self.items, self.episode = [], []
        self.inserts = self.samples = self.deletes = 0

    def gather_all(self) -> Any:
        """All items in insertion order, leaves `[N, L, *shape]`."""
        return self._nest(self.stacked(self.items))

    def stacked(self, items: Sequence[ModelItem]) -> list[np.ndarray[Any, Any]]:
        """The columns of some items, `[len(items), L, *shape]` each."""
        columns = []
        for index, spec in enumerate(optree.tree_leaves(self.data_spec)):
            shape = (len(items), self.sequence_length, *spec.shape)
            column = np.empty(shape, np.dtype(spec.dtype).newbyteorder("="))
            for row, item in enumerate(items):
                for time, step in enumerate(item.steps):
                    column[row, time] = step[index]
            columns.append(column)
        return columns

    def insert(self, window: list[list[np.ndarray[Any, Any]]]) -> None:
        """Adds an item of the present priority, and makes no room for it."""
        priority = self.largest_priority() if self.priority is None else self.priority
        item = ModelItem(self.next_serial, window, priority)
        self.touch(item)
        self.items.append(item)
        self.next_serial += 1
        self.inserts += 1

    def _insert_window_if_due(self, steps: list[list[np.ndarray[Any, Any]]]) -> None:
        if self.window_is_due(len(steps)):
            window = steps[len(steps) - self.sequence_length :]
            self.insert(window)
            self.evict()

    def _leaves(self, step: Any) -> list[np.ndarray[Any, Any]]:
        pairs = optree.tree_map(
            lambda spec, leaf: np.array(leaf, np.dtype(spec.dtype).newbyteorder("=")),
            self.data_spec,
            step,
        )
        return list(optree.tree_leaves(pairs))

    def _nest(self, leaves: Sequence[Any]) -> Any:
        return optree.tree_unflatten(optree.tree_structure(self.data_spec), leaves)


class Checker:
    """Compares a model with a real buffer; raises AssertionError with what differs.

    Keys are the buffer's own business, so they are tied to the model's serials when
    first seen, and compared by that from then on: order, life, never used again.
    One checker lives as long as its model.
    """

    def __init__(self) -> None:
        self._serials: dict[int, int] = {}
        self._keys: dict[int, int] = {}

    def check_contents(self, model: ModelTable, buffer: Any) -> None:
        """Sizes, counters, keys, priorities, counts of samples, and every byte of data.

        Args:
            model: what is expected.
            buffer: a `ReplayBuffer`, or what has its methods `num_frames`,
                `get_table_info`, `item_info` and `gather_all`.
        """
        info, table = buffer.item_info(), buffer.get_table_info()
        _expect("num_frames()", buffer.num_frames(), len(model.items))
        _expect("table info: items", table.items, len(model.items))
        for name in ("inserts", "samples", "deletes"):
            _expect(f"table info: {name}", getattr(table, name), getattr(model, name))
        keys = [int(key) for key in info["key"]]
        _expect("number of keys", len(keys), len(model.items))
        for key, item in zip(keys, model.items, strict=True):
            serial = self._serials.setdefault(key, item.serial)
            _expect(f"serial of the item with key {key}", serial, item.serial)
            _expect("key", key, self._keys.setdefault(item.serial, key))
        for name in ("priority", "times_sampled"):
            wanted = [getattr(item, name) for item in model.items]
            _expect(name, info[name].tolist(), wanted)
        lengths = [len(item.steps) for item in model.items]
        _expect("length", info["length"].tolist(), lengths)
        # At least what the items refer to; the open episode and chunks may hold more.
        distinct = {id(leaves) for item in model.items for leaves in item.steps}
        if table.steps < len(distinct):
            raise AssertionError(f"table info: steps is {table.steps} < {len(distinct)}")
        expect_same_nest("gather_all()", buffer.gather_all(), model.gather_all())

    def check_batch(self, model: ModelTable, data: Any, info: Any, num_steps: int) -> None:
        """One `sample()`: each row is a piece of the item with its key; counts the draws.

        Args:
            model: its state before the call.
            data: leaves `[B, num_steps, *shape]`.
            info: SampleInfo with fields `[B]`.
            num_steps: a divisor of the model's sequence_length.
        """
        structures = optree.tree_structure(data), optree.tree_structure(model.data_spec)
        _expect("sampled structure", *structures)
        leaves = optree.tree_leaves(data)
        for row, key in enumerate(info.key.tolist()):
            serial = self._serials.get(key)
            if serial is None or all(item.serial != serial for item in model.items):
                raise AssertionError(f"row {row}: sampled key {key}, of no item in the table")
            size = len(model.items)
            chances = model.probabilities(model.sampler, model.sampler_exponent)
            chance = chances[[item.serial for item in model.items].index(serial)]
            item = model.draw(serial)
            stated = float(info.probability[row])
            if not 0 < chance or not math.isclose(stated, chance, rel_tol=1e-12):
                raise AssertionError(f"row {row}: info: probability {stated}, wanted {chance}")
            wanted = (key, stated, size, item.priority, item.times_sampled)
            _expect(f"row {row}: info", tuple(field[row] for field in info), wanted)
            whole = [_bits(column[0]) for column in model.stacked([item])]
            found = [_bits(leaf[row]) for leaf in leaves]
            starts = range(0, model.sequence_length, num_steps)
            if not any(_is_piece(found, whole, start, num_steps) for start in starts):
                raise AssertionError(f"row {row}: no piece of the item with key {key}: {found}")

    def serials(self, keys: Any) -> list[int]:
        """The model's serials for keys that were seen before; -1 for others."""
        return [self._serials.get(int(key), -1) for key in keys]

    def keys(self, serials: Sequence[int]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The buffer's keys for serials that were seen before."""
        return np.array([self._keys[serial] for serial in serials], np.uint64)


def expect_same_nest(what: str, found: Any, wanted: Any) -> None:
    """Raises AssertionError unless both nests agree in structure, dtype, shape, every bit."""
    _expect(f"{what}: structure", optree.tree_structure(found), optree.tree_structure(wanted))
    pairs = zip(optree.tree_leaves(found), optree.tree_leaves(wanted), strict=True)
    for index, (left, right) in enumerate(pairs):
        _expect(f"{what}: leaf {index}: dtype", left.dtype, right.dtype)
        _expect(f"{what}: leaf {index}: shape", left.shape, right.shape)
        if left.tobytes() != right.tobytes():
            raise AssertionError(f"{what}: leaf {index}: found {left!r}, wanted {right!r}")


def _bits(column: np.ndarray[Any, Any]) -> list[bytes]:
    """Each step's bytes, so that NaNs compare."""
    return [step.tobytes() for step in column]


def _is_piece(found: list[list[bytes]], whole: list[list[bytes]], start: int, n: int) -> bool:
    pairs = zip(found, whole, strict=True)
    return all(column == item[start : start + n] for column, item in pairs)


def _expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r:.200}, wanted {wanted!r:.200}")
