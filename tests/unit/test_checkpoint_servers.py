"""A server's tables saved and loaded: it goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tests.server_support import KINDS, Feeder, comparable, draws, fill, server, table

from reverie import ReplayBufferManager
from reverie.checkpoint import find_newest, list_checkpoints, open_source, verify
from reverie.checkpoint.format.reader import read_manifest
from reverie.errors import (
    CheckpointCorruptError,
)
from reverie.tables.cells import cell_of, column_of
from reverie.tables.limiters import Limiter as RateLimiter


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_draws_equal_those_of_the_uninterrupted_run(tmp_path: Path, kind: str) -> None:
    first = server(tmp_path, [table("t", kind, "min_heap" if kind == "uniform" else kind)])
    one = first.table("t")
    fill(first, 130)
    draws(one, 3)
    one.core.update_priorities(one.core.items()["key"][5:9].copy(), np.full(4, 2.5))
    one.core.delete(one.core.items()["key"][20:30].copy())
    first.checkpoint()
    again = server(tmp_path, [table("t")]).table("t")
    assert again.core.info() == one.core.info()
    assert draws(again) == draws(one) != []


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_evictions_equal_those_of_the_uninterrupted_run(
    tmp_path: Path, kind: str
) -> None:
    first = server(tmp_path, [table("t", "fifo", kind, max_size=20)])
    fill(first, 50)
    first.checkpoint()
    second = server(tmp_path, [table("t")])
    for one in (first, second):
        fill(one, 15)
    keys = [one.table("t").core.items()["key"].tolist() for one in (first, second)]
    assert keys[0] == keys[1]


def test_the_comparison_sees_another_generator(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        one = server(tmp_path / name, [table("t")])
        fill(one)
        found.append(draws(one.table("t")))
    assert found[0] != found[1]


def test_cells_that_tables_share_are_stored_once(tmp_path: Path) -> None:
    sizes = []
    for number in (1, 3):
        one = server(tmp_path / str(number), [table(f"t{n}") for n in range(number)])
        fill(one)
        report = verify(Path(one.checkpoint()))
        sizes.append((report.num_records, report.num_chunks))
        assert len(report.num_items) == number
    assert sizes[0] == sizes[1]


def test_after_loading_tables_share_their_cells_as_before(tmp_path: Path) -> None:
    first = server(tmp_path, [table("a"), table("b")])
    fill(first)
    first.checkpoint()
    second = server(tmp_path, [table("b"), table("a")])
    saved = first.store.core.snapshot().chunks
    assert second.store.core.info()["num_chunks"] == len(saved["id"])
    assert draws(second.table("a")) == draws(first.table("a"))
    assert draws(second.table("b")) == draws(first.table("b"))


def test_anyone_can_open_the_cells_with_numpy(tmp_path: Path) -> None:
    one = server(tmp_path, [table("t")])
    fill(one, 5)
    folder = Path(one.checkpoint())
    manifest = read_manifest(folder)
    by_layout = {
        manifest.layouts[segment.layout].columns[0].dtype: np.load(folder / segment.file)
        for segment in manifest.segments
    }
    # The first cells are in no item, so they are left out.
    assert by_layout["<f4"][:3].tolist() == [[1, -1], [2, -2], [3, -3]]
    assert by_layout["|b1"][:3].tolist() == [True, False, True]
    assert by_layout["bytes"].tobytes().startswith(b"text")
    assert np.load(folder / "columns-0.npy")["squeeze"].tolist() == [0, 1, 0] * 5
    assert np.load(folder / "pieces-0.npy")["length"][:4].tolist() == [2, 1, 1, 2]


def test_the_manifest_fits_the_schema(tmp_path: Path) -> None:
    one = server(tmp_path, [table("t", "max_heap"), table("empty")])
    fill(one, 3, ["t"])
    manifest = json.loads((Path(one.checkpoint()) / "manifest.json").read_bytes())
    schema = Path(__file__).resolve().parents[2] / "docs" / "manifest.schema.json"
    jsonschema.validate(manifest, json.loads(schema.read_text("utf-8")))
    first, second = manifest["manifest"]["tables"]
    assert first["pieces"]
    assert first["touched"]
    assert second["pieces"] is None


def test_settings_of_the_checkpoint_override_those_of_the_code(tmp_path: Path) -> None:
    limiter = RateLimiter(2.0, 3, -5.0, 1e6)
    saved = table("t", "prioritized", "lifo", max_size=7, max_times_sampled=9, limiter=limiter)
    one = server(tmp_path, [saved])
    fill(one, 4)
    one.checkpoint()
    again = server(tmp_path, [table("t", "max_heap", max_size=2)]).table("t")
    assert repr(again) == repr(saved)
    assert again.core.max_size == 7
    assert draws(again) == draws(saved) != []


def test_limits_and_times_sampled_go_on_where_they_were(tmp_path: Path) -> None:
    limiter = RateLimiter(1.0, 1, 0.0, 5.0)
    first = server(tmp_path, [table("t", max_times_sampled=2, limiter=limiter)])
    fill(first, 5)
    draws(first.table("t"), 1, 3)
    first.checkpoint()
    second = server(tmp_path, [table("t")])
    for n in range(1, 8):
        one, again = first.table("t"), second.table("t")
        assert again.can_sample(n) == one.can_sample(n)
        assert again.can_insert(n) == one.can_insert(n)
    assert draws(second.table("t"), 1, 50) == draws(first.table("t"), 1, 50)
    assert second.table("t").state() == first.table("t").state()


def test_a_table_of_the_checkpoint_that_the_server_does_not_have_is_an_error(
    tmp_path: Path,
) -> None:
    server(tmp_path, [table("t"), table("u")]).checkpoint()
    with pytest.raises(ValueError, match=r"'u'.*not found in provided|'u'.*not found in the"):
        server(tmp_path, [table("t")])


def test_a_table_that_only_the_server_has_stays_empty_with_its_own_settings(
    tmp_path: Path,
) -> None:
    first = server(tmp_path, [table("t")])
    fill(first)
    first.checkpoint()
    second = server(tmp_path, [table("new", "lifo", max_size=3), table("t")])
    assert second.table("new").state()["size"] == 0
    assert (
        second.table("new").settings.max_size,
        second.table("new").settings.sampler.kind,
    ) == (3, "lifo")
    assert draws(second.table("t")) == draws(first.table("t"))
    second.checkpoint()
    assert set(open_source(find_newest(tmp_path)).settings) == {"new", "t"}


def test_an_empty_server_can_be_saved(tmp_path: Path) -> None:
    server(tmp_path, [table("t"), table("u", "lifo")]).checkpoint()
    assert server(tmp_path, [table("u"), table("t")]).table("u").settings.sampler.kind == "lifo"


def test_without_a_checkpoint_tables_start_empty(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert server(folder, [table("t")]).table("t").state()["size"] == 0
    assert not (tmp_path / "absent").exists()


def test_the_fallback_is_loaded_only_where_the_folder_holds_none(tmp_path: Path) -> None:
    old = server(tmp_path / "old", [table("t")])
    fill(old, 3)
    fallback = Path(old.checkpoint())
    new = server(tmp_path / "new", [table("t")], fallback)
    assert new.table("t").state()["size"] == 3
    fill(new, 4)
    new.checkpoint()
    assert server(tmp_path / "new", [table("t")], fallback).table("t").state()["size"] == 7


def test_a_fallback_that_is_not_there_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "reverie.checkpoint"):
        server(tmp_path, [table("t")], tmp_path / "none")
    assert "start empty" in caplog.text


def test_one_checkpoint_is_kept_and_foreign_entries_survive(tmp_path: Path) -> None:
    one = server(tmp_path, [table("t")])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "2025-01-01T00-00-00").mkdir()
    paths = [one.checkpoint() for _ in range(3)]
    assert list_checkpoints(tmp_path) == [Path(paths[-1])]
    assert Path(paths[-1]).is_absolute()
    assert {p.name for p in tmp_path.iterdir()} == {
        *(".reverie.lock", "notes.txt", "2025-01-01T00-00-00", Path(paths[-1]).name)
    }


def test_a_relative_folder_gives_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert server(Path("here"), [table("t")]).checkpoint() == str(
        tmp_path / "here" / "ckpt-00000001"
    )


def test_a_damaged_checkpoint_is_an_error_and_leaves_the_tables_as_they_were(
    tmp_path: Path,
) -> None:
    one = server(tmp_path, [table("t", max_size=50)])
    fill(one)
    cells = next(Path(one.checkpoint()).glob("segment-*.npy"))
    raw = bytearray(cells.read_bytes())
    raw[-1] ^= 1
    cells.write_bytes(raw)
    mine = table("t", "lifo", max_size=7)
    with pytest.raises(CheckpointCorruptError, match="CRC-32"):
        server(tmp_path, [mine])
    assert (mine.settings.max_size, mine.settings.sampler.kind) == (7, "lifo")
    other = server(tmp_path / "other", [mine])
    assert other.store.core.info()["num_chunks"] == 0


def test_a_checkpoint_without_a_manifest_is_damage_not_absence(tmp_path: Path) -> None:
    folder = Path(server(tmp_path, [table("t")]).checkpoint())
    (folder / "manifest.json").unlink()
    for fallback, root in ((None, tmp_path), (folder, tmp_path / "empty")):
        with pytest.raises(CheckpointCorruptError, match="is missing"):
            server(root, [table("t")], fallback)


def test_a_server_takes_a_replay_buffers_checkpoint_and_the_reverse(tmp_path: Path) -> None:
    """What either wrote is a matter of tables and settings only."""
    from reverie import ArraySpec

    def manager() -> ReplayBufferManager:
        spec = {"a": ArraySpec((), np.float32)}
        return ReplayBufferManager(spec, 10, str(tmp_path), sequence_length=2)

    with manager() as one:
        buffer, observer = one.create_replay_buffer()
        for n in range(12):
            observer({"a": np.float32(n)})
        before = buffer.gather_all()["a"].tolist()
        one.save()
    again = server(tmp_path, [table("uniform_table")])
    items = again.table("uniform_table").core.sample_items(100) or []
    assert {tuple(columns[0].tolist()) for *_, columns in items} <= set(map(tuple, before))
    again.checkpoint()
    with manager() as one:
        buffer, _ = one.load_replay_buffer()
        assert buffer.gather_all()["a"].tolist() == before


def test_texts_of_any_make_come_back(tmp_path: Path) -> None:
    texts = ["", "é", b"\x00\xff", np.array(["a", "bc"]), np.zeros((2, 0), "S1"), "x" * 10**6]
    first = server(tmp_path, [table("t", "fifo", max_times_sampled=1)])
    for text in texts:
        writer = first.store.core.create_trajectory_writer()
        writer.add_column(None, 1)
        cell, _ = cell_of(text)
        assert writer.append([cell]) == -1
        one = np.ones(1, np.uint32)
        zero = np.zeros(1, np.uint64)
        writer.create_item(
            first.table("t").core, 1.0, one * 0, zero, one, one, np.ones(1, np.uint8)
        )
    first.checkpoint()
    again = server(tmp_path, [table("t")]).table("t")
    found = [column_of(item[-1][0]) for item in again.core.sample_items(9) or ()]
    wanted = [column_of(cell_of(text)[0]) for text in texts]
    assert list(map(comparable, found)) == list(map(comparable, wanted))


def test_saving_while_others_write_and_sample_takes_one_point_in_time(tmp_path: Path) -> None:
    one = server(tmp_path, [table("a"), table("b")])
    stop = threading.Event()
    fill(one, 3)

    def work() -> None:
        feeder = Feeder(one)
        feeder.steps(6)
        while not stop.is_set():
            feeder.steps(1)
            feeder.item(one.table("a"))
            one.table("b").core.sample_items(2)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            verify(Path(one.checkpoint()))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    again = server(tmp_path, [table("a"), table("b")])
    state = again.table("a").state()
    assert state["inserts"] - state["deletes"] == state["size"]


@pytest.mark.parametrize("priority", [-1.0, float("inf"), float("-inf")])
def test_odd_priorities_come_back_where_no_selector_weighs_them(
    tmp_path: Path, priority: float
) -> None:
    one = server(tmp_path, [table("t", "max_heap")])
    feeder = Feeder(one)
    feeder.steps(8)
    feeder.item(one.table("t"), priority)
    one.checkpoint()
    again = server(tmp_path, [table("t")]).table("t")
    assert again.core.items()["priority"].tolist() == [priority]
