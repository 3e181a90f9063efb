"""A writer in TorchRL's words."""

from __future__ import annotations

from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.torchrl.bases import torch, writers
from reverie.torchrl.state_files import read, write
from reverie.torchrl.storage import Storage


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
        write(path, self.state_dict())

    def loads(self, path: Any) -> None:
        """The reverse."""
        self.load_state_dict(read(path))
