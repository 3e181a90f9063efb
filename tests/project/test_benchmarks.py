"""The benchmark that `docs/performance.md` quotes runs, and tells what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_figures_of_one_table_are_all_there() -> None:
    run = [sys.executable, "-m", "benchmarks.one_table", "--items", "2000"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["items"] == 2000
    assert min(value for value in found.values() if not isinstance(value, dict)) > 0
    served = found["served"]
    assert served["record_mb"] == served["loaded_record_mb"]  # rows stay rows
    assert served["chunks"] == served["loaded_chunks"]
