"""What PyTorch's `DataLoader` and plain loops take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int
from reverie.runtime.optional import require
from reverie.torch.batches import TensorBatch
from reverie.torch.converting import map_data, tensor_of
from reverie.torch.sending import tensors, transfer_to

if TYPE_CHECKING:
    import torch

    from reverie.replay_buffer import ReplayBuffer
    from reverie.views.base import View
else:
    torch = require("torch", "torch", "reverie.torch")


class Loader(torch.utils.data.IterableDataset["TensorBatch"]):  # type: ignore[misc]
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

    def __iter__(self) -> Iterator[TensorBatch]:
        """A pass: what is left of it where a state was loaded, else a whole one.

        Raises:
            InvalidArgumentError: a worker process of a DataLoader asks.
        """
        _refuse_workers("Loader")
        first, self._first = self._first, 0
        return self._batches(first)

    def _batches(self, first: int) -> Iterator[TensorBatch]:
        self._done = first
        while self._steps is None or self._done < self._steps:
            batch = self._next()
            self._done += 1
            yield batch

    def _next(self) -> TensorBatch:
        if self._device.type != "cuda":
            return tensors(self._buffer.sample(self._batch_size, **self._sample), self._device)
        transfer = transfer_to(self._device)
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


class Frozen(torch.utils.data.Dataset["dict[str, Any]"]):  # type: ignore[misc]
    """The items that a buffer holds now, by number: for training on data that stay.

        data = Frozen(buffer)
        for batch in DataLoader(data, 256, shuffle=True, collate_fn=reverie.torch.whole):
            ...

    `whole` takes each batch as it was gathered, in one call of the core; without it PyTorch
    puts it together again, sample by sample, with the same result. What is kept is which
    items there are; their steps stay in the buffer, and reading them counts as no sample.
    An item that reaches to the newest step grows with the steps that follow. In the order of
    torchdata's `StatefulDataLoader` a pass goes on where its state was taken, with the buffer
    of a checkpoint too.

    Args:
        buffer: to read from. It must keep the items: to add beyond its capacity would evict
            them.
        view: one of `reverie.views`; None: the buffer's own.

    Raises:
        InvalidArgumentError: the buffer is a manager's, or the view is not for its steps.
    """

    def __init__(self, buffer: ReplayBuffer, view: View | None = None) -> None:
        self._buffer, self._view = buffer, view
        self._counted = False  # by a sampler, then
        self._keys: NDArray[np.uint64] = buffer.item_info()["key"]
        buffer.gather(self._keys[:1], view)  # or the error comes now

    def __len__(self) -> int:
        """Items."""
        self._counted = True
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
        return Rows(map_data(tensor_of, data), len(keys))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Which items these are: keys, int64 `[items]`, of the buffer and its checkpoints."""
        return {"keys": torch.from_numpy(self._keys.view(np.int64).copy())}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """From now on the items are those of whose state this is.

        A `StatefulDataLoader` calls it after its sampler has counted them: where there may be
        another number now, call it before the DataLoader is made.

        Raises:
            InvalidArgumentError: it is no such state, an item is not in the buffer, or there
                are fewer or more than were counted.
        """
        found = state["keys"] if set(state) == {"keys"} else None
        if not isinstance(found, torch.Tensor) or (found.dtype, found.dim()) != (
            torch.int64,
            1,
        ):
            raise InvalidArgumentError(
                f"state: found {dict(state)!r:.200}, wanted what state_dict() returned."
            )
        keys = found.numpy(force=True).view(np.uint64)
        gone = int((~np.isin(keys, self._buffer.item_info()["key"])).sum())
        if gone:
            raise InvalidArgumentError(
                f"state: found {len(keys)} items, of which {gone} are not in {self._buffer!r}; "
                "wanted the buffer that they are of, or one opened from its checkpoint."
            )
        if self._counted and len(keys) != len(self._keys):
            raise InvalidArgumentError(
                f"state: found {len(keys)} items, but a sampler has counted {len(self._keys)}, "
                "and its order is of so many. Make a Frozen anew, and call its "
                "load_state_dict() before a DataLoader is made of it."
            )
        self._keys = keys.copy()

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
        return map_data(lambda leaf: leaf[index], self.data)


def whole(rows: Sequence[Any]) -> dict[str, Any]:
    """For `collate_fn=`: the data that a `Frozen` has gathered, a dict of tensors.

    Raises:
        InvalidArgumentError: the rows are another dataset's.
    """
    if not isinstance(rows, Rows):
        raise InvalidArgumentError(
            f"whole(): found {type(rows).__name__}, wanted what a Frozen gathers: pass "
            "collate_fn=reverie.torch.whole to a DataLoader over one, with a batch_size."
        )
    return rows.data


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
