"""Properties that hold for whatever Hypothesis thinks of; the same examples in every run."""

import os

from hypothesis import HealthCheck, settings

SEED = os.environ.get("OPSKIT_TEST_SEED")

# Derandomized, a failure repeats by itself; OPSKIT_TEST_SEED with any value looks for other examples.
repeatable = settings(
    derandomize=SEED is None,
    database=None,
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
