"""Property tests do not wait for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from reverie.checkpoint.disk.files import FileSystem


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Hundreds of tiny checkpoints: that they last is the fault tests' business."""
    nothing = mock.Mock(return_value=None)
    with mock.patch.multiple(FileSystem, fsync=nothing, fsync_dir=nothing):
        yield
