"""The packages of the `reverb-files` extra: imported here, late, and nowhere else.

Protobuf is of it, too; `reverie.proto` imports that one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

from reverie import errors
from reverie.runtime.optional import install_command

_NEEDED = {
    "cramjam": "cramjam",
    "google_crc32c": "google-crc32c",
    "google.protobuf": "protobuf",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Extra:
    """What the reader takes from other packages.

    Attributes:
        crc32c: Bytes to their CRC32C, unmasked.
        snappy_decompress: A raw Snappy block to its bytes.
    """

    crc32c: Callable[[bytes], int]
    snappy_decompress: Callable[[bytes], Any]


@functools.lru_cache(maxsize=1)
def load() -> Extra:
    """Imports cramjam and google-crc32c, and sees whether protobuf is there, once.

    Raises:
        MissingDependencyError: One of them is not installed; the message has
            the command that installs all three.
    """
    missing = [package for module, package in _NEEDED.items() if not _importable(module)]
    if missing:
        raise errors.MissingDependencyError(
            f"Reading a Reverb checkpoint needs {', '.join(missing)}, which cannot be "
            f"imported here. Run: {install_command('reverb-files')}"
        )
    return Extra(
        crc32c=importlib.import_module("google_crc32c").value,
        snappy_decompress=importlib.import_module("cramjam").snappy.decompress_raw,
    )


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
