"""The reverb backend with a server that runs elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tests.tf_agents.backend_support import add, make, server, size_of  # noqa: E402
from tests.tf_agents.support import SPEC, episode  # noqa: E402
from tf_agents.replay_buffers import reverb_replay_buffer  # noqa: E402

from reverie import samplers  # noqa: E402
from reverie.backends.reverb import start  # noqa: E402
from reverie.errors import (  # noqa: E402
    InvalidArgumentError,
    UnsupportedError,
    WaitTimeoutError,
)


@pytest.fixture
def running() -> Iterator[Any]:
    made = server()
    yield made
    made.stop()


def test_a_server_elsewhere_serves_as_its_table_is(tmp_path: Path, running: Any) -> None:
    address = f"localhost:{running.port}"
    with make(tmp_path / "x", server_address=address) as first:
        add(first, *episode(8))
        with make(tmp_path / "x", server_address=address) as second:
            buffer, observer = second.get_replay_buffer_and_observer()
            assert second.num_frames() == first.num_frames() == 7
            assert isinstance(buffer, reverb_replay_buffer.ReverbReplayBuffer)
            for step in episode(4, number=1):
                observer(step)
            data, info = second.sample(16, timeout=5)
            assert data.reward.shape == (16, 2)
            assert (info.table_size == 10).all()
            element, _ = next(iter(second.get_dataset(4)))
            assert element.reward.shape == (4, 2)
            assert second.info().items == 10
        assert first.num_frames() == 10  # closing one leaves the server alone
        first.clear()
        assert size_of(running) == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("asked", [{"flat": True}, {"timeout_s": 1.0}])
def test_what_tf_agents_dataset_has_not_is_refused(
    tmp_path: Path, running: Any, asked: dict[str, Any]
) -> None:
    with make(tmp_path, server_address=f"localhost:{running.port}") as manager:
        manager.create_replay_buffer()
        with pytest.raises(UnsupportedError, match=r"has neither.*backend=\"embedded\""):
            manager.get_dataset(4, **asked)


@pytest.mark.parametrize(
    ("call", "way_out"),
    [
        (lambda m: m.save(), r"py_client\.checkpoint\(\)"),
        (lambda m: m.load_replay_buffer(), "get_replay_buffer_and_observer"),
        (lambda m: m.gather_all(), r"sample\(\)"),
        (lambda m: m.iter_items(), r"sample\(\)"),
    ],
    ids=["save", "load", "gather_all", "iter_items"],
)
def test_what_a_server_elsewhere_cannot_do_is_said_with_the_way_out(
    call: Any, way_out: str, tmp_path: Path, running: Any
) -> None:
    with make(tmp_path, server_address=f"localhost:{running.port}") as manager:
        add(manager, *episode(3))
        with pytest.raises(UnsupportedError, match=way_out) as caught:
            call(manager)
        assert isinstance(caught.value, NotImplementedError)
        assert Path(manager.get_replay_buffer_and_observer()[0].py_client.checkpoint()).name


@pytest.mark.parametrize(
    "there",
    [
        {"sampler": reverb.selectors.Prioritized(0.8)},
        {"sampler": reverb.selectors.MaxHeap()},
        {"remover": reverb.selectors.MinHeap()},
    ],
    ids=lambda there: "-".join(there),
)
def test_priorities_go_to_a_server_whose_table_reads_them(there: Any, tmp_path: Path) -> None:
    made = server(**there)
    with make(tmp_path, server_address=f"localhost:{made.port}") as manager:
        add(manager, *episode(3))
        buffer, _ = manager.get_replay_buffer_and_observer()
        keys = np.unique(manager.sample(20)[1].key)
        buffer.update_priorities(keys, np.full(len(keys), 2.5))
        info = manager.sample(20)[1]
        assert set(info.priority[np.isin(info.key, keys)]) == {2.5}
        with pytest.raises(UnsupportedError, match=r"replay_buffer\.update_priorities\(\)"):
            manager.update_priorities(keys, 1.0)
    made.stop()


@pytest.mark.parametrize("keys", [[], [1]], ids=str)
def test_a_server_elsewhere_says_by_itself_what_reads_priorities(
    keys: Any, tmp_path: Path, running: Any
) -> None:
    address = f"localhost:{running.port}"
    with make(tmp_path, server_address=address, sampler=samplers.Prioritized()) as manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        for update in (manager.update_priorities, buffer.update_priorities):
            with pytest.raises(
                InvalidArgumentError,
                match=rf"UniformSelector.*FifoSelector.*{address}.*reverb\.selectors\.Prior",
            ):
                update(np.array(keys, np.uint64), np.ones(len(keys)))
        buffer.py_client.mutate_priorities("uniform_table", {1: 1.0})  # as Reverb: taken


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, running: Any) -> None:
    signature = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec([None, *leaf.shape], leaf.dtype), SPEC
    )
    typed = server(signature=signature)
    wider = SPEC._replace(action=tf.TensorSpec((9,), tf.float32))
    try:
        for address, changes, words in (
            (running.port, {"table_name": "mine"}, r"does not exist.*uniform_table"),
            (running.port, {"capacity": 21}, "holds at most 20"),
            (typed.port, {"data_spec": wider}, r"'action'.*\(2,\).*\(9,\)"),
        ):
            with make(tmp_path, server_address=f"localhost:{address}", **changes) as manager:
                with pytest.raises(InvalidArgumentError, match=words):
                    manager.create_replay_buffer()
        with make(tmp_path, server_address=f"localhost:{typed.port}") as manager:
            manager.create_replay_buffer()
    finally:
        typed.stop()


def test_no_server_at_the_address_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_ANSWER_S", 1)
    with make(tmp_path, server_address="localhost:1") as manager:
        with pytest.raises(
            WaitTimeoutError, match="no Reverb server answered at 'localhost:1'"
        ):
            manager.create_replay_buffer()
