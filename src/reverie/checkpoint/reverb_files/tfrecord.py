"""TFRecord files, read so strictly that no truncation goes unnoticed.

A TFRecord file is a sequence of records: the length (8 bytes, little-endian), the
masked CRC32C of those 8 bytes, the payload, the masked CRC32C of the payload.
Nothing marks the end, so a file cut between two records looks whole. Reverb
compresses the whole file with zlib, whose stream does have an end and a checksum:
both are demanded here.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from reverie import errors
from reverie.checkpoint.disk.files import FILE_SYSTEM, failing_path, opened_folder
from reverie.checkpoint.reverb_files import extra
from reverie.checkpoint.reverb_files.budget import Budget, Place, shown_path

_BLOCK = 1 << 20
_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
# Protobuf cannot hold a larger message, so neither can a sound file.
_MAX_RECORD = (1 << 31) - 1

ReadProgress = Callable[[int, int], None]


def read_records(
    path: Path, budget: Budget, *, progress: ReadProgress | None = None
) -> Iterator[tuple[Place, bytes]]:
    """Yields every record of a TFRecord file, compressed with zlib or plain.

    Which of the two it is, is decided once, from the first bytes. The file is
    read and inflated in steps of 1 MiB; a record grows against the bytes that are
    there, never against the length it claims. Links are not followed, neither to the file
    nor to its folder.

    Args:
        path: The file.
        budget: Pays for the inflated bytes, and says how large a record may be.
        progress: Called with (bytes of the file read, size of the file).

    Yields:
        Where the record is, and its payload, checked against both CRCs.

    Raises:
        CheckpointCorruptError: The file is missing, empty, cut short, followed by
            other bytes, not a regular file, reached through a link, or fails a checksum.
        CheckpointLimitError: The budget is used up, or a record too large for it.
        OSError: The file cannot be read.
    """
    crc32c = extra.load().crc32c
    with failing_path(path), _open_regular(path) as file:
        blocks = _blocks(path, file, budget, progress)
        buffer = bytearray()
        number = offset = 0
        while _fill(buffer, _HEADER.size, blocks):
            place = Place(path, number, offset)
            if len(buffer) < _HEADER.size:
                raise place.corrupt(f"the file ends after {len(buffer)} bytes of its header")
            length, length_crc = _HEADER.unpack_from(buffer)
            if length_crc != _masked(crc32c(bytes(buffer[:8]))):
                raise place.corrupt("the checksum of its length does not match")
            if length > _MAX_RECORD:
                raise place.corrupt(f"its length is {length}, more than a message can have")
            budget.check_record(length, place)
            whole = _HEADER.size + length + _CRC.size
            _fill(buffer, whole, blocks)
            if len(buffer) < whole:
                raise place.corrupt(f"the file ends {whole - len(buffer)} bytes too early")
            payload = bytes(memoryview(buffer)[_HEADER.size : _HEADER.size + length])
            if _CRC.unpack_from(buffer, whole - _CRC.size)[0] != _masked(crc32c(payload)):
                raise place.corrupt("the checksum of its content does not match")
            del buffer[:whole]
            number += 1
            offset += whole
            yield place, payload


def _masked(crc: int) -> int:
    """TFRecord's rotation, which keeps a CRC of CRCs from being degenerate."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _fill(buffer: bytearray, size: int, blocks: Iterator[bytes]) -> bool:
    """Appends blocks until the buffer has `size` bytes or the file ends."""
    while len(buffer) < size:
        block = next(blocks, b"")
        if not block:
            break
        buffer += block
    return bool(buffer)


def _open_regular(path: Path) -> BinaryIO:
    with opened_folder(FILE_SYSTEM, path.parent) as folder:
        try:
            descriptor = FILE_SYSTEM.open_in(folder, path.name)
        except FileNotFoundError:
            raise errors.CheckpointCorruptError(
                f"{shown_path(path)} is missing, though the checkpoint is marked complete"
            ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise errors.CheckpointCorruptError(f"{shown_path(path)} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _blocks(
    path: Path, file: BinaryIO, budget: Budget, progress: ReadProgress | None
) -> Iterator[bytes]:
    """Yields the uncompressed bytes of the file in blocks of at most 1 MiB."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(_HEADER.size)
    file.seek(0)
    if not head:
        raise errors.CheckpointCorruptError(
            f"{shown_path(path)} is empty, though the checkpoint is marked complete. "
            "A sudden power cut does this to checkpoints that Reverb has just written."
        )
    if _is_plain(head):
        blocks = iter(lambda: file.read(_BLOCK), b"")
    elif _is_zlib(head):
        blocks = _inflate(path, file)
    else:
        raise errors.CheckpointCorruptError(
            f"{shown_path(path)} starts with {head[:4].hex()}, which is neither a TFRecord "
            "nor a zlib stream"
        )
    for block in blocks:
        budget.take(len(block), shown_path(path))
        if progress is not None:
            progress(file.tell(), size)
        yield block


def _is_plain(head: bytes) -> bool:
    # A zlib stream passes as a record header by chance once in 2**32 files.
    if len(head) < _HEADER.size:
        return False
    return bool(_HEADER.unpack(head)[1] == _masked(extra.load().crc32c(head[:8])))


def _is_zlib(head: bytes) -> bool:
    return len(head) >= 2 and head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0


def _inflate(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Inflates one zlib stream, which must reach its end with the file."""
    inflater = zlib.decompressobj()
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or file.read(_BLOCK)
            block = inflater.decompress(data, _BLOCK)
            if block:
                yield block
            elif not data and not inflater.eof:
                raise errors.CheckpointCorruptError(
                    f"{shown_path(path)} is cut short: its zlib stream does not end"
                )
    except zlib.error as error:
        raise errors.CheckpointCorruptError(
            f"{shown_path(path)} near byte {file.tell()}: the zlib stream is damaged ({error})"
        ) from error
    if inflater.unused_data or file.read(1):
        raise errors.CheckpointCorruptError(
            f"{shown_path(path)} has bytes after the end of its zlib stream"
        )
