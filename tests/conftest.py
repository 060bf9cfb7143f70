"""Every test draws inputs of its own from a seed that is printed, so that a failure can be seen again.

The seed is new in each run; under continuous integration (``CI`` set) it is 1. ``GAZELAKE_TEST_SEED=N`` gives another.
"""

from __future__ import annotations

import os
import random
import sys
import zlib

import numpy as np
import pytest

from tests.seeding import rng

VARIABLE = "GAZELAKE_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    if VARIABLE not in os.environ:  # Processes that share the tests inherit what the first of them chose.
        os.environ[VARIABLE] = "1" if os.environ.get("CI") else str(random.SystemRandom().randrange(10**6))


def pytest_report_header(config: pytest.Config) -> str:
    return f"inputs drawn from {VARIABLE}={os.environ[VARIABLE]}"


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seed every generator that tests draw from, by the run's seed and the test's name."""
    seed = zlib.crc32(f"{os.environ[VARIABLE]} {request.node.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)
    rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
