"""Errors of the system while a folder is looked at: never "there is none", never a loss."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import reverb
from reverie.checkpoint import list_checkpoints
from reverie.errors import CheckpointError

SPEC = {"n": reverie.ArraySpec((), np.int64)}
ERRORS = [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.ELOOP, errno.ENOTDIR]
REVERBS = Path(__file__).resolve().parents[1] / "golden" / "reverb" / "trajectory_windows"
CALLS = [
    name
    for name in (
        *("stat", "lstat", "listdir", "scandir", "open"),
        *("fstat", "read", "readv", "lseek"),
    )
    if hasattr(os, name)
]


def table() -> reverb.Table:
    selectors = reverb.selectors
    limiter = reverb.rate_limiters.MinSize(1)
    return reverb.Table("t", selectors.Uniform(), selectors.Fifo(), 100, limiter)


def serve(root: Path) -> reverb.Server:
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(root))
    return reverb.Server([table()], checkpointer=checkpointer)


def start(root: Path) -> int:
    """Items of a server that starts from the folder."""
    server = serve(root)
    try:
        return server.localhost_client().server_info()["t"].current_size
    finally:
        server.stop()


def start_and_save(root: Path) -> int:
    server = serve(root)
    try:
        client = server.localhost_client()
        client.checkpoint()
        return client.server_info()["t"].current_size
    finally:
        server.stop()


def manager(root: Path, **settings: Any) -> reverie.ReplayBufferManager:
    settings = {"table_name": "t", "max_to_keep": 1, **settings}
    return reverie.ReplayBufferManager(SPEC, 100, root, 1, **settings)


def make_and_load(root: Path) -> int:
    with manager(root) as made:
        return made.load_replay_buffer()[0].num_frames()


def load_and_save(root: Path) -> int:
    with manager(root) as made:
        found = made.load_replay_buffer()[0].num_frames()
        made.save()
        return found


def open_it(root: Path) -> int:
    buffer = reverie.open(root)
    try:
        return buffer.num_frames()
    finally:
        buffer.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a checkpoint of three items."""
    root = tmp_path / "mount" / "checkpoints"
    server = serve(root)
    observer = reverie.observers.TrajectoryObserver(server.localhost_client(), "t", 1)
    for n in range(3):
        observer({"n": np.int64(n)})
    server.localhost_client().checkpoint()
    server.stop()
    return root


def _path_of(what: Any) -> str:
    """Of a path, or of an open file where the system tells."""
    if isinstance(what, str | os.PathLike):
        return str(os.fspath(what))
    link = f"/proc/self/fd/{what}"
    return _readlink(link) if os.path.lexists(link) else ""


_readlink = os.readlink


class Failing:
    """Fails a call of `os` that concerns a folder, for ever or the k-th time alone."""

    def __init__(
        self, patch: pytest.MonkeyPatch, root: Path, name: str, number: int, k: int | None
    ) -> None:
        self.count = 0
        module = builtins if name == "builtins.open" else os
        name = name.rpartition(".")[2]
        real = getattr(module, name)

        def call(path: Any, *args: Any, **more: Any) -> Any:
            of = _path_of(more.get("dir_fd") or path)
            if of.startswith(str(root)):
                self.count += 1
                if k in (None, self.count - 1):
                    raise OSError(number, os.strerror(number), of)
            return real(path, *args, **more)

        patch.setattr(module, name, call)


DOORS = pytest.mark.parametrize(
    "door",
    [start, start_and_save, make_and_load, load_and_save, open_it],
    ids=lambda door: door.__name__,
)


@DOORS
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_looked_at_is_never_empty(
    door: Callable[[Path], int], name: str, number: int, root: Path
) -> None:
    k: int | None = None
    for k in (None, *range(12)):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, root, name, number, k)
            try:
                found = door(root)
            except CheckpointError:
                pass  # by name; anything else is a failure of this test
            else:
                assert found == 3, (k, failing.count)
        assert list_checkpoints(root)
        assert open_it(root) == 3, k
        if k is not None and failing.count <= k:
            break


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it is a folder that is not there")
@DOORS
def test_a_folder_whose_parent_became_a_file_is_never_empty(
    door: Callable[[Path], int], tmp_path: Path
) -> None:
    (tmp_path / "mount").touch()
    with pytest.raises(CheckpointError):
        door(tmp_path / "mount" / "checkpoints")


def start_from_reverbs(root: Path) -> int:
    selectors, limiter = reverb.selectors, reverb.rate_limiters.MinSize(1)
    windows = reverb.Table("windows", selectors.Uniform(), selectors.Fifo(), 99, limiter)
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(root))
    server = reverb.Server([windows], checkpointer=checkpointer)
    try:
        return server.localhost_client().server_info()["windows"].current_size
    finally:
        server.stop()


def load_reverbs(root: Path) -> int:
    spec = {
        "observation": {
            "image": reverie.ArraySpec((2, 2, 3), np.uint8),
            "speed": reverie.ArraySpec((2,), np.float32),
        },
        "action": reverie.ArraySpec((), np.int32),
        "reward": reverie.ArraySpec((), np.float64),
        "done": reverie.ArraySpec((), np.bool_),
    }
    with reverie.ReplayBufferManager(spec, 99, root, 3) as made:
        return made.load_replay_buffer()[0].num_frames()


@pytest.mark.parametrize("door", [start_from_reverbs, load_reverbs, open_it])
@pytest.mark.parametrize("name", [*CALLS, "builtins.open"])
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_reverbs_files_that_cannot_be_looked_at_are_never_none(
    door: Callable[[Path], int], name: str, number: int, tmp_path: Path
) -> None:
    pytest.importorskip("cramjam")
    shutil.copytree(REVERBS, tmp_path / "2026-01-01T00:00:00")
    for k in (None, *range(12)):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, tmp_path, name, number, k)
            try:
                assert door(tmp_path) == 15
            except CheckpointError:
                pass
        if k is not None and failing.count <= k:
            break


def test_the_check_sees_a_door_that_takes_an_error_for_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: what os.path.exists() makes of an error."""

    def is_folder(path: Path) -> bool:
        try:
            return os.path.isdir(path)
        except OSError:
            return False

    from reverie.checkpoint import source

    monkeypatch.setattr(source, "is_folder", is_folder)
    real = os.stat

    def fails(path: Any, *args: Any, **more: Any) -> Any:
        if str(path) == str(root):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", fails)
        assert start(root) == 0
