"""The picture in ARCHITECTURE.md shows the imports as they are."""

from __future__ import annotations

from tests.project.draw_rooms import PICTURE, drawn, told
from tests.project.rooms import arrows, sources


def test_the_picture_shows_the_imports_as_they_are() -> None:
    is_true = PICTURE.read_text("utf-8") == drawn(arrows(sources()))
    assert is_true, "draw it anew: python -m tests.project.draw_rooms"


def test_a_moved_import_is_another_picture() -> None:
    modules = sources()
    as_it_is = drawn(arrows(modules))
    assert drawn(arrows({**modules, "manager.py": "from reverie import proto"})) != as_it_is
    more = modules["manager.py"] + "\nfrom reverie import proto"
    assert drawn(arrows({**modules, "manager.py": more})) != as_it_is


def test_an_import_that_others_imply_is_named_but_not_drawn() -> None:
    pairs = {("manager", "backends"), ("backends", "tables"), ("tables", "nests")}
    short_cut = {("manager", "nests"), ("backends", "nests")}
    assert told(pairs | short_cut) == pairs
    assert "manager imports backends, nests<" in drawn(pairs | short_cut)
