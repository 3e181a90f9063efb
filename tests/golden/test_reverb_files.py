"""Checkpoints that dm-reverb 0.14 wrote, against what dm-reverb says is in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.golden import reverb_support as support
from tests.golden.reverb_support import FIXTURES

from reverie import errors
from reverie.checkpoint.reverb_files import (
    ReverbTable,
    deps,
    find_newest,
    read_checkpoint,
    tensors,
)

SMART_BUILDINGS = support.GOLDEN / "smart_buildings"


def read(case: str) -> list[ReverbTable]:
    if case == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return read_checkpoint(FIXTURES[case])


@pytest.mark.parametrize("case", support.READABLE)
def test_everything_is_as_reverb_says_bit_for_bit(case: str) -> None:
    assert support.differences(read(case), FIXTURES[case] / "expected.npz") == []


def test_all_49_windows_of_the_smart_buildings_checkpoint_are_as_reverb_says() -> None:
    folder = find_newest(SMART_BUILDINGS / "initial_exploration_buffer")
    assert folder is not None
    (table,) = read_checkpoint(folder)
    assert (table.name, len(table), table.max_size) == ("uniform_table", 49, 50000)
    assert [shape for _, shape in table.columns] == [(), (53,), (2,), (), (), ()]
    assert support.differences([table], SMART_BUILDINGS / "expected.npz") == []
    assert [len(run[0]) for run in table.runs] == [50]  # 49 windows of 2 steps share 50


@pytest.mark.parametrize(
    ("case", "table", "found"),
    [
        ("trajectory_windows", "runs", "windows: column 3"),
        ("legacy_writer", "keys", "deltas: keys"),
        ("client_insert", "priorities", "prioritized: priorities"),
        ("restored", "times_sampled", "again: times_sampled"),
        ("lengths", "length", "episodes: shapes"),
    ],
)
def test_the_comparison_sees_one_planted_difference(case: str, table: str, found: str) -> None:
    tables = read(case)
    victim = next(one for one in tables if one.name == found.split(":")[0])
    if table == "runs":
        victim.runs[1][3].reshape(-1)[2] += 1
    else:
        getattr(victim, table)[0] -= 1
    assert found in support.differences(tables, FIXTURES[case] / "expected.npz")


def test_the_comparison_sees_items_in_another_order() -> None:
    (table,) = read("evicted")[:1]
    for name in ("keys", "start", "priorities", "times_sampled"):
        getattr(table, name)[:] = getattr(table, name)[::-1].copy()
    assert f"{table.name}: order" in support.differences(
        [table], FIXTURES["evicted"] / "expected.npz"
    )


@pytest.mark.parametrize(
    ("case", "runs"),
    [
        ("trajectory_windows", {"windows": [7, 7, 7]}),
        ("legacy_writer", {"deltas": [11]}),
        ("column_chunks", {"shifted": [13], "tail": [11]}),
        ("evicted", {"last_five": [6], "last_three": [4]}),
        ("lengths", {"episodes": [1, 5, 3, 12]}),
        ("tf_agents", {"uniform_table": [6, 6]}),
    ],
)
def test_shared_steps_are_stored_once(case: str, runs: dict[str, list[int]]) -> None:
    found = {table.name: [len(run[0]) for run in table.runs] for table in read(case)}
    assert found == runs


def test_chunks_that_reverb_saved_twice_are_read_once() -> None:
    chunks = support.records(FIXTURES["resent"] / "chunks.tfrecord")
    assert len(set(chunks)) < len(chunks)
    assert [[len(run[0]) for run in table.runs] for table in read("resent")] == [[40], [40]]


def test_items_that_are_no_span_of_a_run_have_one_of_their_own() -> None:
    (table,) = read("squeezed")
    assert [len(run[0]) for run in table.runs] == [3, 3, 4, 8, 3]
    assert table.start.tolist() == [0] * 5
    assert table.squeezed[0] == (False, True, True)
    assert 2 not in table.squeezed


def test_two_sources_of_one_cell_keep_their_items_apart() -> None:
    (table,) = read("two_sources")
    values = [table.item_columns(item)[0].tolist() for item in range(len(table))]
    assert values == [[0, 1], [1, 2], [2, 3], [-2, -3], [3, 4], [4, 5]]


def test_columns_of_different_steps_have_spans_and_zeros_where_nothing_was_stored() -> None:
    _, tail = sorted(read("column_chunks"), key=lambda table: table.name)
    assert set(tail.spans) == {0, 1, 2}
    assert tail.spans[0] == [(1, 4), (3, 2), (0, 5)]
    actions, rewards, states = tail.runs[0]
    assert not actions[0].any()
    assert not rewards[:3].any()
    assert states[0].tolist() == [2, 0.5, -2]


def test_runs_are_c_contiguous_and_of_their_columns_kind() -> None:
    for table in read("dtypes"):
        for (dtype, shape), values in zip(table.columns, table.runs[0], strict=True):
            assert values.flags.c_contiguous
            assert (values.dtype, values.shape[1:]) == (dtype, shape)


@pytest.mark.parametrize("case", support.REFUSED)
def test_what_cannot_be_stored_is_refused_by_name(case: str) -> None:
    with pytest.raises(errors.CheckpointMismatchError, match=support.REFUSED[case]):
        read_checkpoint(FIXTURES[case])


def test_columns_of_texts_are_named_even_without_a_signature() -> None:
    with pytest.raises(errors.CheckpointMismatchError, match=r"column 2 of .* dtype string"):
        tensors.dtype_of(7, "column 2 of table 'a'")


@pytest.mark.parametrize("case", support.READABLE)
def test_uncompressed_files_read_the_same(case: str, tmp_path: Path) -> None:
    compressed = read(case)
    folder = support.copy(case, tmp_path / "plain")
    for name in support.FILES:
        plain = support.framed(support.records(folder / name))
        if plain:  # Without records there would be nothing that tells it from damage.
            (folder / name).write_bytes(plain)
    assert support.same(read_checkpoint(folder), compressed)


def test_only_the_tables_asked_for_are_returned() -> None:
    (table,) = read_checkpoint(FIXTURES["evicted"], table_names=["last_three"])
    assert (table.name, len(table)) == ("last_three", 3)
    with pytest.raises(errors.CheckpointMismatchError, match=r"no table 'first'.*last_five"):
        read_checkpoint(FIXTURES["evicted"], table_names=["first"])


def test_the_limit_counts_inflated_bytes_and_steps() -> None:
    case = FIXTURES["dtypes"]
    inflated = sum(len(support.framed(support.records(case / name))) for name in support.FILES)
    steps = sum(column.nbytes for t in read("dtypes") for run in t.runs for column in run)
    read_checkpoint(case, max_nbytes=inflated + steps)
    for limit in (inflated + steps - 1, inflated - 1, 0):
        with pytest.raises(errors.CheckpointLimitError, match="max_nbytes"):
            read_checkpoint(case, max_nbytes=limit)


def test_progress_reaches_the_total_of_every_stage() -> None:
    seen: dict[str, tuple[int, int]] = {}
    read_checkpoint(
        FIXTURES["evicted"],
        progress=lambda stage, done, total: seen.update({stage: (done, total)}),
    )
    assert list(seen) == [*support.FILES, "steps"]
    assert all(done == total for done, total in seen.values())


def test_the_newest_complete_folder_is_found_and_everything_else_ignored(
    tmp_path: Path,
) -> None:
    assert find_newest(tmp_path / "absent") is None
    assert find_newest(tmp_path) is None
    support.copy("empty", tmp_path / "2025-01-01T00-00-00+00-00")
    newest = support.copy("evicted", tmp_path / "2025-02-01T00-00-00+00-00")
    unfinished = support.copy("evicted", tmp_path / "2025-03-01T00-00-00+00-00")
    (unfinished / "DONE").unlink()
    (tmp_path / "zebra").mkdir()
    (tmp_path / "zebra" / "DONE").touch()
    (tmp_path / "zz.txt").write_text("mine")
    assert find_newest(tmp_path) == newest
    assert find_newest(newest) == newest
    assert find_newest(tmp_path / "zz.txt") is None
    with pytest.raises(errors.CheckpointNotFoundError, match="DONE"):
        read_checkpoint(unfinished)


@pytest.fixture
def _fresh_imports() -> Iterator[None]:
    deps.load.cache_clear()
    yield
    deps.load.cache_clear()


@pytest.mark.usefixtures("_fresh_imports")
@pytest.mark.parametrize("module", ["cramjam", "google_crc32c", "google.protobuf"])
def test_a_missing_package_is_named_with_the_command(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    command = r"pip install 'reverie-replay\[reverb-files\]'"
    with pytest.raises(errors.MissingDependencyError, match=command):
        read_checkpoint(FIXTURES["evicted"])


def test_bfloat16_without_ml_dtypes_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(errors.MissingDependencyError, match="pip install ml_dtypes"):
        read_checkpoint(FIXTURES["bfloat16"])


def test_item_columns_are_views() -> None:
    (table,) = read("squeezed")
    assert all(
        np.shares_memory(column, steps)
        for item in range(len(table))
        for column, steps in zip(
            table.item_columns(item), table.runs[int(table.run[item])], strict=True
        )
    )
