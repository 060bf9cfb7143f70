"""A run that knows where its objects are: the synthetic one with the share of attention on each object's mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from cache.maps import area_matrix, grid_from_corners
from cache.schema import CORNERS, GRID, MASK_SIZE, Field
from tests import synthetic
from tests.synthetic_story import Story

INSIDE = Field("mass_inside", "Mass on the object", "", 0, 1, "higher", "Mass within the known object.")


def make_run_with_objects(path: Path, samples: int, methods: Sequence[str], seed: int = 4) -> Path:
    """Write a synthetic run whose maps also say how much of them lies on the object, where a mask is known."""
    plain, write = synthetic.STATISTICS, synthetic._attributions

    def with_inside(story: Story, rows: NDArray[np.int64], method: str, labelled: bool) -> pa.Table:
        synthetic.STATISTICS = plain
        table = write(story, rows, method, labelled)
        synthetic.STATISTICS = (*plain, INSIDE)
        wrong = rows[story.pred[rows] != story.label[rows]] if labelled else rows[:0]
        shrink = area_matrix(MASK_SIZE, GRID) * GRID / MASK_SIZE
        values = []
        for i, row in zip(np.concatenate([rows, wrong]), table.to_pylist(), strict=True):
            known = i % 10 < 7 and not row["degenerate"]
            if known:
                bits = np.unpackbits(np.frombuffer(synthetic._mask(story, i), np.uint8))
                inside = shrink @ bits.reshape(MASK_SIZE, MASK_SIZE) @ shrink.T
                p = grid_from_corners(np.array([row[name] for name in CORNERS]))
            values.append(float((p * inside).sum()) if known else None)
        return table.append_column("mass_inside", pa.array(values, pa.float32()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "STATISTICS", (*plain, INSIDE))
        patch.setattr(synthetic, "_attributions", with_inside)
        return synthetic.make_run(path, samples=samples, methods=methods, seed=seed)
