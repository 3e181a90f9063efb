"""The frame of managers with one defect each, made of a good one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from reverie import ReplayBufferManager


class Proxy:
    """An observer or a buffer that does as the good one, but for what a subclass says."""

    def __init__(self, good: Any, **more: Any) -> None:
        self.good = good
        vars(self).update(more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.good, name)

    def __call__(self, step: Any) -> None:
        self.good(step)


class Broken(ReplayBufferManager):
    """A good manager whose handles can be replaced by broken ones."""

    broken_observer: Callable[[Any], Any] = staticmethod(lambda good: good)
    broken_buffer: Callable[[Any], Any] = staticmethod(lambda good: good)

    def _pair(self, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        if pair[0] is not vars(self).get("_good_buffer"):
            self._good_buffer = pair[0]
            self._broken_pair = (self.broken_buffer(pair[0]), self.broken_observer(pair[1]))
        return self._broken_pair

    def create_replay_buffer(self) -> Any:
        return self._pair(super().create_replay_buffer())

    def load_replay_buffer(self, **settings: Any) -> Any:
        return self._pair(super().load_replay_buffer(**settings))

    def get_replay_buffer_and_observer(self) -> Any:
        return self._pair(super().get_replay_buffer_and_observer())

    @property
    def replay_buffer(self) -> Any:
        return None if self._backend is None else self.get_replay_buffer_and_observer()[0]

    @property
    def observer(self) -> Any:
        return None if self._backend is None else self.get_replay_buffer_and_observer()[1]

    def new_observer(self) -> Any:
        return self.broken_observer(super().new_observer())


def quiet(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()
