"""Saving a snapshot and reading it back, and what is refused on either side."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint_support import (
    RECORD,
    SETTINGS,
    Chunk,
    Snapshot,
    Table,
    TableSnapshot,
    contents,
    key,
    load,
    save,
    settings,
    snapshot,
)

from reverie.checkpoint import find_newest, list_checkpoints, read_manifest, verify
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.format import plan
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointLimitError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    CheckpointReadError,
    CheckpointWriteError,
    InvalidArgumentError,
)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    assert load(save(tmp_path, fs=FILE_SYSTEM)) == contents(snapshot())


def test_the_comparison_sees_one_changed_record(tmp_path: Path) -> None:
    changed = snapshot()
    changed.chunks[2].records["step"][1] += 1
    assert load(save(tmp_path, changed)) != contents(snapshot())


def test_anyone_can_open_a_segment_with_numpy(tmp_path: Path) -> None:
    folder = save(tmp_path)
    sealed, still_open = sorted(folder.glob("segment-*.npy"))
    records = np.load(sealed, mmap_mode="r")
    assert records.dtype == RECORD
    assert np.array_equal(records, np.concatenate([c.records for c in snapshot().chunks[:3]]))
    assert np.array_equal(np.load(still_open), snapshot().chunks[3].records)


def test_anyone_can_open_items_spans_and_free_keys_with_numpy(tmp_path: Path) -> None:
    folder = save(tmp_path)
    items = np.load(folder / "items-0.npy")
    assert items["key"].tolist() == snapshot().tables[0].items["key"].tolist()
    assert items.dtype.itemsize == 36
    assert np.load(folder / "spans-1.npy")["length"].tolist() == [9, 3]
    assert np.load(folder / "free-0.npy").tolist() == [key(3, 5)]
    assert not (folder / "spans-0.npy").exists()
    assert not (folder / "free-1.npy").exists()


def test_the_same_contents_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a"), save(tmp_path / "b")
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_chunks_are_spread_over_segments_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SEGMENT_NBYTES", 5 * RECORD.itemsize)
    folder = save(tmp_path)
    sizes = [len(np.load(path)) for path in sorted(folder.glob("segment-*.npy"))]
    assert sizes == [4, 4, 3, 2]
    assert load(folder) == contents(snapshot())


def test_numbers_rise_and_the_newest_is_the_highest(tmp_path: Path) -> None:
    paths = [save(tmp_path, max_to_keep=None) for _ in range(3)]
    assert [p.name for p in paths] == ["ckpt-00000001", "ckpt-00000002", "ckpt-00000003"]
    assert list_checkpoints(tmp_path) == paths
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
        read_manifest(newest)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint folder"):
        read_manifest(tmp_path / "ckpt-00000001")


def test_a_renamed_checkpoint_is_refused_and_a_copy_under_a_name_of_its_own_is_not(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path)
    copy = folder.rename(tmp_path / "my-backup")
    assert load(copy) == contents(snapshot())
    with pytest.raises(CheckpointCorruptError, match="was renamed"):
        read_manifest(copy.rename(tmp_path / "ckpt-00000007"))


def test_an_empty_store_can_be_saved(tmp_path: Path) -> None:
    empty = Snapshot([], [TableSnapshot([]), TableSnapshot([])])
    assert load(save(tmp_path, empty)) == contents(empty)
    assert verify(tmp_path / "ckpt-00000001").num_steps == 0


def test_verify_says_what_is_there(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / ".DS_Store").write_bytes(b"x")
    report = verify(folder)
    assert (report.sequence_number, report.num_chunks, report.num_steps) == (1, 4, 13)
    assert report.num_items == {"windows": 4, "whole/épisodes": 1}
    assert report.extra_files == (".DS_Store",)
    assert report.num_files == 7
    assert report.nbytes == sum(p.stat().st_size for p in folder.glob("*.npy"))


def test_progress_ends_at_the_total_on_both_sides(tmp_path: Path) -> None:
    saved: list[tuple[int, int]] = []
    loaded: list[tuple[int, int]] = []
    folder = save(tmp_path, progress=lambda *done: saved.append(done))
    load(folder, progress=lambda *done: loaded.append(done))
    nbytes = verify(folder).nbytes
    assert saved[-1] == loaded[-1] == (nbytes, nbytes)
    assert saved == sorted(saved)


def test_bool_bytes_are_cleaned_while_saving_and_the_snapshot_is_left_alone(
    tmp_path: Path,
) -> None:
    odd = snapshot()
    odd.chunks[0].data()[:, 12] = [0, 1, 2, 255]
    records = np.load(sorted(save(tmp_path, odd).glob("segment-*"))[0])
    assert records["done"][:4].view(np.uint8).tolist() == [0, 1, 1, 1]
    assert odd.chunks[0].data()[3, 12] == 255


def test_infinite_limits_survive(tmp_path: Path) -> None:
    limits = settings("windows", min_diff=float("-inf"), max_diff=float("inf"))
    manifest = read_manifest(save(tmp_path, tables=(limits, SETTINGS[1])))
    assert manifest.tables[0].settings == limits


def test_a_checkpoint_over_the_limit_is_refused_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path)
    assert load(folder, max_nbytes=verify(folder).nbytes)
    with pytest.raises(CheckpointLimitError, match="raise max_nbytes"):
        load(folder, max_nbytes=verify(folder).nbytes - 1)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ([("observation/position", "<f8", (3,)), ("done", "?"), ("step", "<i8")], "wants.*<f8"),
        ([("observation/position", "<f4", (3,)), ("ended", "?"), ("step", "<i8")], "ended"),
        ([("observation/position", "<f4", (3,)), ("done", "?")], "3 columns, the data spec 2"),
    ],
)
def test_another_data_spec_is_a_mismatch(tmp_path: Path, dtype: list, message: str) -> None:
    folder = save(tmp_path)
    with pytest.raises(CheckpointMismatchError, match=message):
        _restore_into(folder, dict.fromkeys(["windows", "whole/épisodes"], Table()), dtype)


def test_other_tables_or_too_small_a_table_are_a_mismatch(tmp_path: Path) -> None:
    folder = save(tmp_path)
    with pytest.raises(CheckpointMismatchError, match="tables"):
        _restore_into(folder, {"windows": Table()}, RECORD)
    small = Table()
    small.max_size = 3
    with pytest.raises(CheckpointMismatchError, match=r"4 items, but at most 3"):
        _restore_into(folder, {"windows": small, "whole/épisodes": Table()}, RECORD)


def test_a_refusal_by_the_core_is_damage(tmp_path: Path) -> None:
    class Refusing(Table):
        def restore(self, state: dict) -> None:
            raise ValueError("key malformed")

    with pytest.raises(CheckpointCorruptError, match="key malformed"):
        _restore_into(
            save(tmp_path), dict.fromkeys(["windows", "whole/épisodes"], Refusing()), RECORD
        )


def _restore_into(folder: Path, tables: dict, dtype: object) -> None:
    from tests.checkpoint_support import Store

    from reverie.checkpoint import restore

    restore(
        folder,
        read_manifest(folder),
        Store(),
        tables,
        layout=None,
        record_dtype=np.dtype(dtype),
    )


_WINDOW = (key(0), 3, 0, 1, 1.0, 0)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([_WINDOW, (key(0, 3), 3, 0, 1, 1.0, 0)], "occurs twice"),
        ([(key(0, 2), 3, 0, 1, 1.0, 0)], "odd generation"),
        ([(key(5000), 3, 0, 1, 1.0, 0)], "a slot below"),
        ([(key(0), 4, 0, 1, 1.0, 0)], "row 0: chunk 4"),
        ([(key(0), 99, 0, 1, 1.0, 0)], "row 0: chunk 99"),
        ([_WINDOW, (key(1), 3, 4, 1, 1.0, 0)], "row 1: offset 4"),
        ([(key(0), 3, 0, 0, 1.0, 0)], "length 0"),
        ([(key(0), 3, 0, 11, 1.0, 0)], "length 11"),
        ([(key(0), 3, 2**32 - 1, 2**32 - 1, 1.0, 0)], "offset 4294967295"),
        ([(key(0), 3, 1, 2**32 - 1, 1.0, 0)], "length 4294967295"),
        ([(key(0), 7, 0, 4, 1.0, 0)], "length 4"),
        ([(key(0), 3, 0, 1, float("nan"), 0)], "priority nan"),
        ([(key(0), 3, 0, 1, 1.0, -1)], "times_sampled -1"),
    ],
)
def test_items_that_could_not_be_loaded_are_not_saved(
    tmp_path: Path, items: list, message: str
) -> None:
    chunks = snapshot().chunks
    with pytest.raises(InvalidArgumentError, match=message):
        save(tmp_path / "root", Snapshot(chunks, [TableSnapshot(items), TableSnapshot([])]))
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(1, 0, 0, 1)], "item 1, expected a row below 1"),
        ([(0, 3, 0, 1)], "column 3, expected one below 3"),
        ([(0, 0, 0, 0)], "length 0"),
        ([(0, 0, 3, 2)], "step 5, expected one inside"),
        ([(0, 0, 2**32 - 1, 2**32 - 1)], "inside its item"),
        ([(0, 1, 0, 1), (0, 1, 1, 1)], "twice"),
    ],
)
def test_spans_that_could_not_be_loaded_are_not_saved(
    tmp_path: Path, spans: list, message: str
) -> None:
    table = TableSnapshot([(key(0), 3, 0, 4, 1.0, 0)], spans=spans)
    with pytest.raises(InvalidArgumentError, match=message):
        save(tmp_path, Snapshot(snapshot().chunks, [table, TableSnapshot([])]))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([(0, 1, 0)], "id is 0"),
        ([(1, 1, 0), (1, 1, 0)], "stands there twice"),
        ([(1, 1, 2)], "does not exist"),
        ([(1, 1, 3), (2, 1, 3), (3, 1, 0)], "two predecessors"),
        ([(1, 1, 2), (2, 1, 1)], "is older"),
        ([(1, 1, 1)], "is older"),
        ([(1, 0, 0)], "count"),
        ([(2**63, 1, 0)], "below 2\\*\\*63"),
    ],
)
def test_chunks_that_could_not_be_loaded_are_not_saved(
    tmp_path: Path, chunks: list, message: str
) -> None:
    made = [Chunk(number, count, after, True, 0) for number, count, after in chunks]
    with pytest.raises(InvalidArgumentError, match=message):
        save(tmp_path, Snapshot(made, [TableSnapshot([]), TableSnapshot([])]))


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_json": float("nan")},
        {"spec_json": {"a": object()}},
        {"spec_json": {1: 1, "1": 2}},
        {"spec_json": json.loads("[" * 40 + "]" * 40)},
        {"spec_json": "\ud800"},
        {"spec_json": 10**30},
        {"saved_at": "x" * 101},
        {"tables": SETTINGS[:1]},
        {"tables": (SETTINGS[0], SETTINGS[0])},
        {"tables": (settings("windows", max_size=3), SETTINGS[1])},
        {"tables": (settings("windows", max_diff=float("nan")), SETTINGS[1])},
        {"tables": (settings("windows", max_size=1.0), SETTINGS[1])},
        {"max_to_keep": 0},
        {"record_dtype": np.dtype("<f4")},
        {"record_dtype": np.dtype([("a", "O")])},
        {"record_dtype": np.dtype([("a", ">f4")])},
        {"record_dtype": np.dtype([("a", "S4")])},
        {"record_dtype": np.dtype([("a", "<f4"), ("b", "<f8")], align=True)},
        {"record_dtype": np.dtype([("a", [("b", "<f4")])])},
        {"record_dtype": np.dtype([("a", "<f4", (0,))])},
        {"record_dtype": np.dtype([("a", "<f4")])},
    ],
)
def test_arguments_that_could_not_be_loaded_are_refused(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        save(tmp_path, **changes)
    assert list_checkpoints(tmp_path) == []


def test_any_json_spec_comes_back(tmp_path: Path) -> None:
    spec = {"ü": [1, 2**63, -0.5, None, True, 'a\n\\"b', {"c": []}], "": {}}
    assert read_manifest(save(tmp_path, spec_json=spec)).spec == spec


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


def test_settings_are_values() -> None:
    assert dataclasses.replace(SETTINGS[0]) == SETTINGS[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        SETTINGS[0].name = "x"  # type: ignore[misc]
