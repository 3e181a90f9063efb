"""The picture of views shows what a buffer gives."""

from __future__ import annotations

import pytest
from tests.project.draw_views import EPISODES, PICTURE, drawn, spans

from reverie.views import Transitions


def test_the_picture_shows_the_views_as_they_are() -> None:
    is_true = PICTURE.read_text("utf-8") == drawn()
    assert is_true, "draw it anew: python -m tests.project.draw_views"


def test_the_picture_follows_what_the_views_give(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(first, last) for first, last, *_ in spans(Transitions())] == [
        *((t, t + 1) for t in range(4)),
        *((10 + t, 11 + t) for t in range(2)),
    ]
    before = drawn()
    monkeypatch.setattr("tests.project.draw_views.EPISODES", EPISODES[:1])
    assert drawn() != before
