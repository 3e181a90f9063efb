"""The embedded backend does what is promised of every backend."""

from __future__ import annotations

from reverie import ReplayBufferManager
from reverie.testing import conformance_suite

TestEmbedded = conformance_suite(
    lambda folder, **settings: ReplayBufferManager(checkpoint_dir=folder, **settings)
)
