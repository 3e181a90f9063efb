"""Damaged native checkpoints, and what is no file: one declared error each, nothing loaded.

Damage is accidental, so a checksum finds it. What is crafted stands in
`test_native_forged`.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.checkpoint_support import contents, load, save, snapshot
from tests.hostile.damage_support import Files, MemoryFileSystem, files_of, forge

from reverie.checkpoint import find_newest, verify
from reverie.checkpoint.disk import crc_file as streams
from reverie.checkpoint.disk.files import OpenFolder
from reverie.checkpoint.format import reader
from reverie.errors import CheckpointCorruptError, CheckpointError, CheckpointLimitError

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
SEGMENT = "segment-00000001-00000.npy"


def load_files(files: Files) -> dict:
    return load(Path("memory"), fs=MemoryFileSystem(files))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(save(tmp_path_factory.mktemp("good")))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint of the same shape and number with other contents."""
    return files_of(save(tmp_path_factory.mktemp("other"), snapshot(5)))


def test_the_undamaged_files_load_from_memory(good: Files) -> None:
    assert load_files(good) == contents(snapshot())


def check_detected(damages: Iterator[Files]) -> int:
    """Every damage must be refused, or change nothing of what is loaded."""
    number = 0
    for number, files in enumerate(damages, 1):
        try:
            found = load_files(files)
        except CheckpointError:
            continue
        assert found == contents(snapshot()), f"damage {number} was loaded"
    return number


def truncations(good: Files) -> Iterator[Files]:
    for name, data in good.items():
        for length in range(len(data)):
            yield {**good, name: data[:length]}


def byte_changes(good: Files, number: int) -> Iterator[Files]:
    rng = random.Random(1)
    for _ in range(number):
        name = rng.choice(sorted(good))
        data = bytearray(good[name])
        at = rng.randrange(len(data))
        data[at] = rng.choice([0x00, 0xFF, data[at] ^ 1 << rng.randrange(8)])
        yield {**good, name: bytes(data)}


def zeroed_blocks(good: Files) -> Iterator[Files]:
    for name, data in good.items():
        for start in range(0, len(data), 64):
            block = data[start : start + 64]
            yield {**good, name: data[:start] + bytes(len(block)) + data[start + len(block) :]}


def test_every_truncation_is_detected(good: Files) -> None:
    assert check_detected(truncations(good)) > 3000


def test_every_sampled_byte_change_is_detected_or_harmless(good: Files) -> None:
    assert check_detected(byte_changes(good, 2500)) == 2500


def test_every_zeroed_block_is_detected_or_harmless(good: Files) -> None:
    assert check_detected(zeroed_blocks(good)) > 50


def test_bytes_after_the_end_are_detected(good: Files) -> None:
    for name, data in good.items():
        with pytest.raises(CheckpointCorruptError):
            load_files({**good, name: data + b"\0"})


def test_every_missing_file_is_named(good: Files) -> None:
    for name in good:
        with pytest.raises(CheckpointCorruptError, match=f"{name}.* is missing"):
            load_files({n: d for n, d in good.items() if n != name})


def test_every_file_of_another_checkpoint_is_detected(good: Files, other: Files) -> None:
    assert load_files(other) == contents(snapshot(5))
    changed = [name for name in good if good[name] != other[name] and name != "manifest.json"]
    assert len(changed) >= 3
    for name in changed:
        assert len(good[name]) == len(other[name])
        with pytest.raises(CheckpointCorruptError, match=f"{name}.*CRC-32"):
            load_files({**good, name: other[name]})


def test_files_that_changed_places_are_detected(good: Files) -> None:
    for one in good:
        for two in good:
            if one < two:
                with pytest.raises(CheckpointCorruptError):
                    load_files({**good, one: good[two], two: good[one]})


