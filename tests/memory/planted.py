"""Scenarios that break a bound on purpose, and one that only seems to."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.memory.bounds import CHECKPOINT_CONSTANT, MEMORY_CONSTANT
from tests.memory.fresh_process import Done
from tests.memory.scenarios_observers import one_stream

_sound = one_stream(97, 1000, 2, 2000)


def _leaking(folder: Path) -> Done:
    done = _sound.work(folder)
    done.hold = done.hold, b"\1" * 2 * MEMORY_CONSTANT
    return done


def _tidying(folder: Path) -> Done:
    done, late = _sound.work(folder), [b"\1" * 4 * MEMORY_CONSTANT]

    def tidy() -> None:
        time.sleep(0.5)
        late.clear()

    threading.Thread(target=tidy).start()
    done.hold = done.hold, late
    return done


def _saving_too_much(folder: Path) -> Done:
    done = _sound.work(folder)
    sound = done.save
    assert sound is not None

    def save() -> Path:
        saved = Path(sound())
        (saved / "beside").write_bytes(bytes(CHECKPOINT_CONSTANT + 50_000))
        return saved

    return replace(done, save=save)


def _loading_too_much(folder: Path) -> Any:
    assert _sound.load is not None
    return _sound.load(folder), b"\1" * 2 * MEMORY_CONSTANT


SCENARIOS = {
    "sound": _sound,
    "leaking": replace(_sound, work=_leaking),
    "tidying": replace(_sound, work=_tidying),
    "saving_too_much": replace(_sound, work=_saving_too_much, load=None),
    "loading_too_much": replace(_sound, load=_loading_too_much),
}
