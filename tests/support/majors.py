"""Which majors a test is run on, beside the rule of ``tests/conftest.py``."""

import pytest

from opskit.postgres.connection import SUPPORTED_MAJORS

_NEWEST = SUPPORTED_MAJORS[-1]

# The newest always, the others in the sweep: for what no major is known to do in a way of its own.
newest_first = pytest.mark.parametrize(
    "programs",
    [*(pytest.param(m, marks=pytest.mark.sweep) for m in SUPPORTED_MAJORS[:-1]), _NEWEST],
    indirect=True,
)

# For what only the newest one has, and what is about none of them.
only_18 = pytest.mark.parametrize("programs", [_NEWEST], indirect=True)
