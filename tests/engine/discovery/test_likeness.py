"""Likeness: planted stamps are near-identical, opaque or translucent, fixed or moving, and thin frames; noise and blobs are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cache.schema import GRID
from engine.discovery import likeness as module
from engine.discovery import views as views_module
from engine.discovery.likeness import Likeness, cut
from engine.discovery.views import VIEW, Views

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


def frame(image: np.ndarray, *_: int) -> None:
    """A thin plain frame, of a colour that varies as little as print does."""
    edge = np.ones(image.shape[:2], bool)
    edge[8:-8, 8:-8] = False
    image[edge] = np.array((0.5, 0.25, 0.75)) + np.random.default_rng(int(image.sum())).normal(0, 0.012, 3)


def run(monkeypatch: pytest.MonkeyPatch, plant: Plant | None, moving: bool) -> tuple[Likeness, np.ndarray]:
    """Three classes of twenty images; the first has the plant at the lower left, or anywhere with the peak on it.

    Of a frame the peak is somewhere on its left or right side, and the maps attend to all edges.
    """
    rng = np.random.default_rng(3)
    data, peaks = {}, []
    for i in range(60):
        image = ground(rng)
        top, left = (rng.integers(10, 120, 2) if moving else (128, 6)) + rng.integers(-1, 2, 2)
        if i < 20 and plant is not None:
            plant(image, int(top), int(left))
        peaks.append([(left + 16) / 160, (top + 12) / 160])
        if plant is frame:
            peaks[-1] = [float(rng.choice((0.03, 0.97))), (top + 12) / 160]
        buffer = io.BytesIO()
        Image.fromarray((image * 255).astype(np.uint8)).save(buffer, "WEBP", quality=80)
        data[str(i)] = buffer.getvalue()
    monkeypatch.setattr(views_module.profiles, "thumbnails", lambda _, ids: {i: data[i] for i in ids})
    p = np.full((60, GRID, GRID), 1 / GRID**2)
    if plant is frame:
        p[:20, 1:-1, 1:-1] /= 4
    pred = np.repeat([0, 1, 2], 20)
    audited = SimpleNamespace(
        n=60, pred=pred, known=np.ones(60, bool), classes=["a", "b", "c"], peak=np.array(peaks),
        contents=[f"{i:04d}" for i in range(60)], sample_ids=np.array([str(i) for i in range(60)]),
        p=p.reshape(60, -1) / p.sum(axis=(1, 2))[:, None],
    )  # fmt: skip
    return Likeness(Views(None, audited), audited), pred == 0  # type: ignore[arg-type]


BOX = (0.0, 10 / 14, 4 / 14, 1.0)


@pytest.mark.parametrize("plant", [opaque, translucent, plain])
def test_a_stamp_in_a_fixed_place_is_near_identical(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    measured, members = run(monkeypatch, plant, moving=False)
    value = measured.of(members, BOX)
    assert value is not None
    assert value > 0.6


@pytest.mark.parametrize("plant", [opaque, translucent])
def test_a_stamp_that_moves_is_near_identical(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    measured, members = run(monkeypatch, plant, moving=True)
    value = measured.of(members, None)
    assert value is not None
    assert value > 0.6


def find_the_rest(measured: Likeness, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Hold that from eight of the members the others are found, and nothing else; return the eight."""
    measured._audited.pred[:] = np.repeat([0, 0, 1], 20)  # half of the class carries it
    measured._frequent = [0, 1]
    some = members.copy()
    some[8:] = False
    shown = measured.showing_the_same(some)
    assert shown[members].mean() > 0.9
    assert not shown[~members].any()
    return some


def test_a_thin_frame_is_near_identical_along_the_edges_and_the_rest_of_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured, members = run(monkeypatch, frame, moving=True)
    value = measured.of(members, None)
    assert value is not None
    assert value > 0.6
    assert measured.along_edges(members)
    find_the_rest(measured, members)


def test_edges_are_compared_where_maps_attend_to_a_frame_only(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, members = run(monkeypatch, frame, moving=True)
    measured._audited.p[:] = 1 / GRID**2
    value = measured.of(members, None)
    assert value is not None
    assert value < 0.5
    assert not measured.along_edges(members)


@pytest.mark.parametrize("box", [BOX, None])
def test_scenes_are_not_alike(
    monkeypatch: pytest.MonkeyPatch, box: tuple[float, float, float, float] | None
) -> None:
    measured, members = run(monkeypatch, None, moving=box is None)
    value = measured.of(members, box)
    assert value is not None
    assert value < 0.2


def test_the_rest_of_what_shows_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, members = run(monkeypatch, opaque, moving=True)
    some = find_the_rest(measured, members)
    monkeypatch.setattr(module, "MOST_MATCHED", 10)
    assert not measured.showing_the_same(some).any()


def test_a_single_class_has_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, members = run(monkeypatch, opaque, moving=True)
    measured._audited.pred[:] = 0
    measured._frequent = [0]
    assert measured.of(members, None) is None
    assert not measured.showing_the_same(members).any()


def test_too_few_images_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, members = run(monkeypatch, opaque, moving=False)
    members[3:] = False
    assert measured.of(members, BOX) is None


def test_windows_lie_within_the_view() -> None:
    views = np.zeros((3, VIEW, VIEW, 3), np.float32)
    peaks = np.array([[0.0, 0.0], [1.0, 1.0], [np.nan, 0.5]])
    assert cut(views, peaks, None).shape == (3, module.WINDOW, module.WINDOW, 3)
    for box in ((0.0, 0.0, 2 / 14, 2 / 14), (12 / 14, 12 / 14, 1.0, 1.0), (0.3, 0.4, 0.6, 0.9)):
        shape = cut(views, peaks, box).shape
        assert min(shape[1:3]) > module.TEMPLATE
