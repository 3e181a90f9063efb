"""A buffer's items by number, and what a notebook shows of it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import views
from reverie.looking import page, seen_buffer

SPEC = {
    "observation": reverie.ArraySpec((2,), np.float32),
    "action": reverie.ArraySpec((), np.int64),
    "reward": reverie.ArraySpec((), np.float32),
}


def episode(number: int, steps: int = 5) -> dict[str, Any]:
    """Step t of it does `10 * number + t` and earns `number`."""
    return {
        "observation": np.full((steps + 1, 2), number, np.float32),
        "action": 10 * number + np.arange(steps),
        "reward": np.full(steps, number, np.float32),
    }


@pytest.fixture
def buffer() -> Iterator[reverie.ReplayBuffer]:
    with reverie.ReplayBuffer(SPEC, 1_000, seed=0) as made:
        made.add_episodes([episode(number) for number in range(4)])
        yield made


# By number --------------------------------------------------------------------------------


def test_an_item_by_its_number_is_that_of_steps_without_a_batch_axis(
    buffer: reverie.ReplayBuffer,
) -> None:
    every = buffer.steps().data
    for number in (0, 7, 19, -1, -20, np.int64(3)):
        found = buffer[number]
        assert list(found) == list(every)
        for key, values in every.items():
            assert np.array_equal(found[key], values[number])
            assert np.shape(found[key]) == values.shape[1:]
    assert buffer.info().samples == 0


@pytest.mark.parametrize(
    "places", [slice(3, 9), slice(None, None, -3), slice(-2, None), slice(9, 3)]
)
def test_a_slice_is_a_batch_of_them(buffer: reverie.ReplayBuffer, places: slice) -> None:
    found, every = buffer[places], buffer.steps().data
    assert all(np.array_equal(found[key], every[key][places]) for key in every)


def test_the_buffers_own_view_says_what_an_item_is() -> None:
    with reverie.ReplayBuffer(SPEC, 100, view=views.Sequences(4)) as buffer:
        buffer.add_episode(episode(1))
        assert buffer[1]["mask"].tolist() == [True, False, False, False]
        assert buffer[1]["action"].tolist() == [14, 0, 0, 0]


def test_the_oldest_that_is_there_has_the_number_0() -> None:
    with reverie.ReplayBuffer(SPEC, 7) as buffer:
        buffer.add_episodes([episode(1), episode(2)])
        assert [int(buffer[i]["action"]) for i in range(7)] == [13, 14, *range(20, 25)]


@pytest.mark.parametrize(
    ("number", "there"), [(20, "-20 to 19"), (-21, "-20 to 19"), (10**30, "to 19")]
)
def test_beyond_them_it_says_which_there_are(
    buffer: reverie.ReplayBuffer, number: int, there: str
) -> None:
    with pytest.raises(IndexError, match=rf"found {number}, .*{there}"):
        buffer[number]


def test_an_empty_buffer_has_no_item(buffer: reverie.ReplayBuffer) -> None:
    buffer.clear()
    with pytest.raises(IndexError, match="the buffer is empty"):
        buffer[0]
    assert list(buffer) == []


@pytest.mark.parametrize("odd", ["reward", 1.0, None, (0, 1), np.array([1, 2])])
def test_what_is_no_number_is_refused(buffer: reverie.ReplayBuffer, odd: Any) -> None:
    with pytest.raises(TypeError, match=r"wanted an int or a slice.*gather\(keys\)"):
        buffer[odd]


def test_a_loop_has_each_item_once_and_ends(buffer: reverie.ReplayBuffer) -> None:
    actions = [int(item["action"]) for item in buffer]
    assert actions == buffer.steps().action.tolist()


def test_a_loop_looks_for_the_keys_once_and_leaves_out_what_has_left() -> None:
    with reverie.ReplayBuffer(SPEC, 5) as buffer:
        buffer.add_episode(episode(1))
        seen = []
        for item in buffer:
            seen.append(int(item["action"]))
            if len(seen) == 2:
                buffer.add_episode(episode(2, steps=2))
                buffer.add_episode(episode(3, steps=2))
        assert seen == [10, 11, 14]


def test_a_closed_buffer_says_so(buffer: reverie.ReplayBuffer) -> None:
    buffer.close()
    with pytest.raises(reverie.errors.ClosedError):
        buffer[0]
    assert "closed" in buffer._repr_html_()


def test_a_managers_items_are_windows(tmp_path: Path) -> None:
    spec = {"a": np.zeros(2, np.int64), "b": (np.zeros((), np.float32),)}
    with reverie.ReplayBufferManager(spec, 100, tmp_path, sequence_length=3) as manager:
        buffer, observer = manager.create_replay_buffer()
        for t in range(6):
            observer({"a": np.full(2, t), "b": (t,)}, last=t == 5)
        assert buffer[-1]["a"].tolist() == [[3, 3], [4, 4], [5, 5]]
        assert buffer[1]["b"][0].tolist() == [1, 2, 3]
        assert buffer[:2]["b"][0].tolist() == [[0, 1, 2], [1, 2, 3]]
        assert len(list(buffer)) == 4
        html = buffer._repr_html_()
    assert "windows of 3 steps" in html
    assert "episodes" not in html


# In a notebook ----------------------------------------------------------------------------


def tree(html: str) -> ElementTree.Element:
    """The page, parsed: it is well-formed."""
    return ElementTree.fromstring(html.replace("<br>", "<br/>"))


def rows(html: str) -> list[list[str]]:
    """Every row of every table, as texts."""
    return [["".join(cell.itertext()) for cell in row] for row in tree(html).iter("tr")]


def test_a_page_shows_columns_sizes_and_settings(buffer: reverie.ReplayBuffer) -> None:
    found = rows(buffer._repr_html_())
    assert ["observation", "float32", "(2,)", "8"] in found
    assert ["action", "int64", "()", "8"] in found
    assert ["a step", "", "", str(buffer.info().record_nbytes)] in found
    facts = dict(row for row in found if len(row) == 2)
    assert facts["items"] == "20 of 1,000"
    assert facts["episodes"] == "4"
    assert facts["view"] == repr(buffer.view)
    assert facts["sampler"] == repr(buffer.table.settings.sampler)
    assert "KiB of data" in facts["memory"] or " B of data" in facts["memory"]


def points(html: str) -> list[tuple[float, float]]:
    (line,) = (each for each in tree(html).iter() if each.tag.endswith("polyline"))
    pairs = [point.split(",") for point in line.attrib["points"].split()]
    return [(float(x), float(y)) for x, y in pairs]


def test_the_line_rises_with_the_returns_of_episodes_that_ended(
    buffer: reverie.ReplayBuffer,
) -> None:
    buffer.add(np.zeros(2), 0, 1_000.0, np.zeros(2), False, False)  # still open
    html = buffer._repr_html_()
    assert "newest 4 episodes: 0 to 15, the last 15" in html
    heights = [y for _, y in points(html)]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 4


@pytest.mark.parametrize(
    "view",
    [
        views.Transitions(stack={"observation": 4}),
        views.Transitions(n_step=3),
        views.Sequences(3, burn_in=1),
        views.Episodes(),
    ],
)
def test_returns_are_of_whole_episodes_whatever_the_view(view: Any) -> None:
    with reverie.ReplayBuffer(SPEC, 100, view=view) as buffer:
        buffer.add_episodes([episode(3, steps=7), episode(2, steps=4)])
        assert "newest 2 episodes: 8 to 21, the last 8" in buffer._repr_html_()


def test_one_return_is_no_line(buffer: reverie.ReplayBuffer) -> None:
    buffer.clear()
    assert "svg" not in buffer._repr_html_()
    buffer.add_episode(episode(1))
    assert "svg" not in buffer._repr_html_()


def test_of_many_episodes_the_newest_hundred_are_drawn(buffer: reverie.ReplayBuffer) -> None:
    buffer.add_episodes([episode(number, steps=1) for number in range(200)])
    html = buffer._repr_html_()
    assert len(points(html)) == 100
    assert "newest 100 episodes: 100 to 199" in html
    assert dict(row for row in rows(html) if len(row) == 2)["episodes"] == "204"


def test_of_a_large_buffer_the_newest_items_are_looked_at(
    buffer: reverie.ReplayBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_buffer, "_LOOKED_AT", 12)
    html = buffer._repr_html_()
    assert (
        dict(row for row in rows(html) if len(row) == 2)["episodes"]
        == "3 in the newest 12 items"
    )
    # Two steps of the second episode are among them: what it earned is not known from here.
    assert "newest 2 episodes: 10 to 15" in html


def test_a_step_without_a_reward_has_no_line() -> None:
    with reverie.ReplayBuffer({"observation": np.zeros(2)}, 100) as buffer:
        for _ in range(3):
            buffer.add_episode({"observation": np.zeros((4, 2))})
        html = buffer._repr_html_()
    assert "svg" not in html
    assert dict(row for row in rows(html) if len(row) == 2)["episodes"] == "3"


def test_names_are_escaped_and_many_columns_are_cut() -> None:
    odd = "<script>&"
    spec = {
        "observation": np.zeros(2),
        odd: np.zeros(()),
        **{f"x{n}": np.zeros(()) for n in range(60)},
    }
    with reverie.ReplayBuffer(spec, 100) as buffer:
        html = buffer._repr_html_()
    assert "<script" not in html
    assert [odd, "float64", "()", "8"] in rows(html)
    assert ["and 12 more", "", "", ""] in rows(html)


def test_a_page_is_quick_to_make_and_samples_nothing(buffer: reverie.ReplayBuffer) -> None:
    before = buffer.item_info()["times_sampled"].sum()
    buffer._repr_html_()
    assert buffer.item_info()["times_sampled"].sum() == before == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        [1.0, 1.0],
        [math.nan, 1.0, 2.0],
        [math.inf, -math.inf],
        [-1.7e308, 1.7e308],
        [math.nan, math.nan],
    ],
)
def test_any_returns_make_a_picture(values: list[float]) -> None:
    html = page.sparkline(values)
    found = points(html)
    assert len(found) == np.isfinite(values).sum()
    assert all(0 <= x <= 240 and 0 <= y <= 36 for x, y in found)


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**50, "1024 TiB")],
)
def test_sizes_have_units(nbytes: int, words: str) -> None:
    assert page.size(nbytes) == words
