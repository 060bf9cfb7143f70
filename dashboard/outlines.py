"""Outlines of objects and areas as SVG paths in fractions of the model's view; plain functions, without Streamlit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Sides of a square between four neighbouring cells, as (x, y) from its upper left corner.
_TOP, _RIGHT, _BOTTOM, _LEFT = (0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)
_SIDES = {
    1: ((_LEFT, _BOTTOM),), 2: ((_BOTTOM, _RIGHT),), 3: ((_LEFT, _RIGHT),), 4: ((_TOP, _RIGHT),),
    5: ((_LEFT, _TOP), (_BOTTOM, _RIGHT)), 6: ((_TOP, _BOTTOM),), 7: ((_LEFT, _TOP),), 8: ((_LEFT, _TOP),),
    9: ((_TOP, _BOTTOM),), 10: ((_TOP, _RIGHT), (_LEFT, _BOTTOM)), 11: ((_TOP, _RIGHT),),
    12: ((_LEFT, _RIGHT),), 13: ((_BOTTOM, _RIGHT),), 14: ((_LEFT, _BOTTOM),),
}  # fmt: skip
"""Lines that part set corners from unset ones (Lorensen and Cline, 1987), by 8·upper left + 4·upper right + 2·lower
right + lower left."""


def mask_path(mask: NDArray[np.bool_]) -> str:
    """Trace the outline of a mask.

    Args:
        mask: Shape (h, w) over the model's view.

    Returns:
        Lines of an SVG path, 0 to 1 across and down; empty for an empty mask.
    """
    height, width = mask.shape
    padded = np.pad(np.asarray(mask, np.uint8), 1)
    code = 8 * padded[:-1, :-1] + 4 * padded[:-1, 1:] + 2 * padded[1:, 1:] + padded[1:, :-1]
    lines = []
    for row, column in np.argwhere((code > 0) & (code < 15)).tolist():
        for ends in _SIDES[int(code[row, column])]:
            # The square spans the middles of its cells, the first of which are those of the padding.
            points = [((column - 0.5 + x) / width, (row - 0.5 + y) / height) for x, y in ends]
            lines.append("M" + "L".join(_point(*point) for point in points))
    return "".join(lines)


def boxes_path(boxes: Iterable[Sequence[float]]) -> str:
    """Return boxes (x0, y0, x1, y1), in fractions, as an SVG path."""
    return "".join(
        f"M{_point(x0, y0)}L{_point(x1, y0)}L{_point(x1, y1)}L{_point(x0, y1)}Z" for x0, y0, x1, y1 in boxes
    )


def object_path(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the outline of a sample's object, and where it comes from: a mask, or else boxes; empty without either."""
    if row.get("mask") is not None:
        return mask_path(row["mask"]), "the dataset's mask"
    if row.get("boxes"):
        return boxes_path(row["boxes"]), "the dataset's boxes" if len(
            row["boxes"]
        ) > 1 else "the dataset's box"
    return "", ""


def _point(x: float, y: float) -> str:
    return f"{min(max(x, 0.0), 1.0):.4g} {min(max(y, 0.0), 1.0):.4g}"
