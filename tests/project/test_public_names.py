"""The public names are a literal list, so that each change of them is a line of a diff."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import reverie

PUBLIC_NAMES = [
    "ArraySpec",
    "Batch",
    "BufferInfo",
    "Mixture",
    "ReplayBuffer",
    "ReplayBufferManager",
    "ReverieError",
    "SampleInfo",
    "Trajectory",
    "Updated",
    "__version__",
    "errors",
    "install_as_reverb",
    "limiters",
    "mix",
    "observers",
    "open",
    "removers",
    "reverb",
    "samplers",
    "set_patience",
    "views",
    "weights",
]
PUBLIC_NAMES_OF = {
    "observers": [
        "EpisodeObserver",
        "ParallelObserver",
        "TrajectoryObserver",
        "TrajectorySequenceObserver",
    ],
    "samplers": ["Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Uniform"],
    "removers": [
        *("Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Reservoir", "Uniform"),
    ],
    "views": ["Episodes", "Hindsight", "Sequences", "Transitions", "View", "Windows"],
    "limiters": ["Limiter", "MinSize", "Queue", "SampleToInsertRatio", "Staleness"],
    "weights": [
        "LinearSchedule",
        "emphasize_recent",
        "importance_weights",
        "sequence_priorities",
    ],
}
DOORS = {
    "jax": ["ArrayBatch", "ArrayInfo", "arrays"],
    "sb3": [
        "DictReplayBuffer",
        "DictReplayBufferSamples",
        "HerReplayBuffer",
        "NStepReplayBuffer",
        "PrioritizedDQN",
        "PrioritizedReplayBuffer",
        "PrioritizedReplayBufferSamples",
        "PrioritizedSAC",
        "PrioritizedTD3",
        "ReplayBuffer",
        "ReplayBufferSamples",
    ],
    "tf": ["TensorBatch", "TensorInfo", "dataset", "tensors"],
    "torch": [
        "Frozen",
        "Loader",
        "TensorBatch",
        "TensorInfo",
        "tensordict",
        "tensors",
        "whole",
    ],
    "torchrl": ["ReplayBuffer"],
}


def stray_names(module: ModuleType) -> list[str]:
    """Names that a user finds by `dir(module)`, though it does not list them."""
    return sorted(set(dir(module)) - set(module.__all__))


def test_the_public_names_are_these() -> None:
    assert reverie.__all__ == PUBLIC_NAMES
    assert all(hasattr(reverie, name) for name in PUBLIC_NAMES)


@pytest.mark.parametrize("module", PUBLIC_NAMES_OF)
def test_the_public_names_of_the_modules_are_these(module: str) -> None:
    assert getattr(reverie, module).__all__ == PUBLIC_NAMES_OF[module]
    assert all(hasattr(getattr(reverie, module), name) for name in PUBLIC_NAMES_OF[module])


@pytest.mark.parametrize("door", DOORS)
def test_the_public_names_of_the_doors_are_these(door: str) -> None:
    """Read from the sources: no framework is needed."""
    at = Path(reverie.__file__).with_name(door)
    source = (at / "__init__.py" if at.is_dir() else at.with_suffix(".py")).read_text("utf-8")
    names = {
        target.id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(names["__all__"]) == DOORS[door]


def test_nothing_else_is_there_to_be_found() -> None:
    assert stray_names(reverie) == []


def test_a_stray_name_is_seen() -> None:
    module = ModuleType("planted")
    module.__all__ = ["kept"]  # type: ignore[attr-defined]
    module.kept = module.stray = max  # type: ignore[attr-defined]
    module.__dir__ = lambda: ["kept", "stray"]  # type: ignore[method-assign]
    assert stray_names(module) == ["stray"]
