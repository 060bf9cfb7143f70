"""Finds and decodes the original of a sample, where the run names it and it can be reached."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cache.manifest import Manifest
from dashboard.rendering import Pixels

LONGEST_SIDE = 900
LARGEST_FILE = 200 * 2**20
SIXTEEN_BITS = 257.0


@dataclass(frozen=True)
class Original:
    """The original of a sample, or why it cannot be shown.

    Attributes:
        pixels: RGB (h, w, 3), upright, at most `LONGEST_SIDE` a side; None where it cannot be shown.
        reason: A sentence that says why not; empty where it can.
    """

    pixels: Pixels | None
    reason: str = ""


def original_path(manifest: Manifest, uri: str) -> Path | None:
    """Return where a sample's original lies on this machine; None where that is nowhere below the dataset's root."""
    root = str(manifest.dataset.get("root") or "")
    if not root or not uri or "://" in uri or "://" in root:
        return None
    folder = Path(root).resolve()
    path = (folder / uri).resolve()
    return path if path.is_relative_to(folder) and path != folder else None


def read_original(manifest: Manifest, row: Mapping[str, Any]) -> Original:
    """Read the original of a sample.

    Args:
        manifest: Of the run.
        row: The sample, from `cache.profiles.sample`: only what the run names is read.
    """
    uri = str(row["uri"])
    path = original_path(manifest, uri)
    if path is None:
        return Original(
            None, "The original is not a file that this dashboard can reach, so the model's view is shown."
        )
    if not path.is_file():
        return Original(
            None, f"The original {uri} is not at {path.parent} any more, so the model's view is shown."
        )
    try:
        if path.stat().st_size > LARGEST_FILE:
            return Original(None, f"The original {uri} is too large to show, so the model's view is shown.")
        pixels, size = _decode(path)
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):
        return Original(None, f"The original {uri} cannot be decoded, so the model's view is shown.")
    if size != (row["width"], row["height"]):
        return Original(
            None, f"The original {uri} has changed since the run was made, so the model's view is shown."
        )
    return Original(pixels)


def _decode(path: Path) -> tuple[Pixels, tuple[int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            size = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # stored on its side
                size = size[1], size[0]
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                deep = np.asarray(upright, np.float64)
                upright = Image.fromarray(np.clip(deep / SIXTEEN_BITS, 0, 255).astype(np.uint8))
            if "A" in upright.getbands() or "transparency" in upright.info:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            colours = upright.convert("RGB")
            colours.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            return np.asarray(colours), size


def crop_place(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return what the model saw of the original: x0, y0, x1, y1 in fractions of it."""
    width, height = float(row["width"]), float(row["height"])
    return row["crop_x0"] / width, row["crop_y0"] / height, row["crop_x1"] / width, row["crop_y1"] / height
