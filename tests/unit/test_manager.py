"""The manager: its arguments, its life, and every call at every time."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import add, checkpoints, contents, joins, make

from reverie import ReplayBuffer, ReplayBufferManager
from reverie.errors import (
    ClosedError,
    InvalidArgumentError,
    NotInitializedError,
)
from reverie.observers import TrajectoryObserver
from reverie.testing.manager_checks.life import ANY_TIME, MADE, NEED_A_BUFFER

# Arguments ----------------------------------------------------------------------------

NOT_INTEGERS: list[Any] = [1.5, 2.0, True, "3", [1], np.float32(2)]
BAD_ARGUMENTS: dict[str, list[Any]] = {
    "capacity": [0, -1, 2**32, None, *NOT_INTEGERS],
    "sequence_length": [0, -1, 2**32, None, *NOT_INTEGERS],
    "stride_length": [0, -1, 2**32, None, *NOT_INTEGERS],
    "seed": [-1, 2**64, *NOT_INTEGERS],
    "max_to_keep": [0, -1, 2**40, *NOT_INTEGERS],
    "backend": ["x", "", None, 3, ["embedded"]],
    "table_name": ["", None, 3, b"t"],
    "on_corrupt": ["skip", "", None],
    "on_misfit": ["skip", "", None],
    "checkpoint_dir": ["", None, 3, b"bytes", "nul\0byte", __file__],
    "tile_end_of_episodes": [True],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_ARGUMENTS.items() for value in values],
)
def test_a_bad_argument_is_refused_at_once_by_name(
    name: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        make(tmp_path, **{name: value})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "good",
    [
        {"capacity": np.int64(5), "sequence_length": np.uint8(3)},
        {"capacity": 2**32 - 2, "sequence_length": 2**32 - 1},
        {"seed": 2**64 - 1, "max_to_keep": None, "stride_length": np.int8(2)},
        {"checkpoint_dir": "not/there/yet", "table_name": "a/b \0é"},
    ],
)
def test_unusual_but_good_arguments_are_taken(good: dict[str, Any], tmp_path: Path) -> None:
    with make(tmp_path, **good) as manager:
        add(manager, 1)


def test_a_huge_capacity_costs_nothing(tmp_path: Path) -> None:
    with make(tmp_path, capacity=2**32 - 2) as manager:
        add(manager, *range(10))
        assert manager.info().allocated_nbytes < 2**20


# What it was asked for, by Smart Control's names ------------------------------------------

ASKED = ("data_spec", "capacity", "checkpoint_dir", "sequence_length", "table_name")


@pytest.mark.parametrize("given", [str, Path])
def test_the_folder_is_absolute_and_of_the_type_that_was_given(
    given: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with make(given("here")) as manager:
        monkeypatch.chdir("/")
        assert manager.checkpoint_dir == given(tmp_path / "here")


@pytest.mark.parametrize("name", [*ASKED, *MADE])
def test_attributes_are_not_set_in_silence(name: str, tmp_path: Path) -> None:
    with make(tmp_path) as manager, pytest.raises(AttributeError, match=name):
        setattr(manager, name, None)


def test_attributes_say_what_there_is_now(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        for _ in range(2):
            buffer, observer = manager.create_replay_buffer()
            assert (manager.replay_buffer, manager.observer) == (buffer, observer)
            assert manager.server is buffer.server
    assert [getattr(manager, name) for name in MADE] == [None] * len(MADE)
    assert [getattr(manager, name) for name in ("capacity", "table_name")] == [
        20,
        "uniform_table",
    ]


# Before there is a buffer ------------------------------------------------------------


def test_the_lists_of_calls_are_complete() -> None:
    public = {name for name in dir(ReplayBufferManager) if not name.startswith("_")}
    assert public == {*NEED_A_BUFFER, *ANY_TIME, *ASKED, *MADE, "close"}


@pytest.mark.parametrize("call", NEED_A_BUFFER)
def test_before_there_is_a_buffer_calls_name_what_to_call_first(
    call: str, tmp_path: Path
) -> None:
    with make(tmp_path) as manager:
        with pytest.raises(NotInitializedError, match=rf"{call}\(\) before .*create_replay"):
            NEED_A_BUFFER[call](manager)
    assert issubclass(NotInitializedError, RuntimeError)


def test_before_there_is_a_buffer_it_holds_nothing_and_clear_does_nothing(
    tmp_path: Path,
) -> None:
    with make(tmp_path) as manager:
        manager.clear()
        assert manager.num_frames() == 0
        assert "not created or loaded yet" in repr(manager)


def test_the_pair_is_made_when_first_asked_for_and_then_stays(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.get_replay_buffer_and_observer()
        assert isinstance(buffer, ReplayBuffer)
        assert isinstance(observer, TrajectoryObserver)
        again = manager.get_replay_buffer_and_observer()
        assert again[0] is buffer
        assert again[1] is observer


# The end -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*NEED_A_BUFFER, *ANY_TIME])
@pytest.mark.parametrize("created", [True, False])
def test_after_close_every_call_says_so(call: str, created: bool, tmp_path: Path) -> None:
    manager = make(tmp_path)
    if created:
        add(manager, 1, 2)
    manager.close()
    manager.close()
    with pytest.raises(ClosedError, match="ReplayBufferManager is closed"):
        {**NEED_A_BUFFER, **ANY_TIME}[call](manager)
    assert repr(manager).startswith("ReplayBufferManager('uniform_table', closed, ")


def test_a_with_block_closes_and_a_closed_manager_enters_none(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1)
    with pytest.raises(ClosedError), manager:
        pass


def test_an_error_in_a_with_block_comes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), make(tmp_path) as manager:
        1 / manager.num_frames()


def test_closing_frees_the_table_for_threads_that_wait(tmp_path: Path) -> None:
    manager = make(tmp_path)
    manager.create_replay_buffer()
    threading.Timer(0.05, manager.close).start()
    with pytest.raises(ClosedError):
        manager.sample(1, timeout=10)


# create and clear ---------------------------------------------------------------------


def test_creating_again_gives_an_empty_buffer_and_ends_the_old_one(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        old_buffer, old_observer = manager.create_replay_buffer()
        add(manager, 1, 2, 3)
        buffer, _ = manager.create_replay_buffer()
        assert (buffer.num_frames(), manager.num_frames()) == (0, 0)
        with pytest.raises(ClosedError):
            old_buffer.num_frames()
        with pytest.raises(ClosedError):
            old_observer({"n": 1, "x": [1, 1]})
        add(manager, 4, 5)
        assert [steps for _, steps in contents(manager)] == [[4, 5]]


@pytest.mark.parametrize("call", ["create_replay_buffer", "get_replay_buffer_and_observer"])
def test_creating_over_checkpoints_warns_here_and_leaves_them(
    call: str, tmp_path: Path
) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save()
    with make(tmp_path) as manager:
        with pytest.warns(
            UserWarning, match=r"holds checkpoints.*load_replay_buffer"
        ) as caught:
            getattr(manager, call)()
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
        assert manager.num_frames() == 0
        assert checkpoints(tmp_path) == ["ckpt-00000001"]
        manager.load_replay_buffer()
        assert manager.num_frames() == 1


def test_creating_in_an_empty_or_missing_folder_does_not_warn_and_makes_none(
    tmp_path: Path,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with make(tmp_path / "missing") as manager:
            manager.create_replay_buffer()
    assert not (tmp_path / "missing").exists()


def test_clear_keeps_handles_and_checkpoints_and_nothing_comes_back(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        add(manager, 1, 2, 3)
        manager.save()
        manager.clear()
        assert (buffer.num_frames(), observer._cached_steps) == (0, 0)
        assert checkpoints(tmp_path) == ["ckpt-00000001"]
        observer({"n": 4, "x": [4, 4]})
        assert manager.num_frames() == 0
        observer({"n": 5, "x": [5, 5]})
        assert [steps for _, steps in contents(manager)] == [[4, 5]]


@pytest.mark.parametrize("length", [2, 3, 5])
def test_no_window_joins_steps_from_before_and_after_clear(length: int, tmp_path: Path) -> None:
    with make(tmp_path, sequence_length=length, capacity=100) as manager:
        buffer, observer = manager.create_replay_buffer()
        second = TrajectoryObserver(buffer.py_client, buffer.table_name, buffer.sequence_length)
        for n in range(-length + 1, 0):
            observer({"n": n, "x": [n, n]})
            second({"n": n, "x": [n, n]})
        manager.clear()
        for n in range(length + 2):
            observer({"n": n, "x": [n, n]})
            second({"n": n, "x": [n, n]})
        windows = [steps for _, steps in contents(manager)]
        assert len(windows) == 6
        assert joins(windows) == []


def test_the_check_of_windows_sees_a_join() -> None:
    assert joins([[1, 2], [-1, 0], [3, 5]]) == [[-1, 0], [3, 5]]


# The path that Smart Control's users import ------------------------------------------------


def test_the_import_path_of_smart_control_gives_the_same_class() -> None:
    from smart_control.reinforcement_learning.replay_buffer import replay_buffer

    assert replay_buffer.ReplayBufferManager is ReplayBufferManager
