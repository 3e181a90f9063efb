"""The packages of the `reverb-files` extra: imported here, late, and nowhere else."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

from reverie import errors

_NEEDED = {
    "cramjam": "cramjam",
    "google_crc32c": "google-crc32c",
    "google.protobuf": "protobuf",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Deps:
    """What the reader takes from other packages.

    Attributes:
        crc32c: Bytes to their CRC32C, unmasked.
        snappy_decompress: A raw Snappy block to its bytes.
        descriptor_pb2: Protobuf's descriptions of message types.
        descriptor_pool: Protobuf's pools of message types.
        message_factory: Protobuf's maker of message classes.
    """

    crc32c: Callable[[bytes], int]
    snappy_decompress: Callable[[bytes], Any]
    descriptor_pb2: Any
    descriptor_pool: Any
    message_factory: Any


@functools.lru_cache(maxsize=1)
def load() -> Deps:
    """Imports cramjam, google-crc32c and protobuf, once.

    Raises:
        MissingDependencyError: One of them is not installed; the message has
            the command that installs all three.
    """
    missing = [package for module, package in _NEEDED.items() if not _importable(module)]
    if missing:
        raise errors.MissingDependencyError(
            f"Reading a Reverb checkpoint needs {', '.join(missing)}, which cannot be "
            "imported here. Run: pip install 'reverie-replay[reverb-files]'"
        )
    protobuf = "google.protobuf."
    return Deps(
        crc32c=importlib.import_module("google_crc32c").value,
        snappy_decompress=importlib.import_module("cramjam").snappy.decompress_raw,
        descriptor_pb2=importlib.import_module(protobuf + "descriptor_pb2"),
        descriptor_pool=importlib.import_module(protobuf + "descriptor_pool"),
        message_factory=importlib.import_module(protobuf + "message_factory"),
    )


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
