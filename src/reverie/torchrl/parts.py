"""A storage, a sampler and a writer in TorchRL's words, over one `reverie.ReplayBuffer`."""

from __future__ import annotations

import json
import operator
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.folder.place import folder_of
from reverie.checkpoint.save import Saver
from reverie.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    UnsupportedError,
    WaitTimeoutError,
)
from reverie.opening import open_buffer
from reverie.replay_buffer import ReplayBuffer
from reverie.tables.selectors import ItemSelector
from reverie.torchrl.bases import samplers, storages, torch, writers
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
        self.numbered += count
        streams.store(arrays, numbers)
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
            return {
                path.relative_to(folder).as_posix(): torch.from_numpy(
                    np.fromfile(path, np.uint8)
                )
                for path in files
            }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `loads`."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in state_dict.items():
                path = Path(folder, name)
                if not path.resolve().is_relative_to(Path(folder).resolve()):
                    raise InvalidArgumentError(f"state_dict: found the path {name!r:.200}.")
                path.parent.mkdir(parents=True, exist_ok=True)
                content.cpu().numpy().tofile(path)
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


class Sampler(samplers.Sampler):  # type: ignore[misc]
    """Chooses steps as the buffer's own sampler does, and sets their priorities.

    Args:
        storage: of the steps.
        beta: exponent of the importance weights; None: none.

    Attributes:
        beta: as given; TorchRL's schedulers set it.
    """

    def __init__(self, storage: Storage, beta: float | None) -> None:
        self._storage = storage
        self.beta = beta
        if beta is not None and storage.sampler.kind != "prioritized":
            raise InvalidArgumentError(
                f"beta: found {beta!r:.100} with {storage.sampler!r:.200}, wanted it with "
                "sampler=reverie.samplers.Prioritized() alone, whose choices weights correct."
            )
        # The key of each step that was sampled lately, and whose it is.
        self._keys: NDArray[np.uint64] | None = None
        self._owners: NDArray[np.int64] | None = None

    @property
    def prioritized(self) -> bool:
        """Whether priorities are read."""
        return bool(self._storage.sampler.reads_priorities)

    def sample(self, storage: Any, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """Numbers of steps, and their weights; the data wait at the storage.

        Raises:
            WaitTimeoutError: nothing was added.
        """
        mine = self._storage
        if mine.buffer is None or mine.columns is None:
            raise WaitTimeoutError("sample(): this buffer is empty: nothing was added yet.")
        beta = None if self.beta is None else float(self.beta)
        batch = mine.buffer.sample(batch_size, beta=beta)
        data, numbers = batch.data, batch.data[NUMBER]
        found = mine.columns.tensordict_of(data)
        if mine.view.n_step > 1:
            found["steps_to_next_obs"] = torch.from_numpy(data["n_steps"])
            found["gamma"] = mine.view.gamma ** found["steps_to_next_obs"]
        if self.prioritized:
            if self._keys is None or self._owners is None:
                self._keys = np.zeros(mine.max_size, np.uint64)
                self._owners = np.full(mine.max_size, -1, np.int64)
            where = numbers % mine.max_size
            self._keys[where], self._owners[where] = batch.key, numbers
        index = torch.from_numpy(numbers)
        mine.hold(index, found)
        facts = {} if beta is None else {"priority_weight": torch.from_numpy(batch.weight)}
        return index, facts

    def update_priority(self, index: Any, priority: Any, *, storage: Any = None) -> None:
        """Sets priorities: errors' sizes, the largest of each step's; of steps that left none.

        Of a sampler that reads none it warns, as TorchRL's samplers do.

        Raises:
            InvalidArgumentError: a shape or a value, see `ReplayBuffer.update_priorities`.
        """
        mine = self._storage
        if not self.prioritized:
            super().update_priority(index, priority, storage=storage)
            return
        if mine.buffer is None:
            raise InvalidArgumentError("update_priority(): nothing was added yet.")
        numbers = torch.as_tensor(index).detach().cpu().reshape(-1).numpy()
        errors = torch.as_tensor(priority).detach().cpu().to(torch.float64)
        if errors.numel() not in (1, 0) and errors.numel() % max(numbers.size, 1):
            raise InvalidArgumentError(
                f"priority: found the shape {tuple(errors.shape)}, wanted a number, or some, "
                f"for each of {numbers.size} indices."
            )
        if errors.numel() == 1:
            errors = errors.reshape(1).expand(numbers.size)
        keys, there = self._keys_of(numbers)
        if there.any():
            sizes = errors.reshape(numbers.size, -1).amax(1).numpy()
            mine.buffer.update_priorities(keys[there], sizes[there])

    def _keys_of(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Of each step its key, and whether it is there."""
        mine = self._storage
        oldest = mine.numbered - len(mine)
        there = (numbers >= oldest) & (numbers < mine.numbered)
        keys = np.zeros(numbers.shape, np.uint64)
        missed = there
        if self._keys is not None and self._owners is not None:
            where = numbers % mine.max_size
            hit = there & (self._owners[where] == numbers)
            keys[hit] = self._keys[where][hit]
            missed = there & ~hit
        if missed.any():  # such as new ones: this looks at all keys
            assert mine.buffer is not None
            all_keys = mine.buffer.item_info()["key"]
            keys[missed] = all_keys[numbers[missed] - oldest]
        return keys, there

    def _empty(self) -> None:
        self._keys = self._owners = None

    def state_dict(self) -> dict[str, Any]:
        """Its exponent."""
        return {"beta": self.beta}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self.beta = state_dict["beta"]
        self._empty()

    def dumps(self, path: Any) -> None:
        """Writes it into a folder."""
        _write(path, self.state_dict())

    def loads(self, path: Any) -> None:
        """The reverse."""
        self.load_state_dict(_read(path))


class Writer(writers.Writer):  # type: ignore[misc]
    """Stores steps; counts them.

    Args:
        storage: where they go.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._steps = storage
        self._write_count = 0

    def add(self, data: Any) -> Any:
        """One step, or with a batch dimension one of each environment; their numbers."""
        shape = data.shape
        return self._store(data.reshape(-1, 1)).reshape(shape)

    def extend(self, data: Any) -> Any:
        """Steps `[T]`, or `[..., T]` of several environments; their numbers, likewise.

        Where ("collector", "mask") says that a row is padding, it is left out, and its number
        is -1.

        Raises:
            InvalidArgumentError: no batch dimension, or of other environments.
        """
        if not data.ndim:
            raise InvalidArgumentError(
                "extend(): found a TensorDict without a batch dimension, wanted [T] steps, or "
                "[N, T] of several environments. One step is for add(). Nothing was stored."
            )
        shape = data.shape
        mask = data.get(("collector", "mask"), None)
        if mask is not None:
            mask = mask.reshape(shape)
            numbers = torch.full(shape, -1, dtype=torch.int64)
            numbers[mask.cpu()] = self._store(data[mask].reshape(1, -1))[0]
            return numbers
        return self._store(data.reshape(-1, shape[-1])).reshape(shape)

    def _store(self, data: Any) -> Any:
        if not data.numel():
            return torch.zeros(data.shape, dtype=torch.int64)
        numbers = torch.from_numpy(self._steps.store(data).copy())
        self._write_count += numbers.numel()
        return numbers

    def _empty(self, empty_write_count: bool = True) -> None:
        if empty_write_count:
            self._write_count = 0

    def state_dict(self) -> dict[str, Any]:
        """Its counts."""
        return {"write_count": self._write_count, "numbered": self._steps.numbered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._write_count = int(state_dict["write_count"])
        self._steps.numbered = max(self._steps.numbered, int(state_dict["numbered"]))

    def dumps(self, path: Any) -> None:
        """Writes it into a folder."""
        _write(path, self.state_dict())

    def loads(self, path: Any) -> None:
        """The reverse."""
        self.load_state_dict(_read(path))


def _write(path: Any, state: dict[str, Any]) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)
    Path(path, "state.json").write_text(json.dumps(state), "utf-8")


def _read(path: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path, "state.json").read_text("utf-8"))
    return found
