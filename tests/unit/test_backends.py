"""Backends by name, and what is said where Reverb cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.manager_support import make

from reverie.backends.reverb import deps
from reverie.errors import InvalidArgumentError, MissingDependencyError


def test_without_reverb_the_error_says_where_it_installs_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reverb", "tensorflow", "tf_agents"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        make(tmp_path, backend="reverb")
    message = str(caught.value)
    for words in ("Linux x86-64", "3.11", "TensorFlow 2.15", "pip install", '"embedded"'):
        assert words in message
    assert isinstance(caught.value, ImportError)


def stand_in(name: str) -> dict[str, Any]:
    """Modules that import as Reverb, TensorFlow and TF-Agents do; Reverb's is named `name`."""
    modules: dict[str, Any] = {
        each: ModuleType(each)
        for each in (
            "reverb",
            "tensorflow",
            "tf_agents",
            "tf_agents.replay_buffers",
            "tf_agents.replay_buffers.reverb_replay_buffer",
            "tf_agents.replay_buffers.reverb_utils",
        )
    }
    modules["reverb"].__name__ = name
    parent = modules["tf_agents.replay_buffers"]
    for child in ("reverb_replay_buffer", "reverb_utils"):
        setattr(parent, child, modules[f"{parent.__name__}.{child}"])
    return modules


@pytest.mark.parametrize("name", ["reverie.reverb", "reverb"])
def test_reveries_own_tables_are_no_reverb(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, module in stand_in(name).items():
        monkeypatch.setitem(sys.modules, each, module)
    if name == "reverb":
        deps.require(local=False)
        return
    with pytest.raises(MissingDependencyError, match=r"install_as_reverb\(\).*\"embedded\""):
        deps.require(local=False)


def test_an_address_is_for_servers(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"server_address.*backend=\"reverb\""):
        make(tmp_path, server_address="localhost:8000")
