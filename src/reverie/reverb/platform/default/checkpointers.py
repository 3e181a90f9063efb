"""The checkpointers of a default installation, and the one that a server takes by default."""

from __future__ import annotations

from reverie.reverb.platform import checkpointers_lib

CheckpointerBase = checkpointers_lib.CheckpointerBase
DefaultCheckpointer = checkpointers_lib.DefaultCheckpointer
TempDirCheckpointer = checkpointers_lib.TempDirCheckpointer


def default_checkpointer(group: str | None = None) -> CheckpointerBase:
    """A `TempDirCheckpointer`; `group` is ignored, as in Reverb's public releases."""
    del group
    return TempDirCheckpointer()
