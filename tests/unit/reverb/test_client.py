"""Client: inserting, sampling, administration, and finding its server."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from typing import Any
from unittest import mock

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table, only_item

from reverie import ArraySpec
from reverie.errors import EndlessWaitError
from reverie.reverb import errors, item_selectors, pybind, rate_limiters, replay_sample
from reverie.reverb.client import Client
from reverie.reverb.engine import registry
from reverie.reverb.server import Server, Table


def test_an_insert_is_an_item_of_one_step(serve: Serve) -> None:
    client = serve(fifo_table("a"), fifo_table("b"))
    client.insert({"y": np.ones((2, 2)), "x": 3}, {"a": 1.5, "b": 2.5})
    for table, priority in (("a", 1.5), ("b", 2.5)):
        info, data = only_item(client, table)
        assert info.priority == priority
        assert [column.shape for column in data] == [(1,), (1, 2, 2)]
        (steps,) = client.sample(table)
        assert [leaf.tolist() for leaf in steps[0].data] == [3, [[1.0, 1.0], [1.0, 1.0]]]


def test_inserts_may_differ_in_dtype_and_shape(serve: Serve) -> None:
    client = serve(Table.queue("t", 10))
    values = [np.ones((), np.int64), np.ones((2, 2), np.float32), np.array(["a", "bc"])]
    for value in values:
        client.insert(value, {"t": 1.0})
    found = [steps[0].data[0] for steps in client.sample("t", 3)]
    assert [x.tolist() for x in found] == [1, [[1, 1], [1, 1]], [b"a", b"bc"]]
    assert [x.dtype for x in found] == [np.int64, np.float32, object]


@pytest.mark.parametrize(
    ("priorities", "message"),
    [
        ({}, "priorities must contain"),
        ({"nope": 1.0}, "Unable to find signatures for table 'nope'.*'t'"),
        ({"t": float("nan")}, "must not be nan"),
    ],
)
def test_bad_inserts_are_refused(
    serve: Serve, priorities: dict[str, float], message: str
) -> None:
    client = serve()
    with pytest.raises(ValueError, match=message):
        client.insert([1], priorities)
    assert client.server_info()["t"].current_size == 0


def test_sample_info_is_python_numbers_and_counts_this_sample(serve: Serve) -> None:
    client = serve()
    client.insert([1], {"t": 2.0})
    infos = [steps[0].info for steps in client.sample("t", 2)]
    assert infos[0]._replace(key=0) == replay_sample.SampleInfo(0, 1.0, 1, 2.0, 1)
    assert infos[1].times_sampled == 2
    assert list(map(type, infos[0])) == [int, float, int, float, int]


SIGNATURE = {"b": ArraySpec((), np.int64), "a": (ArraySpec((2,), np.float32),)}


@pytest.mark.parametrize("unpack", [True, False])
def test_data_comes_flat_or_in_the_table_s_nest(serve: Serve, unpack: bool) -> None:
    client = serve(fifo_table(signature=SIGNATURE), fifo_table("bare"))
    step = {"b": 7, "a": (np.zeros(2, np.float32),)}
    client.insert(step, {"t": 1.0, "bare": 1.0})
    (steps,) = client.sample("t", unpack_as_table_signature=unpack)
    (whole,) = client.sample("t", emit_timesteps=False, unpack_as_table_signature=unpack)
    if unpack:
        assert (steps[0].data["b"], steps[0].data["a"][0].shape) == (7, (2,))
        assert (whole.data["b"].tolist(), whole.data["a"][0].shape) == ([7], (1, 2))
    else:
        assert [leaf.shape for leaf in steps[0].data] == [(2,), ()]
        assert [leaf.shape for leaf in whole.data] == [(1, 2), (1,)]
    (bare,) = client.sample("bare", emit_timesteps=False, unpack_as_table_signature=True)
    assert isinstance(bare.data, list)


def test_an_item_that_is_no_sequence_of_steps_cannot_be_emitted_as_such(serve: Serve) -> None:
    client = serve()
    with client.trajectory_writer(3) as writer:
        for i in range(3):
            writer.append({"x": i, "y": i})
        writer.create_item("t", 1.0, [writer.history["x"][:], writer.history["y"][-1]])
    with pytest.raises(ValueError, match=r"non timestep trajectory .* lengths 3, squeezed"):
        next(client.sample("t"))
    assert [c.shape for c in only_item(client)[1]] == [(3,), ()]


def test_an_item_without_the_signature_s_columns_says_so_when_it_is_unpacked(
    serve: Serve,
) -> None:
    client = serve(fifo_table(signature=SIGNATURE))
    with client.trajectory_writer(1, validate_items=False) as writer:
        writer.append([1])
        writer.create_item("t", 1.0, writer.history[0][:])
    with pytest.raises(ValueError, match="1 columns does not fit the table's signature of 2"):
        next(client.sample("t", emit_timesteps=False, unpack_as_table_signature=True))


def test_sampling_waits_for_an_insert_of_another_thread(serve: Serve) -> None:
    client = serve()

    def insert() -> None:
        time.sleep(0.05)
        client.insert([1], {"t": 1.0})

    thread = threading.Thread(target=insert)
    thread.start()
    assert next(client.sample("t"))[0].data[0] == 1
    thread.join()


def test_sampling_that_would_wait_for_ever_says_so(serve: Serve) -> None:
    client = serve(fifo_table(rate_limiter=rate_limiters.MinSize(3)))
    client.insert([1], {"t": 1.0})
    with pytest.raises(
        EndlessWaitError, match=r"holds 1 items and wants at least 3.*does not let"
    ):
        next(client.sample("t"))


def test_an_insert_that_would_wait_for_ever_says_so_and_goes_in_later(serve: Serve) -> None:
    client = serve(Table.queue("t", 1))
    client.insert([1], {"t": 1.0})
    with pytest.raises(EndlessWaitError):
        client.insert([2], {"t": 1.0})
    assert [s[0].data[0].item() for s in client.sample("t", 2)] == [1, 2]


@pytest.mark.parametrize("use", ["sample", "mutate_priorities", "reset"])
def test_unknown_tables_are_named_with_those_there_are(serve: Serve, use: str) -> None:
    client = serve()
    with pytest.raises(errors.UnknownTableError, match=r"'nope' was not found.*'t'") as caught:
        list(getattr(client, use)("nope"))
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(ValueError, match='Could not find table "nope"'):
        next(client.sample("nope", unpack_as_table_signature=True))


def test_no_samples_is_an_error_as_in_reverb(serve: Serve) -> None:
    with pytest.raises(ValueError, match=r"max_samples \(0\) must be -1 or >= 1"):
        next(serve().sample("t", 0))


def keys_of(client: Client) -> list[int]:
    n = client.server_info()["t"].current_size
    return sorted({steps[0].info.key for steps in client.sample("t", 50 * n)})


def test_priorities_change_and_items_go_by_key_and_stale_keys_are_counted(
    serve: Serve,
) -> None:
    client = serve(fifo_table(sampler=item_selectors.Uniform()))
    for i in range(3):
        client.insert([i], {"t": 1.0})
    first, second, third = keys_of(client)
    assert client.mutate_priorities("t", updates={first: 5.0, 17: 1.0}, deletes=[second]) == 1
    assert keys_of(client) == [first, third]
    priorities = {s[0].info.key: s[0].info.priority for s in client.sample("t", 50)}
    assert priorities == {first: 5.0, third: 1.0}
    assert client.mutate_priorities("t", {second: 1.0}, [second]) == 2
    assert client.mutate_priorities("t", {third: 2.0}, [third]) == 0  # updated, then deleted
    assert client.mutate_priorities("t") == 0


@pytest.mark.parametrize(
    ("updates", "deletes", "error", "message"),
    [
        ({1: float("nan")}, [], ValueError, "must not be nan"),
        ({1: -1.0}, [], ValueError, "finite and not negative but got -1.0"),
        ({1: "x"}, [], TypeError, "priority: found 'x'"),
        ({-1: 1.0}, [], TypeError, "key: found -1"),
        ({}, [2**64], TypeError, "key: found 18446744073709551616"),
        ({}, [1.0], TypeError, "key: found 1.0"),
    ],
)
def test_bad_keys_and_priorities_change_nothing(
    serve: Serve, updates: Any, deletes: Any, error: type[Exception], message: str
) -> None:
    client = serve(fifo_table(sampler=item_selectors.Prioritized(1.0)))
    client.insert([1], {"t": 1.0})
    (key,) = keys_of(client)
    with pytest.raises(error, match=message):
        client.mutate_priorities("t", {key: 9.0, **updates}, [*deletes, key])
    assert only_item(client)[0].priority == 1.0


def test_reset_empties_one_table(serve: Serve) -> None:
    client = serve(fifo_table("t"), fifo_table("u"))
    client.insert([1], {"t": 1.0, "u": 1.0})
    client.reset("t")
    info = client.server_info()
    assert (info["t"].current_size, info["u"].current_size) == (0, 1)


def test_server_info_has_each_table(serve: Serve) -> None:
    client = serve(fifo_table("a", signature=SIGNATURE), Table.queue("q", 7))
    client.insert([1], {"q": 1.0})
    info = client.server_info(timeout=1)
    assert list(info) == ["a", "q"]
    assert (info["a"].signature, info["q"].signature) == (SIGNATURE, None)
    assert (info["q"].current_size, info["q"].max_size, info["q"].max_times_sampled) == (
        1,
        7,
        1,
    )


def test_the_engine_s_server_info_is_reverb_s_messages(serve: Serve) -> None:
    client = serve(fifo_table("a", signature=SIGNATURE))
    fake = mock.Mock()
    fake.ServerInfo.return_value = client._client.ServerInfo(1)
    client._client = fake
    (info,) = client.server_info().values()
    assert (info.name, info.max_size, info.sampler_options.fifo) == ("a", 1000, True)
    assert info.signature["a"][0].shape == (2,)


def test_a_client_may_be_there_before_its_server() -> None:
    port = registry.unused_port()
    client = Client(f"localhost:{port}")
    with pytest.raises(errors.DeadlineExceededError, match=r"within provided timeout of 0.05s"):
        client.server_info(timeout=0.05)  # type: ignore[arg-type]
    for use in (client.server_info, client.checkpoint, lambda: client.writer(1)):
        with pytest.raises(errors.UnreachableServerError, match=f"on port {port}"):
            use()
    for _ in range(2):  # and finds the next one on the same port
        server = Server([fifo_table()], port=port)
        client.insert([1], {"t": 1.0})
        only_item(client)
        server.stop()


@pytest.mark.parametrize("address", ["reverb.example.com:8000", "localhost", "localhost:x"])
def test_other_addresses_are_refused_with_the_way_out(address: str) -> None:
    with pytest.raises(errors.UnreachableServerError, match="install dm-reverb"):
        Client(address)


def test_a_client_pickles_as_its_address(serve: Serve) -> None:
    client = serve()
    for other in (pickle.loads(pickle.dumps(client)), copy.copy(client)):
        assert other.server_address == client.server_address
        assert repr(other) == f"Client, server_address={client.server_address}"
        other.insert([1], {"t": 1.0})
    assert client.server_info()["t"].current_size == 2


def test_a_stopped_server_ends_a_wait_and_refuses_calls(serve: Serve) -> None:
    client = serve()
    server = client._client.server
    waiting: list[Exception] = []

    def wait() -> None:
        try:
            next(client.sample("t"))
        except Exception as error:
            waiting.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    server.Stop()
    thread.join()
    assert isinstance(waiting[0], errors.UnreachableServerError)
    for use in (lambda: client.insert([1], {"t": 1.0}), lambda: client.reset("t")):
        with pytest.raises(RuntimeError, match="port"):
            use()


def test_numbers_out_of_range_are_quoted(serve: Serve) -> None:
    client = serve()
    for call, message in [
        (lambda: client.writer(0), r"max_sequence_length \(0\)"),
        (lambda: client.writer(2, chunk_length=3), r"chunk_length \(3\) .* \(2\)"),
        (lambda: client.writer(2, max_in_flight_items=0), r"max_in_flight_items \(0\)"),
        (lambda: client.trajectory_writer(0), r"num_keep_alive_refs \(0\)"),
        (lambda: client.structured_writer([]), "At least one config"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"num_keep_alive_refs: found 1\.5"):
        client.trajectory_writer(1.5)  # type: ignore[arg-type]


def test_checkpoint_asks_the_engine(serve: Serve) -> None:
    client = serve()
    with mock.patch.object(pybind.Client, "Checkpoint", return_value="/x") as called:
        assert client.checkpoint() == "/x"
    called.assert_called_once_with()


def test_sampling_can_go_through_a_stand_in_for_the_engine(serve: Serve) -> None:
    client = serve()
    client._client = mock.Mock()
    sample = [np.array(5, np.uint64), 0.5, 3, 1.0, 2, np.arange(2)]
    client._client.NewSampler.return_value.GetNextTrajectory.return_value = sample
    (steps,) = client.sample("t", 1)
    assert [(s.info.key, s.data[0].item()) for s in steps] == [(5, 0), (5, 1)]
