"""Servers: a fresh one, one that starts from a checkpoint, or one that runs elsewhere."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
from numpy.typing import NDArray
from reverb.cc import schema_pb2
from reverb.cc.checkpointing import checkpoint_pb2
from reverb.platform import checkpointers_lib

from reverie.backends.reverb.backend import ReverbBackend
from reverie.backends.reverb.saving import Saver
from reverie.backends.reverb.settings import StepSpec, limiter_of, selector_of
from reverie.backends.settings import BufferSettings
from reverie.checkpoint import fits
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.folder.names import list_checkpoints
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.load import first_whole, hint
from reverie.checkpoint.reverb_files import finding
from reverie.checkpoint.reverb_files.budget import Budget
from reverie.checkpoint.reverb_files.source import reverb_source
from reverie.checkpoint.reverb_files.tfrecord import read_records
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    InvalidArgumentError,
    UnsupportedError,
    WaitTimeoutError,
)
from reverie.reverb.cc.selectors import selector_from_options
from reverie.tables.selectors import ItemSelector

_ANSWER_S = 10  # how long a server elsewhere may take for its first answer


def create(settings: BufferSettings) -> ReverbBackend:
    """An empty table on a server of its own; with an address, that table as it is.

    Raises:
        WaitTimeoutError: no server answers at the address.
        InvalidArgumentError: its table is missing or does not fit.
    """
    spec = StepSpec.of(settings.data_spec)
    if settings.server_address is not None:
        found = _as_served(settings, spec, settings.server_address)
        return ReverbBackend(found, spec, settings.server_address)
    saver = Saver(settings.checkpoint_dir, settings.max_to_keep)
    # Nothing is ever in `saver.live` at this time, so nothing is loaded from there.
    server = _serve([_table(settings, spec)], saver.live)
    return ReverbBackend(settings, spec, f"localhost:{server.port}", server, saver)


def load(
    settings: BufferSettings, progress: Progress | None, max_nbytes: int | None
) -> ReverbBackend:
    """The newest Reverb checkpoint, on a server of its own; see the manager for errors."""
    if settings.server_address is not None:
        raise UnsupportedError(
            f"load_replay_buffer() with server_address={settings.server_address!r}: a Reverb "
            "server loads its checkpoint by itself, when it starts. Start it with its "
            "checkpointer, then call get_replay_buffer_and_observer()."
        )
    return first_whole(
        lambda: _look(settings.checkpoint_dir),
        lambda path: _load_one(path, settings, progress, max_nbytes),
        on_corrupt=settings.on_corrupt,
    )


def _look(root: Path) -> list[Path]:
    """Reverb's checkpoints, newest first; raises where there is none."""
    with reading(FILE_SYSTEM, root):
        found = finding.checkpoints(root)
    native = [path.name for path in list_checkpoints(root)]
    if not found and native:
        raise CheckpointMismatchError(
            f'{str(root)!r} holds checkpoints of backend="embedded" only, the newest '
            f"{native[-1]!r}, which Reverb cannot read. Load them with that backend."
        )
    if not found:
        raise CheckpointNotFoundError(
            f"No complete checkpoint in {str(root)!r}: wanted a Reverb checkpoint with its "
            "DONE file. To start with an empty buffer, call create_replay_buffer()."
            f"{hint(root)}"
        )
    if native:
        warnings.warn(
            f'{str(root)!r} also holds checkpoints of backend="embedded", which Reverb cannot '
            f"read: loading {found[0].name!r}, though {native[-1]!r} may be newer.",
            stacklevel=7,
        )
    return found


def _load_one(
    path: Path, settings: BufferSettings, progress: Progress | None, max_nbytes: int | None
) -> ReverbBackend:
    spec = StepSpec.of(settings.data_spec)
    items, left_out = _verify(path, settings, spec, max_nbytes)
    saver = Saver(settings.checkpoint_dir, settings.max_to_keep)
    with tempfile.TemporaryDirectory(prefix="reverie-") as name, reading(FILE_SYSTEM, path):
        others = _adapted(path, Path(name), settings, progress)
        tables = [_table(settings, spec), *(_table(settings, None, other) for other in others)]
        try:
            server = _serve(tables, saver.live, name)
        except Exception as error:  # whatever Reverb makes of its own status
            raise CheckpointCorruptError(
                f"{str(path)!r}: Reverb refused it: {error!s:.300}"
            ) from error
    backend = ReverbBackend(settings, spec, f"localhost:{server.port}", server, saver)
    held = backend.num_frames()
    if held != items:
        backend.close()
        raise CheckpointCorruptError(
            f"{str(path)!r}: Reverb loaded {held} of its {items} items, without an error."
        )
    backend.delete(left_out)
    return backend


