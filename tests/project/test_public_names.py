"""The public names are a literal list, so that each change of them is a line of a diff."""

from __future__ import annotations

import inspect
from types import ModuleType

import reverie

PUBLIC_NAMES = [
    "ArraySpec",
    "EpisodeObserver",
    "ParallelObserver",
    "ReplayBuffer",
    "ReplayBufferManager",
    "ReverieError",
    "SampleInfo",
    "Table",
    "TableInfo",
    "Trajectory",
    "TrajectoryObserver",
    "TrajectorySequenceObserver",
    "__version__",
    "errors",
    "install_as_reverb",
    "rate_limiters",
    "reverb",
    "selectors",
]


def stray_names(module: ModuleType) -> list[str]:
    """Names that a user finds in `module`, submodules aside, though it does not list them."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and name not in module.__all__
    )


def test_the_public_names_are_these() -> None:
    assert reverie.__all__ == PUBLIC_NAMES
    assert all(hasattr(reverie, name) for name in PUBLIC_NAMES)


def test_nothing_else_is_there_to_be_found() -> None:
    assert stray_names(reverie) == []


def test_a_stray_name_is_seen() -> None:
    module = ModuleType("planted")
    module.__all__ = ["kept"]  # type: ignore[attr-defined]
    module.kept = module.stray = max  # type: ignore[attr-defined]
    assert stray_names(module) == ["stray"]
