"""The generator that tests draw from: ``tests/conftest.py`` seeds it before each test."""

import numpy as np

rng = np.random.default_rng()
