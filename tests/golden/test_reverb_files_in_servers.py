"""Reverb's checkpoints in servers of ours: every value is what Reverb itself answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden import reverb_support as support
from tests.golden.reverb_support import FIXTURES
from tests.server_support import draws, server, table

from reverie.checkpoint.reverb_files.stored import read_stored
from reverie.reverb.engine.server import Server
from reverie.tables.cells import column_of

SMART_BUILDINGS = support.GOLDEN / "smart_buildings"


def loaded(case: Path, root: Path) -> Server:
    """The fixture in a server whose tables were made with quite other settings."""
    names = list(read_stored(case).tables)
    return server(root, [table(name, "lifo", max_size=10) for name in names], case)


def rows(made: Server, name: str) -> list[tuple[float, int, list[Any]]]:
    """All items of a table in insertion order, read through the core's chunks."""
    snapshot = made.store.core.snapshot()
    state = snapshot.tables[list(made.tables).index(name)].items
    found: list[tuple[float, int, list[Any]]] = [
        (priority, times, [])
        for priority, times in zip(
            state["priority"].tolist(), state["times_sampled"].tolist(), strict=True
        )
    ]
    pieces = list(
        zip(
            *(state[f"piece_{part}"].tolist() for part in ("chunk", "offset", "length")),
            strict=True,
        )
    )
    assert not state["column_field"].any()
    for item, squeeze, count in zip(
        *(state[f"column_{part}"].tolist() for part in ("item", "squeeze", "pieces")),
        strict=True,
    ):
        own, pieces = pieces[:count], pieces[count:]
        found[item][2].append(_column(snapshot, own, bool(squeeze)))
    return found


def _column(snapshot: Any, pieces: list[tuple[int, int, int]], squeeze: bool) -> Any:
    row_of = {number: row for row, number in enumerate(snapshot.chunks["id"].tolist())}
    layout = snapshot.layouts[snapshot.chunks["layout"][row_of[pieces[0][0]]]]
    if layout is None:
        texts = [snapshot.data(row_of[chunk]).tobytes() for chunk, _, _ in pieces]
        return column_of(texts[0] if squeeze else texts)
    ((dtype, shape),) = layout
    parts = []
    for chunk, offset, length in pieces:
        raw = np.ascontiguousarray(snapshot.data(row_of[chunk])[offset : offset + length])
        parts.append(raw.view(dtype).reshape(length, *shape))
    whole = np.concatenate(parts)
    return whole[0] if squeeze else whole


def differences(made: Server, expected_file: Path, order: dict[str, list[int]]) -> list[str]:
    """Names everything in which the server differs from what Reverb answered."""
    with np.load(expected_file, allow_pickle=False) as file:
        expected = dict(file)
    infos = {info["name"]: info for info in json.loads(str(expected["infos"]))}
    found = [] if made.tables.keys() == infos.keys() else ["table names"]
    for name, one in made.tables.items():
        info, ours = infos[name], support.described(one.settings, one.state())
        found += [f"{name}: {key}" for key, value in ours.items() if info[key] != value]
        items = rows(made, name)
        wanted = expected[f"{name}/keys"].tolist()
        items = [items[order[name].index(key)] for key in wanted]
        for at, field in enumerate(("priorities", "times_sampled")):
            same = [row[at] for row in items] == expected[f"{name}/{field}"].tolist()
            found += [] if same else [f"{name}: {field}"]
        for column in range(len(items[0][2]) if items else 0):
            if items[0][2][column].dtype == object:
                continue  # the fixtures have no texts: a test of their own compares them
            raw = b"".join(row[2][column].tobytes() for row in items)
            same = raw == expected[f"{name}/{column}"].tobytes()
            found += [] if same else [f"{name}: column {column}"]
    return found


def _order(case: Path) -> dict[str, list[int]]:
    """Reverb's keys of each table, in insertion order."""
    return {name: list(one.items.keys) for name, one in read_stored(case).tables.items()}


@pytest.mark.parametrize("name", FIXTURES)
def test_every_value_is_what_reverb_answered(name: str, tmp_path: Path) -> None:
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    case = FIXTURES[name]
    assert differences(loaded(case, tmp_path), case / "expected.npz", _order(case)) == []


def test_smart_buildings_buffer_is_what_reverb_answered(tmp_path: Path) -> None:
    (case,) = (SMART_BUILDINGS / "initial_exploration_buffer").iterdir()
    made = loaded(case, tmp_path)
    assert differences(made, SMART_BUILDINGS / "expected.npz", _order(case)) == []
    assert made.table("uniform_table").state()["size"] == 49
    assert len(draws(made.table("uniform_table"), 2)) == 8


def test_the_comparison_sees_one_changed_value(tmp_path: Path) -> None:
    case = FIXTURES["evicted"]
    made = loaded(case, tmp_path)
    key = made.table("last_five").core.items()["key"][:1].copy()
    made.table("last_five").core.update_priorities(key, np.array([7.5]))
    found = differences(made, case / "expected.npz", _order(case))
    assert found == ["last_five: priorities"]


@pytest.mark.parametrize("name", [*FIXTURES])
def test_saved_natively_they_go_on_as_they_would_have(name: str, tmp_path: Path) -> None:
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    made = loaded(FIXTURES[name], tmp_path)
    made.checkpoint()
    again = server(tmp_path, [table(one) for one in made.tables])
    for one in made.tables:
        if made.table(one).core.size:
            assert draws(again.table(one), 3) == draws(made.table(one), 3) != []


def test_steps_that_tables_share_are_stored_once(tmp_path: Path) -> None:
    stored = read_stored(FIXTURES["resent"])
    made = loaded(FIXTURES["resent"], tmp_path)
    one, two = (set(stored.used([name]).tolist()) for name in stored.tables)
    assert one & two
    assert made.store.core.info()["num_chunks"] == len(one | two)


def test_texts_are_read_as_reverb_gives_them(tmp_path: Path) -> None:
    ((_, _, (column,)),) = rows(loaded(FIXTURES["strings"], tmp_path), "words")
    assert (column.dtype, column.tolist()) == (np.dtype(object), [[b"a", b"bc"]])


def test_items_of_unlike_columns_share_a_table(tmp_path: Path) -> None:
    found = rows(loaded(FIXTURES["unlike_items"], tmp_path), "mixed")
    assert [row[2][0].tolist() for row in found] == [[[1, 2]], [[1, 2, 3]]]


def test_a_checkpoint_of_reverbs_in_the_servers_own_folder_is_found(tmp_path: Path) -> None:
    support.copy("evicted", tmp_path / "2025-01-01T00-00-00+00-00")
    made = server(tmp_path, [table("last_five"), table("last_three")])
    assert made.table("last_five").state()["size"] == 5
    made.checkpoint()  # from now on the native one is the newest
    draws(made.table("last_five"), 1, 2)
    made.checkpoint()
    again = server(tmp_path, [table("last_three"), table("last_five")])
    assert again.table("last_five").state() == made.table("last_five").state()
    assert (tmp_path / "2025-01-01T00-00-00+00-00" / "DONE").is_file()
