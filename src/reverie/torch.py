"""Batches for PyTorch. Imports torch; needs nothing else that `import reverie` does not.

    from reverie.torch import Loader

    for batch in Loader(buffer, 256, device="cuda", steps=10_000):
        loss, td_errors = learn(batch.observation, batch.action, batch.discount)
        buffer.update_priorities(batch.key, td_errors.detach().cpu())

On the CPU tensors share the memory of the arrays that a batch consists of: nothing is
copied. Each batch has arrays of its own, so they are the caller's to keep and change.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int
from reverie.runtime.optional import require
from reverie.sample import Batch

if TYPE_CHECKING:
    import torch

    from reverie.replay_buffer import ReplayBuffer
    from reverie.views import View
else:
    torch = require("torch", "torch", "reverie.torch")

__all__ = ["Frozen", "Loader", "tensordict", "tensors", "whole"]

_ALIGNMENT = 64
_here = threading.local()  # the Transfer of each device, of this thread


def tensors(batch: Batch, device: Any = None) -> Batch:
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
        return _transfer(where).send(batch)
    found = _map(_tensor, batch)
    return found if where.type == "cpu" else _map(lambda leaf, _: leaf.to(where), found)


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


class Loader(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Batches of a buffer, one after the other, sampled when they are asked for.

    For a plain loop, and for `DataLoader(loader, batch_size=None)`, which must have no
    worker processes: they would have copies of the buffer. To a GPU batches are gathered
    straight into pinned memory and copied while it computes; see `tensors`.

    Args:
        buffer: to sample from.
        batch_size: B.
        device: None: the CPU.
        steps: batches of one pass, of each `iter`; None: without an end.
        **sample: further arguments of `buffer.sample`, such as `view` or `timeout`.

    Raises:
        InvalidArgumentError: a number is out of range, or an argument is not for a loader.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        batch_size: int,
        *,
        device: Any = None,
        steps: int | None = None,
        **sample: Any,
    ) -> None:
        check_int("batch_size", batch_size, 1, 2**31 - 1)
        if steps is not None:
            check_int("steps", steps, 0, 2**63 - 1)
        if "out" in sample:
            raise InvalidArgumentError(
                "out: a loader hands out fresh tensors, which the next batch must not change."
            )
        self._buffer, self._batch_size, self._sample = buffer, batch_size, sample
        self._device = torch.device("cpu" if device is None else device)
        self._steps, self._first, self._done = steps, 0, 0

    def __len__(self) -> int:
        """Batches of a pass; TypeError where it has no end."""
        if self._steps is None:
            raise TypeError("This loader has no end: it was made without steps=.")
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """A pass: what is left of it where a state was loaded, else a whole one.

        Raises:
            InvalidArgumentError: a worker process of a DataLoader asks.
        """
        _refuse_workers("Loader")
        first, self._first = self._first, 0
        return self._batches(first)

    def _batches(self, first: int) -> Iterator[Batch]:
        self._done = first
        while self._steps is None or self._done < self._steps:
            batch = self._next()
            self._done += 1
            yield batch

    def _next(self) -> Batch:
        if self._device.type != "cuda":
            return tensors(self._buffer.sample(self._batch_size, **self._sample), self._device)
        transfer = _transfer(self._device)
        with transfer.slot():
            batch = self._buffer.sample(self._batch_size, **self._sample)
        return transfer.send(batch)

    def state_dict(self) -> dict[str, int]:
        """How many batches of the latest pass were handed out.

        Which items the next ones hold is the buffer's to say: `buffer.save()` keeps its
        items, and the state of its choices.
        """
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """The next pass begins where `state_dict` was called.

        Raises:
            InvalidArgumentError: it is no such state, or one of a longer pass.
        """
        if set(state) != {"done"}:
            raise InvalidArgumentError(
                f"state: found {dict(state)!r:.200}, wanted what state_dict() returned."
            )
        most = 2**63 - 1 if self._steps is None else self._steps
        self._first = self._done = check_int('state["done"]', state["done"], 0, most)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuses: see `Frozen`."""
        _refuse_pickling("Loader")


class Frozen(torch.utils.data.Dataset):  # type: ignore[misc]
    """The items that a buffer holds now, by number: for training on data that stay.

        data = Frozen(buffer)
        for batch in DataLoader(data, 256, shuffle=True, collate_fn=reverie.torch.whole):
            ...

    `whole` takes each batch as it was gathered, in one call of the core; without it PyTorch
    puts it together again, sample by sample, with the same result. What is kept is which
    items there are; their steps stay in the buffer, and reading them counts as no sample.
    An item that reaches to the newest step grows with the steps that follow.

    Args:
        buffer: to read from. It must keep the items: to add beyond its capacity would evict
            them.
        view: one of `reverie.views`; None: the buffer's own.

    Raises:
        InvalidArgumentError: the buffer is a manager's, or the view is not for its steps.
    """

    def __init__(self, buffer: ReplayBuffer, view: View | None = None) -> None:
        self._buffer, self._view = buffer, view
        self._keys: NDArray[np.uint64] = buffer.item_info()["key"]
        buffer.gather(self._keys[:1], view)  # or the error comes now

    def __len__(self) -> int:
        """Items."""
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The data of one item, without a batch axis: a dict of tensors.

        Raises:
            IndexError: there is no such item.
            InvalidArgumentError: it has left the buffer, or a worker process asks.
        """
        sample: dict[str, Any] = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """The same for several, gathered at once; see `whole`."""
        _refuse_workers("Frozen")
        keys = self._keys[np.asarray(indices, np.int64)]
        try:
            data = self._buffer.gather(keys, self._view)
        except KeyError as error:
            raise InvalidArgumentError(
                f"An item has left the buffer since this Frozen was made ({error!s:.100}). "
                "Make a new one, or a buffer of larger capacity."
            ) from None
        return Rows(_map_data(_tensor, data), len(keys))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuses."""
        _refuse_pickling("Frozen")