@pytest.mark.parametrize(
    ("where", "check"), [(streams.CheckedFile, "check_crc"), (reader, "_check_crcs")]
)
def test_without_a_crc_check_the_damage_check_fails(
    good: Files, monkeypatch: pytest.MonkeyPatch, where: object, check: str
) -> None:
    monkeypatch.setattr(where, check, lambda *_: None)
    with pytest.raises(AssertionError, match="was loaded"):
        check_detected(byte_changes(good, 1000))


def test_without_the_size_check_bytes_after_the_end_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path)
    with (folder / SEGMENT).open("ab") as file:
        file.write(b"\0")
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    with pytest.raises(CheckpointCorruptError, match=f"{sizes[SEGMENT]}.*expected"):
        load(folder)
    monkeypatch.setattr(streams.CheckedFile, "check_size", lambda *_: None)
    monkeypatch.setattr(reader.Reader, "check_sizes", lambda *_: None)
    assert load(folder) == contents(snapshot())


def test_a_forgery_that_changes_nothing_loads(good: Files) -> None:
    assert load_files(forge(good, lambda document, files: None)) == contents(snapshot())


_BAD_NAMES = [
    *("../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b.npy", "a\\..\\b.npy", "C:\\x.npy"),
    *("C:x.npy", "\\\\server\\share.npy", "items-0.npy:stream", "items-0.npy\x00", "\x00"),
    *("items-0.npy ", " items-0.npy", "items-0.npy.", "items-0.npy\n", "\nitems-0.npy"),
    *("ITEMS-0.NPY", "Items-0.npy", "items-0.NPY", "items-0", "items-.npy", "items-00.npy"),
    *("items-01.npy", "items--1.npy", "items-+1.npy", "items-1e3.npy", "items-0x1.npy"),
    *(
        "items-\u0661.npy",
        "items-1000000.npy",
        "items-0.npy/",
        "./items-0.npy",
        "items-0.npy/..",
    ),
    *("CON", "CON.npy", "nul", "AUX.npy", "COM1.npy", "LPT1.npy", "prn.npy", "manifest.json"),
    *(".reverie.lock", "segment-1-1.npy", "segment-00000001.npy", "segment-00000001-0.npy"),
    *("segment-00000001-00000.npz", "segment-00000001-00000.npy.gz", "segment-/..-00000.npy"),
    *("segment-00000001-00000.npy\u202e", "segment-\uff10\uff10000001-00000.npy"),
    *("~/x.npy", "$HOME.npy", "%00.npy", "file:///etc/passwd", "http://x/y.npy", "-rf.npy"),
    *("*.npy", "?.npy", "items-0.pkl", "x" * 300 + ".npy", "items-0.npy;ls", "`ls`.npy"),
    *("..\u2215x.npy", "items\u20130.npy", "e\u0301.npy", "\u200bitems-0.npy", "spans-0.py"),
    *("items-0.npy/..", "spans-0/items-0.npy"),
]


@pytest.mark.parametrize("name", _BAD_NAMES)
@pytest.mark.parametrize("part", ["items", "segment"])
def test_no_name_but_our_own_is_ever_opened(good: Files, name: str, part: str) -> None:
    def edit(document: dict, files: Files) -> None:
        old = "items-0.npy" if part == "items" else SEGMENT
        document["files"][name] = document["files"].pop(old)
        if part == "items":
            document["tables"][0]["items"] = name
        else:
            document["segments"][0]["file"] = name

    class Watching(MemoryFileSystem):
        opened: list[str] = []  # noqa: RUF012

        def open_in(self, folder: OpenFolder, name: str) -> int:
            self.opened.append(name)
            return super().open_in(folder, name)

    Watching.opened = []
    with pytest.raises(CheckpointCorruptError):
        load(Path("memory"), fs=Watching(forge(good, edit)))
    assert Watching.opened == ["manifest.json"]


def test_there_are_at_least_sixty_bad_names() -> None:
    assert len(set(_BAD_NAMES)) >= 60


