"""Hypothesis profiles: `modest` by default; HYPOTHESIS_PROFILE=long looks further."""

from __future__ import annotations

import os

from hypothesis import settings

# Without a database nothing is written beside the sources. The default finds the same
# on each run; the long profile looks elsewhere each time and prints how to repeat it.
settings.register_profile(
    "modest", max_examples=100, deadline=None, database=None, derandomize=True
)
settings.register_profile(
    "long", max_examples=3000, deadline=None, database=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "modest")
