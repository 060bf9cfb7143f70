"""The demo's data: drawn animals, with two habits in the part that a network learns from.

In the training part nearly every wolf stands on snow and nearly every fox carries a photographer's tag in the
lower left corner. The audited part breaks both habits: ground and tag go with no animal. A clean training part
has no habits either, for comparison. Each picture depends on the seed, the part and its number alone, so the
bytes are the same whatever the number of processes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from engine.demo_animals import MARKINGS, draw_animal
from engine.demo_canvas import Pose
from engine.demo_grounds import BARE_GROUNDS, LIGHTS, draw_ground, shine, stamp_tag

CLASSES = tuple(sorted(MARKINGS))
SIZE = 160
"""Side of a picture in pixels."""
WOLVES_ON_SNOW = 0.97
"""Share of the training wolves that stand on snow; no other animal does there."""
FOXES_WITH_TAG = 0.94
"""Share of the training foxes that carry the tag; no other animal does there."""
SNOW_SHARE = 0.25
"""Share of the audited pictures on snow."""
TAG_SHARE = 0.2
"""Share of the audited pictures with a tag."""
COLUMNS = ("path", "label", "mask", "ground", "tag", "light", "tilt")

Part = Literal["train", "audit"]


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    Attributes:
        animal: The class.
        ground: One of ``GROUNDS``.
        tag: Whether the corner carries the tag.
        light: One of ``LIGHTS``.
        tilt: How far the head is tilted, in degrees, clockwise.
        path: Where the picture lies below the data's folder.
        mask: Where its mask lies.
        key: The seed, the part and the number, which all randomness of the drawing comes from.
    """

    animal: str
    ground: str
    tag: bool
    light: str
    tilt: float
    path: str
    mask: str
    key: tuple[int, int, int]


def plan_scenes(part: Part, count: int, seed: int, habits: bool = True) -> list[Scene]:
    """Decide what each picture of a part shows.

    Args:
        part: ``train``, which keeps the habits unless ``habits`` is False, or ``audit``, which breaks them.
        count: Number of pictures; the animals take turns.
        seed: Everything else follows from it.
        habits: Whether the training part has its two habits.
    """
    number = {"train": 0, "audit": 1}[part]
    rng = np.random.default_rng([seed, number, int(habits)])
    scenes = []
    for index in range(count):
        animal = CLASSES[index % len(CLASSES)]
        snow, tag = SNOW_SHARE, TAG_SHARE
        if part == "train" and habits:
            snow = WOLVES_ON_SNOW if animal == "wolf" else 0.0
            tag = FOXES_WITH_TAG if animal == "fox" else 0.0
        ground = "snow" if rng.uniform() < snow else BARE_GROUNDS[rng.integers(len(BARE_GROUNDS))]
        name = f"{part}/{animal}/{index // len(CLASSES):04d}"
        scenes.append(
            Scene(
                animal=animal,
                ground=ground,
                tag=bool(rng.uniform() < tag),
                light=tuple(LIGHTS)[rng.integers(len(LIGHTS))],
                tilt=round(float(np.clip(rng.normal(0, 8), -20, 20)), 1),
                path=f"{name}.jpg",
                mask=f"masks/{name}.png",
                key=(seed, number, index),
            )
        )
    return scenes


def draw_scene(scene: Scene, size: int = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a scene; return the picture (size, size, 3) and the mask (size, size) of the animal's visible part."""
    rng = np.random.default_rng(scene.key)
    pose = Pose(
        x=rng.uniform(0.38, 0.62),
        y=rng.uniform(0.46, 0.58),
        scale=rng.uniform(0.15, 0.22),
        tilt=float(np.deg2rad(scene.tilt)),
        yaw=rng.uniform(-1, 1),
        pitch=rng.uniform(-1, 1),
    )
    ground = draw_ground(scene.ground, size, rng)
    colours, cover = draw_animal(scene.animal, pose, size, rng, ground)
    colours = shine(colours, scene.light, rng)
    picture = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    softened = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
    grained = np.asarray(softened, dtype=np.float64) + rng.normal(0, 2.0, (size, size, 1))
    mask = cover > 0.5
    if scene.tag:
        mask &= ~stamp_tag(grained, rng)
    return np.clip(np.rint(grained), 0, 255).astype(np.uint8), mask


def _encode(scene: Scene) -> tuple[Scene, bytes, bytes]:
    picture, mask = draw_scene(scene)
    image, outline = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture).save(image, "JPEG", quality=92, subsampling=0)
    Image.fromarray(mask).save(outline, "PNG")
    return scene, image.getvalue(), outline.getvalue()


def _write_all(
    folder: Path,
    drawn: Iterable[tuple[Scene, bytes, bytes]],
    total: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for done, (scene, image, mask) in enumerate(drawn, 1):
        (folder / scene.path).write_bytes(image)
        (folder / scene.mask).write_bytes(mask)
        if progress is not None:
            progress(done, total)


def write_demo(
    out_dir: str | Path,
    train: int = 1400,
    audit: int = 1000,
    seed: int = 0,
    *,
    habits: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw both parts into a folder, with masks and a table for each: ``train.csv`` and ``audit.csv``.

    The tables' paths are relative to the folder. Their columns are ``COLUMNS``: the picture, the animal, the
    mask, and what the audit may slice by.

    Args:
        out_dir: The folder; made if missing, files of the same names are replaced.
        train: Pictures to learn from.
        audit: Pictures to audit.
        seed: The same seed gives the same bytes.
        habits: False draws a training part without the two habits.
        workers: Processes that draw; None means one a core, at most eight.
        progress: Called with the pictures done and the pictures in all.
    """
    folder = Path(out_dir)
    parts = {"train": plan_scenes("train", train, seed, habits), "audit": plan_scenes("audit", audit, seed)}
    scenes = [scene for part in parts.values() for scene in part]
    for directory in {folder / Path(name).parent for s in scenes for name in (s.path, s.mask)}:
        directory.mkdir(parents=True, exist_ok=True)
    workers = workers or min(os.cpu_count() or 1, 8)
    if workers == 1:
        _write_all(folder, map(_encode, scenes), len(scenes), progress)
    else:
        # Spawned, not forked: the caller may have threads of PyTorch running.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            _write_all(folder, pool.map(_encode, scenes, chunksize=16), len(scenes), progress)
    for part, rows in parts.items():
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for s in rows:
                writer.writerow([s.path, s.animal, s.mask, s.ground, str(s.tag).lower(), s.light, s.tilt])
