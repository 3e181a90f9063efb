"""Makes the native checkpoints in `native/`, and what must be drawn from them.

    python -m tests.golden.make_native_fixtures

Format version 1 stays readable for ever: files that stand there are never made
anew, only new ones are added under new names.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.server_support import draws, fill, server, table

from reverie import ArraySpec, ReplayBufferManager
from reverie.reverb.engine.server import Server

NATIVE = Path(__file__).resolve().parent / "native"
SPEC = {"position": ArraySpec((2,), np.float32), "flag": ArraySpec((), np.bool_)}
TABLES = ("uniform", "prioritized", "max_heap", "lifo")


def tables_drawn(made: Server) -> dict[str, Any]:
    """The next draws from each table, as JSON has them."""
    found = {
        # Rounded, because mathematical libraries differ in the last bit of a power.
        name: [
            (key, round(odds, 12), *told, columns)
            for key, odds, *told, columns in draws(one, 3)
        ]
        for name, one in made.tables.items()
    }
    return json.loads(json.dumps(found, default=bytes.hex))  # type: ignore[no-any-return]


def buffer_drawn(manager: ReplayBufferManager) -> list[Any]:
    """The next samples of a replay buffer."""
    buffer, _ = manager.get_replay_buffer_and_observer()
    found = []
    for _ in range(3):
        steps, info = buffer.sample(4)
        found.append([steps["position"].tolist(), steps["flag"].tolist(), info.key.tolist()])
    return found


def make_server(root: Path) -> Any:
    """A server of four tables that share their cells, after some life."""
    made = server(root, [table(kind, kind, max_size=20) for kind in TABLES])
    fill(made, 30)
    for one in made.tables.values():
        draws(one, 2)
        keys = one.core.items()["key"].copy()
        one.core.update_priorities(keys[3:6], np.array([2.0, 2.0, 9.0]))
        one.core.delete(keys[8:11])
    made.checkpoint()
    return tables_drawn(made)


def make_buffer(root: Path) -> Any:
    """A replay buffer of windows of two steps."""
    with ReplayBufferManager(SPEC, 20, str(root), sequence_length=2) as manager:
        _, observer = manager.create_replay_buffer()
        for step in range(30):
            position = np.array([step, -step], np.float32)
            observer({"position": position, "flag": np.bool_(step % 3 == 0)})
        manager.save()
        return buffer_drawn(manager)


def main() -> None:
    """Makes what is not there yet."""
    for name, make in (("server", make_server), ("buffer", make_buffer)):
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