def _verify(
    path: Path, settings: BufferSettings, spec: StepSpec, max_nbytes: int | None
) -> tuple[int, NDArray[np.uint64]]:
    """Reads all of a checkpoint, as Reverb itself does not.

    Returns:
        Its number of items, and the keys of those to leave out.
    """
    source, name = reverb_source(path, max_nbytes=max_nbytes), settings.table.name
    fits.check_has(path, source.settings, name, "table_name")
    items = source.check_columns(name, spec.nest)
    fits.check_room(path, name, items, settings.table.max_size)
    odd = fits.misfits(
        path,
        name,
        source.steps(name),
        settings.table,
        on_misfit=settings.on_misfit,
        stacklevel=8,
    )
    source.verify()
    return items, source.keys(name)[odd]


def _adapted(
    path: Path, to: Path, settings: BufferSettings, progress: Progress | None
) -> list[str]:
    """The checkpoint with the manager's settings in place of its own, which would win.

    Links all but the settings into `to`; returns the names of its other tables.
    """
    names, payloads = [], []
    for _, payload in read_records(path / finding.TABLES, Budget(1 << 30)):
        table = checkpoint_pb2.PriorityTableCheckpoint.FromString(payload)
        names.append(table.table_name)
        if table.table_name == settings.table.name:
            table.max_size = settings.table.max_size
            table.max_times_sampled = 0
            table.sampler.CopyFrom(_options(settings.table.sampler))
            table.remover.CopyFrom(_options(settings.table.remover))
            limiter, wanted = table.rate_limiter, settings.table.limiter
            limiter.samples_per_insert = wanted.samples_per_insert
            limiter.min_size_to_sample = wanted.min_size_to_sample
            limiter.min_diff, limiter.max_diff = wanted.min_diff, wanted.max_diff
        payloads.append(table.SerializeToString())
    with tf.io.TFRecordWriter(str(to / finding.TABLES), "ZLIB") as writer:
        for payload in payloads:
            writer.write(payload)
    for name in (finding.ITEMS, finding.CHUNKS, finding.DONE):
        (to / name).symlink_to((path / name).absolute())
    if progress is not None:
        size = sum((path / name).stat().st_size for name in finding.DATA_FILES)
        progress(size, size)
    return [name for name in names if name != settings.table.name]


def _options(selector: ItemSelector) -> Any:
    kind: dict[str, Any] = {selector.kind: True}
    if selector.kind == "prioritized":
        kind = {"prioritized": {"priority_exponent": selector.exponent}}
    elif selector.kind in ("min_heap", "max_heap"):
        kind = {"heap": {"min_heap": selector.kind == "min_heap"}}
    return schema_pb2.KeyDistributionOptions(is_deterministic=selector.is_deterministic, **kind)


def _table(settings: BufferSettings, spec: StepSpec | None, name: str = "") -> Any:
    return reverb.Table(
        name or settings.table.name,
        sampler=selector_of(settings.table.sampler),
        remover=selector_of(settings.table.remover),
        max_size=settings.table.max_size,
        rate_limiter=limiter_of(settings.table.limiter),
        signature=None if spec is None else spec.signature(),
    )


def _serve(tables: list[Any], live: Path, start_from: str | None = None) -> Any:
    checkpointer = checkpointers_lib.DefaultCheckpointer(
        path=str(live), fallback_checkpoint_path=start_from
    )
    return reverb.Server(tables, checkpointer=checkpointer)


def _as_served(settings: BufferSettings, spec: StepSpec, address: str) -> BufferSettings:
    """The settings with the selectors of the server's table, which must fit the rest."""
    try:
        tables = reverb.Client(address).server_info(_ANSWER_S)
    except (reverb.errors.DeadlineExceededError, RuntimeError) as error:
        raise WaitTimeoutError(
            f"server_address: no Reverb server answered at {address!r:.200} within "
            f"{_ANSWER_S} s ({error!s:.200})."
        ) from error
    where = f"Table {settings.table.name!r} of the server at {address!r:.200}"
    table = tables.get(settings.table.name)
    if table is None:
        raise InvalidArgumentError(
            f"{where} does not exist; it has {sorted(tables)!r:.200}. Pass one as table_name=, "
            "or start the server with such a table."
        )
    misfit = "" if table.signature is None else spec.misfit(table.signature)
    if misfit:
        raise InvalidArgumentError(f"{where} does not fit the data spec: {misfit}.")
    if table.max_size != settings.table.max_size:
        raise InvalidArgumentError(
            f"capacity: found {settings.table.max_size}, but {where[0].lower() + where[1:]} "
            f"holds at most {table.max_size} items. Pass that as the capacity."
        )
    sampler, remover = map(
        selector_from_options, (table.sampler_options, table.remover_options)
    )
    return replace(settings, table=replace(settings.table, sampler=sampler, remover=remover))
