"""The format with the real core: a loaded store goes on as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint_support import save as write
from tests.core_support import LAYOUT, NEST, SPEC, CoreStore, loaded, settings, steps
from tests.server_support import KINDS, draws
from tests.unit.test_checkpoint_docs import read_as_documented

from reverie import _core
from reverie.checkpoint import open_source, verify
from reverie.checkpoint.format import plan, reader
from reverie.checkpoint.format.reader import read_manifest

TINY = 9 * 16  # bytes of a chunk of 16 steps


def filled(num_steps: int, *, seed: int = 7, kind: str = "uniform", max_size: int = 200) -> Any:
    """A store of one table of windows, its writer still open."""
    made = CoreStore([settings("t", kind, max_size=max_size)], chunk_nbytes=TINY, seed=seed)
    made.open_writer = made.writer()  # type: ignore[attr-defined]
    steps(made.open_writer, 0, num_steps)  # type: ignore[attr-defined]
    return made


def samples(made: CoreStore, number: int = 50) -> list[list]:
    found = []
    for _ in range(number):
        batch = made.tables[0].core.sample(LAYOUT, 20, 2, 2, False, None)
        assert batch is not None
        found.append([array.tolist() for array in (*batch[0], *batch[1])])
    return found


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize("num_steps", [2, 100, 500], ids=["one item", "not full", "wrapped"])
def test_the_next_thousand_samples_equal_those_of_the_uninterrupted_run(
    tmp_path: Path, num_steps: int, kind: str
) -> None:
    first = filled(num_steps, kind=kind)
    samples(first, 3)
    again = loaded(first.save(tmp_path))
    assert again.tables[0].core.size == first.tables[0].core.size > 0
    assert samples(again) == samples(first)


def test_the_comparison_sees_another_generator() -> None:
    assert samples(filled(100)) != samples(filled(100, seed=8))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_trajectories_and_runs_go_on_alike(tmp_path: Path, kind: str) -> None:
    names = ("a", "b")
    first = CoreStore([settings(n, kind, kind, max_size=60) for n in names], chunk_nbytes=TINY)
    writer = first.writer()
    first.fill(25)
    steps(writer, 0, 25)
    first.fill(25)
    for one in first.tables:
        draws(one, 3)
        keys = one.core.items()["key"].copy()
        one.core.update_priorities(keys[5:9], np.full(4, 2.5))
        one.core.delete(keys[20:30])
    again = loaded(first.save(tmp_path))
    for name in names:
        assert again.table(name).core.info() == first.table(name).core.info()
        assert draws(again.table(name)) == draws(first.table(name)) != []
    for one in (first, again):
        one.fill(15)
    keys = [one.table("a").core.items()["key"].tolist() for one in (first, again)]
    assert keys[0] == keys[1]


def test_records_keys_and_items_come_back(tmp_path: Path) -> None:
    first = filled(300)
    table = first.tables[0].core
    table.update_priorities(table.items()["key"][:5].copy(), np.arange(5.0))
    again = loaded(first.save(tmp_path)).tables[0].core
    before, after = table.gather(LAYOUT, None, 2), again.gather(LAYOUT, None, 2)
    assert all(map(np.array_equal, before[0], after[0]))
    assert np.array_equal(before[1], after[1])
    for name, column in table.items().items():
        if name not in ("chunk", "offset"):  # what no item holds is left out
            assert np.array_equal(column, again.items()[name]), name
    assert again.info() == table.info()


def test_a_stale_key_stays_stale_after_loading(tmp_path: Path) -> None:
    first = filled(100)
    stale = first.tables[0].core.items()["key"][:10].copy()
    first.tables[0].core.delete(stale)
    again = loaded(first.save(tmp_path))
    writer = again.writer()
    steps(writer, 0, 60)
    core = again.tables[0].core
    assert not set(stale.tolist()) & set(core.items()["key"].tolist())
    assert core.update_priorities(stale, np.ones(10)) == 10


def test_a_cleared_table_does_not_issue_old_keys_after_loading(tmp_path: Path) -> None:
    first = filled(50)
    old = set(first.tables[0].core.items()["key"].tolist())
    first.tables[0].core.clear()
    again = loaded(first.save(tmp_path))
    writer = again.writer()
    steps(writer, 0, 50)
    assert not old & set(again.tables[0].core.items()["key"].tolist())


def test_what_is_written_after_the_snapshot_is_not_saved(tmp_path: Path) -> None:
    first = filled(50)
    snapshot, size = first.core.snapshot(), first.tables[0].core.size
    steps(first.open_writer, 50, 400)
    first.tables[0].core.clear()
    folder = write(tmp_path, snapshot, settings=[first.tables[0].settings], nests=[NEST])
    assert loaded(folder).tables[0].core.size == size


def test_an_open_chunk_goes_to_a_segment_of_its_own(tmp_path: Path) -> None:
    folder = filled(50).save(tmp_path)
    segments = read_manifest(folder).segments
    assert [segment.sealed for segment in segments] == [True, False]
    found = np.concatenate([np.load(folder / segment.file) for segment in segments])
    assert found.dtype == NEST.record_dtype
    assert found["position"][:, 0].tolist() == list(range(50))


def test_saving_what_was_loaded_gives_the_same_files(tmp_path: Path) -> None:
    made = filled(500)
    made.open_writer.close()
    first = made.save(tmp_path / "a")
    second = loaded(first).save(tmp_path / "b")
    names = [path.name for path in first.iterdir() if path.name != "manifest.json"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_ends_of_episodes_come_back_with_how_they_ended(tmp_path: Path) -> None:
    first = filled(65)
    first.open_writer.reset(False)
    folder = first.save(tmp_path)
    ends = np.load(folder / "ends.npy")
    assert sorted(ends["how"].tolist()) == [1, 1, 2, 2, 3, 3, _core.CUT]
    before, again = (made.core.snapshot().ends for made in (first, loaded(folder)))
    assert before["how"].tolist() == [1, 2, 3, 1, 2, 3, _core.CUT]
    for name in ("chunk", "step", "how"):
        assert again[name].tolist() == before[name].tolist()


def test_many_short_episodes_take_little_more_than_their_records_and_items(
    tmp_path: Path,
) -> None:
    number = 30_000
    made = CoreStore([settings("t", max_size=number)])
    writer = made.writer()
    steps(writer, 0, 2 * number, 2)
    folder = made.save(tmp_path)
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    report = verify(folder)
    assert report.num_items == {"t": report.num_ends} == {"t": number}
    most = 1.1 * (LAYOUT.record_nbytes * report.num_records + 40 * number) + (64 << 10)
    assert nbytes <= most
    assert nbytes + 8 * number > most  # ends that name their chunks would not fit


def test_the_documented_reader_finds_items_and_episodes(tmp_path: Path) -> None:
    found = read_as_documented(filled(57).save(tmp_path))
    positions = [item["position"][:, 0].tolist() for item in found["items"]]
    assert positions == [[n, n + 1] for n in range(56) if n % 10 != 9]
    episodes = [part["position"][:, 0].tolist() for part in found["episodes"]]
    assert episodes == [list(range(n, min(n + 10, 57))) for n in range(0, 57, 10)]


def test_steps_that_tables_share_are_stored_once(tmp_path: Path) -> None:
    sizes = []
    for number in (1, 3):
        made = CoreStore([settings(f"t{n}") for n in range(number)])
        writer = made.writer()
        steps(writer, 0, 40)
        made.fill(40)
        folder = made.save(tmp_path / str(number))
        report = verify(folder)
        sizes.append((report.num_records, report.num_chunks))
        again = loaded(folder)
        assert again.core.info()["num_chunks"] == report.num_chunks
    assert sizes[0] == sizes[1]


def test_the_spec_of_a_table_of_windows_comes_back(tmp_path: Path) -> None:
    assert open_source(filled(50).save(tmp_path)).nest("t").spec == SPEC


def test_small_chunks_in_great_number_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, reader):
        monkeypatch.setattr(module, "BLOCK_NBYTES", 64)
    monkeypatch.setattr(plan, "SEGMENT_NBYTES", 64)
    first = CoreStore([settings("t")], chunk_nbytes=TINY)
    first.fill()
    folder = first.save(tmp_path)
    assert len(list(folder.glob("segment-*.npy"))) > 4
    assert draws(loaded(folder).table("t")) == draws(first.table("t"))


@pytest.mark.parametrize("seed", range(20))
def test_stores_of_random_lives_come_back(tmp_path: Path, seed: int) -> None:
    """Runs, trajectories, evictions and deletions in any order, over chunks of any size."""
    rng = random.Random(seed)
    first = CoreStore(
        [
            settings(
                f"t{i}", rng.choice(KINDS), rng.choice(KINDS), max_size=rng.randrange(1, 60)
            )
            for i in range(rng.randrange(1, 4))
        ],
        chunk_nbytes=rng.choice([1, 20, 200, 5000]),
    )
    writers = [first.writer(sequence_length=rng.randrange(1, 5)) for _ in range(2)]
    for round_ in range(rng.randrange(1, 6)):
        for writer in writers:
            steps(writer, round_, rng.randrange(1, 40), rng.randrange(1, 12))
            if rng.random() < 0.3:
                writer.reset(rng.random() < 0.5)
        first.fill(rng.randrange(0, 12))
        table = rng.choice(first.tables).core
        keys = table.items()["key"].copy()
        table.delete(keys[rng.randrange(len(keys) + 1) :][: rng.randrange(20)])
    folder = first.save(tmp_path)
    verify(folder)
    again = loaded(folder)
    for one, two in zip(first.tables, again.tables, strict=True):
        assert one.settings == two.settings
        assert draws(one, 4) == draws(two, 4)
    second = again.save(tmp_path)
    assert verify(second).num_records == verify(folder).num_records
