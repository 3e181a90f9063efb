"""Links in Reverb's files, and errors of the system while files are read: by their names."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from tests.golden.reverb_support import FILES, FIXTURES, copy
from tests.hostile.forged_files import saved

import reverie
from reverie.checkpoint.disk.files import FileSystem
from reverie.checkpoint.format import reader, rows
from reverie.checkpoint.reverb_files import stored
from reverie.checkpoint.reverb_files.source import reverb_source
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointLimitError,
    CheckpointReadError,
)

CASE = "client_insert"
links = pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links need a right here")


@links
@pytest.mark.parametrize("name", [*FILES, "DONE"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_to_a_file_of_reverbs_is_not_followed(
    tmp_path: Path, name: str, dangling: bool
) -> None:
    folder = copy(CASE, tmp_path / "2026")
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere" if dangling else FIXTURES[CASE].absolute() / name)
    with pytest.raises(CheckpointCorruptError, match=rf"{name}.* link"):
        stored.read_stored(folder)


@links
def test_a_link_to_a_folder_of_reverbs_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "2026").symlink_to(FIXTURES[CASE].absolute())
    with pytest.raises(CheckpointCorruptError, match="link"):
        stored.read_stored(tmp_path / "2026")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["open_in", "open_folder", "lstat_in", "names_in"])
def test_an_error_of_the_system_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    folder = copy(CASE, tmp_path / "2026")

    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileSystem, call, fail)
    with pytest.raises(CheckpointReadError) as caught:
        stored.read_stored(folder)
    assert caught.value.errno == code
    assert str(folder) in str(caught.value)


def test_a_file_of_reverbs_that_cannot_be_read_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(CASE, tmp_path / "2026")

    class Failing:
        def __getattr__(self, name: str) -> object:
            def fail(*args: object) -> None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            return fail

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *args: object) -> None:
            pass

    monkeypatch.setattr(os, "fdopen", lambda fd, mode: (os.close(fd), Failing())[1])
    with pytest.raises(CheckpointReadError, match=FILES[0]):
        stored.read_stored(folder)


def test_too_little_memory_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path)

    def nothing(*args: object) -> None:
        raise MemoryError

    for module in (rows, reader):
        with monkeypatch.context() as patch:
            patch.setattr(module, "scratch", nothing)
            with pytest.raises(CheckpointLimitError, match="more memory than"):
                reverie.open(folder)


@pytest.mark.parametrize("call", ["read_tables", "read_items", "read_chunks"])
def test_too_little_memory_for_reverbs_files_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def nothing(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stored, call, nothing)
    with pytest.raises(CheckpointLimitError, match="more memory than"):
        reverb_source(shutil.copytree(FIXTURES[CASE], tmp_path / "copy"))
