"""Observers: called with each step, they store it and make the items by themselves."""

from reverie.observers.parallel import ParallelObserver
from reverie.observers.single import (
    EpisodeObserver,
    TrajectoryObserver,
    TrajectorySequenceObserver,
)

__all__ = [
    "EpisodeObserver",
    "ParallelObserver",
    "TrajectoryObserver",
    "TrajectorySequenceObserver",
]
