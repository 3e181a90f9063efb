"""What every manager must do, whatever engine is behind it: a suite for pytest.

For a backend of your own, or a manager of your own, two lines in a test file run
every check:

    from reverie import ReplayBufferManager
    from reverie.testing import conformance_suite

    TestMine = conformance_suite(
        lambda folder, **settings: ReplayBufferManager(
            checkpoint_dir=folder, backend="mine", **settings
        )
    )

Each check is a method named after what it claims, gets pytest's `tmp_path` and makes
managers in it. Where the claim does not hold it raises AssertionError, or lets an error
of the manager's through that should not have been. Together
they are what the manager's documentation promises on every backend: `create`,
`add`, `sample`, `get_dataset`, `num_frames`, `clear`, `save`, `load`, `close`;
order, windows and boundaries; padding; eviction; priorities and stale keys; draws;
errors for wrong input and states; checkpoints that are never lost; foreign files
that are kept; handles that stay valid.

The checks need no framework but NumPy; the one about datasets is skipped where
TensorFlow is not installed. They take some 10 seconds on the embedded backend.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from reverie.testing.manager_checks.adding import AddingChecks
from reverie.testing.manager_checks.checkpoints import CheckpointChecks
from reverie.testing.manager_checks.kit import DATA_SPEC
from reverie.testing.manager_checks.life import LifeChecks
from reverie.testing.manager_checks.sampling import SamplingChecks

ManagerFactory = Callable[..., Any]
"""`(folder, *, data_spec, capacity, sequence_length, **settings)` to a new manager."""


class ManagerConformance(LifeChecks, AddingChecks, SamplingChecks, CheckpointChecks):
    """All checks. Subclass it with a name that pytest collects, and write `make_manager`.

        class TestMine(ManagerConformance):
            def make_manager(self, folder, **settings):
                return ReplayBufferManager(checkpoint_dir=folder, backend="mine", **settings)

    `make_manager` is given the data spec, the capacity, the sequence length and other
    settings of `ReplayBufferManager` by name, and must pass them all on. It may be
    called several times in one check, with the same folder too.

    Attributes:
        data_spec: what a step looks like; a Trajectory-like named tuple of specs.
            Override it for engines that want specs of their own.
    """


def conformance_suite(
    make_manager: ManagerFactory, *, data_spec: Any = DATA_SPEC
) -> type[ManagerConformance]:
    """The suite as a test class for pytest.

    Args:
        make_manager: `(folder, **settings)` to a new manager; see `ManagerConformance`.
        data_spec: what a step looks like; a Trajectory-like named tuple of specs.

    Returns:
        A class to be assigned to a name that starts with `Test`.
    """
    spec, factory = data_spec, make_manager

    class TestConformance(ManagerConformance):
        data_spec = spec

        def make_manager(self, folder: Path, **settings: Any) -> Any:
            return factory(folder, **settings)

    return TestConformance


def conformance_checks() -> list[str]:
    """The names of all checks, each of them a claim."""
    return sorted(name for name in dir(ManagerConformance) if name.startswith("test_"))


def conformance_failures(
    make_manager: ManagerFactory,
    folder: Path,
    *,
    checks: Collection[str] | None = None,
    data_spec: Any = DATA_SPEC,
) -> dict[str, Exception]:
    """Runs checks without pytest.

    Args:
        make_manager: `(folder, **settings)` to a new manager; see `ManagerConformance`.
        folder: where they work, each in a folder of its own.
        checks: names of those to run; None runs all.
        data_spec: what a step looks like.

    Returns:
        What each failed check raised, by its name; empty where all hold.
    """
    suite = conformance_suite(make_manager, data_spec=data_spec)
    failures: dict[str, Exception] = {}
    for name in sorted(conformance_checks() if checks is None else checks):
        place = folder / name
        place.mkdir(parents=True)
        try:
            getattr(suite(), name)(place)
        except unittest.SkipTest:
            continue
        except Exception as error:
            failures[name] = error
    return failures
