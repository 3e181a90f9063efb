"""The records of `chunks.tfrecord`: the steps themselves, packed."""

from __future__ import annotations

import dataclasses
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from reverie import errors
from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.budget import Budget, Place
from reverie.checkpoint.reverb_files.item_records import Items
from reverie.checkpoint.reverb_files.runs import Bools, Ints, Slices
from reverie.checkpoint.reverb_files.tensors import Array
from reverie.checkpoint.reverb_files.tfrecord import read_records
from reverie.proto import schema
from reverie.proto.data_types import STRING


@dataclasses.dataclass(frozen=True, slots=True)
class Chunks:
    """All chunks of a checkpoint; the arrays have one element for each chunk.

    Attributes:
        places: Where the records are.
        keys: Keys, uint64.
        order: What sorts `keys`.
        episode: A number for each episode.
        start: First step of the episode.
        rows: Steps.
        dense: Whether they are consecutive.
        num_tensors: Columns in the chunk.
        first_tensor: Number of its first column in `tensors`.
        delta_encoded: Whether differences between steps were stored.
        tensors: The packed columns of all chunks.
        tensor_chunk: Chunk of each packed column.
        tensor_type: A number for each dtype and step shape, for each packed column.
    """

    places: list[Place]
    keys: np.ndarray[Any, np.dtype[np.uint64]]
    order: Ints
    episode: Ints
    start: Ints
    rows: Ints
    dense: Bools
    num_tensors: Ints
    first_tensor: Ints
    delta_encoded: Bools
    tensors: list[tensors.Packed]
    tensor_chunk: Ints
    tensor_type: Ints

    def texts(self) -> Bools:
        """Whether each packed column holds texts."""
        return np.array([one.code == STRING for one in self.tensors], np.bool_)

    def place_of(self, tensor: int) -> Place:
        """Where the chunk of a packed column is."""
        return self.places[int(self.tensor_chunk[tensor])]

    def unpack(self, tensor: int) -> Array | list[bytes]:
        """The cells of a packed column: an array (cells, *shape of one), or texts.

        Raises:
            CheckpointCorruptError: The packed bytes are damaged.
            CheckpointMismatchError: The dtype cannot be read.
        """
        packed, place = self.tensors[tensor], self.place_of(tensor)
        if packed.code == STRING:
            return tensors.unpack_texts(packed, place)
        encoded = bool(self.delta_encoded[self.tensor_chunk[tensor]])
        return tensors.unpack(packed, delta_encoded=encoded, place=place)

    def resolve(self, items: Items) -> Slices:
        """Finds the chunks that a table's items refer to.

        Args:
            items: The items of one table, at least one.

        Returns:
            Their slices, each known to lie inside its chunk.

        Raises:
            CheckpointCorruptError: A chunk is missing, or a slice is not inside.
        """
        item, wanted = _ints(items.slice_item), np.array(items.slice_chunk, np.uint64)
        offset, length = _ints(items.slice_offset), _ints(items.slice_length)
        index = _ints(items.slice_index)
        found = np.searchsorted(self.keys, wanted, sorter=self.order)
        chunk = np.append(self.order, -1)[found]
        missing = np.flatnonzero((chunk < 0) | (np.append(self.keys, 0)[chunk] != wanted))
        if len(missing):
            raise items.place(item[missing[0]]).corrupt(
                f"chunk {wanted[missing[0]]} is missing ({len(missing)} slices refer to chunks "
                "that are not in the checkpoint)"
            )
        outside = (offset + length > self.rows[chunk]) | (index >= self.num_tensors[chunk])
        if outside.any():
            bad = np.flatnonzero(outside)[0]
            raise items.place(item[bad]).corrupt(
                f"a slice of rows {offset[bad]} to {offset[bad] + length[bad]} of column "
                f"{index[bad]}, but chunk {wanted[bad]} has {self.rows[chunk[bad]]} rows and "
                f"{self.num_tensors[chunk[bad]]} columns"
            )
        return Slices(
            item=item,
            column=_ints(items.slice_column),
            tensor=self.first_tensor[chunk] + index,
            offset=offset,
            length=length,
            episode=self.episode[chunk],
            step=self.start[chunk] + offset,
            dense=self.dense[chunk],
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Chunk:
    episode: int
    start: int
    dense: bool
    delta_encoded: bool
    columns: tuple[tensors.Packed, ...]


def read_chunks(path: Path, budget: Budget) -> Chunks:
    """Reads all chunks and checks what they say about themselves; unpacks nothing.

    A chunk may be there more than once: a client sends a chunk again when it is not
    sure that the server still has it, and Reverb then saves every copy.

    Raises:
        CheckpointCorruptError: Two chunks of one key that are not the same, or a
            chunk whose sizes do not agree with each other.
        CheckpointMismatchError: A chunk as old releases of Reverb wrote them.
        CheckpointLimitError: The budget is used up.
    """
    places: list[Place] = []
    chunks: dict[int, _Chunk] = {}
    for place, payload in read_records(path, budget):
        message = schema.parse("ChunkData", payload, place.corrupt)
        chunk = _chunk(message, place)
        if chunks.setdefault(message.chunk_key, chunk) != chunk:
            raise place.corrupt(f"a second, different chunk of key {message.chunk_key}")
        if len(chunks) > len(places):
            places.append(place)
    return _flattened(places, chunks)


def _flattened(places: list[Place], chunks: dict[int, _Chunk]) -> Chunks:
    found = list(chunks.values())
    packed = [column for chunk in found for column in chunk.columns]
    keys = np.fromiter(chunks, np.uint64, len(found))
    num_tensors = np.array([len(chunk.columns) for chunk in found], np.int64)
    episodes = np.array([chunk.episode for chunk in found], np.uint64)
    types: dict[tuple[int, tuple[int, ...]], int] = {}
    return Chunks(
        places=places,
        keys=keys,
        order=np.argsort(keys),
        # Reshaped because NumPy 2.0 alone returned another shape.
        episode=np.unique(episodes, return_inverse=True)[1].reshape(-1),
        start=np.array([chunk.start for chunk in found], np.int64),
        rows=np.array([chunk.columns[0].rows for chunk in found], np.int64),
        dense=np.array([chunk.dense for chunk in found], np.bool_),
        num_tensors=num_tensors,
        first_tensor=np.cumsum(num_tensors) - num_tensors,
        delta_encoded=np.array([chunk.delta_encoded for chunk in found], np.bool_),
        tensors=packed,
        tensor_chunk=np.repeat(np.arange(len(places)), num_tensors),
        tensor_type=np.array(
            [types.setdefault((one.code, one.step_shape), len(types)) for one in packed],
            np.int64,
        ),
    )


def _chunk(message: Any, place: Place) -> _Chunk:
    if message.deprecated_data:
        raise errors.CheckpointMismatchError(
            f"{place}: a chunk as old releases of Reverb wrote them. Load the checkpoint with "
            "dm-reverb 0.14 and save it again."
        )
    columns = [tensors.packed(tensor, place) for tensor in message.data.tensors]
    if not columns or len({column.rows for column in columns}) != 1:
        raise place.corrupt("a chunk without columns, or with columns of different lengths")
    if message.data_tensors_len not in (0, len(columns)):
        raise place.corrupt(
            f"{len(columns)} columns, and {message.data_tensors_len} were declared"
        )
    sizes = [column.nbytes for column in columns]
    if None not in sizes and message.data_uncompressed_size:
        nbytes = sum(size for size in sizes if size is not None)
        if nbytes != message.data_uncompressed_size:
            raise place.corrupt(
                f"{nbytes} bytes of steps, and {message.data_uncompressed_size} were declared"
            )
    span, rows = message.sequence_range, columns[0].rows
    steps = span.end - span.start + 1
    if not message.HasField("sequence_range") or span.start < 0:
        raise place.corrupt("a chunk that does not say which steps it holds")
    if rows > steps or (rows < steps and not span.sparse):
        raise place.corrupt(f"{rows} rows, but steps {span.start} to {span.end} of an episode")
    return _Chunk(
        episode=span.episode_id,
        start=span.start,
        dense=not span.sparse,
        delta_encoded=message.delta_encoded,
        columns=tuple(columns),
    )


def _ints(values: array[int]) -> Ints:
    return np.array(values, np.int64)
