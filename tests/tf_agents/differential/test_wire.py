"""Random programs of dm-reverb's client: on its own server, and on one of Reverie's.

The client speaks gRPC to ours, in the same process as to one of another: it is never told
an address of memory.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("grpc", reason="needs grpcio")
pytest.importorskip("cramjam", reason="needs cramjam")

import reverb
from tests.tf_agents.differential.generate import THEMES, generate
from tests.tf_agents.differential.observe import first_difference
from tests.tf_agents.differential.runner import run

from reverie import reverb as ours

PROGRAMS = 12  # of each theme
SERVERS = ("Server", "Table", "selectors", "rate_limiters", "platform")


def mixed() -> Any:
    """Reverb, with a server of Reverie's."""
    server = {name: getattr(ours, name) for name in SERVERS}
    return SimpleNamespace(**{**vars(reverb), **server})


@pytest.mark.parametrize("theme", THEMES)
def test_programs_of_another_client_show_what_they_show_on_reverb(
    theme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVERIE_LISTEN", "loopback")
    for seed in range(PROGRAMS):
        program = generate(seed, theme)
        theirs = run(reverb, program, tmp_path / f"theirs{seed}")
        mine = run(mixed(), program, tmp_path / f"ours{seed}")
        found = first_difference(program.ops, theirs, mine)
        assert found is None, (
            f"theme {theme}, seed {seed}, operation {found.index}: {found.op}\n"
            f"Reverb:  {found.first}\nReverie: {found.second}\n\n"
            f"The program until then:\n{program.text(found.index)}"
        )
