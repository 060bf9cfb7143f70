"""The animals of the demo: wolves, huskies, foxes and cats, each drawn with its own markings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from engine.demo_canvas import (
    OVERSAMPLING,
    Colour,
    Floats,
    Layer,
    Points,
    Pose,
    blurred,
    flattened,
    jitter,
    mirrored,
    shifted,
)


@dataclass(frozen=True)
class Eyes:
    """How an animal's eyes are drawn."""

    x: float
    y: float
    width: float
    height: float
    slant: float
    iris: Colour
    slit: bool = False
    rim: Colour = (28, 24, 24)


def _draw_eyes(layer: Layer, eyes: Eyes) -> None:
    for side in (-1, 1):
        x, turn = side * eyes.x, side * -eyes.slant
        layer.ellipse(x, eyes.y, eyes.width * 1.28, eyes.height * 1.34, eyes.rim, 0.45, turn)
        layer.ellipse(x, eyes.y, eyes.width, eyes.height, eyes.iris, 0.47, turn)
        pupil = eyes.width * (0.24 if eyes.slit else 0.48)
        gaze = 0.25 * eyes.width * layer.pose.yaw
        layer.ellipse(x + gaze, eyes.y, pupil, eyes.height * (0.92 if eyes.slit else 0.62), (16, 14, 16), 0.5)
        layer.ellipse(
            x + gaze - 0.3 * eyes.width, eyes.y - 0.34 * eyes.height, 0.034, 0.034, (255, 255, 255), 0.5
        )


def _draw_nose(layer: Layer, y: float, width: float, colour: Colour, mouth: Colour) -> None:
    nose: Points = [
        (-width, y - 0.08),
        (0, y - 0.12),
        (width, y - 0.08),
        (width * 0.45, y + 0.1),
        (0, y + 0.14),
    ]
    nose.append((-width * 0.45, y + 0.1))
    layer.stroke([(0, y + 0.08), (0, y + 0.27)], mouth, 0.045, 1.0)
    for side in (-1, 1):
        layer.stroke([(0, y + 0.27), (side * 0.12, y + 0.33), (side * 0.27, y + 0.27)], mouth, 0.045, 0.95)
    layer.patch(nose, colour, 1.0, 0.0)
    layer.ellipse(-width * 0.35, y - 0.05, width * 0.28, 0.028, (205, 205, 212), 1.02)


def _shoulders(layer: Layer, width: float, colour: Colour, bib: Colour, shade: Colour) -> None:
    """Draw neck, shoulders and bib; the trunk stays upright and runs out of the picture below."""
    layer.outline(
        mirrored(
            [(0, -0.2), (0.62, 0.1), (0.86, 0.75), (width, 1.5), (width * 1.22, 2.5), (width * 1.3, 6.0)]
        ),
        colour,
        tuft=0.06,
    )
    layer.patch(
        [(0.62, 0.3), (0.9, 0.8), (width, 1.5), (width * 1.3, 4), (0.75, 4), (0.6, 1.4)], shade, 0, 0.07, True
    )
    layer.patch(mirrored([(0, 0.3), (0.5, 0.6), (0.56, 1.3), (0.44, 2.2), (0.3, 3.4)]), bib, 0, 0.09)
    layer.fur(330, (0, 1.5), (1.35, 1.6), 0.17)


