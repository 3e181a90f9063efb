"""`item_spec`: what a view makes of an item, before there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
import pytest
from tests.tf_support import VIEWS, filled

from reverie import ArraySpec, ReplayBuffer, ReplayBufferManager, views
from reverie.errors import ClosedError, InvalidArgumentError


def spec_of(data: Any) -> Any:
    return optree.tree_map(lambda leaf: ArraySpec(leaf.shape[1:], leaf.dtype), data)


@pytest.mark.parametrize("name", VIEWS)
def test_it_says_what_batches_hold(name: str) -> None:
    view, own = VIEWS[name]
    with filled((), view=own) as empty, filled(view=own) as buffer:
        found = empty.item_spec(view)
        assert found == spec_of(buffer.sample(3, view=view).data)
        assert found == buffer.item_spec(view)
        assert list(found) == list(buffer.sample(1, view=view).data)


def test_episodes_have_a_shape_with_a_max_length_alone() -> None:
    with filled(view=views.Episodes()) as buffer:
        found = buffer.item_spec(views.Episodes(max_length=9))  # the longest
        assert found == spec_of(buffer.sample(64, view=views.Episodes(max_length=9)).data)
        for view in (None, views.Episodes(9, ragged=True)):
            with pytest.raises(InvalidArgumentError, match=r"Take Episodes\(max_len"):
                buffer.item_spec(view)


def test_a_view_that_does_not_fit_and_a_closed_buffer_are_refused() -> None:
    buffer = filled()
    with pytest.raises(InvalidArgumentError, match="not every item"):
        buffer.item_spec(views.Windows(3))
    with pytest.raises(InvalidArgumentError, match=r"one of reverie\.views"):
        buffer.item_spec("rows")  # type: ignore[arg-type]
    buffer.close()
    with pytest.raises(ClosedError):
        buffer.item_spec()


def test_a_managers_buffer_has_no_views(tmp_path: Any) -> None:
    with ReplayBufferManager({"x": ArraySpec((2,), np.float32)}, 9, tmp_path) as manager:
        buffer, _ = manager.create_replay_buffer()
        assert isinstance(buffer, ReplayBuffer)
        with pytest.raises(InvalidArgumentError, match=r"item_spec\(\)"):
            buffer.item_spec()
