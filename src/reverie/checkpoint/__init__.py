"""Checkpoints: the native format, its commit protocol, verification.

    newest = find_newest(root)
    manifest = read_manifest(newest)
    restore(newest, manifest, store, tables, layout=layout, record_dtype=dtype)

The format is described in `docs/checkpoint-format.md`.
"""

from reverie.checkpoint.folder.lock import FolderLock
from reverie.checkpoint.folder.names import find_newest, list_checkpoints
from reverie.checkpoint.format.manifest import Manifest, TableSettings
from reverie.checkpoint.native import write_checkpoint
from reverie.checkpoint.restore import VerifyReport, read_manifest, restore, verify

__all__ = [
    "FolderLock",
    "Manifest",
    "TableSettings",
    "VerifyReport",
    "find_newest",
    "list_checkpoints",
    "read_manifest",
    "restore",
    "verify",
    "write_checkpoint",
]
