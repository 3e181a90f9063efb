"""A sampler in TorchRL's words: choices, weights and priorities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.torchrl.bases import samplers, torch
from reverie.torchrl.columns import NUMBER
from reverie.torchrl.state_files import read, write
from reverie.torchrl.storage import Storage


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
        write(path, self.state_dict())

    def loads(self, path: Any) -> None:
        """The reverse."""
        self.load_state_dict(read(path))
