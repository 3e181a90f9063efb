"""A storage in TorchRL's words, over a `reverie.ReplayBuffer`."""

from __future__ import annotations

import operator
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.folder.place import folder_of
from reverie.checkpoint.save import Saver
from reverie.errors import CheckpointMismatchError, InvalidArgumentError, UnsupportedError
from reverie.opening import open_buffer
from reverie.replay_buffer import ReplayBuffer
from reverie.tables.selectors import ItemSelector
from reverie.torchrl.bases import storages, torch
from reverie.torchrl.columns import NUMBER, REWARD, Columns, leaves_of, name_of
from reverie.torchrl.streams import Streams
from reverie.views import Transitions


class Storage(storages.Storage):  # type: ignore[misc]
    """The steps. They are there from the first data on, which say what a step is.

    Args:
        capacity: steps.
        sampler: of the buffer's items.
        view: what a sample is.
        generator: of torch, from which the seed of the choices is drawn.

    Attributes:
        buffer: None before the first data.
        columns: likewise.
        numbered: how many steps have come: the number of the next one.
    """

    def __init__(
        self, capacity: int, sampler: ItemSelector | None, view: Transitions, generator: Any
    ) -> None:
        # One without steps, which checks the settings.
        with ReplayBuffer({"x": np.zeros(())}, capacity, next_of="x", sampler=sampler) as made:
            self.sampler = made.table.settings.sampler
        super().__init__(capacity)
        self.view = view
        self._seed = int(torch.randint(2**63 - 1, (), generator=generator))
        self.buffer: ReplayBuffer | None = None
        self.columns: Columns | None = None
        self.streams: Streams | None = None
        self.numbered = 0
        self._held: tuple[Any, Any] | None = None

    def store(self, data: Any) -> NDArray[np.int64]:
        """Stores the steps `[N, T]`; their numbers, likewise. All of them, or none."""
        arrays = leaves_of(data)
        columns = self.columns
        if columns is None:
            columns = Columns.of(arrays, 2)
            buffer = ReplayBuffer(
                columns.spec,
                self.max_size,
                next_of=columns.states,
                reward=self._reward_in(columns),
                sampler=self.sampler,
                view=self.view,
                seed=self._seed,
            )
        else:
            assert self.buffer is not None
            columns.check(arrays, 2)
            buffer = self.buffer
        streams = self.streams or Streams(buffer, columns, data.shape[0])
        streams.check(data.shape[0])
        self.buffer, self.columns, self.streams = buffer, columns, streams
        first, count = self.numbered, data.shape[0] * data.shape[1]
        numbers: NDArray[np.int64] = np.arange(first, first + count)
        numbers = numbers.reshape(data.shape[1], data.shape[0]).T
        for stored in streams.store(arrays, numbers):
            self.numbered += stored  # as it goes on, for who interrupts it
        return numbers

    def _reward_in(self, columns: Columns) -> str | None:
        if self.view.n_step == 1:
            return None  # a reward is what it was, whatever its dtype
        odd = [key for key in columns.alone if key[0] == "next" and key != REWARD]
        if REWARD not in columns.alone or odd:
            words = f"{odd!r:.200} within 'next' alone" if odd else f"no {REWARD}"
            raise InvalidArgumentError(
                f"data: found {words}; wanted, as n_step={self.view.n_step} sums rewards up, "
                f"{REWARD}, and no other entry of which only the value after a step is known, "
                "but for done, terminated and truncated. Leave it out by a transform. Nothing "
                "was stored."
            )
        return name_of(REWARD)

    def hold(self, index: Any, data: Any) -> None:
        """What `get` of just this index is to return."""
        self._held = index, data

    def get(self, index: Any) -> Any:
        """Steps: those of a slice by age, others by their number, which `extend` returned.

        Raises:
            IndexError: there is no such step, or it has left.
        """
        held, self._held = self._held, None
        if held is not None and held[0] is index:
            return held[1]
        if self.buffer is None or self.columns is None:
            raise IndexError("This buffer is empty: nothing was added yet.")
        keys = self.buffer.item_info()["key"]
        one = isinstance(index, int | np.integer)
        if isinstance(index, slice):
            keys = keys[index]
        elif one and index < 0:
            keys = keys[[operator.index(index)]]
        else:
            keys = keys[self.places(np.atleast_1d(np.asarray(index)))]
        data = self.buffer.gather(keys, Transitions())
        found = self.columns.tensordict_of(data)
        found["index"] = torch.from_numpy(data[NUMBER])
        return found[0] if one else found

    def places(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """Where these steps stand, in the order of age.

        Raises:
            IndexError: see `get`.
        """
        if numbers.dtype.kind not in "iu":
            raise IndexError(f"index: found {numbers.dtype}, wanted numbers of steps.")
        oldest = self.numbered - len(self)
        odd = numbers[(numbers < oldest) | (numbers >= self.numbered)]
        if odd.size:
            raise IndexError(
                f"index: found {int(odd.flat[0])}, wanted that of a step that is there: "
                f"{oldest} to {self.numbered - 1}."
            )
        return numbers.astype(np.int64) - oldest

    def set(self, cursor: Any, data: Any, *, set_cursor: bool = True) -> NoReturn:
        """Not there: steps are what they were."""
        raise UnsupportedError(
            "Steps of a reverie.torchrl buffer cannot be written to: a state is stored once, "
            "for the step before it and the one after. Add them by extend(), or change what "
            "is sampled by a transform."
        )

    def __len__(self) -> int:
        """Steps that can be drawn."""
        return 0 if self.buffer is None else len(self.buffer)

    def contains(self, item: Any) -> bool:
        """Whether the step of that number is there."""
        return bool(self.numbered - len(self) <= int(item) < self.numbered)

    def _empty(self) -> None:
        if self.buffer is not None:
            self.buffer.clear()
            self.streams = None

    def dumps(self, path: Any) -> None:
        """Saves a checkpoint, whole or not at all; of an empty buffer none."""
        folder = folder_of("path", path)
        if self.buffer is not None:
            saver = Saver(folder, 1)
            try:
                saver.save(self.buffer.table.store)
            finally:
                saver.close()
        elif folder.exists() and any(folder.iterdir()):
            raise InvalidArgumentError(
                f"dumps(): this buffer has no steps yet, and {str(path)!r:.200} has files, "
                "which would be loaded in its place. Choose another folder."
            )

    def loads(self, path: Any) -> None:
        """Takes the place of what is here, once everything was read and verified.

        Raises:
            CheckpointError: see `reverie.open`; CheckpointMismatchError: it is another
                sampler's or view's, or of another library's steps.
        """
        folder = Path(path)
        if not folder.exists() or not any(folder.iterdir()):
            self._take(None, None, 0)
            return
        found = open_buffer(path)
        wanted = self.sampler, self.view
        got = found.table.settings.sampler, found.view
        try:
            if got != wanted:
                raise InvalidArgumentError(f"found {got!r:.200}, wanted {wanted!r:.200}")
            fields = found._with_views("loads()")
            columns = Columns.saved(found.nest.spec, fields.roles.state)
            newest = found[-1:] if len(found) else {NUMBER: np.array([-1])}
        except InvalidArgumentError as error:
            found.close()
            raise CheckpointMismatchError(f"{str(path)!r:.200}: {error}") from None
        if found.capacity != self.max_size:
            found.resize(self.max_size)
        self._take(found, columns, int(newest[NUMBER][0]) + 1)

    def _take(
        self, buffer: ReplayBuffer | None, columns: Columns | None, numbered: int
    ) -> None:
        old, self.buffer, self.columns = self.buffer, buffer, columns
        self.streams, self.numbered = None, numbered
        if old is not None:
            old.close()

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint's files, as tensors of bytes by their path."""
        with tempfile.TemporaryDirectory() as folder:
            self.dumps(folder)
            files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            return {path.relative_to(folder).as_posix(): _content(path) for path in files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `loads`."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in state_dict.items():
                path = Path(folder, name)
                if not path.resolve().is_relative_to(Path(folder).resolve()):
                    raise InvalidArgumentError(f"state_dict: found the path {name!r:.200}.")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.cpu().numpy().tobytes())
            self.loads(folder)

    def __getstate__(self) -> dict[str, Any]:
        """With a checkpoint in place of the buffer."""
        state: dict[str, Any] = super().__getstate__()
        kept = self.state_dict()
        return state | {"buffer": None, "columns": None, "streams": None, "kept": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The reverse."""
        kept = state.pop("kept")
        # TorchRL 0.13's storages have none.
        getattr(super(), "__setstate__", self.__dict__.update)(state)
        if kept:
            self.load_state_dict(kept)
            self.numbered = state["numbered"]


def _content(path: Path) -> Any:
    return torch.from_numpy(np.frombuffer(path.read_bytes(), np.uint8).copy())
