"""Pools: the pictures that shortcuts are planted in, as the network sees them; a folder of classes, or the demo's animals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.planting.plants import Mask, Pixels
from engine.demo_images import BARE_GROUNDS, CLASSES, LIGHTS, Scene, draw_scene
from engine.demo_network import PREPROCESSING
from engine.images import decode

DEMO = "demo"
PALE = "demo-pale"
"""The demo's animals before a pale wall, faded and few: what photographs on plain ground are like, to tune on."""
PALE_PICTURES = 800
DIGITS = "digits"
"""scikit-learn's 1,797 scans of handwritten digits (Alpaydin & Kaynak 1998): pictures that nothing was tuned on."""
DEMO_PICTURES = 1_900
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SIDE = PREPROCESSING.size[0]


@dataclass(frozen=True)
class Pool:
    """Pictures of classes.

    Attributes:
        name: Whose they are, as a part of file names.
        classes: Names of the classes.
        pixels: (n, side, side, 3).
        labels: The class of each.
        masks: Where the object is, (n, side, side); None where nobody knows.
    """

    name: str
    classes: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None

    def split(self, seed: int, train: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which pictures to train on and which to audit: the same share of every class."""
        dice = np.random.default_rng([seed, len(self.labels)])
        parts: tuple[list[int], list[int]] = ([], [])
        for k in range(len(self.classes)):
            rows = dice.permutation(np.flatnonzero(self.labels == k)).tolist()
            first = round(train * len(rows))
            parts[0].extend(rows[:first])
            parts[1].extend(rows[first:])
        return np.sort(np.array(parts[0], np.int64)), np.sort(np.array(parts[1], np.int64))


def open_pool(data: str, keep: Path) -> Pool:
    """Read a folder of classes or the digits, or draw the demo's animals, pale or not; what was drawn is kept in a folder for the next time."""
    if data == DIGITS:
        return _digits()
    return _demo(keep) if data == DEMO else _pale(keep) if data == PALE else _folder(Path(data))


def _folder(folder: Path) -> Pool:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if len(classes) < 2:
        raise SystemExit(f"{folder} needs at least two subfolders of images, a subfolder a class.")
    pixels, labels = [], []
    for k, name in enumerate(classes):
        for file in sorted((folder / name).iterdir()):
            if file.suffix.lower() in SUFFIXES:
                pixels.append(PREPROCESSING.view(decode(file.read_bytes())).pixels)
                labels.append(k)
    return Pool(folder.name, tuple(classes), np.stack(pixels), np.array(labels))


def _digits() -> Pool:
    from sklearn.datasets import load_digits

    scans = load_digits()
    pixels = [
        np.asarray(Image.fromarray(np.uint8(scan * 255 / 16)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for scan in scans.images
    ]
    colours = np.repeat(np.stack(pixels)[..., None], 3, axis=3)
    return Pool(
        DIGITS, tuple(str(name) for name in scans.target_names), colours, scans.target.astype(np.int64)
    )


def _demo(keep: Path) -> Pool:
    """Draw the demo's animals without either of its habits: on bare grounds, without a tag."""
    kept = keep / f"{DEMO}-{DEMO_PICTURES}.npz"
    if not kept.is_file():
        drawn = [_drawn(index) for index in range(DEMO_PICTURES)]
        keep.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".tmp.npz")
        np.savez(partial, pixels=np.stack([d[0] for d in drawn]), masks=np.stack([d[1] for d in drawn]))
        partial.replace(kept)
    with np.load(kept) as arrays:
        pixels, masks = arrays["pixels"], arrays["masks"]
    return Pool(DEMO, CLASSES, pixels, np.arange(len(pixels)) % len(CLASSES), masks)


def _pale(keep: Path) -> Pool:
    """Put the demo's animals before a pale wall each, in faint light: they are harder to tell apart, and grounds say nothing."""
    demo = _demo(keep)
    pixels, masks = demo.pixels[:PALE_PICTURES].copy(), np.asarray(demo.masks)[:PALE_PICTURES]
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    for i, body in enumerate(masks):
        dice = np.random.default_rng([13, i])
        slope, shade = dice.uniform(-24, 24, 2), dice.uniform(185, 235)
        wall = (shade + slope[0] * x + slope[1] * y)[..., None] + dice.normal(0, 4, 3)
        soft = Image.fromarray((body * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
        cover = np.asarray(soft, np.float64)[..., None] / 255
        # Fur in one tone, nearly: colours would give the animals away at once.
        grey = pixels[i].mean(axis=2, keepdims=True)
        faded = 0.45 * (0.75 * grey + 0.25 * pixels[i]) + 0.55 * np.array((200.0, 165.0, 140.0))
        seen = faded * cover + wall * (1 - cover) + dice.normal(0, 3, (SIDE, SIDE, 1))
        pixels[i] = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return Pool(PALE, CLASSES, pixels, demo.labels[:PALE_PICTURES])


def _drawn(index: int) -> tuple[Pixels, Mask]:
    dice = np.random.default_rng([7, index])
    scene = Scene(
        animal=CLASSES[index % len(CLASSES)],
        ground=str(dice.choice(BARE_GROUNDS)),
        tag=False,
        light=str(dice.choice(list(LIGHTS))),
        tilt=float(np.clip(dice.normal(0, 8), -20, 20)),
        path="",
        mask="",
        key=(7, 2, index),
    )
    picture, body = draw_scene(scene)
    small = Image.fromarray(body.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BOX)
    view = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(view), np.asarray(small) > 127
