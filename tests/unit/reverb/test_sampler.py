"""Streams of samples, and the sampler that has Reverb's methods."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table

from reverie.errors import EndlessWaitError, WaitTimeoutError
from reverie.reverb import errors, item_selectors
from reverie.reverb.client import Client
from reverie.reverb.engine.sampler import ItemStream, timesteps
from reverie.reverb.server import Table
from reverie.tables.cells import pack_texts, unpack_texts


def filled(client: Client, n: int) -> Client:
    for i in range(n):
        client.insert([i, f"text {i}"], {"t": float(i)})
    return client


def stream(client: Client, **settings: int) -> ItemStream:
    return ItemStream(client._client.server, "t", **settings)  # type: ignore[arg-type]


def test_a_stream_ends_when_the_limiter_keeps_it_waiting(serve: Serve) -> None:
    client = filled(serve(Table.queue("t", 9)), 3)
    items = list(stream(client, timeout_ms=0))
    assert [item[5][0].tolist() for item in items] == [[0], [1], [2]]
    assert [item[5][1].tolist() for item in items] == [[b"text 0"], [b"text 1"], [b"text 2"]]
    assert [item[3] for item in items] == [0.0, 1.0, 2.0]
    start = time.monotonic()
    assert list(stream(client, timeout_ms=60)) == []
    assert time.monotonic() - start >= 0.06


def test_a_stream_ends_after_max_samples_and_fetches_no_more(serve: Serve) -> None:
    client = filled(serve(Table.queue("t", 9)), 5)
    assert len(list(stream(client, max_samples=3, batch=100))) == 3
    assert client.server_info()["t"].current_size == 2


@pytest.mark.parametrize(("batch", "left"), [(1, 4), (3, 2)])
def test_only_the_rest_of_a_batch_is_fetched_ahead(serve: Serve, batch: int, left: int) -> None:
    client = filled(serve(Table.queue("t", 9)), 5)
    next(stream(client, batch=batch))
    assert client.server_info()["t"].current_size == left


def test_a_poll_takes_what_is_there_and_does_not_wait_longer(serve: Serve) -> None:
    client = filled(serve(Table.queue("t", 9)), 3)
    polled = stream(client)
    assert [[len(run[0][0]) for run in polled.poll(2, 0.0)] for _ in range(3)] == [[2], [1], []]
    start = time.monotonic()
    assert polled.poll(2, 0.05) == []
    assert 0.04 < time.monotonic() - start < 5
    ((facts, columns),) = stream(filled(client, 2), max_samples=1).poll(5, 0.0)
    assert len(facts[0]) == 1
    assert columns[0].tolist() == [[0]]


def _insert_anything(client: Client, rng: np.random.Generator, text: Any) -> None:
    """One item, into both tables: some steps, whole or squeezed, of two widths, or texts."""
    texts = np.array(text, object) if rng.random() < 0.5 else None
    width, squeezed = rng.integers(1, 3), rng.random() < 0.3
    with client.trajectory_writer(3) as writer:
        for _ in range(rng.integers(1, 4)):
            step = {"x": rng.random(width), "n": rng.integers(99)}
            writer.append(step if texts is None else {**step, "text": texts})
        columns = {name: column[:] for name, column in writer.history.items()}
        columns["n"] = writer.history["n"][-1] if squeezed else columns["n"]
        for table in "tu":
            writer.create_item(table, rng.random(), columns)


@pytest.mark.parametrize("seed", range(10))
def test_a_poll_brings_in_runs_what_next_brings_one_by_one(serve: Serve, seed: int) -> None:
    client = serve(Table.queue("t", 99), Table.queue("u", 99))
    for i in range(20):
        for text in (["a", "b"], ["a", "b"], ["c"], "d"):  # alike but for the text's shape
            _insert_anything(client, np.random.default_rng((seed, i)), text)
    keys = client._client.server.table("u").core.items()["key"]
    wanted, polled = stream(client, timeout_ms=0), ItemStream(client._client.server, "u")
    runs = [run for _ in range(12) for run in polled.poll(7, 0.0)]
    found = [
        (*(fact[i] for fact in facts), [column[i, ...] for column in columns])
        for facts, columns in runs
        for i in range(len(facts[0]))
    ]
    assert [item[0] for item in found] == (keys ^ polled._table.key_mask).tolist()
    assert 5 < len(runs) < len(found)
    for one, other in zip(found, wanted, strict=True):
        assert one[1:2] + one[4:5] == other[1:2] + other[4:5]
        for a, b in zip(one[5], other[5], strict=True):
            assert (a.dtype, a.shape, a.tolist()) == (b.dtype, b.shape, b.tolist())


def test_a_poll_wakes_up_for_an_insert(serve: Serve) -> None:
    client = serve()
    thread = threading.Timer(0.05, filled, (client, 1))
    thread.start()
    assert len(stream(client).poll(1, 30.0)) == 1
    thread.join()


def test_waits_have_an_end(serve: Serve) -> None:
    client = serve()
    with pytest.raises(EndlessWaitError, match="to sample from table 't': it holds 0 items"):
        next(stream(client))
    with pytest.raises(WaitTimeoutError, match="to sample from table 't'"):
        stream(client).next(0.01)


@pytest.mark.parametrize(
    ("settings", "message"), [({"max_samples": 0}, "0"), ({"batch": 0}, "0")]
)
def test_numbers_out_of_range_are_refused(
    serve: Serve, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"\({message}\)"):
        stream(serve(), **settings)


def test_a_stopped_server_ends_a_stream(serve: Serve) -> None:
    client = filled(serve(), 1)
    polled = stream(client)
    client._client.server.Stop()
    for use in (lambda: next(polled), lambda: polled.poll(1, 0.0)):
        with pytest.raises(errors.UnreachableServerError, match="was stopped"):
            use()


def test_the_sampler_has_reverb_s_methods(serve: Serve) -> None:
    client = serve(fifo_table(sampler=item_selectors.Lifo()))
    with client.writer(3) as writer:
        for i in range(3):
            writer.append([i])
        writer.create_item("t", 3, 2.0)
    sampler = client._client.NewSampler("t", 3, 1)
    key, probability, size, priority, times, column = sampler.GetNextTrajectory()
    assert (key.dtype, probability, size, priority, times) == (np.uint64, 1.0, 1, 2.0, 1)
    assert column.tolist() == [0, 1, 2]
    steps = [sampler.GetNextTimestep() for _ in range(4)]
    assert [(step[5].item(), last) for step, last in steps] == [
        (0, False),
        (1, False),
        (2, True),
        (0, False),
    ]
    with pytest.raises(RuntimeError, match="no more samples"):
        sampler.GetNextTrajectory()


def test_unequal_columns_are_no_steps() -> None:
    assert timesteps([np.zeros(2), np.zeros((2, 3))]) == 2
    for columns in ([np.zeros(2), np.zeros(3)], [np.zeros(())], []):
        with pytest.raises(ValueError, match="Can't split non timestep trajectory"):
            timesteps(columns)


@pytest.mark.parametrize(
    "texts",
    [
        np.array(b"plain", object),
        np.array(b"", object),
        np.array([[b"a", b""], [b"\0", b"ccc"]], object),
        np.empty((0, 2), object),
    ],
)
def test_texts_survive_packing(texts: np.ndarray) -> None:
    again = unpack_texts(pack_texts(texts))
    assert (again.shape, again.dtype, again.tolist()) == (texts.shape, object, texts.tolist())


def test_a_text_that_looks_like_packed_ones_is_still_itself() -> None:
    packed = pack_texts(np.array([b"x"], object))
    again = unpack_texts(pack_texts(np.array(packed, object)))
    assert (again.shape, again.item()) == ((), packed)
    assert unpack_texts(packed).shape == (1,)  # which shows that the mark matters
