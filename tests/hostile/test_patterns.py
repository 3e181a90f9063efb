"""A pattern of a few bytes may name any number of steps: it takes no memory for them."""

from __future__ import annotations

import tracemalloc

import pytest

from reverie.proto.schema import message_class
from reverie.reverb.engine.patterns import configs, matcher


def _config(start: int, stop: int | None, step: int) -> object:
    config = message_class("StructuredWriterConfig")(table="t")
    config.flat.add(flat_source_index=0, start=start, stop=stop, step=step)
    config.priority.constant_fn.value = 1.0
    assert len(config.SerializeToString()) < 50
    return config


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize("stop", [None, 0, -1, -(2**30)])
def test_a_pattern_of_many_steps_takes_memory_for_those_that_are_there(
    stop: int | None, step: int
) -> None:
    tracemalloc.start()
    try:
        patterns = configs.parse([_config(-(2**31), stop, step)], want_priority=True)
        matching = matcher.PatternMatcher(patterns)
        for _ in range(1000):
            matching.add_whole([1])
            assert not list(matching.due())
        matching.end_episode(clear=True)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", [1, 2, 5])
def test_its_runs_are_those_of_its_ages(step: int) -> None:
    (pattern,) = configs.parse([_config(-7, -1, step)], want_priority=True)
    matching = matcher.PatternMatcher([pattern])
    for _ in range(9):
        matching.add_whole([1])
    (state,) = matching.due()
    runs = matching.runs(state)
    found = [
        start + i
        for start, length in zip(runs.starts, runs.lengths, strict=True)
        for i in range(length)
    ]
    assert found == list(range(2, 8, step))
