"""What the tests of the examples share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str, *needs: str) -> Any:
    """The module of an example; skips the test where what it needs is not there."""
    for need in needs:
        pytest.importorskip(need, reason=f"needs {need}: nox -s doors, nox -s peers")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module(name)
