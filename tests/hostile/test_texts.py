"""Arrays of texts that are none are refused, and all others come back."""

from __future__ import annotations

import numpy as np
import pytest
from tests.hostile.damage_support import u8

from reverie.tables.text_cells import MARK, check_text, pack_texts, unpack_texts

_LONG = MARK + b"\2" + u8(2) + u8(3)
_BAD_TEXTS = [
    MARK,
    MARK + b"\x40" + bytes(8 * 64),
    MARK + b"\2" + u8(1),
    MARK + b"\1" + u8(2**62),
    MARK + b"\2" + u8(2**63) + u8(2),
    MARK + b"\2" + u8(2**63) + u8(0),
    MARK + b"\1" + u8(1) + u8(2**64 - 1),
    MARK + b"\1" + u8(1) + u8(1),
    MARK + b"\1" + u8(1) + u8(1) + b"xy",
    MARK + b"\1" + u8(2) + u8(2**63) + u8(2**63),
    _LONG,
]


@pytest.mark.parametrize("cell", _BAD_TEXTS)
def test_malformed_arrays_of_texts_are_refused(cell: bytes) -> None:
    for function in (check_text, unpack_texts):
        with pytest.raises(ValueError, match="texts"):
            function(cell)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (1,) * 31])
def test_sound_arrays_of_texts_pass(shape: tuple[int, ...]) -> None:
    texts = np.full(shape, b"ab", object)
    check_text(pack_texts(texts))
    assert unpack_texts(pack_texts(texts)).tolist() == texts.tolist()
    marked = np.array(MARK + b"\1", object)
    assert unpack_texts(pack_texts(marked)).item() == marked.item()