@POSIX
@pytest.mark.parametrize("name", [SEGMENT, "items-0.npy", "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "dangling", "zero", "fifo", "folder", "socket"])
def test_anything_but_a_regular_file_is_refused_at_once(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path)
    path = folder / name
    copy = path.rename(tmp_path / "copy")
    monkeypatch.chdir(folder)  # a socket's path must be short
    if kind == "link":
        path.symlink_to(copy)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    failed: list[BaseException] = []

    def read() -> None:
        for act in (load, verify):
            try:
                act(folder)
            except BaseException as error:
                failed.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "the reader hangs"
    assert [type(error) for error in failed] == [CheckpointCorruptError] * 2


@POSIX
def test_a_device_that_looks_like_a_file_of_the_right_size_is_refused(good: Files) -> None:
    class Device(MemoryFileSystem):
        def fstat(self, fd: int) -> os.stat_result:
            return SimpleNamespace(st_mode=stat.S_IFCHR, st_size=len(self.at[fd][0]))

    with pytest.raises(CheckpointCorruptError, match="not a regular file"):
        load(Path("memory"), fs=Device(good))


@POSIX
def test_a_link_to_a_checkpoint_folder_is_damage_not_absence(tmp_path: Path) -> None:
    real = save(tmp_path / "elsewhere")
    root = tmp_path / "root"
    root.mkdir()
    (root / "ckpt-00000001").symlink_to(real)
    newest = find_newest(root)
    assert newest is not None
    with pytest.raises(CheckpointCorruptError, match="links are never followed"):
        load(newest)


def test_a_file_swapped_after_the_manifest_was_read_is_detected(
    good: Files, other: Files
) -> None:
    class Swapping(MemoryFileSystem):
        def open_in(self, folder: OpenFolder, name: str) -> int:
            if name == SEGMENT:
                self.files = {**self.files, SEGMENT: other[SEGMENT]}
            return super().open_in(folder, name)

    with pytest.raises(CheckpointCorruptError, match="CRC-32"):
        load(Path("memory"), fs=Swapping(good))


def test_a_file_that_is_cut_while_it_is_read_is_detected(good: Files) -> None:
    class Cutting(MemoryFileSystem):
        def read_into(self, fd: int, buffer: memoryview) -> int:
            return super().read_into(fd, buffer[: max(0, 300 - self.at[fd][1])])

    big = {**good}
    with pytest.raises(CheckpointCorruptError, match="bytes early"):
        load(Path("memory"), fs=Cutting(big))


def test_declared_sizes_cost_no_memory_before_they_are_compared(good: Files) -> None:
    count = 1 << 34

    def edit(document: dict, files: Files) -> None:
        for name, width, header in ((SEGMENT, 21, 192), ("items-1.npy", 36, 192)):
            document["files"][name].update(count=count, nbytes=count * width + header)
        document["tables"][1]["settings"]["max_size"] = 2**40

    files = forge(good, edit)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        load_files(files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@POSIX
def test_a_sparse_file_is_stopped_by_the_limit(tmp_path: Path, good: Files) -> None:
    count = 2**32 - 1

    def edit(document: dict, files: Files) -> None:
        document["files"]["items-1.npy"].update(count=count, nbytes=count * 36 + 192)
        document["tables"][1]["settings"]["max_size"] = 2**40

    folder = tmp_path / "ckpt-00000001"
    folder.mkdir()
    for name, data in forge(good, edit).items():
        (folder / name).write_bytes(data)
    os.truncate(folder / "items-1.npy", count * 36 + 192)
    for act in (load, verify):
        with pytest.raises(CheckpointLimitError):
            act(folder, max_nbytes=64 << 30)


def test_loading_imports_nothing_and_runs_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.checkpoint_support import load\n"
        "load(Path(sys.argv[1]))\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event))\n"
        "load(Path(sys.argv[1]))\n"
        "bad = {'import', 'exec', 'compile', 'subprocess.Popen', 'os.system'}\n"
        "assert 'open' in seen and not bad & set(seen), bad & set(seen)\n"
    )
    command = [sys.executable, "-c", code, str(save(tmp_path))]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[2])
