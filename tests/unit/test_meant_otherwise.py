"""What would be taken for something else is refused: ends in words, masks, cut keys, URLs."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import observers, reverb
from reverie.errors import InvalidArgumentError, ReverieError, StepMismatchError
from reverie.runtime.checks import as_keys, as_priorities
from reverie.samplers import Prioritized

SPEC = {"o": reverie.ArraySpec((2,), np.float32)}
STEP = {"o": np.zeros(2, np.float32)}
MASKED = np.ma.masked_array(np.zeros(2, np.float32), [True, False])


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    with reverie.ReplayBufferManager(SPEC, 10, tmp_path, 1, sampler=Prioritized()) as manager:
        manager.create_replay_buffer()
        yield manager


@pytest.mark.parametrize(
    "last", ["False", "", float("nan"), 2, -1, 0.5, b"1", object(), 1j, np.float32("nan")]
)
def test_an_end_is_true_or_false(last: Any, manager: Any) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    with pytest.raises(InvalidArgumentError, match="wanted True or False"):
        observer(STEP, last=last)
    assert manager.num_frames() == 0


@pytest.mark.parametrize("last", [True, np.True_, 1, 1.0, np.float32(1), np.array(True)])
def test_an_end_may_be_a_number(last: Any, manager: Any) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    observer(STEP, last=last)
    assert manager.num_frames() == 1


def test_a_mask_is_not_lost(manager: Any) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    with pytest.raises(StepMismatchError, match=r"'o': found a masked array.*filled"):
        observer({"o": MASKED}, last=False)
    assert manager.num_frames() == 0
    for read in (as_keys, as_priorities):
        with pytest.raises(InvalidArgumentError, match="masked array"):
            read(np.ma.masked_array([1, 2], [True, False]))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.float32, np.float64])
def test_keys_that_lost_their_upper_half_are_found_out(dtype: Any, manager: Any) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    observer(STEP, last=False)
    _, info = manager.sample(1)
    with pytest.raises(InvalidArgumentError, match=r"keys: .*upper half.*jax_enable_x64"):
        manager.update_priorities(info.key.astype(dtype), np.ones(1))
    for keys in (list(info.key.astype(dtype)), (info.key.astype(dtype),), [2**60, dtype(1)]):
        with pytest.raises(InvalidArgumentError, match=r"keys: .*upper half.*jax_enable_x64"):
            as_keys(keys)
    assert as_keys(info.key.tolist()) == as_keys(list(info.key)) == info.key


def test_no_keys_have_lost_nothing() -> None:
    assert as_keys(np.zeros(0, np.float32)).tolist() == []


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://b", "file:///tmp/run", "hdfs:/x"])
def test_a_url_is_no_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match="checkpoint_dir: found the URL"):
        reverie.ReplayBufferManager(SPEC, 10, url)
    with pytest.raises(InvalidArgumentError, match="found the URL"):
        reverie.open(url)
    table = reverb.Table.queue("q", 10)
    checkpointer = reverb.checkpointers.DefaultCheckpointer(url)
    with pytest.raises(InvalidArgumentError, match="path: found the URL"):
        reverb.Server([table], port=None, checkpointer=checkpointer)
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with reverie.ReplayBufferManager(SPEC, 10, os.path.join("~", "run"), 1) as manager:
        manager.create_replay_buffer()[1](STEP, last=True)
        assert manager.save().parent == tmp_path / "home" / "run"
    assert not (tmp_path / "~").exists()
    reverie.open(os.path.join("~", "run"))
    with pytest.raises(InvalidArgumentError, match="nobody's home"):
        reverie.ReplayBufferManager(SPEC, 10, "~nobody-of-this-name/run")


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="needs to be root")
def test_a_folder_that_cannot_be_looked_at_is_not_none(tmp_path: Path) -> None:
    """It would start empty, and its next checkpoint would remove the good one."""

    def serve() -> reverb.Server:
        table = reverb.Table.queue("q", 10)
        checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path / "away" / "run"))
        return reverb.Server([table], port=None, checkpointer=checkpointer)

    outer = tmp_path / "away"
    outer.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.chown(outer, 65534, 65534)
    outer.chmod(0)
    os.seteuid(65534)  # root may look at anything
    try:
        with pytest.raises(ReverieError, match="Permission denied"):
            serve()
        with pytest.raises(ReverieError, match="Permission denied"):
            reverie.ReplayBufferManager(SPEC, 10, outer / "run")
    finally:
        os.seteuid(0)
        outer.chmod(0o755)


@pytest.mark.parametrize("number", [13, 5, 116])  # EACCES, EIO, ESTALE
def test_an_error_of_the_system_is_never_none(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without rights to play with: the system's answer is planted."""
    real = os.stat

    def stat(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if str(path) == str(tmp_path / "run"):
            raise OSError(number, os.strerror(number))
        return real(path, *args, **named)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "stat", stat)
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path / "run"))
    with pytest.raises(ReverieError):
        reverb.Server([reverb.Table.queue("q", 10)], port=None, checkpointer=checkpointer)
    with pytest.raises(ReverieError):
        reverie.ReplayBufferManager(SPEC, 10, tmp_path / "run")
    with pytest.raises(ReverieError):
        reverie.open(tmp_path / "run")


def test_a_class_that_was_made_anew_is_told_from_its_namesake(tmp_path: Path) -> None:
    """A notebook's cell was run twice: both classes have one name."""
    one = reverie.ArraySpec((), np.float32)
    before, after = (namedtuple("Step", "o r") for _ in range(2))
    with reverie.ReplayBufferManager(before(one, one), 10, tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        with pytest.raises(StepMismatchError, match=r"of the same name.*cell run"):
            observer(after(1.0, 2.0), last=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda observer: observer(STEP, True),
        lambda observer: observer(STEP, done=True),
        lambda observer: observer(STEP, terminated=True, truncated=False),
        lambda observer: observer(*({"o": 1.0}, 2.0, 3.0, True)),
        lambda observer: observer(STEP, None, True),
    ],
)
@pytest.mark.parametrize("kind", ["TrajectoryObserver", "EpisodeObserver", "ParallelObserver"])
def test_an_end_that_is_passed_amiss_is_told_of_last(
    kind: str, call: Any, manager: Any
) -> None:
    client = manager.get_replay_buffer_and_observer()[0].py_client
    named = {"num_envs": 2} if kind == "ParallelObserver" else {}
    observer = getattr(observers, kind)(client, "uniform_table", 1, **named)
    with pytest.raises((TypeError, InvalidArgumentError), match="as last="):
        call(observer)
    assert manager.num_frames() == 0


def test_a_step_in_pieces_is_told_to_come_whole(manager: Any) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    with pytest.raises(
        TypeError, match=r"3 more by position.*observer\(step\), not observer\("
    ):
        observer(*(1, 2, 3, 4))
    with pytest.raises(TypeError, match=r"found done=\. .*Nothing was stored"):
        observer(STEP, done=True)
