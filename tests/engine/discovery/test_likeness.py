"""Likeness: planted stamps are near-identical, opaque or translucent, fixed or moving; noise and blobs are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from engine.discovery import likeness as module
from engine.discovery.likeness import VIEW, Likeness, colour_distance, cut, found_again
from tests.seeding import rng

Plant = Callable[[np.ndarray, int, int], None]


def ground(rng: np.random.Generator) -> np.ndarray:
    """A soft scene: what photographs look like from afar."""
    soft = gaussian_filter(rng.normal(size=(160, 160, 3)), (6, 6, 0))
    return np.clip(0.5 + 0.18 * soft / soft.std() + rng.normal(0, 0.02, (160, 160, 1)), 0, 1)


def stamp(rng: np.random.Generator) -> np.ndarray:
    return np.kron(rng.random((6, 8)) > 0.5, np.ones((4, 4)))[:, :, None] * np.array([1.0, 0.9, 0.2])


PATTERN = stamp(np.random.default_rng(42))


def opaque(image: np.ndarray, top: int, left: int) -> None:
    image[top : top + 24, left : left + 32] = PATTERN


def translucent(image: np.ndarray, top: int, left: int) -> None:
    image[top : top + 24, left : left + 32] = 0.5 * image[top : top + 24, left : left + 32] + 0.5 * PATTERN


def plain(image: np.ndarray, top: int, left: int) -> None:
    image[top : top + 24, left : left + 32] = (0.8, 0.1, 0.5)


def run(monkeypatch: pytest.MonkeyPatch, plant: Plant | None, moving: bool) -> tuple[Likeness, np.ndarray]:
    """Two classes of twenty images; the first has the plant at the lower left, or anywhere with the peak on it."""
    rng = np.random.default_rng(3)
    data, peaks = {}, []
    for i in range(60):
        image = ground(rng)
        top, left = (rng.integers(10, 120, 2) if moving else (128, 6)) + rng.integers(-1, 2, 2)
        if i < 20 and plant is not None:
            plant(image, int(top), int(left))
        peaks.append([(left + 16) / 160, (top + 12) / 160])
        buffer = io.BytesIO()
        Image.fromarray((image * 255).astype(np.uint8)).save(buffer, "WEBP", quality=80)
        data[str(i)] = buffer.getvalue()
    monkeypatch.setattr(module.profiles, "thumbnails", lambda _, ids: {i: data[i] for i in ids})
    pred = np.repeat([0, 1, 2], 20)
    audited = SimpleNamespace(
        n=60, pred=pred, known=np.ones(60, bool), classes=["a", "b", "c"], peak=np.array(peaks),
        contents=[f"{i:04d}" for i in range(60)], sample_ids=np.array([str(i) for i in range(60)]),
    )  # fmt: skip
    return Likeness(None, audited), pred == 0  # type: ignore[arg-type]


BOX = (0.0, 10 / 14, 4 / 14, 1.0)


@pytest.mark.parametrize("plant", [opaque, translucent, plain])
def test_a_stamp_in_a_fixed_place_is_near_identical(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    measured, members = run(monkeypatch, plant, moving=False)
    value = measured.of(members, BOX)
    assert value is not None
    assert value > 0.4 if plant is plain else value > 0.6


@pytest.mark.parametrize("plant", [opaque, translucent])
def test_a_stamp_that_moves_is_near_identical(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    measured, members = run(monkeypatch, plant, moving=True)
    value = measured.of(members, None)
    assert value is not None
    assert value > (0.5 if plant is opaque else 0.3)


@pytest.mark.parametrize("box", [BOX, None])
def test_scenes_are_not_alike(
    monkeypatch: pytest.MonkeyPatch, box: tuple[float, float, float, float] | None
) -> None:
    measured, members = run(monkeypatch, None, moving=box is None)
    value = measured.of(members, box)
    assert value is not None
    assert value < 0.2


def test_too_few_images_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, members = run(monkeypatch, opaque, moving=False)
    members[3:] = False
    assert measured.of(members, BOX) is None


def test_matches_equal_the_slow_way() -> None:
    windows = rng.random((4, 21, 22, 3)).astype(np.float32)
    T = module.TEMPLATE

    def best(i: int, j: int, y: int, x: int) -> float:
        a = windows[i, y : y + T, x : x + T].astype(float)
        values = []
        for v in range(windows.shape[1] - T + 1):
            for u in range(windows.shape[2] - T + 1):
                b = windows[j, v : v + T, u : u + T].astype(float)
                a0, b0 = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
                apart = ((a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) ** 2).mean()
                values.append(2 * (a0 * b0).mean() / ((a0**2).mean() + (b0**2).mean() + apart + 1e-6))
        return max(values)

    slow = np.median(
        [
            max(
                np.median([best(i, j, y, x) for j in range(4) if j != i])
                for y in range(0, 21 - T + 1, module.STRIDE)
                for x in range(0, 22 - T + 1, module.STRIDE)
            )
            for i in range(4)
        ]
    )
    assert found_again(windows, None, edges=False) == pytest.approx(slow, abs=1e-4)


def test_identical_windows_are_found_again_at_once() -> None:
    window = rng.random((1, 20, 20, 3)).astype(np.float32)
    windows = np.repeat(window, 5, axis=0)
    assert found_again(windows, 2, edges=False) == pytest.approx(1, abs=1e-3)
    assert found_again(windows, None, edges=True) == pytest.approx(1, abs=1e-3)
    assert colour_distance(windows) == pytest.approx(0, abs=1e-5)


def test_windows_lie_within_the_view() -> None:
    views = np.zeros((3, VIEW, VIEW, 3), np.float32)
    peaks = np.array([[0.0, 0.0], [1.0, 1.0], [np.nan, 0.5]])
    assert cut(views, peaks, None).shape == (3, module.WINDOW, module.WINDOW, 3)
    for box in ((0.0, 0.0, 2 / 14, 2 / 14), (12 / 14, 12 / 14, 1.0, 1.0), (0.3, 0.4, 0.6, 0.9)):
        shape = cut(views, peaks, box).shape
        assert min(shape[1:3]) > module.TEMPLATE