def _ears(
    layer: Layer, outer: Points, inner: Points, back: Colour, inside: Colour, tip: Colour | None
) -> None:
    for side in (-1, 1):
        place = [(side * x, y) for x, y in outer]
        layer.outline(place, back, -0.25, 0.02)
        layer.patch([(side * x, y) for x, y in inner], inside, -0.2, 0.02)
        if tip is not None:
            (ax, ay), (bx, by), (cx, cy) = outer[0], outer[len(outer) // 2], outer[-1]
            cap: Points = [
                (side * (bx + 0.50 * (ax - bx)), by + 0.50 * (ay - by)),
                (side * (bx + 0.16 * (ax - bx)), by + 0.10 * (ay - by)),
                (side * bx, by - 0.02),
                (side * (bx + 0.10 * (cx - bx)), by + 0.12 * (cy - by)),
                (side * (bx + 0.46 * (cx - bx)), by + 0.46 * (cy - by)),
                (side * (bx + 0.10 * (ax + cx - 2 * bx)), by + 0.22 * (ay + cy - 2 * by) * 0.5),
            ]
            layer.patch(cap, tip, -0.2, 0.02)


CANINE_HEAD = mirrored(
    [
        (0, -0.9),
        (0.42, -0.86),
        (0.78, -0.55),
        (0.95, -0.1),
        (1.06, 0.28),
        (0.76, 0.55),
        (0.46, 0.82),
        (0.24, 1.1),
        (0, 1.16),
    ]
)
CANINE_EAR: Points = [(0.26, -0.62), (0.42, -1.12), (0.70, -1.58), (0.90, -1.1), (0.92, -0.42)]
CANINE_EAR_INSIDE: Points = [(0.42, -0.68), (0.52, -1.06), (0.70, -1.38), (0.80, -1.0), (0.80, -0.55)]
CANINE_MUZZLE = mirrored([(0, 0.0), (0.24, 0.12), (0.4, 0.5), (0.36, 0.86), (0.2, 1.08), (0, 1.12)])


def _wolf(back: Layer, head: Layer, rng: np.random.Generator) -> None:
    warm = rng.uniform(0, 1)
    grey = jitter((int(142 + 22 * warm), int(142 - 8 * warm), int(146 - 46 * warm)), rng)
    dark = jitter((int(92 + 18 * warm), int(90 - 6 * warm), int(96 - 36 * warm)), rng, 6)
    pale = jitter((224, 217, 204), rng, 7)
    _shoulders(back, 1.32, grey, pale, dark)
    _ears(back, CANINE_EAR, CANINE_EAR_INSIDE, dark, jitter((150, 138, 128), rng), None)
    head.outline(CANINE_HEAD, grey, tuft=0.07)
    head.patch(
        mirrored([(0, -0.95), (0.6, -0.95), (0.86, -0.5), (0.5, -0.42), (0.2, -0.22), (0.12, 0.3)]),
        dark,
        0.2,
        0.06,
    )
    head.patch(
        [(0.3, 0.2), (0.72, 0.02), (1.1, 0.2), (0.8, 0.55), (0.45, 0.84), (0.26, 0.7)], pale, 0.2, 0.07, True
    )
    head.patch([(0.24, -0.42), (0.46, -0.5), (0.56, -0.36), (0.4, -0.28)], pale, 0.4, 0.03, True)
    head.patch(mirrored([(0, -0.1), (0.2, 0.1), (0.3, 0.45), (0.22, 0.62), (0, 0.66)]), grey, 0.5, 0.04)
    head.patch(mirrored([(0, 0.62), (0.26, 0.5), (0.38, 0.72), (0.3, 1.05), (0, 1.3)]), pale, 0.5, 0.04)
    head.bulge(CANINE_MUZZLE, 0.6, 235)
    head.fur(420, (0, 0.1), (1.0, 1.0), 0.12)
    _draw_eyes(head, Eyes(0.4, -0.12, 0.155, 0.11, 0.35, jitter((226, 164, 42), rng, 8)))
    _draw_nose(head, 0.62, 0.19, (30, 28, 30), (48, 42, 42))


def _husky(back: Layer, head: Layer, rng: np.random.Generator) -> None:
    cap = [(42, 44, 52), (94, 98, 108), (150, 84, 48)][rng.choice(3, p=[0.45, 0.33, 0.22])]
    dark, white = jitter((cap[0], cap[1], cap[2]), rng, 7), jitter((240, 240, 240), rng, 5)
    _shoulders(back, 1.25, dark, white, dark)
    _ears(back, CANINE_EAR, CANINE_EAR_INSIDE, dark, jitter((226, 196, 190), rng, 6), None)
    head.outline(CANINE_HEAD, white, tuft=0.06)
    # The cap comes down between the eyes as a widow's peak and along the temples, and leaves a white mask.
    head.patch(
        mirrored(
            [
                (0, -1.1),
                (0.8, -1.1),
                (1.15, -0.4),
                (1.12, 0.22),
                (0.92, 0.1),
                (0.78, -0.24),
                (0.5, -0.46),
                (0.26, -0.46),
                (0.1, -0.1),
            ]
        ),
        dark,
        0.15,
        0.04,
    )
    head.patch([(-0.07, -0.4), (0.07, -0.4), (0.12, 0.2), (0.0, 0.42), (-0.12, 0.2)], dark, 0.6, 0.03)
    head.patch([(0.22, -0.5), (0.4, -0.6), (0.54, -0.46), (0.38, -0.38)], white, 0.4, 0.02, True)
    head.patch(mirrored([(0, 0.36), (0.2, 0.3), (0.4, 0.6), (0.24, 1.05), (0, 1.13)]), white, 0.7, 0.03)
    head.bulge(CANINE_MUZZLE, 0.6, 235)
    head.fur(380, (0, 0.1), (1.0, 1.0), 0.10)
    _draw_eyes(head, Eyes(0.4, -0.1, 0.15, 0.115, 0.3, jitter((96, 178, 236), rng, 8)))
    _draw_nose(head, 0.6, 0.18, (26, 26, 30), (60, 54, 56))


FOX_HEAD = mirrored(
    [
        (0, -0.82),
        (0.44, -0.8),
        (0.78, -0.5),
        (1.0, -0.05),
        (1.28, 0.4),
        (0.8, 0.52),
        (0.4, 0.78),
        (0.17, 1.1),
        (0, 1.17),
    ]
)
FOX_EAR: Points = [(0.2, -0.6), (0.40, -1.2), (0.72, -1.78), (0.98, -1.2), (1.0, -0.35)]
FOX_EAR_INSIDE: Points = [(0.4, -0.66), (0.54, -1.1), (0.73, -1.46), (0.86, -1.06), (0.84, -0.5)]


def _fox(back: Layer, head: Layer, rng: np.random.Generator) -> None:
    orange = [(214, 112, 44), (184, 92, 48), (222, 146, 76), (158, 112, 80)][
        rng.choice(4, p=[0.4, 0.25, 0.2, 0.15])
    ]
    coat, white = jitter((orange[0], orange[1], orange[2]), rng, 9), jitter((246, 240, 230), rng, 5)
    black = (44, 34, 32)
    _shoulders(back, 1.12, coat, white, coat)
    _ears(back, FOX_EAR, FOX_EAR_INSIDE, coat, jitter((240, 214, 190), rng, 6), black)
    head.outline(FOX_HEAD, coat, tuft=0.05)
    head.patch(
        [(0.16, 0.5), (0.36, 0.16), (0.72, 0.12), (1.45, 0.42), (0.8, 0.62), (0.4, 0.86), (0.15, 1.05)],
        white,
        0.25,
        0.06,
        True,
    )
    head.patch(mirrored([(0, 0.74), (0.24, 0.68), (0.34, 0.95), (0.2, 1.3), (0, 1.35)]), white, 0.5, 0.02)
    head.patch(mirrored([(0, -0.1), (0.15, 0.1), (0.2, 0.5), (0.16, 0.74), (0, 0.78)]), coat, 0.7, 0.02)
    head.patch([(0.2, 0.12), (0.32, 0.14), (0.22, 0.5), (0.17, 0.42)], black, 0.5, 0.01, True)
    head.bulge(mirrored([(0, 0.0), (0.16, 0.1), (0.25, 0.5), (0.22, 0.9), (0.1, 1.1), (0, 1.14)]), 0.7, 235)
    head.fur(380, (0, 0.05), (1.05, 0.95), 0.10)
    _draw_eyes(head, Eyes(0.43, -0.08, 0.175, 0.12, 0.45, jitter((196, 128, 34), rng, 8), slit=True))
    _draw_nose(head, 0.76, 0.14, (24, 22, 24), (70, 48, 44))


CAT_HEAD = mirrored(
    [
        (0, -0.8),
        (0.4, -0.78),
        (0.76, -0.58),
        (1.0, -0.2),
        (1.08, 0.2),
        (0.96, 0.56),
        (0.66, 0.84),
        (0.3, 0.97),
        (0, 1.0),
    ]
)
CAT_EAR: Points = [(0.22, -0.66), (0.5, -1.05), (0.86, -1.34), (1.0, -0.85), (1.0, -0.2)]
CAT_EAR_INSIDE: Points = [(0.42, -0.68), (0.6, -0.95), (0.82, -1.14), (0.88, -0.8), (0.86, -0.42)]


def _cat(back: Layer, head: Layer, rng: np.random.Generator) -> None:
    kind = rng.choice(4, p=[0.35, 0.25, 0.2, 0.2])
    base = [(218, 124, 56), (190, 100, 50), (150, 150, 154), (156, 122, 90)][kind]
    dark = [(150, 74, 30), (116, 54, 28), (74, 74, 82), (84, 60, 44)][kind]
    coat, stripe = jitter((base[0], base[1], base[2]), rng, 9), jitter((dark[0], dark[1], dark[2]), rng, 6)
    white = jitter((246, 238, 228), rng, 5)
    _shoulders(back, 1.0, coat, white, coat)
    for y in (1.25, 1.6, 1.95, 2.3):
        for side in (-1, 1):
            back.stroke([(side * 1.5, y - 0.1), (side * 0.95, y), (side * 0.55, y + 0.18)], stripe, 0.11, 0)
    _ears(back, CAT_EAR, CAT_EAR_INSIDE, coat, jitter((236, 178, 168), rng, 6), None)
    head.outline(CAT_HEAD, coat, tuft=0.04)
    head.patch(
        mirrored([(0, 0.3), (0.2, 0.3), (0.46, 0.52), (0.44, 0.8), (0.2, 1.02), (0, 1.04)]), white, 0.5, 0.03
    )
    for side in (-1, 1):
        # The tabby's M above the eyes, and stripes that run back over the cheeks.
        head.stroke([(side * 0.09, -0.95), (side * 0.1, -0.42)], stripe, 0.085, 0.3)
        head.stroke([(side * 0.1, -0.42), (side * 0.26, -0.62), (side * 0.32, -0.95)], stripe, 0.085, 0.3)
        head.stroke([(side * 0.32, -0.5), (side * 0.52, -0.58), (side * 0.58, -0.9)], stripe, 0.075, 0.3)
        head.stroke([(side * 0.66, 0.06), (side * 0.9, -0.02), (side * 1.15, -0.14)], stripe, 0.08, 0.15)
        head.stroke([(side * 0.62, 0.3), (side * 0.86, 0.3), (side * 1.15, 0.24)], stripe, 0.08, 0.15)
        head.stroke([(side * 0.66, 0.52), (side * 0.84, 0.56), (side * 1.1, 0.58)], stripe, 0.07, 0.15)
    head.stroke([(0, -0.95), (0, -0.6)], stripe, 0.07, 0.3)
    head.bulge(mirrored([(0, 0.28), (0.3, 0.4), (0.46, 0.66), (0.3, 0.92), (0, 0.94)]), 0.6, 220)
    head.fur(300, (0, 0.05), (1.0, 0.85), 0.08)
    iris = [(150, 196, 82), (222, 190, 66), (120, 190, 150)][rng.choice(3)]
    _draw_eyes(
        head, Eyes(0.42, -0.04, 0.21, 0.18, 0.18, jitter((iris[0], iris[1], iris[2]), rng, 8), slit=True)
    )
    _draw_nose(head, 0.46, 0.12, jitter((216, 128, 126), rng, 6), (96, 66, 60))


MARKINGS: dict[str, Callable[[Layer, Layer, np.random.Generator], None]] = {
    "cat": _cat,
    "fox": _fox,
    "husky": _husky,
    "wolf": _wolf,
}
"""What draws each animal: on the layer behind (trunk and ears) and on the head's."""


def _whiskers(colours: Floats, pose: Pose, rng: np.random.Generator) -> Floats:
    """Draw a cat's whiskers over the finished picture: they reach beyond its silhouette."""
    side_length = colours.shape[0]
    size = side_length * OVERSAMPLING
    hairs = Image.new("L", (size, size), 0)
    paint = ImageDraw.Draw(hairs)
    for side in (-1, 1):
        for row in (-1, 0, 1):
            sag = rng.normal(0, 0.04)
            points = np.array(
                [
                    (side * 0.34, 0.62 + 0.06 * row),
                    (side * 0.85, 0.58 + 0.13 * row + sag),
                    (side * 1.38, 0.62 + 0.2 * row + 2 * sag),
                ]
            )
            pixels = pose.project(points, 0.7, size)
            paint.line(flattened(pixels), fill=235, width=2)
    cover = np.asarray(hairs.reduce(OVERSAMPLING), dtype=np.float64)[..., None] / 255
    return np.asarray(colours * (1 - cover) + 250 * cover)


def draw_animal(
    animal: str, pose: Pose, size: int, rng: np.random.Generator, ground: Floats
) -> tuple[Floats, Floats]:
    """Draw an animal before a ground.

    Args:
        animal: One of ``MARKINGS``.
        pose: Where it is and which way it looks.
        size: Side of the picture in pixels.
        rng: Source of the coat's and the hairs' variation.
        ground: (size, size, 3) colours in 0..255.

    Returns:
        The picture (size, size, 3) in 0..255 and the animal's coverage (size, size) in 0..1.
    """
    upright = Pose(pose.x, pose.y, pose.scale, 0.25 * pose.tilt, 0.3 * pose.yaw, 0)
    large = size * OVERSAMPLING
    back = Layer(large, (128, 128, 128), upright, rng)
    head = Layer(large, (128, 128, 128), pose, rng)
    MARKINGS[animal](back, head, rng)
    trunk, trunk_cover = back.reduced()
    face, face_cover = head.reduced()
    cover = np.maximum(trunk_cover, face_cover)
    shadow = blurred(shifted(cover, round(0.03 * size), round(0.035 * size)), 0.035 * size)
    picture = ground * (1 - 0.38 * shadow[..., None])
    # The head throws a shadow on the chest, which lifts it off the trunk.
    chin = blurred(shifted(face_cover, round(0.035 * size), 0), 0.02 * size)
    trunk = trunk * (1 - 0.42 * chin[..., None])
    picture = picture * (1 - trunk_cover[..., None]) + trunk * trunk_cover[..., None]
    picture = picture * (1 - face_cover[..., None]) + face * face_cover[..., None]
    if animal == "cat":
        picture = _whiskers(picture, pose, rng)
    return picture, cover
