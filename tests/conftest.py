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


def seed(name: str) -> None:
    """Seed every generator that tests draw from, by the run's seed and a name."""
    value = zlib.crc32(f"{os.environ[VARIABLE]} {name}".encode())
    random.seed(value)
    np.random.seed(value)
    rng.bit_generator.state = np.random.default_rng(value).bit_generator.state
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(value)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    """Seed what several tests share by its own name: which test a process ran before must not change it."""
    if fixturedef.scope != "function":
        seed(f"{fixturedef.baseid} {fixturedef.argname} {getattr(request, 'param_index', 0)}")


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seed by the test's name."""
    seed(request.node.nodeid)
