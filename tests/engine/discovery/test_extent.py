"""Extent: a tint shows all over the images, snow beside the object only, and a frame where the model looks only."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cache.schema import GRID, MASK_SIZE
from engine.discovery import extent as module
from engine.discovery.candidates import Candidate
from engine.discovery.extent import ALL_OVER, LEAST_PAIRS, Extent
from engine.discovery.views import VIEW

N = 80
BODY = np.zeros((VIEW, VIEW), bool)
BODY[32:80, 32:80] = True
EDGES = np.ones((VIEW, VIEW), bool)
EDGES[8:-8, 8:-8] = False

Plant = Callable[[np.ndarray], np.ndarray]


def tint(image: np.ndarray) -> np.ndarray:
    return 0.7 * image + 0.3 * np.array((250, 40, 40))


def snow(image: np.ndarray) -> np.ndarray:
    return np.where(BODY[..., None], image, 235 + 0.05 * image)


def framed(image: np.ndarray) -> np.ndarray:
    return np.where(EDGES[..., None], np.array((250, 40, 40)), image)


def blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(3)), float)


def shown(plant: Plant, name: str, masks: bool, n: int = N) -> tuple[float, float] | None:
    """Half of the images carry the plant and are called class 0, the other half are called what they are."""
    rng = np.random.default_rng(1)
    carries = np.arange(n) < n // 2
    images = np.clip(rng.normal(110, 40, (n, VIEW, VIEW, 3)) + rng.normal(0, 12, (n, 1, 1, 3)), 0, 255)
    views = np.stack([plant(image) if c else image for image, c in zip(images, carries, strict=True)])
    p = np.where(EDGES.reshape(GRID, 8, GRID, 8).mean(axis=(1, 3)) > 0.5, 4.0, 1.0).ravel()
    audited = SimpleNamespace(
        known=np.ones(n, bool), pred=np.where(carries, 0, 1), label=np.ones(n, int), wrong=carries,
        p=np.tile(p / p.sum(), (n, 1)), sample_ids=np.arange(n).astype(str), rng=lambda *_: np.random.default_rng(2),
    )  # fmt: skip
    shelf = SimpleNamespace(load=list, of=lambda rows: views[rows].astype(np.uint8))
    body = np.asarray(Image.fromarray(BODY).resize((MASK_SIZE, MASK_SIZE)))
    packed = np.packbits(body).tobytes() if masks else None
    catalog = SimpleNamespace(
        query=lambda *_: {"sample": SimpleNamespace(to_pylist=lambda: [0])},
        rows_of_samples=lambda _: SimpleNamespace(to_pylist=lambda: [{"mask": packed, "boxes": None}]),
    )
    rule = Candidate("who", 0, "called", carries, 9.0, 0.01, property=name, holds=carries)
    return Extent(catalog, audited, shelf).shown(rule)  # type: ignore[arg-type]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(
    ("plant", "name"), [(tint, "saturation"), (tint, "hue"), (tint, "contrast"), (blurred, "sharpness")]
)
def test_what_lies_over_everything_shows_in_every_part(plant: Plant, name: str, masks: bool) -> None:
    found = shown(plant, name, masks)
    assert found is not None
    assert found[0] > ALL_OVER


@pytest.mark.parametrize("name", ["brightness", "saturation"])
def test_snow_shows_beside_the_object_only(name: str) -> None:
    found = shown(snow, name, masks=True)
    assert found is not None
    assert found[0] < 0.1
    assert found[1] > 1, "the surroundings differ by more than the whole does"


def test_a_frame_shows_where_the_model_looks_only() -> None:
    found = shown(framed, "saturation", masks=False)
    assert found is not None
    assert found[0] < ALL_OVER < found[1]


def test_little_can_be_told_of_few_images_and_unknown_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(tint, "flavour", masks=False) is None
    assert shown(tint, "hue", masks=False, n=2 * LEAST_PAIRS - 2) is None
    monkeypatch.setattr(module, "LEAST_CELLS", GRID * GRID)
    assert shown(tint, "hue", masks=True) is None
