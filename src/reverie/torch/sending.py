"""Batches to a device: a few blocks of pinned memory, and one copy for each batch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.optional import require
from reverie.sample import Batch
from reverie.torch.batches import TensorBatch
from reverie.torch.converting import dtype_of, map_batch, tensor_of

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.torch")

_ALIGNMENT = 64
_here = threading.local()  # the Transfer of each device, of this thread


def tensors(batch: Batch, device: Any = None) -> TensorBatch:
    """A batch whose leaves are tensors.

    On the CPU they share the arrays' memory. To a GPU they go as one block, in one copy
    from pinned memory that the calling thread keeps for that, on a stream of its own;
    PyTorch's current stream waits for it, the caller does not.

    Args:
        batch: as `sample` returned it.
        device: None: the CPU.

    Returns:
        The same, in tensors. `info.key` stays a NumPy array of uint64 on the host, for
        `update_priorities`: PyTorch can do little with that dtype.

    Raises:
        InvalidArgumentError: PyTorch has no such dtype; names it and the leaf's path.
    """
    where = torch.device("cpu" if device is None else device)
    if where.type == "cuda":
        return transfer_to(where).send(batch)
    found = map_batch(tensor_of, batch)
    return found if where.type == "cpu" else map_batch(lambda leaf: leaf.to(where), found)


def tensordict(batch: Batch, device: Any = None) -> Any:
    """A batch as a TensorDict: its data, `batch_size=[B]`; needs the package tensordict.

    Args:
        batch: as `sample` returned it, its data a dict.
        device: as in `tensors`.

    Raises:
        MissingDependencyError: it is not installed.
        InvalidArgumentError: the data are no dict, or as in `tensors`.
    """
    package = require("tensordict", "tensordict", "reverie.torch.tensordict()")
    if not isinstance(batch.data, dict):
        raise InvalidArgumentError(
            f"batch: found data of type {type(batch.data).__name__}, wanted a dict: a "
            "TensorDict has names."
        )
    found = tensors(batch, device)
    return package.TensorDict(found.data, batch_size=[len(batch.info.key)], device=device)


class Transfer:
    """Copies batches to a device from a few blocks of pinned memory, taken in turns.

    Not thread-safe: a thread has its own.

    Args:
        link: to the device.
        slots: blocks; one is written to again once its last copy is over.
    """

    def __init__(self, link: Any, slots: int = 3) -> None:
        self._link = link
        self._slots = [_Slot(link.pinned(2 * _ALIGNMENT)) for _ in range(slots)]
        self._turn = 0
        self._output: Any = None

    def slot(self) -> Transfer:
        """While it is entered, new batches of this thread are gathered into the next block."""
        return self

    def __enter__(self) -> None:
        """Waits until the block is free."""
        self._output = self._slots[self._turn].open()
        self._output.enter()

    def __exit__(self, error: object, *_: object) -> None:
        """The block has what fitted."""
        self._output.exit()
        if error is not None:
            self._output = None

    def send(self, batch: Batch) -> TensorBatch:
        """The batch on the device; what does not stand in the block is copied there first."""
        slot, self._turn = self._slots[self._turn], (self._turn + 1) % len(self._slots)
        output, self._output = self._output or slot.open(), None
        arrays: list[tuple[NDArray[Any], int]] = []
        used = output.used
        start = slot.start

        def place(array: Any) -> int:
            nonlocal used
            array = np.ascontiguousarray(array).reshape(np.shape(array))
            dtype_of(array.dtype)
            offset = array.ctypes.data - start
            if not 0 <= offset < output.used or offset % _ALIGNMENT:
                offset = used
                used += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
            arrays.append((array, offset))
            return len(arrays) - 1

        numbers = map_batch(place, batch)
        if used > slot.nbytes:
            slot.grow(self._link.pinned(used + used // 4 + _ALIGNMENT))
        memory = slot.memory
        for array, offset in arrays:
            if array.nbytes and array.ctypes.data != slot.start + offset:
                memory[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
        device, slot.event = self._link.send(slot.block, slot.offset, used)

        def on_device(number: Any) -> Any:
            array, offset = arrays[number]
            piece = device[offset : offset + array.nbytes].view(dtype_of(array.dtype))
            return piece.view(array.shape)

        return map_batch(on_device, numbers)


class _Slot:
    """A block of pinned memory, and the event of the last copy from it."""

    def __init__(self, block: Any) -> None:
        self.event: Any = None
        self.grow(block)

    def grow(self, block: Any) -> None:
        """Another block; arrays in the old one keep that alive."""
        self.block = block
        memory = block.numpy()
        self.offset = -memory.ctypes.data % _ALIGNMENT if memory.size else 0
        self.memory = memory[self.offset :]
        self.start, self.nbytes = self.memory.ctypes.data, self.memory.size

    def open(self) -> Any:
        """Waits until the last copy is over; the memory, for the core."""
        if self.event is not None:
            self.event.synchronize()
            self.event = None
        return _core.OutputMemory(self.memory)


class _Cuda:
    """The link to a GPU: copies on a stream of its own."""

    def __init__(self, device: Any) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def pinned(self, nbytes: int) -> Any:
        """Memory that the GPU can copy from by itself."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def send(self, block: Any, offset: int, nbytes: int) -> tuple[Any, Any]:
        """Bytes of a block on the device, once what is computed there comes to them.

        Returns:
            The tensor; and an event that is over once the block may be written to.
        """
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            found = block[offset : offset + nbytes].to(self._device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        current.wait_event(event)
        found.record_stream(current)  # or the copies' stream would reuse it too early
        return found, event


def transfer_to(device: Any) -> Transfer:
    """This thread's, for a GPU."""
    number = torch.cuda.current_device() if device.index is None else device.index
    mine: dict[int, Transfer] = _here.__dict__.setdefault("transfers", {})
    if number not in mine:
        mine[number] = Transfer(_Cuda(torch.device("cuda", number)))
    return mine[number]
