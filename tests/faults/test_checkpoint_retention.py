"""Retention removes old checkpoints of ours and nothing else, whatever lies beside them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.checkpoint_support import contents, load, save, snapshot

from reverie.checkpoint import list_checkpoints, verify
from reverie.checkpoint import save as saving
from reverie.errors import CheckpointError

HEX = "0123456789abcdef" * 2


def listing(root: Path) -> dict[str, object]:
    """Every path below root, not through links, with what it is or holds."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            link = path.is_symlink()
            value = os.readlink(path) if link else path.is_file() and path.read_bytes()
            found[str(path.relative_to(root))] = value
    return found


def plant(root: Path, precious: Path) -> None:
    """Foreign entries of all kinds, many with names like ours."""
    for name in ("notes.txt", "ckpt-1", "ckpt-00000001.npy", "zzz", ".tmp-x", f".tmp-{HEX}x"):
        (root / name).write_text("mine")
    for name in ("1_mydata", "ckpt-000000001", f".trash-{HEX.upper()}", "ckpt-00000001.bak"):
        (root / name).mkdir()
        (root / name / "manifest.json").write_text("{}")
    (root / f".tmp-{HEX}").mkdir()
    (root / f".tmp-{HEX}" / "thesis.tex").write_text("mine")
    (root / f".trash-{HEX}" / "items-0.npy").mkdir(parents=True)
    if os.name == "posix":
        (root / "link").symlink_to(precious)
        (root / "ckpt-00000003").symlink_to(precious / "ckpt-00000001")
        (root / f".tmp-{HEX[::-1]}").symlink_to(precious)
        (root / f".trash-{HEX[::-1]}").mkdir()
        (root / f".trash-{HEX[::-1]}" / "items-0.npy").symlink_to(precious / "file")
    (root / "ckpt-00000004").mkdir()  # our name, nothing in it
    (root / "ckpt-00000005").mkdir()  # our name, no marker
    (root / "ckpt-00000005" / "segment-00000005-00000.npy").write_text("mine")
    (root / "ckpt-00000006").mkdir()  # our name, a marker that is not sound
    (root / "ckpt-00000006" / "manifest.json").write_text('{"kind":"reverie-checkpoint"}')
    (root / "ckpt-00000007").write_text("mine")  # our name, a file


def check_retention(root: Path, precious: Path) -> None:
    save(precious)
    (precious / "file").write_text("mine")
    root.mkdir()
    plant(root, precious)
    before, outside = listing(root), listing(precious)
    ours = [save(root, snapshot(k), max_to_keep=2) for k in range(4)]
    after = listing(root)
    assert {name: after.get(name) for name in before} == before
    assert listing(precious) == outside
    left = {str(Path(name).parts[0]) for name in after} - set(before) - {".reverie.lock"}
    assert left == {path.name for path in ours[-2:]}
    assert [load(path) for path in ours[-2:]] == [contents(snapshot(k)) for k in (2, 3)]


def test_foreign_entries_of_all_kinds_are_left_as_they_are(tmp_path: Path) -> None:
    check_retention(tmp_path / "root", tmp_path / "precious")


def _sort_everything(root: Path, keep: int, **_: object) -> None:
    """Sabotage: what two well-known checkpointers do."""
    for name in sorted(os.listdir(root))[:-keep]:
        path = root / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _by_name_only(root: Path, keep: int, **_: object) -> None:
    """Sabotage: believes every name."""
    for path in list_checkpoints(root)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def _by_clock(root: Path, keep: int, **_: object) -> None:
    """Sabotage: keeps what was touched last."""
    folders = sorted(list_checkpoints(root), key=lambda path: path.lstat().st_mtime)
    for path in folders[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("broken", [_sort_everything, _by_name_only, _by_clock])
def test_the_check_sees_a_retention_that_takes_foreign_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable
) -> None:
    monkeypatch.setattr(saving, "prune", broken)
    with pytest.raises((AssertionError, CheckpointError)):
        check_retention(tmp_path / "root", tmp_path / "precious")


def check_clock(root: Path) -> None:
    for k in range(4):
        path = save(root, snapshot(k), max_to_keep=2)
        os.utime(path, (10**9 - k, 10**9 - k))  # the clock goes backwards
    assert [p.name for p in list_checkpoints(root)] == ["ckpt-00000003", "ckpt-00000004"]


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path) -> None:
    check_clock(tmp_path)


def test_the_clock_check_sees_an_order_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "prune", _by_clock)
    with pytest.raises(AssertionError):
        check_clock(tmp_path)


@pytest.mark.parametrize("damage", ["manifest", "missing file", "short file"])
def test_damaged_checkpoints_do_not_count_among_the_ones_to_keep(
    tmp_path: Path, damage: str
) -> None:
    good, bad = save(tmp_path, snapshot(1)), save(tmp_path, snapshot(2))
    victim = bad / ("manifest.json" if damage == "manifest" else "items-0.npy")
    data = victim.read_bytes()
    victim.unlink()
    if damage != "missing file":
        victim.write_bytes(data[:-1])
    newest = save(tmp_path, snapshot(3), max_to_keep=2)
    assert list_checkpoints(tmp_path) == [good, bad, newest]
    assert load(good) == contents(snapshot(1))


def test_leftovers_of_an_interrupted_save_and_removal_are_swept(tmp_path: Path) -> None:
    folder = save(tmp_path)
    shutil.copytree(folder, tmp_path / f".tmp-{HEX}")
    shutil.copytree(folder, tmp_path / f".trash-{HEX}")
    (tmp_path / f".tmp-{HEX[::-1]}").mkdir()
    save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == [
        ".reverie.lock"
    ]


def test_no_limit_keeps_all(tmp_path: Path) -> None:
    for _ in range(4):
        save(tmp_path, max_to_keep=None)
    assert len(list_checkpoints(tmp_path)) == 4


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), keep=st.integers(1, 3))
def test_in_random_folders_enough_whole_checkpoints_remain(
    tmp_path: Path, seed: int, keep: int
) -> None:
    rng = random.Random(seed)
    root = tmp_path / f"{seed}-{keep}"
    shutil.rmtree(root, ignore_errors=True)
    damaged: set[Path] = set()
    markerless: set[Path] = set()
    for _ in range(rng.randrange(2, 8)):
        act = rng.choice(["save", "save", "damage", "remove", "foreign"])
        present = [p for p in list_checkpoints(root) if p not in damaged]
        if act == "save" or not present:
            save(root, max_to_keep=keep)
        elif act == "damage":
            victim = rng.choice(present)
            file = rng.choice(sorted(victim.iterdir()))
            os.truncate(file, 5)
            damaged.add(victim)
            markerless |= {victim} if file.name == "manifest.json" else set()
        elif act == "remove":
            shutil.rmtree(rng.choice(present))
        else:
            foreign = root / f"ckpt-{rng.randrange(1, 20):08d}"
            if not foreign.exists():
                foreign.mkdir()
                damaged.add(foreign)
                markerless.add(foreign)
    whole = [p for p in list_checkpoints(root) if _is_whole(p)]
    save(root, max_to_keep=keep)
    left = [p for p in list_checkpoints(root) if _is_whole(p)]
    assert len(left) == min(keep, len(whole) + 1)
    assert all(path.exists() for path in markerless)


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True
