"""New values of steps, beside a model: what each step must hold, in whatever view."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reverie
from reverie import ArraySpec, ReplayBuffer, Updated
from reverie.views import Episodes, Sequences, Transitions, View, Windows

SPEC = {
    "observation": ArraySpec((), np.int64),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
    "step": ArraySpec((), np.int64),  # its number, from 1 on
    "value": ArraySpec((), np.float32),
    "policy": {"logits": ArraySpec((3,), np.float32), "visits": ArraySpec((), np.uint8)},
    "hidden": ArraySpec((2,), np.float16),
    "version": ArraySpec((), np.int32),
}
MAY = ("value", "policy", "hidden")
OWN_VIEWS: list[View] = [
    Transitions(),
    Transitions(3, 0.5, stack={"observation": 3}),
    Sequences(4, stride=1),
    Sequences(5, burn_in=2, once=("hidden",)),
    Sequences(3, stride=2, stack={"observation": 2}),
    Windows(3),
    Windows(4, stride=3, stack={"observation": 2}),
    Episodes(),
]
OTHERS: list[View] = [Transitions(), Sequences(6, once=("hidden", "policy")), Sequences(1)]


def value_of(key: str, number: int) -> Any:
    if key == "value":
        return np.float32(number)
    if key == "hidden":
        return np.full(2, number % 2000, np.float16)
    return {"logits": np.full(3, -number, np.float32), "visits": np.uint8(number % 250)}


def stacked(rows: list[Any]) -> Any:
    if isinstance(rows[0], dict):
        return {key: stacked([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


class Driver:
    """A buffer, and what each of its steps must hold, by the step's number."""

    def __init__(self, view: View, draw: Any) -> None:
        self.draw, self.number, self.at = draw, 0, 0
        self.steps: dict[int, dict[str, int]] = {}
        self.keys: set[int] = set()  # ever seen
        self.buffer = ReplayBuffer(
            SPEC,
            draw(st.integers(1, 25)),
            view=view,
            updatable=MAY,
            version="version",
            seed=0,
        )

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def add(self) -> None:
        number, version = self.fresh(), self.draw(st.integers(0, 3))
        self.steps[number] = {key: number for key in MAY} | {"version": version}
        self.buffer.add(
            self.at,
            0,
            0.0,
            self.at + 1,
            self.draw(st.integers(0, 7)) == 0,
            False,
            extra={
                "step": number,
                "version": version,
                **{key: value_of(key, number) for key in MAY},
            },
        )
        self.at += 1
        self.keys |= set(self.buffer.item_info()["key"].tolist())

    def update(self, view: View) -> None:
        """Of some keys, old ones and such that come twice among them."""
        if not self.keys:
            return
        keys = self.draw(st.lists(st.sampled_from(sorted(self.keys)), min_size=1, max_size=6))
        names = self.draw(st.sets(st.sampled_from(MAY), min_size=1))
        time = view.time_axis
        if time == 0:
            time = self.draw(st.integers(1, 7))
        shape = (len(keys),) if time is None else (len(keys), time)
        new = np.array([self.fresh() for _ in range(int(np.prod(shape)))]).reshape(shape)
        values = {}
        for name in names:
            of = new[:, 0] if name in view.once else new
            rows = stacked([value_of(name, n) for n in of.flat])
            values[name] = (
                {key: part.reshape(*of.shape, *part.shape[1:]) for key, part in rows.items()}
                if isinstance(rows, dict)
                else rows.reshape(*of.shape, *rows.shape[1:])
            )
        mask = None
        if self.draw(st.booleans()):
            mask = np.array(
                self.draw(st.lists(st.booleans(), min_size=new.size, max_size=new.size))
            )
            mask = mask.reshape(shape)
        versions = None
        if self.draw(st.booleans()):
            versions = np.array(
                self.draw(st.lists(st.integers(-1, 9), min_size=len(keys), max_size=len(keys)))
            )
        wanted = self.expected(view, keys, names, new, mask, versions)
        found = self.buffer.update(
            np.array(keys, np.uint64), values, versions, view=view, mask=mask
        )
        assert found == wanted

    def expected(
        self, view: View, keys: Any, names: set[str], new: Any, mask: Any, versions: Any
    ) -> Updated:
        updated = stale = rejected = 0
        live = set(self.buffer.item_info()["key"].tolist())
        for i, key in enumerate(keys):
            if key not in live:
                stale += 1
                continue
            numbers = np.atleast_1d(self.buffer.gather([key], view)["step"][0])
            row = np.atleast_1d(new[i])[: len(numbers)]
            for t, number in enumerate(numbers[numbers != 0][: len(row)].tolist()):
                its = {name for name in names if name not in view.once or t == 0}
                if (set(names) <= set(view.once) and t) or (
                    mask is not None and not np.atleast_1d(mask[i])[t]
                ):
                    continue
                step = self.steps[number]
                if versions is not None:
                    if step["version"] >= versions[i]:
                        rejected += 1
                        continue
                    step["version"] = int(versions[i])
                step |= {name: int(row[t]) for name in its}
                updated += 1
        return Updated(updated, stale, rejected)

    def check(self, data: dict[str, Any], once: tuple[str, ...] = ()) -> None:
        """That what stands there is what the steps must hold, and zeros where none is."""
        numbers = data["step"]
        for name in (*MAY, "version"):
            of = numbers
            if name in once:
                of = numbers[:, 0]
            for place, number in np.ndenumerate(of):
                want: Any = 0
                if number:
                    want = self.steps[int(number)][name]
                if name == "version":
                    assert data[name][place] == want
                elif name == "policy":
                    wanted = value_of(name, want)
                    assert (data[name]["logits"][place] == wanted["logits"]).all()
                    assert data[name]["visits"][place] == wanted["visits"]
                else:
                    assert (data[name][place] == value_of(name, want)).all()

    def check_all(self, buffer: ReplayBuffer, views: list[View]) -> None:
        for view in views:
            self.check(buffer.steps(view).data, tuple(view.once))
            if len(buffer):
                batch = buffer.sample(5, view=view)
                self.check(batch.data, tuple(view.once))
                again = buffer.gather(batch.key[:3], view)
                self.check(again, tuple(view.once))
        for episode in buffer.episodes():
            self.check(episode)


@pytest.mark.parametrize("view", OWN_VIEWS, ids=repr)
@given(data=st.data())
def test_steps_hold_what_was_written_last_and_is_newest(
    view: View, data: st.DataObject
) -> None:
    driver = Driver(view, data.draw)
    others = [] if isinstance(view, Episodes) else OTHERS
    others = [*others, Windows(2)] if isinstance(view, Windows) else others
    views = [view, *others]
    for _ in range(data.draw(st.integers(1, 30))):
        if data.draw(st.integers(0, 2)):
            driver.add()
        else:
            driver.update(data.draw(st.sampled_from(views)))
    driver.check_all(driver.buffer, views)
    with tempfile.TemporaryDirectory() as folder:
        driver.buffer.save(path=Path(folder))
        with reverie.open(folder) as again:
            driver.check_all(again, views)
            was, driver.buffer = driver.buffer, again
            driver.update(view)
            driver.check_all(again, views)
            driver.buffer = was
    driver.buffer.close()
