"""The parts of a manifest that only the checkpoints of servers have."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reverie.checkpoint.disk import strict_json as sj
from reverie.checkpoint.format.cells import BYTES, MAX_CELL_RANK, CellLayout
from reverie.checkpoint.format.columns import ITEM_NBYTES, MAX_RECORD_NBYTES
from reverie.checkpoint.format.manifest import (
    CHUNKS_NAME,
    TRAJECTORY_PARTS,
    Cells,
    CellSegment,
    FileKind,
    Manifest,
)


def decode_cells(value: object) -> Cells:
    """The value of `cells`. Raises MalformedError."""
    cells = sj.take_object(value, "cells", ("chunks", "layouts", "segments"))
    layouts = tuple(
        _layout(layout, f"cells.layouts[{i}]")
        for i, layout in enumerate(sj.take_list(cells["layouts"], "cells.layouts"))
    )
    segments = tuple(
        _segment(segment, f"cells.segments[{i}]", len(layouts))
        for i, segment in enumerate(sj.take_list(cells["segments"], "cells.segments"))
    )
    if len(set(layouts)) != len(layouts) or {s.layout for s in segments} != set(
        range(len(layouts))
    ):
        raise sj.MalformedError("cells.layouts", len(layouts), "distinct ones, each in use")
    if not segments:
        raise sj.MalformedError("cells.segments", segments, "at least one segment")
    if len({segment.name for segment in segments}) != len(segments):
        raise sj.MalformedError("cells.segments", "the same file twice", "distinct files")
    if cells["chunks"] != CHUNKS_NAME:
        raise sj.MalformedError("cells.chunks", cells["chunks"], CHUNKS_NAME)
    return Cells(CHUNKS_NAME, layouts, segments)


def element_nbytes(cells: Cells | None) -> dict[str, int]:
    """Bytes of one element of each file of cells, by name."""
    if cells is None:
        return {}
    return {segment.name: cells.layouts[segment.layout].nbytes for segment in cells.segments}


def trajectory_files(
    table: Mapping[str, object], path: str, index: int
) -> tuple[str, str, str] | None:
    """The three files of a table's trajectories, or None. Raises MalformedError."""
    if TRAJECTORY_PARTS[0] not in table:
        return None
    names = []
    for part in TRAJECTORY_PARTS:
        wanted = f"{part}-{index}.npy"
        if table[part] != wanted:
            raise sj.MalformedError(f"{path}.{part}", table[part], wanted)
        names.append(wanted)
    return names[0], names[1], names[2]


def server_roles(manifest: Manifest) -> dict[str, FileKind]:
    """What each file is that only a server's checkpoint has, by name."""
    roles: dict[str, FileKind] = {}
    kinds: tuple[FileKind, ...] = ("trajectory", "column", "piece")
    for table in manifest.tables:
        roles.update(zip(table.trajectories or (), kinds, strict=False))
    if manifest.cells is not None:
        roles[manifest.cells.chunks] = "chunk"
        roles.update((segment.name, "cell") for segment in manifest.cells.segments)
    return roles


def _layout(value: object, path: str) -> CellLayout:
    layout = sj.take_object(value, path, ("dtype", "shape"))
    dtype = sj.take_str(layout["dtype"], f"{path}.dtype", limit=40)
    shape = sj.take_list(layout["shape"], f"{path}.shape")
    if dtype not in ITEM_NBYTES and dtype != BYTES:
        raise sj.MalformedError(f"{path}.dtype", dtype, f"{BYTES} or a dtype of a column")
    if len(shape) > (0 if dtype == BYTES else MAX_CELL_RANK):
        raise sj.MalformedError(f"{path}.shape", len(shape), "fewer sizes")
    sizes = tuple(sj.take_int(s, f"{path}.shape", 0, MAX_RECORD_NBYTES) for s in shape)
    if dtype != BYTES and math.prod(sizes) * ITEM_NBYTES[dtype] > MAX_RECORD_NBYTES:
        raise sj.MalformedError(path, sizes, f"at most {MAX_RECORD_NBYTES} bytes")
    return CellLayout(dtype, sizes)


def _segment(value: object, path: str, num_layouts: int) -> CellSegment:
    segment = sj.take_object(value, path, ("file", "layout", "sealed"))
    name = sj.take_str(segment["file"], f"{path}.file", pattern=r"cells-[0-9-]+\.npy", limit=64)
    layout = sj.take_int(segment["layout"], f"{path}.layout", 0, num_layouts - 1)
    return CellSegment(name, layout, sj.take_bool(segment["sealed"], f"{path}.sealed"))
