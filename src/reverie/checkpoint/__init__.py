"""Checkpoints: saved, found, opened, verified.

    path = Saver(root, max_to_keep=3).save(store)
    source = open_source(find_newest(root))
    states = source.read(fresh_core_store)

The format is described in `docs/checkpoint-format.md`.
"""

from reverie.checkpoint.folder.names import find_newest, list_checkpoints
from reverie.checkpoint.format.report import VerifyReport
from reverie.checkpoint.save import Saver, check_savable
from reverie.checkpoint.source import (
    Source,
    candidates,
    open_source,
    verify,
)

__all__ = [
    "Saver",
    "Source",
    "VerifyReport",
    "candidates",
    "check_savable",
    "find_newest",
    "list_checkpoints",
    "open_source",
    "verify",
]
