"""A buffer in a pickle: its checkpoint, as bytes or as the place where it lies."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reverie.opening import open_buffer, read_buffer
from reverie.replay_buffer import ReplayBuffer

Saved = str | dict[str, bytes]


def saved(buffer: ReplayBuffer, *, in_place: bool) -> Saved:
    """A checkpoint of the buffer.

    Args:
        buffer: the buffer.
        in_place: it has a `checkpoint_dir`, and the checkpoint stays there.

    Returns:
        The checkpoint's folder; or its files by name, which take as much memory as the
        buffer does once more.

    Raises:
        CheckpointWriteError: nothing could be written there, or among temporary files.
    """
    if in_place:
        return str(buffer.save())
    with tempfile.TemporaryDirectory() as folder:
        path = buffer.save(path=folder)
        assert path is not None
        return {file.name: file.read_bytes() for file in path.iterdir()}


def loaded(state: Saved, num_envs: int) -> ReplayBuffer:
    """The reverse.

    Raises:
        CheckpointNotFoundError: it is no longer where it was saved.
        CheckpointCorruptError: it is damaged.
    """
    if isinstance(state, str):
        return open_buffer(state, num_envs=num_envs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ckpt-00000001")
        path.mkdir()
        for name, content in state.items():
            path.joinpath(name).write_bytes(content)
        return read_buffer(folder, num_envs=num_envs)
