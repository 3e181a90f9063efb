"""Makes the native checkpoints in `native/`, and what must be drawn from them.

    python -m tests.golden.make_native_fixtures

They were made anew twice, both times before the first release: when a replay buffer's and
a server's checkpoints, two dialects of format 1, became one, and when ends and columns
became shorter, orders kept their holes and free slots lost their names, so that a
checkpoint follows what can be reached. Format 1 stays readable for
ever: files that stand there are never made anew after the first release, only new ones
are added under new names.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.core_support import LAYOUT, CoreStore, settings, steps
from tests.server_support import draws

NATIVE = Path(__file__).resolve().parent / "native"
TABLES = ("uniform", "prioritized", "max_heap", "lifo")
BUFFER = "uniform_table"


def tables_drawn(made: CoreStore) -> dict[str, Any]:
    """The next draws from each table, as JSON has them."""
    found = {
        # Rounded, because mathematical libraries differ in the last bit of a power.
        one.name: [
            (key, round(odds, 12), *told, columns)
            for key, odds, *told, columns in draws(one, 3)
        ]
        for one in made.tables
    }
    return json.loads(json.dumps(found, default=bytes.hex))  # type: ignore[no-any-return]


def buffer_drawn(made: CoreStore) -> list[Any]:
    """The next batches of four windows: positions, flags and keys."""
    found = []
    for _ in range(3):
        batch = made.table(BUFFER).core.sample(LAYOUT, 4, 2, 2, False, None)
        (flag, position), (key, *_) = batch
        found.append([position.tolist(), flag.tolist(), key.tolist()])
    return found


def make_tables(root: Path, seed: int = 7) -> Any:
    """Four tables that share trajectories and windows, after some life."""
    made = CoreStore([settings(kind, kind, max_size=20) for kind in TABLES], seed=seed)
    writer = made.writer()
    made.fill(15)
    steps(writer, 0, 12)
    made.fill(5)
    for one in made.tables:
        draws(one, 2)
        keys = one.core.items()["key"].copy()
        one.core.update_priorities(keys[3:6], np.array([2.0, 2.0, 9.0]))
        one.core.delete(keys[8:11])
    made.save(root)
    return tables_drawn(made)


def make_buffer(root: Path, seed: int = 7) -> Any:
    """One table of windows of two steps, as a replay buffer has it."""
    made = CoreStore([settings(BUFFER, max_size=20, sequence_length=2)], seed=seed)
    writer = made.writer()
    steps(writer, 0, 30)
    made.save(root)
    return buffer_drawn(made)


def main() -> None:
    """Makes what is not there yet."""
    for name, make in (("tables", make_tables), ("buffer", make_buffer)):
        folder = NATIVE / name
        if folder.exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            expected = make(Path(scratch))
            (saved,) = Path(scratch).glob("ckpt-*")
            shutil.copytree(saved, folder / saved.name)
        text = json.dumps(expected, sort_keys=True)
        (folder / "expected.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