class Rows(Sequence[dict[str, Any]]):
    """The samples of a batch, one by one.

    Attributes:
        data: all of them: a dict of tensors.
    """

    def __init__(self, data: dict[str, Any], count: int) -> None:
        self.data, self._count = data, count

    def __len__(self) -> int:
        """B."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """One sample."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return _map_data(lambda leaf, _: leaf[index], self.data)


def whole(rows: Rows) -> dict[str, Any]:
    """For `collate_fn=`: the data that a `Frozen` has gathered, a dict of tensors."""
    return rows.data


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

    def send(self, batch: Batch) -> Batch:
        """The batch on the device; what does not stand in the block is copied there first."""
        slot, self._turn = self._slots[self._turn], (self._turn + 1) % len(self._slots)
        output, self._output = self._output or slot.open(), None
        arrays: list[tuple[NDArray[Any], int]] = []
        used = output.used
        start = slot.start

        def place(array: Any, path: Any) -> int:
            nonlocal used
            array = np.ascontiguousarray(array).reshape(np.shape(array))
            _torch_dtype(array, path)
            offset = array.ctypes.data - start
            if not 0 <= offset < output.used or offset % _ALIGNMENT:
                offset = used
                used += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
            arrays.append((array, offset))
            return len(arrays) - 1

        numbers = _map(place, batch)
        if used > slot.nbytes:
            slot.grow(self._link.pinned(used + used // 4 + _ALIGNMENT))
        memory = slot.memory
        for array, offset in arrays:
            if array.nbytes and array.ctypes.data != slot.start + offset:
                memory[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
        device, slot.event = self._link.send(slot.block, slot.offset, used)

        def on_device(number: Any, path: Any) -> Any:
            array, offset = arrays[number]
            piece = device[offset : offset + array.nbytes].view(_torch_dtype(array, path))
            return piece.view(array.shape)

        return _map(on_device, numbers)


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


def _transfer(device: Any) -> Transfer:
    """This thread's, for a GPU."""
    number = torch.cuda.current_device() if device.index is None else device.index
    mine: dict[int, Transfer] = _here.__dict__.setdefault("transfers", {})
    if number not in mine:
        mine[number] = Transfer(_Cuda(torch.device("cuda", number)))
    return mine[number]


def _map(function: Callable[[Any, Any], Any], batch: Batch) -> Batch:
    """A batch with `function(leaf, path)` for each leaf; the keys stay what they are."""
    info = {
        name: function(value, ("info", name))
        for name, value in batch.info._asdict().items()
        if name != "key"
    }
    return Batch(_map_data(function, batch.data), batch.info._replace(**info))


def _map_data(function: Callable[[Any, Any], Any], data: Any) -> Any:
    return optree.tree_map_with_path(lambda path, leaf: function(leaf, path), data)


def _tensor(array: NDArray[Any], path: Any) -> Any:
    """A tensor of the array's memory."""
    dtype = _torch_dtype(array, path)
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    plain = np.uint8 if array.dtype.itemsize == 1 else np.int16  # as bfloat16
    return torch.from_numpy(array.view(plain)).view(dtype)


def _torch_dtype(array: NDArray[Any], path: Any) -> Any:
    """PyTorch's dtype of the same name.

    Raises:
        InvalidArgumentError: it has none.
    """
    name = array.dtype.name
    found = getattr(torch, name, None)
    # Of fewer bits PyTorch has names alone.
    if not isinstance(found, torch.dtype) or re.fullmatch("u?int[1-7]", name):
        raise InvalidArgumentError(
            f"Leaf {'/'.join(map(str, path))!r:.200}: found {name}, which PyTorch has not. "
            "Leave it out, or store it as another dtype."
        )
    return found


def _refuse_workers(what: str) -> None:
    if torch.utils.data.get_worker_info() is not None:
        raise InvalidArgumentError(
            f"A {what} was asked by a worker process of a DataLoader, which has no part in the "
            "buffer: it stands for memory of the process that made it. Pass num_workers=0; "
            "the core gathers a batch faster than a worker could send it."
        )


def _refuse_pickling(what: str) -> NoReturn:
    raise TypeError(
        f"A {what} cannot be copied or pickled, as a DataLoader with worker processes would: "
        "its buffer stands for memory of this process. Pass num_workers=0; the core gathers a "
        "batch faster than a worker could send it."
    )
