"""PatternDataset: items of a dataset of steps, by the obvious rule."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")
pytest.importorskip("google.protobuf", reason="needs protobuf")

from reverie import reverb  # noqa: E402
from reverie.reverb import structured_writer as structured  # noqa: E402
from reverie.reverb.pattern_dataset import (  # noqa: E402
    PatternDataset,
    pattern_dataset_with_info,
)
from reverie.reverb.tf import pattern_ops  # noqa: E402

Condition = structured.Condition


def steps(ends: list[int]) -> Any:
    """A dataset of numbered steps; `ends` says where episodes end."""
    return tf.data.Dataset.from_tensor_slices(
        {
            "n": np.arange(len(ends)),
            "pair": np.arange(2.0 * len(ends)).reshape(-1, 2),
            "last": np.array(ends, bool),
        }
    )


def config(pattern: Any, *conditions: Any) -> Any:
    return structured.create_config(pattern=pattern, table="t", conditions=list(conditions))


def reference(dataset: Any) -> Any:
    return structured.create_reference_step(dataset.element_spec)


def items(dataset: Any, configs: Any, clear: bool = True) -> list[Any]:
    result = PatternDataset(dataset, configs, clear, lambda step: step["last"])
    return [tf.nest.map_structure(lambda t: t.numpy().tolist(), item) for item in result]


ENDS = [0, 0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("clear", [True, False])
def test_windows_respect_episodes_if_they_are_told_to(clear: bool) -> None:
    dataset = steps(ENDS)
    step = reference(dataset)
    found = items(dataset, [config({"w": step["n"][-2:], "x": step["n"][-1]})], clear)
    starts = [0, 1, 2, 4] if clear else [0, 1, 2, 3, 4, 5]
    assert found == [{"w": [s, s + 1], "x": s + 1} for s in starts]


def test_slices_with_steps_and_columns_of_any_shape() -> None:
    dataset = steps([0] * 5)
    step = reference(dataset)
    found = items(dataset, [config((step["pair"][-3::2], step["n"][-2]))])
    assert found == [
        ([[0.0, 1.0], [4.0, 5.0]], 1),
        ([[2.0, 3.0], [6.0, 7.0]], 2),
        ([[4.0, 5.0], [8.0, 9.0]], 3),
    ]


def test_the_end_of_an_episode_comes_after_its_last_step() -> None:
    dataset = steps(ENDS)
    step = reference(dataset)
    at_end = config({"n": step["n"][-1]}, Condition.is_end_episode())
    second = config({"n": step["n"][-1]}, Condition.step_index() == 1)
    last = config({"n": step["n"][-1]}, Condition.data(step_structure(dataset))["last"] == 1)
    assert items(dataset, [at_end, second]) == [{"n": n} for n in (1, 3, 5, 5)]
    assert items(dataset, [at_end, last]) == [{"n": n} for n in (3, 3, 5, 5)]
    every = config({"n": step["n"][-1]}, Condition.steps_since_applied() >= 3)
    assert items(dataset, [every]) == [{"n": 2}, {"n": 5}]
    odd = config({"n": step["n"][-1]}, Condition.data(step_structure(dataset))["n"] % 2 == 1)
    assert items(dataset, [odd]) == [{"n": 1}, {"n": 3}, {"n": 5}]


def step_structure(dataset: Any) -> Any:
    return tf.nest.map_structure(lambda _: None, dataset.element_spec)


def expected(program: Any, ends: list[int], clear: bool) -> list[int]:
    """The last steps of the items, written down plainly."""
    length, modulus, wants_end = program
    found, buffer, index = [], [], 0
    for number, end in enumerate(ends):
        buffer.append(number)
        fits = len(buffer) >= length and index % modulus == 0
        if fits and (end or not wants_end):
            found.append(number)
        index += 1
        if end:
            index = 0
            buffer = [] if clear else buffer
    return found


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_agree_with_the_plain_rule(seed: int) -> None:
    rng = random.Random(seed)
    ends = [int(rng.random() < 0.25) for _ in range(30)]
    program = (rng.randrange(1, 5), rng.randrange(1, 3), rng.random() < 0.5)
    clear = rng.random() < 0.5
    dataset = steps(ends)
    step = reference(dataset)
    conditions = [Condition.step_index() % program[1] == 0]
    conditions += [Condition.is_end_episode()] * program[2]
    found = items(dataset, [config({"w": step["n"][-program[0] :]}, *conditions)], clear)
    wanted = expected(program, ends, clear)
    assert found == [{"w": list(range(n - program[0] + 1, n + 1))} for n in wanted]


def test_columns_of_unknown_size_and_strings() -> None:
    dataset = tf.data.Dataset.from_generator(
        lambda: ((np.full(2, n), str(n)) for n in range(3)),
        output_signature=(tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.string)),
    )
    step = reference(dataset)
    result = PatternDataset(
        dataset, [config((step[0][-2:], step[1][-1]))], True, lambda *_: False
    )
    found = [(a.numpy().tolist(), b.numpy()) for a, b in result]
    assert found == [([[0, 0], [1, 1]], b"1"), ([[1, 1], [2, 2]], b"2")]


def test_with_info_the_items_are_replay_samples() -> None:
    dataset = steps([0] * 3)
    pattern = reference(dataset)["n"][-1]
    for item_pattern in (pattern, (pattern, pattern)):
        result = pattern_dataset_with_info(
            dataset, [config(item_pattern)], True, lambda _: False
        )
        samples = list(result)
        assert all(isinstance(sample, reverb.ReplaySample) for sample in samples)
        assert [float(field) for field in samples[0].info] == [0.0] * 5
        assert [int(tf.nest.flatten(s.data)[-1]) for s in samples] == [0, 1, 2]


def test_the_configs_stay_as_they_were() -> None:
    dataset = steps(ENDS)
    mine = config({"n": reference(dataset)["n"][-2:]})
    del mine.conditions[:]
    before = mine.SerializeToString()
    assert len(items(dataset, [mine])) == 4
    assert mine.SerializeToString() == before


def test_an_end_that_is_no_bool_is_refused() -> None:
    dataset = steps(ENDS)
    configs = [config(reference(dataset)["n"][-1])]
    for ends in (lambda step: step["n"], lambda step: (True, True), lambda step: [True, True]):
        with pytest.raises(ValueError, match="is_end_of_episode"):
            PatternDataset(dataset, configs, True, ends)
    with pytest.raises(ValueError, match="config"):
        PatternDataset(dataset, [], True, lambda step: step["last"])


def test_a_step_index_that_never_restarts_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holding = pattern_ops._holds

    def broken(condition: Any, facts: Any, since: Any) -> Any:
        if condition.WhichOneof("left") == "step_index":
            return tf.constant(True)
        return holding(condition, facts, since)

    monkeypatch.setattr(pattern_ops, "_holds", broken)
    with pytest.raises(AssertionError):
        test_the_end_of_an_episode_comes_after_its_last_step()
