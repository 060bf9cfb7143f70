"""Coverage: which of a run's methods lack maps of some samples, because later images were explained with fewer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.run import Run
from cache.schema import table_of_method
from engine.plan import Plan


def map_keys(rows: pa.Table, target: str = "target") -> NDArray[np.uint64]:
    """Return 64 bits for every image and class; two of a million pairs share them once in ten million runs."""
    halves = [int(content[:16], 16) for content in rows["content"].to_pylist()]
    targets = rows[target].to_numpy().astype(np.uint64)
    # An odd multiplier spreads the classes over all bits.
    keys: NDArray[np.uint64] = np.array(halves, np.uint64) ^ (targets * np.uint64(0x9E3779B97F4A7C15))
    return keys


def table_keys(run: Run, table: str, target: str = "target") -> NDArray[np.uint64]:
    """Return the keys of every image and class in a table, part after part."""
    keys = [
        map_keys(pq.read_table(path, columns=["content", target]), target) for path in run.part_paths(table)
    ]
    return np.concatenate(keys) if keys else np.array([], np.uint64)


def gaps(run: Run, plan: Plan) -> dict[str, int]:
    """Return how many samples lack a map of their predicted class, by those methods that this time left out."""
    asked = {request.name for request in plan.requests}
    left_out = [name for name in run.manifest.methods if name not in asked]
    if not left_out:
        return {}
    predicted = table_keys(run, "samples", "pred")
    missing = {}
    for name in left_out:
        held = np.isin(predicted, table_keys(run, table_of_method(name)))
        if not held.all():
            missing[name] = int((~held).sum())
    return missing


def gap_notices(run: Run, plan: Plan) -> list[str]:
    """Say which methods lack maps, and how they are completed."""
    missing = gaps(run, plan)
    if not missing:
        return []
    counts = ", ".join(
        f"{run.manifest.methods[name]['title']} of {count:,}" for name, count in missing.items()
    )
    every = ",".join(run.manifest.methods)
    return [
        f"Maps are missing that other samples have: {counts} of {run.manifest.rows('samples'):,} samples; "
        f"run again with --methods {every} to complete them."
    ]
