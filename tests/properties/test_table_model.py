"""The real table and observer do, on random programs, what the slow model does."""

from __future__ import annotations

import importlib
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from reverie import ReplayBufferManager, _core
from reverie.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    StepMismatchError,
    WaitTimeoutError,
)
from reverie.sample import SampleInfo
from reverie.testing import strategies as rst
from reverie.testing.model import Checker, ModelItem, ModelTable, expect_same_nest

SPEC = {"a": rst.ArraySpec((2,), np.dtype(np.float32)), "b": rst.ArraySpec((), np.dtype("?"))}
CHUNK_SIZES = [1, 100, 1 << 20]  # the first two put seams into windows


class Run:
    """One program on a real manager and on a model, compared after each operation."""

    def __init__(
        self, program: rst.Program, folder: Path, model: type[ModelTable] = ModelTable
    ) -> None:
        self.spec, self.settings = program.data_spec, program.settings
        names = rst.Settings.__slots__
        self.arguments = {name: getattr(self.settings, name) for name in names}
        self.folder = folder
        self.manager = self._manager()
        self.buffer, self.observer = self.manager.create_replay_buffer()
        self.model = model(program.data_spec, **self.arguments)
        self.checker = Checker()
        self.num_steps_made = 0

    def __call__(self, operation: rst.Operation) -> None:
        getattr(self, type(operation).__name__)(operation)
        self.checker.check_contents(self.model, self.buffer)

    def Add(self, do: rst.Add) -> None:
        for left in reversed(range(do.count)):
            last = do.last and left == 0
            step = rst.numbered_step(self.spec, self.num_steps_made, last)
            self.num_steps_made += 1
            self.observer(step, last=last)
            self.model.add(step, last)

    def AddMismatch(self, do: rst.AddMismatch) -> None:
        with pytest.raises(StepMismatchError):
            self.observer({"no such": "step"})

    def Reset(self, do: rst.Reset) -> None:
        errors = []
        for reset in (self.observer.reset, self.model.reset):
            try:
                reset(do.write_cached_steps)
            except InvalidArgumentError as error:
                errors.append(error)
        assert len(errors) in (0, 2), errors

    def Reopen(self, do: rst.Reopen) -> None:
        self.observer.close()
        self.observer.open()
        self.model.end_episode(write_rest=False)

    def Clear(self, do: rst.Clear) -> None:
        self.manager.clear()
        self.model.clear()

    def Delete(self, do: rst.Delete) -> None:
        serials = self._serials(do.picks)
        stale = self.buffer._table.core.delete(self.checker.keys(serials))
        assert stale == self.model.delete(serials)

    def UpdatePriorities(self, do: rst.UpdatePriorities) -> None:
        serials = self._serials(do.picks)
        priorities = do.priorities[: len(serials)]
        stale = self.buffer._table.core.update_priorities(
            self.checker.keys(serials), np.array(priorities, np.float64)
        )
        assert stale == self.model.update_priorities(serials, priorities)

    def Sample(self, do: rst.Sample) -> None:
        length = self.settings.sequence_length
        divisors = [n for n in range(1, length + 1) if length % n == 0]
        num_steps = divisors[do.piece % len(divisors)]
        if not self.model.items:
            with pytest.raises(WaitTimeoutError):
                self.manager.sample(do.batch_size, num_steps, timeout=0)
            return
        data, info = self.manager.sample(do.batch_size, num_steps, timeout=0)
        self.checker.check_batch(self.model, data, info, num_steps)

    def SaveAndLoad(self, do: rst.SaveAndLoad) -> None:
        self.manager.save()
        old, self.manager = self.manager, self._manager()
        with old:
            self.buffer, self.observer = self.manager.load_replay_buffer()
            self.model.end_episode(write_rest=False)
            self.checker.check_contents(self.model, self.buffer)
            for _ in range(3 if self.model.items else 0):
                expected, wanted = old.sample(4)
                data, info = self.manager.sample(4)
                expect_same_nest("samples after loading", data, expected)
                expect_same_nest("info after loading", info, wanted)
                length = self.settings.sequence_length
                self.checker.check_batch(self.model, data, info, length)

    def _manager(self) -> ReplayBufferManager:
        return ReplayBufferManager(
            self.spec, checkpoint_dir=self.folder, seed=1, max_to_keep=2, **self.arguments
        )

    def _serials(self, picks: tuple[int, ...]) -> list[int]:
        seen = sorted(self.checker._keys)
        return [seen[pick % len(seen)] for pick in picks] if seen else []


def run(
    program: rst.Program,
    base: Path,
    chunk_nbytes: int = 1 << 20,
    model: type[ModelTable] = ModelTable,
) -> None:
    """Raises AssertionError where manager and model differ."""
    small = partial(_core.Store, chunk_nbytes=chunk_nbytes)
    with (
        tempfile.TemporaryDirectory(dir=base) as folder,
        mock.patch.object(_core, "Store", small),
    ):
        on_both = Run(program, Path(folder), model)
        try:
            for operation in program.operations:
                on_both(operation)
        finally:
            on_both.manager.close()  # the one that was loaded last


