"""The reader in the documentation reads what we write: items and episodes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from tests.checkpoint_support import (
    RECORD,
    Snapshot,
    TableSnapshot,
    key,
    records,
    save,
    snapshot,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoint-format.md"


def read_as_documented(folder: Path) -> dict[str, Any]:
    """What the code of the page finds in a checkpoint."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(code) == 2
    assert sum(bool(line.strip()) for line in code[0].splitlines()) <= 10
    found: dict[str, Any] = {"folder": folder, "json": json, "np": np}
    for block in code:
        exec(block, found)
    return found


def steps(what: Snapshot, *ids: int) -> np.ndarray:
    """The records of these chunks, one after the other."""
    return np.concatenate([what.chunk(i).raw.view(RECORD)[:, 0] for i in ids])


def test_the_documented_reader_finds_the_items(tmp_path: Path) -> None:
    what = snapshot()
    items = read_as_documented(save(tmp_path))["items"]
    stream, lone = steps(what, 3, 5, 9), steps(what, 7)
    wanted = [stream[0:2], stream[3:5], stream[6:10], lone[:3]]
    assert [item.tobytes() for item in items] == [part.tobytes() for part in wanted]
    assert items[0]["observation/position"].shape == (2, 3)


def test_the_documented_reader_finds_the_episodes(tmp_path: Path) -> None:
    chunks = [
        records(3, 4, after=5, ends=[(1, 2), (3, 1)]),
        records(5, 4, after=9),
        records(7, 3, sealed=False, ends=[(2, 3)]),  # stands behind chunk 9
        records(9, 2, ends=[(0, 4)]),
    ]
    items = [(key(0), 3, 0, 10, 1.0, 0), (key(1), 7, 0, 3, 1.0, 0)]
    what = Snapshot(chunks, [TableSnapshot(items), TableSnapshot([])])
    episodes = read_as_documented(save(tmp_path, what))["episodes"]
    stream, lone = steps(what, 3, 5, 9), steps(what, 7)
    wanted = [stream[0:2], stream[2:4], stream[4:9], stream[9:], lone]
    assert sorted(e.tobytes() for e in episodes) == sorted(e.tobytes() for e in wanted)
