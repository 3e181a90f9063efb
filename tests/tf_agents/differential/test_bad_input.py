"""Bad input and the ends of things: Reverb's exception types, at the same call.

Where Reverb hangs, lets the process die or takes nonsense, Reverie answers; those cases
are named with their reason, and stand in docs/reverb.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")

from tests.tf_agents.differential import twins  # noqa: E402
from tests.tf_agents.differential.observe import Raised, canonical  # noqa: E402

from reverie import reverb as ours  # noqa: E402

STEP = {"a": np.float32(1), "b": np.ones(2, np.int32)}
SPEC = {
    "a": tf.TensorSpec((None,), tf.float32),
    "b": tf.TensorSpec((None, 2), tf.int32),
}


class Bench:
    """A server with a plain table, a heap, one with a signature and a queue, on a module."""

    def __init__(self, rv: Any) -> None:
        self.rv = rv
        self.tables = [
            self.table("plain"),
            self.table("prioritized", rv.selectors.Prioritized(1.0)),
            self.table("heap", rv.selectors.MinHeap()),
            self.table("signed", signature=SPEC),
            rv.Table.queue("queue", 2),
        ]
        self.server = rv.Server(self.tables)
        self.client = rv.Client(f"localhost:{self.server.port}")

    def table(self, name: str, sampler: Any = None, **kwargs: Any) -> Any:
        arguments = {
            "sampler": sampler or self.rv.selectors.Fifo(),
            "remover": self.rv.selectors.Fifo(),
            "max_size": 10,
            "rate_limiter": self.rv.rate_limiters.MinSize(1),
        }
        return self.rv.Table(name, **{**arguments, **kwargs})

    def writer(self, steps: int = 3, keep: int = 3, **kwargs: Any) -> Any:
        writer = self.client.trajectory_writer(keep, **kwargs)
        for _ in range(steps):
            writer.append(STEP)
        return writer

    def item(self, table: str = "plain", priority: Any = 1.0, n: int = 2, **kwargs: Any) -> Any:
        writer = self.writer(**kwargs)
        columns = {name: column[-n:] for name, column in writer.history.items()}
        writer.create_item(table, priority, columns)
        writer.flush(timeout_ms=5000)

    def structured(self, table: str = "plain", **kwargs: Any) -> Any:
        lib = self.rv.structured
        reference = lib.create_reference_step(STEP)
        config = lib.create_config({"a": reference["a"][-2:]}, table, **kwargs)
        return self.client.structured_writer([config])

    def sample(self, table: str = "plain", n: int = 1, **kwargs: Any) -> Any:
        return [
            canonical(each[0].data if isinstance(each, list) else each.data)
            for each in self.client.sample(table, n, **kwargs)
        ]

    def size(self, table: str = "plain") -> int:
        return int(self.client.server_info(5)[table].current_size)


def create(bench: Bench, columns: Callable[[Any], Any], table: str = "plain") -> int:
    writer = bench.writer()
    writer.create_item(table, 1.0, columns(writer.history))
    writer.flush(timeout_ms=5000)
    return bench.size(table)


def after_eviction(bench: Bench) -> None:
    writer = bench.writer()
    column = writer.history["a"][0:1]
    writer.append(STEP)
    writer.create_item("plain", 1.0, {"a": column})


def numpy_after_eviction(bench: Bench) -> Any:
    writer = bench.writer()
    column = writer.history["a"][0:1]
    writer.append(STEP)
    return column.numpy()


def after_episode(bench: Bench) -> None:
    writer = bench.writer()
    column = writer.history["a"][:]
    writer.end_episode()
    writer.create_item("plain", 1.0, {"a": column})


def kept_fewer(bench: Bench, steps: int) -> Any:
    writer = bench.writer()
    writer.configure(("a",), num_keep_alive_refs=1, max_chunk_length=1)
    for _ in range(steps):
        writer.append(STEP)
    writer.create_item("plain", 1.0, {"a": writer.history["a"][-2:]})
    writer.flush(timeout_ms=5000)
    return bench.sample(emit_timesteps=False)


def append(bench: Bench, step: Any, **kwargs: Any) -> None:
    bench.writer().append(step, **kwargs)


def update(bench: Bench, table: str, priority: float) -> Any:
    bench.item(table)
    key = next(bench.client.sample(table, 1))[0].info.key
    bench.client.mutate_priorities(table, {key: priority})
    return next(bench.client.sample(table, 1))[0].info.priority


def full_queue(bench: Bench) -> Any:
    writer = bench.writer()
    for _ in range(3):
        writer.create_item("queue", 1.0, {"a": writer.history["a"][-1:]})
    return writer


def uneven(bench: Bench, **kwargs: Any) -> Any:
    create(bench, lambda h: {"a": h["a"][-1:], "b": h["b"][-2:]})
    return bench.sample(**kwargs)


def legacy(bench: Bench, *, length: int = 2, steps: int = 1, **kwargs: Any) -> Any:
    with bench.client.writer(length, **kwargs) as writer:
        writer.append(STEP)
        writer.create_item("plain", steps, 1.0)
    return bench.sample()


def closed_legacy(bench: Bench) -> None:
    writer = bench.client.writer(2)
    writer.close()
    writer.close()


def reopened_legacy(bench: Bench) -> None:
    writer = bench.client.writer(2)
    writer.close()
    with writer:
        pass


def two_parts(bench: Bench, second: Any) -> None:
    writer = bench.client.trajectory_writer(3)
    writer.append({"a": STEP["a"]}, partial_step=True)
    writer.append(second)


def limits(bench: Bench, *args: Any) -> Any:
    return repr(bench.rv.rate_limiters.SampleToInsertRatio(*args))


def structured(bench: Bench, table: str = "plain") -> Any:
    writer = bench.structured(table)
    for _ in range(3):
        writer.append(STEP)
    writer.flush(timeout_ms=5000)
    return bench.sample(n=2)


def mutate(bench: Bench, *args: Any) -> None:
    bench.client.mutate_priorities(*args)  # ours tells how many keys were stale


CASES: dict[str, Callable[[Bench], Any]] = {
    # Unknown names.
    "item into no table": lambda b: b.item("nope"),
    "item into no table, unchecked": lambda b: b.item("nope", validate_items=False),
    "sample of no table": lambda b: b.sample("nope"),
    "sample of no table as it is signed": lambda b: b.sample(
        "nope", unpack_as_table_signature=True
    ),
    "insert into no table": lambda b: b.client.insert(STEP, {"nope": 1.0}),
    "mutate no table": lambda b: mutate(b, "nope", {1: 1.0}),
    "reset no table": lambda b: b.client.reset("nope"),
    "structured into no table": lambda b: structured(b, "nope"),
    "insert nowhere": lambda b: b.client.insert(STEP, {}),
    # Steps.
    "another dtype": lambda b: append(b, {**STEP, "a": np.float64(1)}),
    "another shape": lambda b: append(b, {**STEP, "b": np.ones(3, np.int32)}),
    "a Python float for float32": lambda b: append(b, {**STEP, "a": 1.0}),
    "an object": lambda b: append(b, {**STEP, "a": object()}),
    "a date": lambda b: append(b, {"new": np.datetime64("2020-01-01")}),
    "a number too large": lambda b: append(b, {"new": 10**20}),
    "a column twice in a step": lambda b: two_parts(b, STEP),
    "history before a step": lambda b: b.client.trajectory_writer(1).history,
    "none kept": lambda b: b.client.trajectory_writer(0),
    "configured to keep none": lambda b: b.writer().configure(
        ("a",), num_keep_alive_refs=0, max_chunk_length=None
    ),
    "chunks above what is kept": lambda b: b.writer().configure(
        ("a",), num_keep_alive_refs=2, max_chunk_length=3
    ),
    "configured to keep fewer": lambda b: kept_fewer(b, 0),
    "configured to keep fewer, a step later": lambda b: kept_fewer(b, 1),
    # Items.
    "an item of nothing": lambda b: create(b, lambda h: {}),
    "arrays for columns": lambda b: create(b, lambda h: {"a": np.ones(2)}),
    "a history for a column": lambda b: create(b, lambda h: {"a": h["a"]}),
    "evicted steps": after_eviction,
    "evicted steps looked at": numpy_after_eviction,
    "steps of an episode that has ended": after_episode,
    "an index by text": lambda b: b.writer().history["a"]["x"],
    "steps that never were": lambda b: b.writer().history["a"][-5:],
    "an index that never was": lambda b: b.writer().history["a"][7],
    "a signature of other columns": lambda b: create(b, lambda h: {"a": h["a"][:]}, "signed"),
    "a signature of other dtypes": lambda b: create(
        b, lambda h: {"a": h["b"][:], "b": h["a"][:]}, "signed"
    ),
    "a signature of other shapes": lambda b: create(
        b, lambda h: {"a": h["a"][-1], "b": h["b"][-1]}, "signed"
    ),
    "a signature in another order": lambda b: create(
        b, lambda h: {"b": h["b"][:], "a": h["a"][:]}, "signed"
    ),
    "a signature of other names": lambda b: create(
        b, lambda h: {"x": h["a"][:], "y": h["b"][:]}, "signed"
    ),
    "NaN for a priority": lambda b: b.item(priority=float("nan")),
    "text for a priority": lambda b: b.item(priority="1"),
    "None for a priority": lambda b: b.item(priority=None),
    "an infinite priority": lambda b: b.item("heap", float("inf")),
    "a negative priority": lambda b: (b.item("heap", -1.0), b.sample("heap")),
    "a negative exponent": lambda b: repr(b.rv.selectors.Prioritized(-1.0)),
    "a whole number for a priority": lambda b: b.item(priority=3),
    "flush to below none": lambda b: b.writer().flush(-1),
    "a flush that leaves what is held up": lambda b: full_queue(b).flush(1, timeout_ms=5000),
    "a flush that is held up": lambda b: full_queue(b).flush(timeout_ms=50),
    "an end that is held up": lambda b: full_queue(b).end_episode(timeout_ms=50),
    # Samples.
    "no samples": lambda b: b.sample(n=0),
    "steps of columns that differ in length": uneven,
    "whole items that differ in length": lambda b: uneven(b, emit_timesteps=False),
    # Priorities.
    "no changes": lambda b: mutate(b, "plain"),
    "keys that never were": lambda b: mutate(b, "plain", {5: 1.0}, [6]),
    "text for a key": lambda b: mutate(b, "plain", {"x": 1.0}),
    "a negative key": lambda b: mutate(b, "plain", {-1: 1.0}),
    "text for a new priority": lambda b: mutate(b, "plain", {1: "x"}),
    "a new priority": lambda b: update(b, "heap", 7.5),
    # The legacy writer.
    "legacy": legacy,
    "legacy of length 0": lambda b: legacy(b, length=0),
    "legacy chunks of 0": lambda b: legacy(b, chunk_length=0),
    "legacy chunks too long": lambda b: legacy(b, chunk_length=3),
    "legacy none in flight": lambda b: legacy(b, max_in_flight_items=0),
    "legacy items of 0 steps": lambda b: legacy(b, steps=0),
    "legacy items of steps not there": lambda b: legacy(b, steps=2),
    "legacy items beyond its length": lambda b: legacy(b, steps=3),
    "legacy closed twice": closed_legacy,
    "legacy used again": reopened_legacy,
    # Structured writers.
    "no configs": lambda b: b.client.structured_writer([]),
    "structured": structured,
    "more columns than before": lambda b: [
        writer := b.structured(),
        writer.append(STEP),
        writer.append({**STEP, "c": np.float32(1)}),
    ],
    "structured flush to below none": lambda b: b.structured().flush(-1),
    # Tables and servers.
    "a table without a name": lambda b: b.table(""),
    "a table of size 0": lambda b: b.table("t", max_size=0),
    "two tables of one name": lambda b: b.rv.Server([b.table("t"), b.table("t")]),
    "no tables": lambda b: b.rv.Server([]),
    "a table served twice": lambda b: repr(type(b.rv.Server([b.table("t")]).port)),
    "a size of 0 to sample": lambda b: b.rv.rate_limiters.MinSize(0),
    "no samples for an insert": lambda b: limits(b, 0.0, 1, 2.0),
    "a buffer too small": lambda b: limits(b, 4.0, 1, 2.0),
    "a buffer above the start": lambda b: limits(b, 1.0, 1, (5.0, 9.0)),
    "a ratio": lambda b: limits(b, 1.5, 4, 3.0),
    "a replaced table": lambda b: repr(
        b.tables[0].replace(name="new", max_size=3).info.max_size
    ),
}
HANGS_OR_WORSE = {
    # Reverb takes what makes no sense; a run of it would compare nonsense, or never end.
    "an infinite priority": lambda b: b.item("prioritized", float("inf")),
    "a negative priority": lambda b: b.item("prioritized", -1.0),
    "NaN as a new priority": lambda b: update(b, "heap", float("nan")),
    "a NaN exponent": lambda b: b.rv.selectors.Prioritized(float("nan")),
    "columns of another writer": lambda b: b.writer().create_item(
        "plain", 1.0, {"a": b.writer().history["a"][:]}
    ),
    "two servers on a port": lambda b: b.rv.Server([b.table("t")], port=b.server.port),
    "a squeezed column alone as steps": lambda b: (
        create(b, lambda h: {"a": h["a"][-1]}),
        b.sample(),
    ),
}
STOPPED: dict[str, Callable[[Bench], Any]] = {
    "sample": lambda b: b.sample(),
    "mutate": lambda b: mutate(b, "plain", {1: 1.0}),
    "reset": lambda b: b.client.reset("plain"),
    "insert": lambda b: b.client.insert(STEP, {"plain": 1.0}),
    "checkpoint": lambda b: b.client.checkpoint(),
    "server_info": lambda b: b.client.server_info(1),
}


@pytest.fixture(scope="module")
def benches() -> Iterator[tuple[Bench, Bench]]:
    pair = Bench(reverb), Bench(ours)
    yield pair
    for bench in pair:
        bench.server.stop()


def attempt(case: Callable[[Bench], Any], bench: Bench) -> Any:
    """What it gives or raises, after a fresh start; "hangs" if neither comes."""
    for table in ("plain", "prioritized", "heap", "signed", "queue"):
        bench.client.reset(table)
    return told(case, bench)


def told(case: Callable[[Bench], Any], bench: Bench) -> Any:
    answers: list[Any] = []

    def ask() -> None:
        try:
            answer = case(bench)
        except Exception as error:
            answers.append(Raised.of(error))
        else:
            simple = answer is None or isinstance(answer, int | float | str | list | tuple)
            answers.append(canonical(answer) if simple else type(answer).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(20)
    return answers[0] if answers else "hangs"


@pytest.mark.parametrize("name", CASES)
def test_it_is_answered_as_by_reverb(name: str, benches: tuple[Bench, Bench]) -> None:
    theirs, mine = (attempt(CASES[name], bench) for bench in benches)
    assert mine == theirs
    assert theirs != "hangs"


@pytest.mark.parametrize("name", HANGS_OR_WORSE)
def test_it_is_refused_where_reverb_goes_on(name: str) -> None:
    bench = Bench(ours)
    answer = told(HANGS_OR_WORSE[name], bench)
    bench.server.stop()
    assert isinstance(answer, Raised)
    assert "ValueError" in answer.names


@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_server_is_an_error_at_once(name: str) -> None:
    # Reverb waits for the server to come back, for ever where no timeout was given.
    bench = Bench(ours)
    bench.server.stop()
    answer = told(STOPPED[name], bench)
    assert isinstance(answer, Raised)
    # Only server_info has a timeout, whose error Reverb's programs wait for.
    wanted = "DeadlineExceededError" if name == "server_info" else "UnreachableServerError"
    assert wanted in answer.names


def test_a_twin_that_lets_an_error_pass_is_found_out(benches: tuple[Bench, Bench]) -> None:
    twin = Bench(twins.unknown_tables_pass())
    case = CASES["mutate no table"]
    assert attempt(case, twin) != attempt(case, benches[0])
    twin.server.stop()
