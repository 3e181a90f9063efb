"""Crafted native checkpoints whose orders of insertion have holes that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint_support import Snapshot, TableSnapshot, contents, load, packed, save
from tests.checkpoint_support import snapshot as sound
from tests.hostile.damage_support import (
    Files,
    MemoryFileSystem,
    both,
    files_of,
    forge,
    put,
    rewritten,
)

from reverie.checkpoint import verify
from reverie.checkpoint.format import items
from reverie.errors import CheckpointCorruptError

Edit = Callable[[dict, Files], None]
MEMORY = Path("memory")
FILE = "holes-0.npy"  # of four items: the places 1 and 4 of six


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(save(tmp_path_factory.mktemp("good")))


def holes(*places: int, nbytes: int = 1) -> Edit:
    """Bits set in so many bytes, whether they can be or not."""
    return rewritten(FILE, lambda _: packed(8 * nbytes, places))


FORGED: dict[str, tuple[Edit, str]] = {
    "one more than there are items for": (
        holes(1, 4, 7),
        "a hole in place 7, expected none behind the last of 7 places, 4 items and 3 holes",
    ),
    "bits behind the last place": (
        holes(1, 6),
        "a hole in place 6, expected none behind the last of 6 places, 4 items and 2 holes",
    ),
    "only bits behind the last place": (holes(7), "a hole in place 7, expected none behind"),
    "first place": (holes(0, 3), "a hole in place 0, expected an item there"),
    "last place": (holes(1, 5), "a hole in place 5, expected an item there"),
    "no hole": (holes(), "0 holes, expected 1 to 68 among 4 items"),
    "no byte": (rewritten(FILE, lambda rows: rows[:0]), "0, expected at least one byte"),
    "a byte more": (holes(1, 4, nbytes=2), "2 bytes, expected 1 for 6 places"),
    "a byte fewer": (holes(*range(1, 8)), "1 bytes, expected 2 for 11 places"),
    "one too many": (holes(*range(1, 70), nbytes=9), "69 holes, expected 1 to 68"),
    "nothing but holes": (holes(*range(72), nbytes=9), "72 holes, expected 1 to 68"),
    "a byte more than any order": (
        holes(*range(1, 69), nbytes=10),
        "10 bytes, expected at most 9 for the order of 4 items",
    ),
    "a million bytes": (
        holes(1, 4, nbytes=10**6),
        "1000000 bytes, expected at most 9 for the order of 4 items",
    ),
    "an item fewer": (
        both(
            rewritten("items-0.npy", lambda rows: rows[:3]),
            holes(1, 4),
        ),
        "a hole in place 4, expected an item there, of 5 places, 3 items and 2 holes",
    ),
    "elsewhere": (put("tables", 0, "holes", value="/etc/passwd"), "holes-0.npy"),
    "of another table": (put("tables", 1, "holes", value=FILE), "holes-1.npy"),
    "a file that nothing uses": (put("tables", 0, "holes", value=None), "described once"),
    "a file that is not there": (put("tables", 1, "holes", value="holes-1.npy"), "described"),
}


@pytest.mark.parametrize("name", FORGED)
def test_holes_that_cannot_be_are_refused(good: Files, name: str) -> None:
    edit, message = FORGED[name]
    fs = MemoryFileSystem(forge(good, edit))
    for read in (load, verify):
        with pytest.raises(CheckpointCorruptError, match=f"holes.*{message}|{message}.*holes"):
            read(MEMORY, fs=fs)


@pytest.mark.parametrize(
    ("places", "nbytes"),
    [([1, 4], 1), ([1], 1), ([3], 1), ([1, 2, 3, 4], 1), (range(1, 69), 9), (range(3, 71), 9)],
)
def test_holes_that_can_be_are_read(good: Files, places: Sequence[int], nbytes: int) -> None:
    fs = MemoryFileSystem(forge(good, holes(*places, nbytes=nbytes)))
    (first, _) = load(MEMORY, fs=fs)["tables"].values()
    assert first["holes"] == ("|u1", packed(8 * nbytes, places).tolist())


@pytest.mark.parametrize("places", [[0], [0, 1, 2]])
def test_a_table_without_items_has_no_holes(tmp_path: Path, places: list[int]) -> None:
    folder = save(tmp_path, Snapshot([], [TableSnapshot([], holes=places), TableSnapshot([])]))
    with pytest.raises(CheckpointCorruptError, match=r"holes-0.* a hole in place 0"):
        load(folder)


def test_without_the_check_the_crafted_checkpoint_is_read(
    good: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = MemoryFileSystem(forge(good, FORGED["last place"][0]))
    monkeypatch.setattr(items, "_check_holes", lambda *_: None)
    assert load(MEMORY, fs=fs) != contents(sound())
    verify(MEMORY, fs=fs)


def test_the_bits_are_not_spread_before_their_number_is_checked(
    good: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread: list[int] = []

    def unpackbits(raw: np.ndarray, **_: object) -> np.ndarray:
        spread.append(len(raw))
        return real(raw, bitorder="little")

    real = np.unpackbits
    monkeypatch.setattr(items.np, "unpackbits", unpackbits)
    for name in ("a million bytes", "a byte more"):
        with pytest.raises(CheckpointCorruptError):
            load(MEMORY, fs=MemoryFileSystem(forge(good, FORGED[name][0])))
    assert spread == [2]
