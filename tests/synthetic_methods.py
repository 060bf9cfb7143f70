"""Methods of every family for synthetic runs: fine signed maps, smooth masks and superpixels, beside the CAMs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.schema import Column
from tests.synthetic_story import SIDE, Story, draw_maps

CELLS = 6
"""Rows and columns of the jittered grid that superpixels grow from."""
SUPERPIXEL_COLUMNS = (
    Column("superpixels", pa.binary(), "labels: zlib-compressed uint16, little-endian, row-major"),
    Column("weights", pa.list_(pa.float32()), "one signed weight a superpixel"),
    Column("intercept", pa.float32(), "intercept of the surrogate", nullable=True),
)


@dataclass(frozen=True)
class Kind:
    """What a synthetic method is like.

    Attributes:
        title: Its name on the pages.
        size: Cells a side of its maps.
        family: Activation, gradient or perturbation.
        signed: Whether its maps have negative parts.
        sharpness: Width of what it draws, against the object's.
        class_dependent: Whether another class has another map.
        equivalent: Methods that coincide with it.
        superpixels: Whether it weighs superpixels.
    """

    title: str
    size: int
    family: str = "activation"
    signed: bool = False
    sharpness: float = 1.2
    class_dependent: bool = True
    equivalent: tuple[str, ...] = ()
    superpixels: bool = False


ALIKE = ("cam", "gradcam", "hirescam", "xgradcam")
KINDS = {
    "cam": Kind("CAM", 7, sharpness=1.0, equivalent=ALIKE),
    "gradcam": Kind("Grad-CAM", 7, sharpness=1.0, equivalent=ALIKE),
    "gradcampp": Kind("Grad-CAM++", 7),
    "xgradcam": Kind("XGrad-CAM", 7, sharpness=1.0, equivalent=ALIKE),
    "hirescam": Kind("HiRes-CAM", 7, sharpness=1.0, equivalent=ALIKE),
    "layercam": Kind("Layer-CAM", 14, sharpness=0.7),
    "eigencam": Kind("Eigen-CAM", 7, class_dependent=False),
    "saliency": Kind("Saliency", SIDE, "gradient", sharpness=0.8),
    "input_x_gradient": Kind("Input × gradient", SIDE, "gradient", True, 0.8),
    "guided_backprop": Kind("Guided backpropagation", SIDE, "gradient", True, 0.6),
    "guided_gradcam": Kind("Guided Grad-CAM", SIDE, "gradient", True, 0.5),
    "integrated_gradients": Kind("Integrated gradients", SIDE, "gradient", True, 0.9),
    "smoothgrad": Kind("SmoothGrad", SIDE, "gradient", sharpness=1.1),
    "deeplift": Kind("DeepLift", SIDE, "gradient", True, 0.9),
    "gradient_shap": Kind("Gradient SHAP", SIDE, "gradient", True, 1.0),
    "occlusion": Kind("Occlusion", 13, "perturbation", True, 1.3),
    "rise": Kind("RISE", SIDE, "perturbation", sharpness=1.6),
    "lime": Kind("LIME", SIDE, "perturbation", True, 1.0, superpixels=True),
    "kernel_shap": Kind("Kernel SHAP", SIDE, "perturbation", True, 1.1, superpixels=True),
    "score_cam": Kind("Score-CAM", 7, "perturbation"),
    "ablation_cam": Kind("Ablation-CAM", 7, "perturbation"),
}


def maps_of(story: Story, rows: NDArray[np.int64], kind: Kind, own: bool) -> NDArray[np.float32]:
    """Draw a method's maps, (rows, size, size)."""
    if kind.superpixels:
        weights, labels = weights_of(story, rows, kind, own), labels_of(story, rows)
        return np.stack([w[each] for w, each in zip(weights, labels, strict=True)]).astype(np.float32)
    maps = draw_maps(story, rows, kind.size, kind.sharpness, own)
    if kind.family == "gradient":
        grain = np.stack([np.random.default_rng([7, int(i)]).normal(size=maps.shape[1:]) for i in rows])
        maps = maps * (grain if kind.signed else np.abs(grain))
    elif kind.signed:
        maps = maps - 0.25 * maps.max(axis=(1, 2), keepdims=True)
    return maps.astype(np.float32)


def labels_of(story: Story, rows: NDArray[np.int64]) -> list[NDArray[np.uint16]]:
    """Divide each image into superpixels around jittered seeds: (SIDE, SIDE) of 0 to CELLS² − 1."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    found = []
    for i in rows:
        rng = np.random.default_rng([3, int(story.image[i])])
        seeds = (np.indices((CELLS, CELLS)).reshape(2, -1).T + rng.uniform(0.2, 0.8, (CELLS**2, 2))) / CELLS
        far = (y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2
        found.append(far.argmin(axis=-1).astype(np.uint16))
    return found


def weights_of(story: Story, rows: NDArray[np.int64], kind: Kind, own: bool) -> NDArray[np.float32]:
    """Weigh each superpixel by what the story attends to within it, (rows, CELLS²)."""
    maps = draw_maps(story, rows, CELLS, kind.sharpness, own).reshape(len(rows), -1)
    noise = np.stack([np.random.default_rng([5, int(i)]).normal(size=maps.shape[1]) for i in rows])
    largest = np.abs(maps).max(axis=1, keepdims=True)
    return np.asarray(maps - 0.3 * largest + 0.12 * noise * largest, np.float32)


def superpixel_columns(
    story: Story, rows: NDArray[np.int64], wrong: NDArray[np.int64], kind: Kind
) -> dict[str, pa.Array]:
    """Return the columns of `SUPERPIXEL_COLUMNS` for the maps of the predicted and of the true class."""
    labels = [*labels_of(story, rows), *labels_of(story, wrong)]
    weights = [*weights_of(story, rows, kind, True), *weights_of(story, wrong, kind, False)]
    return {
        "superpixels": pa.array(
            [zlib.compress(each.astype("<u2").tobytes()) for each in labels], pa.binary()
        ),
        "weights": pa.array([each.tolist() for each in weights], pa.list_(pa.float32())),
        "intercept": pa.array([0.1] * len(labels), pa.float32()),
    }
