"""Managers with the reverb backend, and servers as the seed makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from reverb.platform.checkpointers_lib import DefaultCheckpointer  # noqa: E402
from tests.tf_agents.support import SPEC  # noqa: E402

from reverie import ReplayBufferManager  # noqa: E402

TABLE = "uniform_table"


def make(folder: Path, **changes: Any) -> ReplayBufferManager:
    settings = {"data_spec": SPEC, "capacity": 20, "sequence_length": 2, "backend": "reverb"}
    return ReplayBufferManager(checkpoint_dir=folder, **{**settings, **changes})


def add(manager: ReplayBufferManager, *steps: Any) -> None:
    observer = manager.get_replay_buffer_and_observer()[1]
    for step in steps:
        observer(step)


def items(manager: ReplayBufferManager) -> list[Any]:
    return [item for _, item in manager.iter_items()]


def server(root: Path | None = None, size: int = 20, **more: Any) -> Any:
    """A server as the seed makes it."""
    settings = {"sampler": reverb.selectors.Uniform(), "remover": reverb.selectors.Fifo()}
    table = reverb.Table(
        TABLE,
        max_size=size,
        rate_limiter=reverb.rate_limiters.MinSize(1),
        **{**settings, **more},
    )
    checkpointer = None if root is None else DefaultCheckpointer(path=str(root))
    return reverb.Server([table], checkpointer=checkpointer)


def size_of(running: Any) -> int:
    return int(reverb.Client(f"localhost:{running.port}").server_info()[TABLE].current_size)
