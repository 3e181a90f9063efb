"""Twins of Reverie's facade with one defect each, which the comparisons must find."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from reverie import reverb


class Twin:
    """A module like `reverb` in which some names are others."""

    def __init__(self, **others: Any) -> None:
        self._others = others

    def __getattr__(self, name: str) -> Any:
        others = self.__dict__["_others"]
        return others[name] if name in others else getattr(reverb, name)


def _writing(**methods: Callable[..., Any]) -> Twin:
    """Trajectory writers with other methods; each gets the original as `whole`."""

    class Client(reverb.Client):
        def trajectory_writer(self, *args: Any, **kwargs: Any) -> Any:
            writer = super().trajectory_writer(*args, **kwargs)
            for name, method in methods.items():
                whole = getattr(writer, name)
                setattr(writer, name, lambda *a, m=method, w=whole, **k: m(w, *a, **k))
            return writer

    return Twin(Client=Client)


def _windows_one_short() -> Twin:
    def create_item(whole: Any, table: str, priority: float, trajectory: Any) -> None:
        def cut(nest: Any) -> Any:
            if isinstance(nest, dict):
                return {name: cut(child) for name, child in nest.items()}
            if isinstance(nest, list):
                return [cut(child) for child in nest]
            return nest if nest.is_squeezed or len(nest) < 2 else nest[1:]

        whole(table, priority, cut(trajectory))

    return _writing(create_item=create_item)


def _history_survives_episodes() -> Twin:
    def end_episode(whole: Any, clear_buffers: bool = True, **kwargs: Any) -> None:
        whole(clear_buffers=False, **kwargs)

    return _writing(end_episode=end_episode)


def _priorities_in_float32() -> Twin:
    import numpy as np

    def create_item(whole: Any, table: str, priority: float, trajectory: Any) -> None:
        whole(table, float(np.float32(priority)), trajectory)

    return _writing(create_item=create_item)


def _limiter_off_by_one() -> Twin:
    class Table(reverb.Table):
        def can_insert(self, num_inserts: int) -> bool:
            return super().can_insert(num_inserts + 1)

    return Twin(Table=Table)


def _queue_too_large() -> Twin:
    class Table(reverb.Table):
        @classmethod
        def queue(cls, name: str, max_size: int, **kwargs: Any) -> reverb.Table:
            return reverb.Table.queue(name, max_size + 1, **kwargs)

    return Twin(Table=Table)


def _sampling(change: Callable[[Any], Any]) -> Twin:
    class Client(reverb.Client):
        def sample(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for sample in super().sample(*args, **kwargs):
                if isinstance(sample, list):
                    yield [each._replace(info=change(each.info)) for each in sample]
                else:
                    yield sample._replace(info=change(sample.info))

    return Twin(Client=Client)


def _samples_not_counted() -> Twin:
    return _sampling(lambda info: info._replace(times_sampled=1))


def _size_counted_late() -> Twin:
    return _sampling(lambda info: info._replace(table_size=max(1, info.table_size - 1)))


def _mutating(change: Callable[[Any, dict[int, float], list[int]], Any]) -> Twin:
    class Client(reverb.Client):
        def mutate_priorities(
            self, table: str, updates: Any = None, deletes: Any = None
        ) -> int:
            changed = change(self, dict(updates or {}), list(deletes))
            return super().mutate_priorities(table, *changed)

    return Twin(Client=Client)


def _delete_lost() -> Twin:
    return _mutating(lambda client, updates, deletes: (updates, deletes[:-1]))


def _ties_by_insertion() -> Twin:
    """Updates do not renew an item's place among equals: equal ones are dropped."""
    seen: dict[int, float] = {}

    class Client(reverb.Client):
        def sample(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for sample in super().sample(*args, **kwargs):
                info = (sample[0] if isinstance(sample, list) else sample).info
                seen[info.key] = info.priority
                yield sample

        def mutate_priorities(
            self, table: str, updates: Any = None, deletes: Any = None
        ) -> int:
            new = {key: p for key, p in (updates or {}).items() if seen.get(key) != p}
            seen.update(new)
            return super().mutate_priorities(table, new, list(deletes))

    return Twin(Client=Client)


def _reset_forgets_nothing() -> Twin:
    class Client(reverb.Client):
        def reset(self, table: str) -> None:
            """Nothing."""

    return Twin(Client=Client)


def unknown_tables_pass() -> Twin:
    class Client(reverb.Client):
        def mutate_priorities(self, *args: Any, **kwargs: Any) -> int:
            try:
                return super().mutate_priorities(*args, **kwargs)
            except RuntimeError:
                return 0

    return Twin(Client=Client)


# Name: the twin, and a theme whose programs must tell it from Reverb.
BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "windows one step short": (_windows_one_short, "trajectory"),
    "history survives the episode": (_history_survives_episodes, "trajectory"),
    "priorities rounded": (_priorities_in_float32, "trajectory"),
    "a limiter off by one": (_limiter_off_by_one, "trajectory"),
    "a queue one too large": (_queue_too_large, "trajectory"),
    "times_sampled not counted": (_samples_not_counted, "trajectory"),
    "table_size one late": (_size_counted_late, "legacy"),
    "a lost delete": (_delete_lost, "trajectory"),
    "wrong order of ties in a heap": (_ties_by_insertion, "ties"),
    "a reset that does nothing": (_reset_forgets_nothing, "structured"),
}


def biased_uniform() -> Twin:
    """Half of the samples of the first item that it ever saw are drawn again."""

    class Client(reverb.Client):
        def sample(self, table: str, num_samples: int = 1, **kwargs: Any) -> Iterator[Any]:
            first = None
            rng = random.Random(3)
            for sample in super().sample(table, num_samples, **kwargs):
                first = sample.info.key if first is None else first
                if sample.info.key == first and rng.random() < 0.5:
                    [sample] = super().sample(table, 1, **kwargs)
                yield sample

    return Twin(Client=Client)
