from __future__ import annotations

import re

import numpy as np
import pytest

from dashboard.outlines import boxes_path, mask_path, object_path
from tests.seeding import rng


def lines(path: str) -> list[tuple[float, float, float, float]]:
    number = r"(-?[\d.e-]+)"
    return [
        tuple(map(float, found))  # type: ignore[misc]
        for found in re.findall(rf"M{number} {number}L{number} {number}", path)
    ]


def length(path: str) -> float:
    return float(sum(np.hypot(x1 - x0, y1 - y0) for x0, y0, x1, y1 in lines(path)))


def test_a_box_of_a_mask_is_outlined_with_its_corners_cut() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 4:16] = True
    found = np.array(lines(mask_path(mask)))
    assert found[:, [0, 2]].min() == pytest.approx(4 / 20)
    assert found[:, [0, 2]].max() == pytest.approx(16 / 20)
    assert found[:, [1, 3]].min() == pytest.approx(5 / 20)
    assert found[:, [1, 3]].max() == pytest.approx(15 / 20)
    # Each corner goes half a cell across instead of around.
    assert length(mask_path(mask)) == pytest.approx((2 * 12 + 2 * 10 - 4 + 4 * np.sqrt(0.5)) / 20, rel=1e-3)


def test_a_disc_has_a_discs_outline() -> None:
    centre = (np.arange(56) + 0.5) / 56
    mask = (centre[None, :] - 0.5) ** 2 + (centre[:, None] - 0.45) ** 2 <= 0.3**2
    for x0, y0, x1, y1 in lines(mask_path(mask)):
        for x, y in ((x0, y0), (x1, y1)):
            assert np.hypot(x - 0.5, y - 0.45) == pytest.approx(0.3, abs=1.1 / 56)
    assert length(mask_path(mask)) == pytest.approx(2 * np.pi * 0.3, rel=0.09)


def test_every_outline_is_closed_and_stays_within_the_picture() -> None:
    mask = rng.random((56, 56)) < 0.4
    ends: dict[tuple[float, float], int] = {}
    for x0, y0, x1, y1 in lines(mask_path(mask)):
        assert min(x0, y0, x1, y1) >= 0
        assert max(x0, y0, x1, y1) <= 1
        for point in ((x0, y0), (x1, y1)):
            ends[point] = ends.get(point, 0) + 1
    assert all(count % 2 == 0 for count in ends.values())
    assert mask_path(np.zeros((56, 56), bool)) == ""
    assert mask_path(np.ones((3, 3), bool)) != ""


def test_boxes_and_what_an_outline_rests_on() -> None:
    boxes = [(0.1, 0.2, 0.5, 0.6), (0.0, 0.0, 1.2, 1.0)]
    assert boxes_path(boxes).startswith("M0.1 0.2L0.5 0.2L0.5 0.6L0.1 0.6Z")
    assert "1.2" not in boxes_path(boxes)
    assert object_path({"mask": None, "boxes": None}) == ("", "")
    assert object_path({"mask": None, "boxes": boxes}) == (boxes_path(boxes), "the dataset's boxes")
    assert object_path({"mask": None, "boxes": boxes[:1]})[1] == "the dataset's box"
    assert object_path({"mask": np.ones((2, 2), bool), "boxes": boxes})[1] == "the dataset's mask"
