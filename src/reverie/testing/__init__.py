"""What tests of a replay buffer are made of, for this project's and for yours.

`conformance` checks that a manager does all that is promised of one; two lines run
it on a backend of your own. `model` is a slow, obvious model of the table and its
observer, and the check that a buffer behaves like it. `strategies` makes data
specs, steps and whole programs of operations with Hypothesis (`pip install
hypothesis`).
"""

from reverie.testing.conformance import (
    ManagerConformance,
    conformance_checks,
    conformance_failures,
    conformance_suite,
)

__all__ = [
    "ManagerConformance",
    "conformance_checks",
    "conformance_failures",
    "conformance_suite",
]