@given(rst.programs(with_disk=False), st.sampled_from(CHUNK_SIZES))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_manager_and_model_agree(
    tmp_path_factory: pytest.TempPathFactory, program: rst.Program, chunk_nbytes: int
) -> None:
    run(program, tmp_path_factory.getbasetemp(), chunk_nbytes)


@given(rst.programs(data_spec=SPEC, with_disk=False, min_operations=40, max_operations=80))
def test_they_agree_on_long_programs(
    tmp_path_factory: pytest.TempPathFactory, program: rst.Program
) -> None:
    run(program, tmp_path_factory.getbasetemp())


@given(rst.programs(max_operations=12), st.sampled_from(CHUNK_SIZES))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_they_agree_across_save_and_load(
    tmp_path_factory: pytest.TempPathFactory, program: rst.Program, chunk_nbytes: int
) -> None:
    saved = (*program.operations, rst.SaveAndLoad(), rst.Add(4, True))
    program = rst.Program(program.settings, program.data_spec, saved)
    run(program, tmp_path_factory.getbasetemp(), chunk_nbytes)


# From here on: the comparison sees each rule broken, or it proves nothing.


class CountsStrideFromStart(ModelTable):
    def window_is_due(self, count: int) -> bool:
        return count >= self.sequence_length and count % self.stride_length == 0


class LeavesBoundaryOut(ModelTable):
    def add(self, step: Any, last: bool = False) -> None:
        if last:
            self.end_episode(self.pad_end_of_episodes)
        else:
            ModelTable.add(self, step)


class CrossesEpisodes(ModelTable):
    def end_episode(self, write_rest: bool) -> None:
        episode = self.episode
        ModelTable.end_episode(self, write_rest)
        self.episode = episode


class WritesWindowTwiceAtReset(ModelTable):
    """As TF-Agents does: a quirk that is not ours."""

    def reset(self, write_cached_steps: bool = True) -> None:
        again = write_cached_steps and not self.pad_end_of_episodes
        if again and self.episode and self.num_uncovered(len(self.episode)) == 0:
            self._insert_window_if_due(self.episode)
        ModelTable.reset(self, write_cached_steps)


class KeepsEpisodeAfterResetError(ModelTable):
    """As TF-Agents does: a quirk that is not ours."""

    def reset(self, write_cached_steps: bool = True) -> None:
        episode = self.episode
        try:
            ModelTable.reset(self, write_cached_steps)
        except InvalidArgumentError:
            self.episode = episode
            raise


class PadsAtAnyReset(ModelTable):
    def end_episode(self, write_rest: bool) -> None:
        ModelTable.end_episode(self, True)


class NeverTiles(ModelTable):
    def num_pads(self, count: int) -> int:
        return max(0, self.sequence_length - count) if count else 0


class AlwaysTiles(ModelTable):
    def num_pads(self, count: int) -> int:
        return self.sequence_length - 1 if count else 0


class PadsEmptyEpisodes(ModelTable):
    def num_pads(self, count: int) -> int:
        return self.sequence_length - 1


class PadsWithoutStepTypes(ModelTable):
    def pad_step(self) -> Any:
        zero = np.zeros((), np.int32)
        return ModelTable.pad_step(self)._replace(step_type=zero)


class EvictsNewest(ModelTable):
    def evict(self) -> None:
        while len(self.items) > self.capacity:
            self.items.pop()
            self.deletes += 1


class HoldsOneTooMany(ModelTable):
    def evict(self) -> None:
        while len(self.items) > self.capacity + 1:
            self.items.pop(0)
            self.deletes += 1


class EvictsUncounted(ModelTable):
    def evict(self) -> None:
        del self.items[: -self.capacity]


class DeletesBySwap(ModelTable):
    """What an array of items does that does not care for their order."""

    def delete(self, serials: Any) -> int:
        for serial in serials:
            for index, item in enumerate(self.items):
                if item.serial == serial:
                    self.items[index] = self.items[-1]
                    self.items.pop()
                    self.deletes += 1
                    break
        return 0


class CountsRepeatsAsFresh(ModelTable):
    def delete(self, serials: Any) -> int:
        return ModelTable.delete(self, set(serials))


class KeepsFirstPriority(ModelTable):
    def update_priorities(self, serials: Any, priorities: Any) -> int:
        return ModelTable.update_priorities(self, serials[::-1], priorities[::-1])


class CountsNoDraw(ModelTable):
    def draw(self, serial: int) -> ModelItem:
        item = ModelTable.draw(self, serial)
        item.times_sampled -= 1
        return item


class ClearsItemsOnly(ModelTable):
    def clear(self) -> None:
        self.items = []
        self.inserts = self.samples = self.deletes = 0


class ClearsNoCounters(ModelTable):
    def clear(self) -> None:
        self.items, self.episode = [], []


