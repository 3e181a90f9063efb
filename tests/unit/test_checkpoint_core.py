"""The native format with the real core: a loaded store goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint_support import RECORD, save, settings

from reverie.checkpoint import read_manifest, restore, verify

_core = pytest.importorskip("reverie._core")

COLUMNS = [(np.dtype("f4"), (3,)), (np.dtype("?"), ()), (np.dtype("i8"), ())]
LAYOUT = _core.RecordLayout(COLUMNS)  # records of another object are another layout
SETTINGS = settings("table", max_size=200)


def store_and_table(max_size: int = 200, seed: int = 7, **changes: Any) -> tuple[Any, Any]:
    store = _core.Store(chunk_nbytes=21 * 16)
    table = store.create_table(
        **{
            "max_size": max_size,
            "sampler": _core.UNIFORM,
            "remover": _core.FIFO,
            "min_size_to_sample": 1,
            "samples_per_insert": 0.0,
            "min_diff": float("-inf"),
            "max_diff": float("inf"),
            "seed": seed,
            **changes,
        }
    )
    return store, table


def fill(store: Any, table: Any, num_steps: int) -> Any:
    writer = store.create_writer(
        LAYOUT,
        [table],
        sequence_length=3,
        stride_length=1,
        priority=1.0,
        pad_end=False,
        tile_end=False,
        pad_record=bytes(RECORD.itemsize),
        boundary_column=-1,
        boundary_value=0,
    )
    rng = np.random.default_rng(1)
    for step in range(num_steps):
        leaves = [rng.normal(size=3).astype("f4"), np.bool_(step % 2), np.int64(step)]
        assert writer.append(leaves, int(step % 40 == 39)) == -1
    return writer


def saved(root: Path, store: Any) -> Path:
    return save(root, store.snapshot(), tables=(SETTINGS,))


def loaded(folder: Path, seed: int = 99, **changes: Any) -> tuple[Any, Any]:
    store, table = store_and_table(seed=seed, **changes)
    manifest = read_manifest(folder)
    restore(folder, manifest, store, {"table": table}, layout=LAYOUT, record_dtype=RECORD)
    return store, table


def samples(table: Any, number: int = 50) -> list[list]:
    found = []
    for _ in range(number):
        columns, information = table.sample(LAYOUT, 20, 3, 3, False, None)
        found.append([array.tolist() for array in (*columns, *information)])
    return found


@pytest.mark.parametrize("num_steps", [3, 100, 500], ids=["one item", "not full", "wrapped"])
def test_the_next_thousand_samples_equal_those_of_the_uninterrupted_run(
    tmp_path: Path, num_steps: int
) -> None:
    store, table = store_and_table()
    writer = fill(store, table, num_steps)
    samples(table, 3)
    _, again = loaded(saved(tmp_path, store))
    assert again.size == table.size > 0
    assert samples(again) == samples(table)
    writer.close()


def test_the_comparison_sees_another_generator(tmp_path: Path) -> None:
    store, table = store_and_table()
    fill(store, table, 100)
    saved(tmp_path, store)
    assert samples(store_and_table_filled(8)) != samples(table)


def store_and_table_filled(seed: int) -> Any:
    store, table = store_and_table(seed=seed)
    fill(store, table, 100)
    return table


def test_records_keys_and_items_come_back(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 300)
    table.update_priorities(table.items()["key"][:5], np.arange(5.0))
    _, again = loaded(saved(tmp_path, store))
    before, after = table.gather(LAYOUT, None, 3), again.gather(LAYOUT, None, 3)
    assert all(map(np.array_equal, before[0], after[0]))
    assert np.array_equal(before[1], after[1])
    for name, column in table.items().items():
        if name != "chunk":
            assert np.array_equal(column, again.items()[name]), name
    assert again.info() == table.info()
    writer.close()


def test_a_stale_key_stays_stale_after_loading(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 100)
    stale = table.items()["key"][:10].copy()
    table.delete(stale)
    again_store, again = loaded(saved(tmp_path, store))
    more = fill(again_store, again, 60)
    assert not set(stale.tolist()) & set(again.items()["key"].tolist())
    assert again.update_priorities(stale, np.ones(10)) == 10
    writer.close()
    more.close()


def test_what_is_written_after_the_snapshot_is_not_saved(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 50)
    snapshot, size = store.snapshot(), table.size
    more = fill(store, table, 400)
    table.clear()
    folder = save(tmp_path, snapshot, tables=(SETTINGS,))
    assert loaded(folder)[1].size == size
    writer.close()
    more.close()


def test_an_open_chunk_goes_to_a_segment_of_its_own(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 50)
    folder = saved(tmp_path, store)
    manifest = read_manifest(folder)
    sealed = {chunk.segment for chunk in manifest.chunks if chunk.sealed}
    still_open = {chunk.segment for chunk in manifest.chunks if not chunk.sealed}
    assert sealed
    assert still_open
    assert not sealed & still_open
    records = np.concatenate([np.load(folder / name) for name in sorted(sealed | still_open)])
    assert records.dtype == RECORD
    assert records["step"].tolist() == list(range(50))
    writer.close()


def test_saving_what_was_loaded_gives_the_same_items(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 500)
    first = saved(tmp_path / "a", store)
    second = saved(tmp_path / "b", loaded(first)[0])
    for name in ("items-0.npy", "free-0.npy"):
        assert (first / name).exists() == (second / name).exists()
        if (first / name).exists():
            assert (first / name).read_bytes() == (second / name).read_bytes()
    assert verify(first).num_steps == verify(second).num_steps
    writer.close()


def test_a_cleared_table_does_not_issue_old_keys_after_loading(tmp_path: Path) -> None:
    store, table = store_and_table()
    writer = fill(store, table, 50)
    old = set(table.items()["key"].tolist())
    table.clear()
    again_store, again = loaded(saved(tmp_path, store))
    more = fill(again_store, again, 50)
    assert not old & set(again.items()["key"].tolist())
    writer.close()
    more.close()
