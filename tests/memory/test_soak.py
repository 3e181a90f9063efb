"""A process that makes and drops everything, over and over, stays as large as it is.

REVERIE_STRESS_SECONDS says how long (3 unless told).
"""

from __future__ import annotations

import pytest
from tests.memory import soak, soak_core
from tests.memory.fresh_process import STATM

pytestmark = pytest.mark.skipif(
    not STATM.exists(), reason=f"{STATM} is not there: memory and files cannot be counted."
)

# By a round, in which hundreds of things are made. None may leak an object, a thread or a
# file; memory in pieces is never quite what it was.
ALLOWED = {"nbytes": 4096.0, "files": 0.0, "threads": 0.0, "objects": 0.5}


def leaking(*planted: str, seconds: float = soak.SECONDS) -> list[str]:
    """What grows more than is allowed."""
    found, rounds = soak.soak(soak_core.__name__, *planted, seconds=seconds)
    growth = soak.growth(found, rounds)
    print(growth, rounds, found)
    return [name for name, allowed in ALLOWED.items() if growth[name] > allowed]


def test_nothing_grows() -> None:
    assert leaking() == []


@pytest.mark.parametrize("what", ALLOWED)
def test_each_kind_of_leak_is_seen(what: str) -> None:
    assert what in leaking(what, seconds=1.0)
