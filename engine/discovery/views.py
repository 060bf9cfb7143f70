"""Views: the model's views of a run's samples as discovery compares them, from their thumbnails."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache import profiles
from cache.catalog import Catalog
from engine.discovery.audited import Audited

VIEW = 112
"""Side to which a thumbnail is brought."""


class Views:
    """Loads views as they are needed, and keeps them."""

    def __init__(self, catalog: Catalog, audited: Audited) -> None:
        self._catalog = catalog
        self._ids = audited.sample_ids
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def load(self, rows: Sequence[int]) -> list[int]:
        """Load some samples' views; return those of them that are there, in their order."""
        missing = [i for i in rows if i not in self._kept]
        ids = [str(self._ids[i]) for i in missing]
        found = profiles.thumbnails(self._catalog, ids) if ids else {}
        for i, sample_id in zip(missing, ids, strict=True):
            if sample_id in found:
                image = Image.open(io.BytesIO(found[sample_id])).convert("RGB")
                self._kept[i] = np.asarray(image.resize((VIEW, VIEW), Image.Resampling.BOX))
        return [i for i in rows if i in self._kept]

    def of(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Return loaded views, (n, VIEW, VIEW, 3)."""
        return np.stack([self._kept[i] for i in rows])
