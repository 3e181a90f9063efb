"""Requests of an insert stream, without gRPC: what becomes an item, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import fifo_table

pytest.importorskip("google.protobuf", reason="needs protobuf")
pytest.importorskip("cramjam", reason="needs cramjam")
pytest.importorskip("google_crc32c", reason="needs google-crc32c")

import cramjam

from reverie.errors import InvalidArgumentError
from reverie.proto import schema
from reverie.proto.data_types import number_of
from reverie.reverb import item_selectors, rate_limiters
from reverie.reverb.client import Client
from reverie.reverb.errors import UnreachableServerError
from reverie.reverb.server import Server
from reverie.reverb.wire import inserting
from reverie.reverb.wire.inserting import InsertStream
from reverie.reverb.wire.statuses import CallError, Code, status_of


class Scene:
    """A server with a stream to it, and the requests of a client."""

    def __init__(self, *tables: Any) -> None:
        self.server = Server(list(tables) or [fifo_table()])
        self.client = Client(f"localhost:{self.server.port}")
        self.stream = InsertStream(self.server._server)

    def request(self) -> Any:
        return schema.message_class("InsertStreamRequest")()

    def take(self, request: Any) -> tuple[list[int], list[int]]:
        return self.stream.take(request.SerializeToString())

    def items(self, n: int, table: str = "t") -> list[list[Any]]:
        samples = self.client.sample(table, n, emit_timesteps=False)
        return [[column.tolist() for column in sample.data] for sample in samples]


def with_chunk(request: Any, key: int, *arrays: Any) -> Any:
    chunk = request.chunks.add(chunk_key=key)
    for array in arrays:
        proto = chunk.data.tensors.add(dtype=number_of(array.dtype.name))
        for extent in array.shape:
            proto.tensor_shape.dim.add(size=extent)
        proto.tensor_content = bytes(cramjam.snappy.compress_raw(array.tobytes()))
    return request


def with_item(
    request: Any, key: int, *columns: list[tuple[int, int, int, int]], **fields: Any
) -> Any:
    """An item whose columns are pieces (chunk, offset, length, index)."""
    fields = {"table": "t", "priority": 1.0, **fields}
    squeeze = fields.pop("squeeze", False)
    item = request.items.add(key=key, **fields)
    item.flat_trajectory.SetInParent()
    for pieces in columns:
        column = item.flat_trajectory.columns.add(squeeze=squeeze)
        for chunk, offset, length, index in pieces:
            column.chunk_slices.add(chunk_key=chunk, offset=offset, length=length, index=index)
    return request


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(*tables: Any) -> Scene:
        made.append(Scene(*tables))
        return made[-1]

    yield make
    for one in made:
        one.stream.close()
        one.server.stop()


STEPS = np.arange(10, dtype=np.int32)


def test_an_item_spans_chunks_and_takes_any_of_their_rows(scene: Any) -> None:
    on = scene()
    request = with_chunk(on.request(), 1, STEPS[:4], STEPS[:4] * 2.0)
    with_chunk(request, 2, STEPS[4:], STEPS[4:] * 2.0)
    with_item(request, 77, [(1, 2, 2, 0), (2, 0, 3, 0)], [(2, 5, 1, 1)])
    with_item(request, 78, [(2, 0, 1, 0), (1, 0, 1, 0)])
    assert on.take(request) == ([77, 78], [])
    assert on.items(1) == [[[2, 3, 4, 5, 6], [18.0]]]
    [first] = on.client.sample("t", 1, emit_timesteps=False)
    on.client.mutate_priorities("t", deletes=[first.info.key])
    assert on.items(1) == [[[4, 0]]]


def test_a_squeezed_column_has_no_time_axis(scene: Any) -> None:
    on = scene()
    request = with_chunk(on.request(), 1, STEPS)
    assert on.take(with_item(request, 1, [(1, 3, 1, 0)], squeeze=True)) == ([1], [])
    assert on.items(1) == [[3]]


def test_chunks_are_kept_as_long_as_the_client_says(scene: Any) -> None:
    on = scene()
    request = with_chunk(with_chunk(on.request(), 1, STEPS), 2, STEPS + 10)
    request.keep_chunk_keys.append(2)
    on.take(with_item(request, 1, [(1, 0, 1, 0)], [(2, 0, 1, 0)]))
    again = with_item(on.request(), 2, [(2, 9, 1, 0)])
    again.keep_chunk_keys.append(2)
    assert on.take(again) == ([2], [])
    with pytest.raises(CallError, match="Could not find sequence chunk 1\\.") as caught:
        on.take(with_item(on.request(), 3, [(2, 9, 1, 0)], [(1, 0, 1, 0)]))
    assert caught.value.code == Code.INTERNAL
    assert on.client.server_info()["t"].current_size == 2


def test_cells_of_chunks_that_are_gone_are_given_back(scene: Any) -> None:
    on = scene(fifo_table(max_size=1))
    for key in range(1, 60):
        request = with_chunk(on.request(), key, np.full((10, 1000), key, np.int32))
        on.take(with_item(request, key, [(key, 0, 10, 0)]))
    info = on.server._server.store.core.info()
    assert info["num_steps"] <= 60, info


def test_a_chunk_sent_again_is_the_first_one(scene: Any) -> None:
    on = scene()
    request = with_chunk(with_chunk(on.request(), 1, STEPS), 1, STEPS + 10)
    on.take(with_item(request, 1, [(1, 0, 1, 0)]))
    assert on.items(1) == [[[0]]]


def test_more_is_kept_than_there_is(scene: Any) -> None:
    on = scene()
    request = with_item(with_chunk(on.request(), 1, STEPS), 1, [(1, 0, 1, 0)])
    request.keep_chunk_keys.extend([1, 5])
    with pytest.raises(CallError, match=r"size\(\) == 1 != keep_keys.size\(\) == 2") as caught:
        on.take(request)
    assert caught.value.code == Code.FAILED_PRECONDITION


def test_a_request_without_anything_is_refused(scene: Any) -> None:
    with pytest.raises(CallError, match="lacks both chunks and item") as caught:
        scene().take(schema.message_class("InsertStreamRequest")())
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_bytes_that_are_no_request_are_refused(scene: Any) -> None:
    with pytest.raises(CallError, match="9 bytes of a request are no InsertStreamRequest"):
        scene().stream.take(b"\x0a\xffgarbage")


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ((1, 0, 11, 0), r"Cannot slice \(0, 11\) out of the 10 rows"),
        ((1, -1, 2, 0), r"Cannot slice \(-1, 1\)"),
        ((1, 0, 0, 0), r"Cannot slice \(0, 0\)"),
        ((1, 0, 2**31 - 1, 0), "Cannot slice"),
        ((1, 0, 1, 1), "Cannot unpack column 1"),
        ((1, 0, 1, -1), "Cannot unpack column -1"),
    ],
)
def test_pieces_outside_a_chunk_are_refused(scene: Any, piece: Any, words: str) -> None:
    on = scene()
    with pytest.raises(CallError, match=words) as caught:
        on.take(with_item(with_chunk(on.request(), 1, STEPS), 1, [piece]))
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert on.client.server_info()["t"].current_size == 0


def test_a_column_that_no_kept_chunk_has_is_refused(scene: Any) -> None:
    on = scene()
    request = with_chunk(on.request(), 1, STEPS)
    request.keep_chunk_keys.append(1)
    on.take(with_item(request, 1, [(1, 0, 1, 0)]))
    with pytest.raises(CallError, match="Cannot unpack column 3 in chunk 1 which has 1"):
        on.take(with_item(on.request(), 2, [(1, 0, 1, 3)]))


def test_an_item_that_repeats_cells_beyond_measure_is_refused(scene: Any) -> None:
    on = scene()
    request = with_chunk(on.request(), 1, np.zeros((1000, 1000)))
    with pytest.raises(CallError, match="An item of 2400000000 bytes") as caught:
        on.take(with_item(request, 1, [(1, 0, 1000, 0)] * 300))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_an_unknown_table_is_not_found(scene: Any) -> None:
    on = scene()
    request = with_item(with_chunk(on.request(), 1, STEPS), 1, [(1, 0, 1, 0)], table="no")
    with pytest.raises(CallError, match="Priority table no was not found") as caught:
        on.take(request)
    assert caught.value.code == Code.NOT_FOUND


@pytest.mark.parametrize(
    ("columns", "fields", "words"),
    [
        ([], {}, "Item trajectory must not be empty"),
        ([[]], {}, "Item trajectory must not be empty"),
        ([[(1, 0, 1, 0)], []], {}, "column 1: it is empty"),
        ([[(1, 0, 1, 0), (1, 0, 1, 1)]], {}, "different dtypes: int32 .* != double"),
        ([[(1, 0, 2, 0)]], {"squeeze": True}, "exactly one row"),
        ([[(1, 0, 1, 0)]], {"priority": float("nan")}, "must not be nan"),
    ],
)
def test_what_is_no_item_is_refused(
    scene: Any, columns: Any, fields: dict[str, Any], words: str
) -> None:
    on = scene()
    request = with_chunk(on.request(), 1, STEPS, STEPS * 2.0)
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        on.take(with_item(request, 1, *columns, **fields))
    assert status_of(caught.value)[0] == Code.INVALID_ARGUMENT


def test_a_negative_priority_is_refused_where_it_is_drawn_by(scene: Any) -> None:
    on = scene(fifo_table(sampler=item_selectors.Prioritized(1.0)))
    request = with_chunk(on.request(), 1, STEPS)
    with pytest.raises(InvalidArgumentError, match="not negative"):
        on.take(with_item(request, 1, [(1, 0, 1, 0)], priority=-1.0))


def test_items_that_wait_are_told_apart_and_go_in_by_themselves(scene: Any) -> None:
    limiter = rate_limiters.SampleToInsertRatio(1.0, 1, (0.0, 2.0))
    on = scene(fifo_table(rate_limiter=limiter), fifo_table("free"))
    request = with_chunk(on.request(), 1, STEPS)
    for key in range(1, 5):
        with_item(request, key, [(1, key, 1, 0)])
    with_item(request, 9, [(1, 9, 1, 0)], table="free")
    inserted, waiting = on.take(request)
    assert sorted(inserted + waiting) == [1, 2, 3, 4, 9]
    assert 9 in inserted
    assert waiting
    assert not on.stream.wait(0.0)
    on.items(len(waiting))
    assert on.stream.wait(10.0)
    assert on.client.server_info()["t"].current_size == 4


def test_chunks_that_no_item_refers_to_are_bounded(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserting, "_MAX_HELD_NBYTES", 2000)
    on = scene()
    noise = np.random.default_rng(1).integers(0, 256, 500).astype(np.uint8)
    for key in range(3):
        on.take(with_chunk(on.request(), key, noise))
    with pytest.raises(CallError, match="at most 2000") as caught:
        on.take(with_chunk(on.request(), 3, noise))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_chunks_in_items_are_not_held_twice(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserting, "_MAX_HELD_NBYTES", 2000)
    on = scene()
    noise = np.random.default_rng(1).integers(0, 256, 500).astype(np.uint8)
    for key in range(1, 20):
        request = with_chunk(on.request(), key, noise)
        request.keep_chunk_keys.extend(range(1, key + 1))
        on.take(with_item(request, key, [(key, 0, 1, 0)]))


def test_columns_of_ever_new_kinds_are_bounded(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserting, "_MAX_LANES", 3)
    on = scene()
    requests = []
    for n in range(1, 5):
        request = with_chunk(on.request(), n, np.zeros((2, n)))
        requests.append(with_item(request, n, [(n, 0, 1, 0)]))
    for request in requests[:3]:
        on.take(request)
    with pytest.raises(CallError, match="more than 3 columns") as caught:
        on.take(requests[3])
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_a_stopped_server_takes_nothing(scene: Any) -> None:
    on = scene()
    on.server.stop()
    request = with_item(with_chunk(on.request(), 1, STEPS), 1, [(1, 0, 1, 0)])
    with pytest.raises(UnreachableServerError) as caught:
        on.take(request)
    assert status_of(caught.value)[0] == Code.CANCELLED
