"""Checkpoints that dm-reverb 0.14 wrote, against what dm-reverb says is in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.golden import reverb_support as support
from tests.golden.reverb_support import FIXTURES, Found

from reverie import errors
from reverie.checkpoint.reverb_files import as_records, extra, tensors
from reverie.checkpoint.reverb_files.finding import checkpoints, find_newest
from reverie.checkpoint.reverb_files.source import reverb_source
from reverie.checkpoint.reverb_files.stored import Stored, read_stored
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec
from reverie.nests.trajectory import Trajectory

SMART_BUILDINGS = support.GOLDEN / "smart_buildings"


def read(case: str) -> list[Found]:
    if case == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return support.read(FIXTURES[case])


def stored(case: str) -> Stored:
    if case == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return read_stored(FIXTURES[case])


@pytest.mark.parametrize("case", FIXTURES)
def test_everything_is_as_reverb_says_bit_for_bit(case: str) -> None:
    assert support.differences(read(case), FIXTURES[case] / "expected.npz") == []


def test_all_49_windows_of_the_smart_buildings_checkpoint_are_as_reverb_says() -> None:
    folder = find_newest(SMART_BUILDINGS / "initial_exploration_buffer")
    assert folder is not None
    (table,) = support.read(folder)
    assert (table.settings.name, table.settings.max_size) == ("uniform_table", 50000)
    assert [value.shape[1:] for value in table.rows[0]] == [(), (53,), (2,), (), (), ()]
    assert len(table.rows) == 49
    assert support.differences([table], SMART_BUILDINGS / "expected.npz") == []
    # 49 windows of 2 steps share 50
    assert support.run_lengths(read_stored(folder), "uniform_table") == [50]


@pytest.mark.parametrize(
    ("case", "field", "found"),
    [
        ("trajectory_windows", "rows", "windows: column 3"),
        ("legacy_writer", "keys", "deltas: keys"),
        ("client_insert", "priorities", "prioritized: priorities"),
        ("restored", "times_sampled", "again: times_sampled"),
        ("lengths", "shapes", "episodes: shapes"),
    ],
)
def test_the_comparison_sees_one_planted_difference(case: str, field: str, found: str) -> None:
    tables = read(case)
    victim = next(one for one in tables if one.settings.name == found.split(":")[0])
    if field == "rows":
        victim.rows[1][3].reshape(-1)[2] += 1
    elif field == "shapes":
        victim.rows[1][0] = victim.rows[1][0][:-1]
    else:
        getattr(victim, field)[0] -= 1
    assert found in support.differences(tables, FIXTURES[case] / "expected.npz")


def test_the_comparison_sees_items_in_another_order() -> None:
    (table,) = read("evicted")[:1]
    for values in (table.keys, table.rows, table.priorities, table.times_sampled):
        values.reverse()
    assert support.differences([table], FIXTURES["evicted"] / "expected.npz") == [
        "table names",
        f"{table.settings.name}: order",
    ]


@pytest.mark.parametrize(
    ("case", "runs"),
    [
        ("trajectory_windows", {"windows": [7, 7, 7]}),
        ("legacy_writer", {"deltas": [11]}),
        ("column_chunks", {"shifted": [13], "tail": [11]}),
        ("evicted", {"last_five": [6], "last_three": [4]}),
        ("lengths", {"episodes": [1, 5, 3, 12]}),
        ("tf_agents", {"uniform_table": [6, 6]}),
        ("resent", {"one": [40], "two": [40]}),
        # Items that are no span of a run have one of their own.
        ("squeezed", {"odd": [3, 3, 4, 8, 3]}),
    ],
)
def test_shared_steps_are_stored_once(case: str, runs: dict[str, list[int]]) -> None:
    found = stored(case)
    assert {name: support.run_lengths(found, name) for name in found.tables} == runs


def test_chunks_that_reverb_saved_twice_are_read_once() -> None:
    chunks = support.records(FIXTURES["resent"] / "chunks.tfrecord")
    assert len(set(chunks)) < len(chunks)
    assert len(stored("resent").chunks.keys) == len(set(chunks))


def test_squeezed_columns_have_no_time_axis() -> None:
    (table,) = stored("squeezed").tables.values()
    assert table.items.squeezed[0] == (False, True, True)
    assert 2 not in table.items.squeezed
    (found,) = read("squeezed")
    assert [value.shape for value in found.rows[0]] == [(3, 2), (2,), ()]


def test_two_sources_of_one_cell_keep_their_items_apart() -> None:
    (table,) = read("two_sources")
    values = [row[0].tolist() for row in table.rows]
    assert values == [[0, 1], [1, 2], [2, 3], [-2, -3], [3, 4], [4, 5]]


@pytest.mark.parametrize("chunk_nbytes", [1, 64, 1 << 20])
@pytest.mark.parametrize("case", support.AS_RECORDS)
def test_as_records_every_item_has_the_same_steps(
    case: str, chunk_nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_records, "_CHUNK_NBYTES", chunk_nbytes)
    found, chunks, number = stored(case), support.Chunks(), 7
    for name, table in found.tables.items():
        nest, wanted = support.nest_of(found, name), list(found.items(name))
        state, number = as_records.fill_records(found, name, nest, chunks, number)
        assert state["key"] is None
        assert state["priority"].tolist() == list(table.items.priorities)
        assert state["times_sampled"].tolist() == list(table.items.times_sampled)
        if not wanted:
            continue
        rows = support.rows_of(state, chunks, nest)
        for row, (_, columns) in zip(rows, wanted, strict=True):
            for ours, theirs in zip(row, columns, strict=True):
                assert ours.dtype == theirs.dtype
                assert ours.tobytes() == theirs.tobytes()
    assert sorted(chunks.raw) == list(range(7, number))


def test_columns_of_different_steps_are_trajectories_and_zeros_where_nothing_was_stored() -> (
    None
):
    found, chunks = stored("column_chunks"), support.Chunks()
    nest = support.nest_of(found, "tail")
    state, following = as_records.fill_records(found, "tail", nest, chunks, 1)
    assert following == 2
    assert state["traj_item"].tolist() == [0, 1, 2]
    assert len(set(state["traj_episode"].tolist())) == 1
    pieces = [state[f"piece_{key}"].tolist() for key in ("chunk", "offset", "length")]
    assert list(zip(*pieces, strict=True))[:3] == [(1, 1, 4), (1, 3, 2), (1, 0, 5)]
    actions, rewards, states = (
        chunks.raw[1].view(nest.record_dtype)[column.path][:, 0] for column in nest.columns
    )
    assert not actions[0].any()
    assert not rewards[:3].any()
    assert states[0].tolist() == [2, 0.5, -2]


def test_items_of_even_columns_are_runs() -> None:
    found = stored("lengths")
    nest = support.nest_of(found, "episodes")
    state, _ = as_records.fill_records(found, "episodes", nest, support.Chunks(), 1)
    assert state["length"].tolist() == [1, 5, 3, 12, 7]
    assert "traj_item" not in state


@pytest.mark.parametrize("case", support.NO_RECORDS)
def test_what_no_record_can_hold_is_refused_by_name(case: str) -> None:
    found, words = stored(case), support.NO_RECORDS[case]
    (name,) = found.tables
    with pytest.raises(errors.CheckpointMismatchError, match=words):
        as_records.check_columns(found, name, Nest([ArraySpec((2,), np.float32)]))


def test_items_of_unequal_numbers_of_columns_are_named(tmp_path: Path) -> None:
    folder = support.copy("unlike_items", tmp_path / "checkpoint")
    path = folder / "items.tfrecord"
    one, two = (support.message("PrioritizedItem", record) for record in support.records(path))
    two.flat_trajectory.columns.add().CopyFrom(two.flat_trajectory.columns[0])
    support.rewrite(path, [one.SerializeToString(), two.SerializeToString()])
    found = read_stored(folder)
    assert [len(row) for _, row in found.items("mixed")] == [1, 2]
    words = "record 1 .*an item of 2 columns in table 'mixed', where the items before have 1"
    with pytest.raises(errors.CheckpointMismatchError, match=words):
        as_records.columns_of(found, "mixed")


def test_columns_of_texts_are_named_even_without_a_signature() -> None:
    with pytest.raises(errors.CheckpointMismatchError, match=r"column 2 of .* dtype string"):
        tensors.dtype_of(7, "column 2 of table 'a'")


def test_a_signature_of_steps_tells_the_spec() -> None:
    spec = reverb_source(FIXTURES["tf_agents"]).nest("uniform_table").spec
    i4, f4 = ArraySpec((), np.int32), ArraySpec((), np.float32)
    observation, action = ArraySpec((5,), np.float32), ArraySpec((2,), np.float32)
    assert spec == Trajectory(i4, observation, action, (), i4, f4, f4)
    assert type(spec) is Trajectory


def test_the_items_tell_what_a_signature_leaves_open() -> None:
    spec = reverb_source(FIXTURES["trajectory_windows"]).nest("windows").spec
    assert spec == {
        "action": ArraySpec((), np.int32),
        "done": ArraySpec((), np.bool_),
        "observation": {
            "image": ArraySpec((2, 2, 3), np.uint8),
            "speed": ArraySpec((2,), np.float32),
        },
        "reward": ArraySpec((), np.float64),
    }


@pytest.mark.parametrize(
    ("case", "table"),
    [("empty", "here"), ("empty", "nothing"), ("strings", "words"), ("evicted", "last_five")],
)
def test_no_spec_is_made_up(case: str, table: str) -> None:
    assert reverb_source(FIXTURES[case]).nest(table) is None


@pytest.mark.parametrize("case", FIXTURES)
def test_uncompressed_files_read_the_same(case: str, tmp_path: Path) -> None:
    compressed = read(case)
    folder = support.copy(case, tmp_path / "plain")
    for name in support.FILES:
        plain = support.framed(support.records(folder / name))
        if plain:  # Without records there would be nothing that tells it from damage.
            (folder / name).write_bytes(plain)
    assert support.same(support.read(folder), compressed)


def test_the_limit_counts_inflated_bytes_and_steps() -> None:
    case = FIXTURES["dtypes"]
    inflated = sum(len(support.framed(support.records(case / name))) for name in support.FILES)
    found = read_stored(case)
    steps = sum(found.chunks.tensors[one].nbytes or 0 for one in found.used(["kinds"]).tolist())
    nest = support.nest_of(found, "kinds")

    def as_cells(limit: int) -> None:
        reverb_source(case, max_nbytes=limit).read(support.Chunks())

    def as_rows(limit: int) -> None:
        reverb_source(case, max_nbytes=limit).read(support.Chunks(), {"kinds": nest})

    for act in (as_cells, as_rows):
        act(inflated + steps)
        for limit in (inflated + steps - 1, inflated - 1, 1):
            with pytest.raises(errors.CheckpointLimitError, match="max_nbytes"):
                act(limit)


def test_reading_twice_pays_once() -> None:
    case = FIXTURES["dtypes"]
    inflated = sum(len(support.framed(support.records(case / name))) for name in support.FILES)
    source = reverb_source(case, max_nbytes=inflated + 2000)
    for _ in range(20):
        source.read(support.Chunks())


@pytest.mark.parametrize("case", FIXTURES)
def test_verifying_tells_what_is_there(case: str) -> None:
    if case == "bfloat16":
        pytest.importorskip("ml_dtypes")
    report, tables = reverb_source(FIXTURES[case]).verify(), read(case)
    assert report.num_items == {one.settings.name: len(one.keys) for one in tables}
    assert report.nbytes == sum(
        (FIXTURES[case] / name).stat().st_size for name in support.FILES
    )
    assert (report.num_files, report.extra_files) == (4, ("expected.npz",))
    chunks = set(support.records(FIXTURES[case] / "chunks.tfrecord"))
    assert report.num_chunks == len(chunks)


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
    assert [path.name[:7] for path in checkpoints(tmp_path)] == ["2025-02", "2025-01"]
    with pytest.raises(errors.CheckpointNotFoundError, match="DONE"):
        read_stored(unfinished)


@pytest.fixture
def _fresh_imports() -> Iterator[None]:
    extra.load.cache_clear()
    yield
    extra.load.cache_clear()


@pytest.mark.usefixtures("_fresh_imports")
@pytest.mark.parametrize("module", ["cramjam", "google_crc32c", "google.protobuf"])
def test_a_missing_package_is_named_with_the_command(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    command = r"pip install 'reverie-replay\[reverb-files\]'"
    with pytest.raises(errors.MissingDependencyError, match=command):
        read_stored(FIXTURES["evicted"])


def test_bfloat16_without_ml_dtypes_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(errors.MissingDependencyError, match="pip install ml_dtypes"):
        support.read(FIXTURES["bfloat16"])