STEP_TYPES = rst.trajectory_specs().map(
    lambda spec: spec._replace(observation=SPEC["a"], action=SPEC["b"])
)


@pytest.mark.parametrize("broken", ModelTable.__subclasses__())
def test_the_comparison_sees_each_broken_rule(tmp_path: Path, broken: type[ModelTable]) -> None:
    spec = find(STEP_TYPES, lambda _: True) if broken is PadsWithoutStepTypes else SPEC

    def differ(program: rst.Program) -> bool:
        try:
            run(program, tmp_path, model=broken)
        except (AssertionError, pytest.fail.Exception):
            return True
        return False

    looking = settings(max_examples=500, database=None, phases=[Phase.generate])
    programs = rst.programs(
        data_spec=spec, with_disk=False, min_operations=20, max_operations=80
    )
    program = find(programs, differ, settings=looking, random=Random(1))
    run(program, tmp_path)  # the unbroken model has nothing against it


class ModelBuffer:
    """A model dressed up as a buffer, with something wrong about it."""

    def __init__(self, model: ModelTable, **wrong: Any) -> None:
        self.model, self.wrong = model, wrong

    def num_frames(self) -> int:
        return len(self.model.items) + self.wrong.get("frames", 0)

    def get_table_info(self) -> Any:
        model = self.model
        numbers = {
            "items": len(model.items),
            "inserts": model.inserts,
            "samples": model.samples,
            "deletes": model.deletes,
            "steps": 100,
        }
        return mock.Mock(**{**numbers, **self.wrong.get("info", {})})

    def item_info(self) -> dict[str, np.ndarray]:
        items = self.model.items
        keys = self.wrong.get("keys", [7 + item.serial for item in items])
        return {
            "key": np.array(keys, np.uint64),
            "length": np.full(len(items), self.model.sequence_length),
            "priority": np.array([item.priority for item in items]),
            "times_sampled": np.array([item.times_sampled for item in items]),
        }

    def gather_all(self) -> Any:
        return self.wrong.get("change", lambda nest: nest)(self.model.gather_all())


def small_model() -> ModelTable:
    """Two items of two steps."""
    model = ModelTable(SPEC, capacity=9, sequence_length=2)
    for number in range(3):
        model.add(rst.numbered_step(SPEC, number))
    return model


def flip_one_bit(nest: Any) -> Any:
    nest["a"].view(np.uint8)[1, 1, 3] ^= 1
    return nest


def test_the_checker_accepts_what_is_right() -> None:
    model, checker = small_model(), Checker()
    for _ in range(2):
        checker.check_contents(model, ModelBuffer(model))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 1}, "num_frames"),
        ({"info": {"inserts": 1}}, "inserts"),
        ({"info": {"steps": 2}}, "steps"),
        ({"keys": [8, 7]}, "key"),
        ({"keys": [7, 9]}, "key"),
        ({"keys": [7]}, "number of keys"),
        ({"change": flip_one_bit}, "leaf 0"),
        ({"change": lambda nest: {"a": nest["a"]}}, "structure"),
        ({"change": lambda nest: {**nest, "b": nest["b"].astype("u1")}}, "dtype"),
        ({"change": lambda nest: {**nest, "b": nest["b"][..., None]}}, "shape"),
    ],
)
def test_the_checker_rejects_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    model, checker = small_model(), Checker()
    checker.check_contents(model, ModelBuffer(model))
    with pytest.raises(AssertionError, match=message):
        checker.check_contents(model, ModelBuffer(model, **wrong))


def test_the_checker_rejects_a_key_that_was_used_before() -> None:
    model, checker = small_model(), Checker()
    checker.check_contents(model, ModelBuffer(model))
    model.delete([0])
    model.add(rst.numbered_step(SPEC, 3))
    with pytest.raises(AssertionError, match="serial of the item with key 7"):
        checker.check_contents(model, ModelBuffer(model, keys=[8, 7]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("key", 99, "of no item"),
        ("probability", 0.3, "info"),
        ("table_size", 3, "info"),
        ("priority", 2.0, "info"),
        ("times_sampled", 2, "info"),
        (None, None, "no piece"),
    ],
)
def test_the_checker_rejects_a_wrong_row(field: str | None, value: Any, message: str) -> None:
    model, checker = small_model(), Checker()
    checker.check_contents(model, ModelBuffer(model))
    data = optree.tree_map(lambda leaf: leaf[:1, :1], model.gather_all())
    info = SampleInfo(*(np.array([fact]) for fact in (7, 0.5, 2, 1.0, 1)))
    checker.check_batch(small_model(), data, info, num_steps=1)
    if field is None:
        data = {**data, "a": data["a"] + 1}
    else:
        info = info._replace(**{field: np.array([value])})
    with pytest.raises(AssertionError, match=message):
        checker.check_batch(model, data, info, num_steps=1)


def test_without_hypothesis_the_strategies_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "reverie.testing.strategies")
    with pytest.raises(MissingDependencyError, match="pip install"):
        importlib.import_module("reverie.testing.strategies")
