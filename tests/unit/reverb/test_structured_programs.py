"""Structured writers against the plain rule, in random programs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from tests.structured_support import TABLES, config, drained, random_config, tables
from tests.unit.reverb.support import Serve

from reverie.reverb import structured_writer as structured
from reverie.reverb.client import Client
from reverie.reverb.engine.patterns.configs import parse
from reverie.reverb.engine.patterns.matcher import PatternMatcher

REF = structured.create_reference_step([None, None])


@pytest.fixture
def client(serve: Serve) -> Client:
    return serve(*tables())


@dataclass
class PlainRule:
    """The rule of structured writers, on lists of all steps ever and with no care for cost."""

    configs: list[Any]
    rows: list[list[int | None]] = field(default_factory=list)
    index: int = -1
    is_open: bool = False
    items: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = [0] * len(self.configs)
        self.longest = max(-min(n.start, n.stop) for c in self.configs for n in c.flat)
        self.done: set[int] = set()
        self.used = {n.flat_source_index for c in self.configs for n in c.flat} | {
            c.flat_source_index
            for config in self.configs
            for c in config.conditions
            if c.WhichOneof("left") == "flat_source_index"
        }

    def append(self, row: list[int | None], partial: bool) -> None:
        if not self.is_open:
            self.rows.append([None] * len(row))
            self.index += 1
            self.done = set()
        was_empty = all(self.rows[-1][column] is None for column in self.used)
        self.rows[-1] = [
            old if new is None else new for old, new in zip(self.rows[-1], row, strict=True)
        ]
        if was_empty and any(self.rows[-1][column] is not None for column in self.used):
            self.since = [since + 1 for since in self.since]
        self.is_open = partial
        self.apply(False)

    def end_episode(self, clear: bool) -> None:
        if self.index >= 0:
            self.apply(True)
        self.rows = [] if clear else self.rows
        self.index = -1
        self.is_open = False

    def apply(self, at_end: bool) -> None:
        if all(self.rows[-1][column] is None for column in self.used):
            return
        for i, each in enumerate(self.configs):
            if i in self.done or not all(self.holds(i, c, at_end) for c in each.conditions):
                continue
            if len(self.rows) < max(-min(n.start, n.stop) for n in each.flat):
                continue
            item = [self.column(node) for node in each.flat]
            if any(x is None for x in item) or any(
                isinstance(x, list) and None in x for x in item
            ):
                continue
            self.items.append((each.table, item))
            self.done.add(i)
            self.since[i] = 0

    def column(self, node: Any) -> Any:
        values = [row[node.flat_source_index] for row in self.rows]
        if not node.HasField("start"):
            return values[node.stop]
        return values[slice(node.start, node.stop or None, node.step or None)]

    def holds(self, i: int, condition: Any, at_end: bool) -> bool:
        left = condition.WhichOneof("left")
        value = {
            "step_index": self.index,
            "steps_since_applied": self.since[i],
            "buffer_length": min(len(self.rows), self.longest),
            "is_end_episode": int(at_end),
            "flat_source_index": self.rows[-1][condition.flat_source_index],
        }[left]
        if value is None:
            return False
        how = condition.WhichOneof("cmp")
        if how == "mod_eq":
            result = int(np.fmod(value, condition.mod_eq.mod)) == condition.mod_eq.eq
        else:
            result = value == condition.eq if how == "eq" else value >= condition.ge
        return result is not condition.inverse


def random_run(client: Client, seed: int) -> tuple[list[Any], list[Any]]:
    """The items of a random program, and those of the plain rule."""
    rng = random.Random(seed)
    width = rng.randint(1, 3)
    configs = [
        random_config(rng, width, table=rng.choice(TABLES)) for _ in range(rng.randint(1, 4))
    ]
    writer, rule = client.structured_writer(configs), PlainRule(configs)
    gaps, parts = rng.choice([0, 0, 0.3]), rng.choice([0, 0, 0.4])
    for _ in range(40):
        if rng.random() < 0.1:
            clear = rng.random() < 0.5
            writer.end_episode(clear)
            rule.end_episode(clear)
            continue
        partial = rng.random() < parts
        given = rule.rows[-1] if rule.is_open else [None] * width
        missing = 0.5 if partial else gaps
        row = [
            None if old is not None or rng.random() < missing else rng.randint(-3, 5)
            for old in given
        ]
        writer.append(row, partial_step=partial)
        rule.append(row, partial)
    found = [(table, item) for table in TABLES for item in drained(client, table)]
    return found, sorted(rule.items, key=lambda item: item[0])


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_make_the_items_of_the_plain_rule(client: Client, seed: int) -> None:
    found, wanted = random_run(client, seed)
    assert found == wanted


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("_holds", lambda self, state: True),
        ("_is_there", lambda self, state: False),
        ("_catch_up", lambda self: None),
        ("end_episode", lambda self, clear: None),
    ],
)
def test_the_plain_rule_notices_a_broken_matcher(
    client: Client, monkeypatch: pytest.MonkeyPatch, method: str, change: Any
) -> None:
    monkeypatch.setattr(PatternMatcher, method, change)

    def is_noticed(seed: int) -> bool:
        try:
            found, wanted = random_run(client, seed)
        except (ValueError, RuntimeError, IndexError, TypeError):
            return True
        return found != wanted

    assert any(is_noticed(seed) for seed in range(60))


def test_the_matcher_needs_no_writer() -> None:
    matcher = PatternMatcher(parse([config(REF[0][-3::2], REF[1][-1])], want_priority=False))
    found = []
    for step in ([1, 1], [None, 1], [1, 1], [1, 1], [1, 1], [1, 1]):
        matcher.add_whole(step) if None not in step else matcher.add(step, partial=False)
        found += [matcher.runs(state) for state in matcher.due()]
    assert found == [
        # Cells 0 and 1 of column 0 are neighbours, though their steps are not.
        ((0, 1), [0, 2], (2, 1), (1, 1)),
        ((0, 0, 1), [1, 3, 4], (1, 1, 1), (2, 1)),
        ((0, 0, 1), [2, 4, 5], (1, 1, 1), (2, 1)),
    ]
