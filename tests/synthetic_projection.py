"""Gives a synthetic run 2-D maps without UMAP: the first two principal components of its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cache.catalog import Catalog
from cache.projections import append_projection, projection_version
from cache.run import Run
from cache.writer import RunWriter


def add_projections(path: Path, features: Sequence[str] = ("attended", "penultimate")) -> Path:
    """Write a map of each kind of features into a run; images without them have no place."""
    catalog = Catalog(Run.open(path))
    with RunWriter(path) as writer:
        for name in features:
            table = catalog.read("embeddings", ["content", f"{name}_projection"])
            rows = [
                (c, v) for c, v in zip(*(table[n].to_pylist() for n in table.column_names), strict=True) if v
            ]
            vectors = np.array([vector for _, vector in rows], np.float64)
            u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
            xy = (u * s)[:, :2]
            xy = 0.05 + 0.9 * (xy - xy.min(axis=0)) / np.ptp(xy, axis=0)
            contents = [content for content, _ in rows]
            version = projection_version(name, ["components", *contents])
            append_projection(writer, version, contents, xy.astype(np.float32))
        writer.publish()
    return path
