"""The picture of views shows what a buffer gives."""

from __future__ import annotations

from typing import Any

import pytest
from tests.project.draw_views import EPISODES, PICTURE, drawn, spans
from tests.project.test_docs import README, blocks_to_run

from reverie.views import Transitions

LOOP = blocks_to_run(README)[0]


def test_the_picture_shows_the_views_as_they_are() -> None:
    is_true = PICTURE.read_text("utf-8") == drawn()
    assert is_true, "draw it anew: python -m tests.project.draw_views"


def test_the_readmes_first_loop_samples_terminal_transitions() -> None:
    pytest.importorskip("gymnasium")
    names: dict[str, Any] = {}
    exec(LOOP, names)
    batch, stored = names["batch"], names["buffer"].steps()
    assert 0 < batch.terminated.sum() < len(batch.terminated)
    assert (batch.discount == ~batch.terminated).all()
    # Of 8 environments that were stepped 200 times, all but the calls that only reset.
    assert len(stored.key) == 8 * 200 - stored.terminated.sum() - stored.truncated.sum() + sum(
        names["terminated"] | names["truncated"]
    )


def test_the_picture_follows_what_the_views_give(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(first, last) for first, last, *_ in spans(Transitions())] == [
        *((t, t + 1) for t in range(4)),
        *((10 + t, 11 + t) for t in range(2)),
    ]
    before = drawn()
    monkeypatch.setattr("tests.project.draw_views.EPISODES", EPISODES[:1])
    assert drawn() != before
