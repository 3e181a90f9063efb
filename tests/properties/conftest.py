"""Hypothesis profiles: `modest` by default; HYPOTHESIS_PROFILE=long looks further."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import settings

from reverie.checkpoint.disk.files import FileSystem

# Without a database nothing is written beside the sources. The default finds the same
# on each run; the long profile looks elsewhere each time and prints how to repeat it.
settings.register_profile(
    "modest", max_examples=60, deadline=None, database=None, derandomize=True
)
settings.register_profile(
    "long", max_examples=1000, deadline=None, database=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "modest")


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Hundreds of tiny checkpoints: that they last is the fault tests' business."""
    nothing = mock.Mock(return_value=None)
    with mock.patch.multiple(FileSystem, fsync=nothing, fsync_dir=nothing):
        yield
