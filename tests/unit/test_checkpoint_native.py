"""Saving a snapshot and reading it back, and what is refused on either side."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint_support import (
    DONE,
    RECORD,
    SETTINGS,
    Snapshot,
    Store,
    TableSnapshot,
    contents,
    flags,
    key,
    load,
    records,
    save,
    segments_of,
    settings,
    snapshot,
    text,
)

from reverie.checkpoint import candidates, find_newest, list_checkpoints, open_source, verify
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.format import plan, reader
from reverie.checkpoint.format.reader import read_manifest
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointLimitError,
    CheckpointNotFoundError,
    CheckpointReadError,
    CheckpointWriteError,
    InvalidArgumentError,
)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    assert load(save(tmp_path, fs=FILE_SYSTEM)) == contents(snapshot())


def test_the_comparison_sees_one_changed_record(tmp_path: Path) -> None:
    changed = snapshot()
    changed.chunk(7).raw[1, 5] ^= 1
    assert load(save(tmp_path, changed)) != contents(snapshot())


def test_the_comparison_sees_another_end(tmp_path: Path) -> None:
    changed = snapshot()
    changed.ends["how"][1] = 3
    assert load(save(tmp_path, changed)) != contents(snapshot())


def test_ends_stand_as_their_chunks_do_and_find_them_again(tmp_path: Path) -> None:
    """Open chunks stand behind sealed ones, whatever their ids."""
    chunks = [
        records(3, 4, sealed=False, ends=[(0, 1), (2, 2)]),
        records(5, 4, ends=[(3, 3)]),
        records(7, 3),
        records(9, 2, ends=[(0, 4), (1, 1)]),
    ]
    what = Snapshot(chunks, [TableSnapshot([]), TableSnapshot([])])
    folder = save(tmp_path, what)
    assert np.load(folder / "chunks.npy")["id"].tolist() == [5, 7, 9, 3]
    assert np.load(folder / "chunks.npy")["ends"].tolist() == [1, 0, 2, 2]
    ends = np.load(folder / "ends.npy")
    assert ends.tolist() == [(3, 3), (0, 4), (1, 1), (0, 1), (2, 2)]
    assert load(folder) == contents(what)
    assert verify(folder).num_ends == 5


def test_trajectories_of_any_number_of_columns_come_back(tmp_path: Path) -> None:
    column = (0, 0, [(11, 0, 2)])
    items = [(key(0), 3, 0, 2, 1.0, 0), *((key(n), 0, 0, 0, 1.0, 0) for n in range(1, 5))]
    own = [(1, 7, [column] * 3), (3, 8, [column]), (4, 9, [column, column])]
    runs = [(key(0), 3, 0, 2, 1.0, 0)]
    items[2] = (key(2), 5, 0, 1, 1.0, 0)  # a run among the trajectories
    tables = [TableSnapshot(runs), TableSnapshot(items, trajectories=own)]
    what = Snapshot([records(3, 4), records(5, 1), flags(11, [1, 0])], tables)
    folder = save(tmp_path, what)
    assert np.load(folder / "trajectories-1.npy")["columns"].tolist() == [3, 1, 2]
    assert load(folder) == contents(what)
    assert tables[1].items["column_item"].tolist() == [1, 1, 1, 3, 4, 4]


def in_order(count: int, holes: Sequence[int]) -> Snapshot:
    """A table of so many items of one step, in an order with these holes; an empty one."""
    items = [(key(n), 3, n, 1, 1.0, 0) for n in range(count)]
    return Snapshot([records(3, 200)], [TableSnapshot(items, holes=holes), TableSnapshot([])])


HOLES = {
    "one": (2, [1]),
    "up to the end of a byte": (4, [1, 3, 5, 6]),
    "into the next byte": (5, [1, 3, 5, 6]),
    "whole bytes": (2, range(1, 41)),
    "as many as may be": (8, range(1, 73)),
    "here and there": (90, range(3, 100, 4)),
    "none": (9, []),
}


@pytest.mark.parametrize("name", HOLES)
def test_the_holes_of_an_order_come_back(tmp_path: Path, name: str) -> None:
    what = in_order(*HOLES[name])
    folder = save(tmp_path, what)
    assert load(folder) == contents(what)
    assert verify(folder).num_items["windows"] == HOLES[name][0]
    states = open_source(folder).read(Store())
    assert (
        ("holes" in states["windows"]) == (folder / "holes-0.npy").exists() == (name != "none")
    )
    assert "holes" not in states["mixed/épisodes"]


def test_the_comparison_sees_another_hole(tmp_path: Path) -> None:
    assert load(save(tmp_path, in_order(5, [1, 3]))) != contents(in_order(5, [1, 4]))


def test_a_core_that_knows_no_holes_can_be_saved(tmp_path: Path) -> None:
    what = in_order(5, [])
    for one in what.tables:
        del one.items["holes"]
    folder = save(tmp_path, what)
    assert not list(folder.glob("holes-*"))
    assert load(folder) == contents(what)


def test_anyone_can_open_a_segment_with_numpy(tmp_path: Path) -> None:
    sealed, still_open, flags, texts = segments_of(save(tmp_path)).values()
    what = snapshot()
    assert sealed.dtype == still_open.dtype == RECORD
    assert sealed.tobytes() == b"".join(what.chunk(i).raw.tobytes() for i in (3, 5, 7))
    assert still_open.tobytes() == what.chunk(9).raw.tobytes()
    assert flags.tolist() == [True, False, False]
    assert texts.tobytes() == b"text 0"


def test_anyone_can_open_the_small_files_with_numpy(tmp_path: Path) -> None:
    folder = save(tmp_path)
    items = np.load(folder / "items-0.npy")
    assert items["key"].tolist() == snapshot().tables[0].items["key"].tolist()
    assert items.dtype.itemsize == 36
    assert np.load(folder / "free-0.npy").tolist() == [key(3, 5)]
    holes = np.load(folder / "holes-0.npy")
    assert holes.dtype == np.uint8
    assert np.unpackbits(holes, count=6, bitorder="little").tolist() == [0, 1, 0, 0, 1, 0]
    assert not (folder / "holes-1.npy").exists()
    chunks = np.load(folder / "chunks.npy")
    assert chunks["id"].tolist() == [3, 5, 7, 9, 11, 12, 13]
    assert chunks["segment"].tolist() == [0, 0, 0, 1, 2, 3, 3]
    assert chunks["offset"].tolist() == [0, 4, 8, 0, 0, 0, 6]
    assert chunks["count"].tolist() == [4, 4, 3, 2, 3, 6, 0]
    assert chunks["next"].tolist() == [5, 9, 0, 0, 0, 0, 0]
    assert chunks["ends"].tolist() == [2, 0, 0, 1, 0, 0, 0]
    assert chunks.dtype.itemsize == 44
    ends = np.load(folder / "ends.npy")
    assert ends.tolist() == [(1, 2), (3, 1), (0, 4)]
    assert ends.dtype.itemsize == 5
    assert np.load(folder / "trajectories-1.npy").tolist() == [(1, 4, 2), (2, 5, 2)]
    columns = np.load(folder / "columns-1.npy")
    assert columns.tolist() == [(0, 2, 0), (0, 1, 1), (1, 2, 0), (0, 2, 0)]
    assert columns.dtype.itemsize == 9
    assert not (folder / "free-1.npy").exists()
    assert not (folder / "columns-0.npy").exists()


def test_the_same_contents_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a"), save(tmp_path / "b")
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_chunks_are_spread_over_segments_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SEGMENT_NBYTES", 7 * RECORD.itemsize)
    folder = save(tmp_path)
    sizes = [len(segment) for segment in segments_of(folder).values()]
    assert sizes == [4, 7, 2, 3, 6]
    assert load(folder) == contents(snapshot())


@pytest.mark.parametrize("block", [1, 90, 170])
def test_small_chunks_are_written_and_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    for module in (plan, reader):
        monkeypatch.setattr(module, "BLOCK_NBYTES", block)
    assert load(save(tmp_path)) == contents(snapshot())


def test_numbers_rise_and_the_newest_is_the_highest(tmp_path: Path) -> None:
    paths = [save(tmp_path, max_to_keep=None) for _ in range(3)]
    assert [p.name for p in paths] == ["ckpt-00000001", "ckpt-00000002", "ckpt-00000003"]
    assert list_checkpoints(tmp_path) == paths
    assert candidates(tmp_path) == paths[::-1]
    assert find_newest(tmp_path) == paths[-1]
    (tmp_path / "ckpt-100000000").mkdir()
    assert save(tmp_path).name == "ckpt-100000001"


@pytest.mark.parametrize(
    "name",
    [
        *("ckpt-1", "ckpt-00000000", "ckpt-0000000001", "ckpt-00000001 ", "ckpt-00000001.tmp"),
        *("Ckpt-00000001", "ckpt-\u0661" + "0" * 7, "ckpt-00000001\n"),
    ],
)
def test_other_names_are_no_checkpoints(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert list_checkpoints(tmp_path) == []


def test_a_root_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert find_newest(tmp_path / "none") is None
    assert candidates(tmp_path / "none") == []


def test_a_root_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointReadError, match="Not a directory"):
        find_newest(tmp_path / "file")


def test_when_the_numbers_are_used_up_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ckpt-999999999999999").mkdir()
    with pytest.raises(CheckpointWriteError, match="no sequence number is left"):
        save(tmp_path)
    assert list(tmp_path.glob(".tmp-*")) == []


def test_a_checkpoint_without_a_manifest_is_damage_not_absence(tmp_path: Path) -> None:
    save(tmp_path)
    newest = save(tmp_path)
    (newest / "manifest.json").unlink()
    assert find_newest(tmp_path) == newest
    with pytest.raises(CheckpointCorruptError, match=r"manifest\.json.* is missing"):
        open_source(newest)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for name in ("ckpt-00000001", "backup"):
        with pytest.raises(CheckpointNotFoundError, match="no checkpoint folder"):
            open_source(tmp_path / name)


def test_a_renamed_checkpoint_is_refused_and_a_copy_under_a_name_of_its_own_is_not(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path)
    copy = folder.rename(tmp_path / "my-backup")
    assert load(copy) == contents(snapshot())
    with pytest.raises(CheckpointCorruptError, match="was renamed"):
        open_source(copy.rename(tmp_path / "ckpt-00000007"))


def test_an_empty_store_can_be_saved(tmp_path: Path) -> None:
    empty = Snapshot([], [TableSnapshot([]), TableSnapshot([])])
    folder = save(tmp_path, empty)
    assert load(folder) == contents(empty)
    assert verify(folder).num_records == 0
    assert not (folder / "chunks.npy").exists()


def test_chunks_without_bytes_can_be_saved(tmp_path: Path) -> None:
    nothing = snapshot()
    empty = [text(13, b""), records(3, 4)]
    nothing = Snapshot(empty, [TableSnapshot([]), TableSnapshot([])])
    assert load(save(tmp_path, nothing)) == contents(nothing)


def test_verify_says_what_is_there(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / ".DS_Store").write_bytes(b"x")
    report = verify(folder)
    assert (report.sequence_number, report.num_chunks, report.num_records) == (1, 7, 18)
    assert report.num_items == {"windows": 4, "mixed/épisodes": 3}
    assert report.num_ends == 3
    assert report.extra_files == (".DS_Store",)
    assert report.num_files == len(list(folder.iterdir())) - 1
    assert report.nbytes == sum(p.stat().st_size for p in folder.glob("*.npy"))


def test_progress_ends_at_the_total_on_both_sides(tmp_path: Path) -> None:
    saved: list[tuple[int, int]] = []
    loaded: list[tuple[int, int]] = []
    folder = save(tmp_path, progress=lambda *done: saved.append(done))
    load(folder, progress=lambda *done: loaded.append(done))
    nbytes = verify(folder).nbytes
    assert saved[-1] == loaded[-1] == (nbytes, nbytes)
    assert (saved, loaded) == (sorted(saved), sorted(loaded))


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_bool_bytes_are_cleaned_while_saving_and_the_snapshot_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(plan, "BLOCK_NBYTES", block)
    odd = snapshot()
    odd.chunk(3).raw[:, DONE] = [0, 1, 2, 255]
    odd.chunk(11).raw[:, 0] = [7, 0, 1]
    folder = save(tmp_path, odd)
    first, _, flags, _ = segments_of(folder).values()
    assert first["done"][:4].view(np.uint8).tolist() == [0, 1, 1, 1]
    assert flags.view(np.uint8).tolist() == [1, 0, 1]
    assert odd.chunk(3).raw[3, DONE] == 255
    verify(folder)


def test_a_checkpoint_over_the_limit_is_refused_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path)
    assert load(folder, max_nbytes=verify(folder).nbytes)
    with pytest.raises(CheckpointLimitError, match="raise max_nbytes"):
        load(folder, max_nbytes=verify(folder).nbytes - 1)


@pytest.mark.parametrize("call", ["link_chunks", "restore_ends"])
def test_a_refusal_by_the_core_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("core says no")

    monkeypatch.setattr(Store, call, refuse)
    with pytest.raises(CheckpointCorruptError, match="core says no"):
        load(save(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": SETTINGS[:1]},
        {"settings": ()},
        {"settings": (SETTINGS[0], SETTINGS[0])},
        {"settings": (SETTINGS[0], settings("x" * 1001))},
        {"max_to_keep": 0},
    ],
    ids=["too few", "none", "a name twice", "a name too long", "nothing to keep"],
)
def test_arguments_by_which_nothing_could_be_loaded_are_refused(
    tmp_path: Path, changes: dict
) -> None:
    with pytest.raises(InvalidArgumentError):
        save(tmp_path, **changes)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize(
    ("dtype", "shape"), [("O", ()), ("S4", ()), ("M8[s]", ()), ("f4", (1,) * 32)]
)
def test_a_column_that_no_file_can_have_is_refused_before_anything_is_written(
    tmp_path: Path, dtype: str, shape: tuple
) -> None:
    odd = snapshot()
    odd.layouts[1] = [(np.dtype(dtype), shape)]
    with pytest.raises(InvalidArgumentError, match=r"Column '0'.*cannot be saved"):
        save(tmp_path / "root", odd)
    assert not (tmp_path / "root").exists()


def test_a_manifest_that_could_not_be_read_again_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MAX_VALUES", 20)
    with pytest.raises(CheckpointWriteError, match="the manifest would have"):
        save(tmp_path)
    assert list_checkpoints(tmp_path) == []


def test_an_old_checkpoint_with_a_foreign_file_inside_stays_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = save(tmp_path)
    (first / "notes.txt").write_text("mine")
    with caplog.at_level(logging.WARNING, "reverie.checkpoint"):
        for _ in range(3):
            save(tmp_path, max_to_keep=1)
    assert load(first) == contents(snapshot())
    assert re.search("ckpt-00000001.* stays", caplog.text)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["ckpt-00000001", "ckpt-00000004"]


def test_saving_asks_each_chunk_for_its_bytes_once_and_examines_none(tmp_path: Path) -> None:
    """What a load would refuse is not looked for while saving: the core is no enemy."""
    asked: list[int] = []

    class Watched(Snapshot):
        def data(self, row: int) -> np.ndarray:
            asked.append(row)
            return super().data(row)

    odd = Watched(
        snapshot().all, [TableSnapshot([(key(0), 99, 0, 1, 1.0, 0)]), TableSnapshot([])]
    )
    folder = save(tmp_path, odd)
    assert sorted(asked) == list(range(7))
    with pytest.raises(CheckpointCorruptError, match="row 0: chunk 99"):
        load(folder)


def test_the_manifest_says_what_wrote_it(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path))
    assert manifest.saved_at == "2026-11-23T21:45:00Z"
    assert manifest.library_version
