"""Every public name of the installed dm-reverb stands on docs/reverb.md."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("reverb")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reverb.md").read_text("utf-8")
MODULES = (
    "client",
    "errors",
    "item_selectors",
    "pattern_dataset",
    "platform.checkpointers_lib",
    "platform.default.checkpointers",
    "rate_limiters",
    "replay_sample",
    "server",
    "structured_writer",
    "tf_client",
    "timestep_dataset",
    "trajectory_dataset",
    "trajectory_writer",
)


def public_names(where: str, module: Any) -> list[str]:
    """`reverb.X` for the module's own names, and `reverb.X.method` for its classes'."""
    names = []
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "").startswith("reverb")
        if name.startswith("_") or inspect.ismodule(value) or not own:
            continue
        names.append(f"{where}.{name}")
        if inspect.isclass(value) and not issubclass(value, (tuple, Exception)):
            names += [f"{where}.{name}.{m}" for m in vars(value) if not m.startswith("_")]
    return names


def missing_rows(names: list[str], page: str) -> list[str]:
    """Names that neither have a row nor are a word in one."""
    return [n for n in names if f"`{n}`" not in page and f"`{n.rsplit('.', 1)[1]}`" not in page]


def test_the_names_at_the_top_have_their_rows() -> None:
    names = public_names("reverb", importlib.import_module("reverb"))
    assert len(names) > 50
    assert missing_rows(names, PAGE) == []


@pytest.mark.parametrize("name", MODULES)
def test_the_names_of_a_module_are_on_the_page(name: str) -> None:
    module = importlib.import_module(f"reverb.{name}")
    assert f"`reverb.{name}`" in PAGE
    classes = [n for n in public_names(f"reverb.{name}", module) if n.count(".") <= 2]
    top = [n for n in classes if f"`reverb.{n.rsplit('.', 1)[1]}`" not in PAGE]
    assert missing_rows(top, PAGE) == []


def test_a_row_that_is_missing_is_found_out() -> None:
    names = public_names("reverb", importlib.import_module("reverb"))
    page = PAGE.replace("| `reverb.Table.replace` | yes | |\n", "")
    assert missing_rows(names, page) == ["reverb.Table.replace"]
