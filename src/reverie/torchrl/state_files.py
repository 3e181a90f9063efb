"""The small files of a sampler and a writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(path: Any, state: dict[str, Any]) -> None:
    """Writes numbers into a folder, which is made."""
    Path(path).mkdir(parents=True, exist_ok=True)
    Path(path, "state.json").write_text(json.dumps(state), "utf-8")


def read(path: Any) -> dict[str, Any]:
    """The reverse."""
    found: dict[str, Any] = json.loads(Path(path, "state.json").read_text("utf-8"))
    return found
