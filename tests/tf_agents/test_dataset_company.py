"""Whom a wait counts on while datasets are read, and after."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import fill, serve, trajectories, uniform
from tests.tf_agents.support import episode, new_manager

from reverie.errors import EndlessWaitError
from reverie.runtime import company, waiting

pytestmark = pytest.mark.xdist_group("alone")
READERS = "the readers of a dataset"


def managed(folder: Path) -> Any:
    _, buffer, _ = new_manager(folder, [episode(9)])
    return buffer.as_dataset(2)


def taken(folder: Path) -> Any:
    return managed(folder).prefetch(2).take(5)


def served(_: Path) -> Any:
    _server, client, address = serve(uniform())
    fill(client, [2] * 9)
    dataset = trajectories(address)
    dataset.kept = _server
    return dataset


def is_counted() -> bool:
    gc.collect()
    return READERS in company.others().callers


@pytest.mark.parametrize("make", [managed, taken, served])
def test_readers_count_while_an_iterator_is_open(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    assert not is_counted()
    dataset = make(tmp_path)
    iterator = iter(dataset)
    next(iterator)
    assert is_counted()
    del iterator
    assert not is_counted()
    next(iter(dataset))
    assert not is_counted()


def test_a_dataset_that_has_ended_is_not_read(tmp_path: Path) -> None:
    _, buffer, _ = new_manager(tmp_path, [episode(9)])
    iterator = iter(buffer.as_dataset(2, timeout_s=0.0))
    next(iterator)
    buffer.clear()
    assert len(list(iterator)) < 99
    assert not is_counted()


def endless_wait(folder: Path) -> None:
    """Waits for data that nobody will add, after a dataset has been read."""
    _, buffer, _ = new_manager(folder, [episode(9)])
    dataset = buffer.as_dataset(2)
    next(iter(dataset))
    gc.collect()
    buffer.clear()
    buffer.sample(1)


def test_nobody_waits_for_an_iterator_that_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_patience_s", 0.2)
    with pytest.raises(EndlessWaitError, match="nobody could add"):
        endless_wait(tmp_path)


def test_that_check_would_see_a_reader_that_counts_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "_readers", set())
    next(iter(managed(tmp_path)))
    assert is_counted()
