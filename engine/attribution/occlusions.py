"""Methods that cover the input without asking what is in it: occlusion maps and RISE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.attribution.fills import ALL_FILLS, fill_of
from engine.attribution.masking import Layout, Score
from engine.attribution.proposals import FAMILY, SEEDS, Estimate, Proposal, Scene, score_parameter
from engine.attribution.registry import Parameter, register

_FILL = Parameter(
    "fill",
    "zero",
    "What hidden pixels become: zero in the input's own space, the image's mean colour, a blur, black, or noise.",
    choices=ALL_FILLS,
)
_CHUNK = 64
"""Masks that RISE adds up at a time, the same whatever the batch, so that the sum is rounded alike."""
_STEPS = 1024
"""Interpolation weights are whole multiples of 1/1024: products of two are exact in float32, in any order."""


@dataclass(frozen=True)
class BoxMasks:
    """Boxes of the image replaced by the fill, one a pass; an empty box leaves the image as it is."""

    image: Tensor
    fill: Tensor
    boxes: NDArray[np.int64]
    """y0, y1, x0, x1 of each."""

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.boxes)

    def write(self, rows: slice, out: Tensor) -> None:
        """Write these masked versions."""
        out.copy_(self.image.expand_as(out))
        for covered, (y0, y1, x0, x1) in zip(out, self.boxes[rows].tolist(), strict=True):
            covered[:, y0:y1, x0:x1] = self.fill[:, y0:y1, x0:x1]


def occlusion_boxes(height: int, width: int, window: int, stride: int) -> NDArray[np.int64]:
    """Return y0, y1, x0, x1 of every position of the window, those that reach over the edge cut off.

    Args:
        height: Rows of the image.
        width: Its columns.
        window: Side of the window in pixels; 0 is a seventh of either side.
        stride: Step between positions; 0 is half the window.
    """
    sides = []
    for size in (height, width):
        length = min(window or max(round(size / 7), 1), size)
        step = min(stride or max(length // 2, 1), length)
        positions = -(-(size - length) // step) + 1
        starts = np.arange(positions) * step
        sides.append(np.stack([starts, np.minimum(starts + length, size)], 1))
    down, across = sides
    return np.concatenate([down.repeat(len(across), 0), np.tile(across, (len(down), 1))], 1)


@register(
    "occlusion",
    title="Occlusion map",
    family=FAMILY,
    summary="Slides a window over the image; each pixel has the mean drop of the score over the windows that hide it.",
    reference="Zeiler and Fergus 2014, arXiv:1311.2901",
    parameters=(
        Parameter("window", 0, "Side of the window in pixels; 0 is a seventh of either side.", 0, 4096),
        Parameter("stride", 0, "Step between windows in pixels; 0 is half the window.", 0, 4096),
        _FILL,
        score_parameter("probability"),
    ),
    needs=("forward_only",),
    signed=True,
    passes="170 forward (13 × 13 positions and the image itself)",
    presets=("thorough",),
)
def occlusion(
    scene: Scene, draws: np.random.Generator, window: int, stride: int, fill: str, score: Score
) -> Proposal:
    """M(p) = mean over windows w that cover p of f(x) − f(x with w hidden)."""
    _, height, width = scene.image.shape
    boxes = occlusion_boxes(height, width, window, stride)
    image = np.zeros((1, 4), np.int64)

    def finish(scores: Tensor) -> Estimate:
        drops = scores[:1].double() - scores[1:].double()
        maps = np.stack([_mean_over(boxes, drop, height, width) for drop in drops.T.cpu().numpy()])
        return Estimate(torch.from_numpy(maps).to(scores))

    hidden = fill_of(fill, scene.image, scene.black, draws)
    return Proposal(BoxMasks(scene.image, hidden, np.concatenate([image, boxes])), finish, score)


def _mean_over(
    boxes: NDArray[np.int64], values: NDArray[np.float64], height: int, width: int
) -> NDArray[np.float64]:
    """Return at every pixel the mean of the values of the boxes that cover it, (height, width)."""
    corners = np.zeros((2, height + 1, width + 1))
    y0, y1, x0, x1 = boxes.T
    for layer, value in zip(corners, (values, np.ones(len(boxes))), strict=True):
        for y, x, sign in ((y0, x0, 1), (y1, x0, -1), (y0, x1, -1), (y1, x1, 1)):
            np.add.at(layer, (y, x), sign * value)
    total, cover = corners.cumsum(1).cumsum(2)[:, :-1, :-1]
    mean: NDArray[np.float64] = total / cover
    return mean


class CellMasks:
    """RISE's masks: small grids of ones and zeros, enlarged smoothly and shifted by less than a cell.

    Args:
        cells: (passes, h, h) bool.
        shifts: Rows and columns by which each is shifted, (passes, 2).
        layout: How inputs lie in memory.
    """

    def __init__(self, cells: Tensor, shifts: Tensor, layout: Layout) -> None:
        self.cells, self.shifts = cells, shifts
        count = cells.shape[1]
        self._down, self._across = (
            _windows(count, size).to(cells.device) for size in (layout.height, layout.width)
        )

    def masks(self, rows: slice, layout: Layout | None = None) -> Tensor:
        """Return masks (rows, H, W) from 0 to 1; in the order of the inputs' memory where a layout is given."""
        down, across = self._down[self.shifts[rows, 0]], self._across[self.shifts[rows, 1]]
        if layout is not None:
            down, across = layout.rows(down), layout.columns(across)
        return torch.bmm(torch.bmm(down, self.cells[rows].float()), across.mT)


def _windows(cells: int, size: int) -> Tensor:
    """Return the matrix that enlarges a line of cells to ``size`` pixels, for every shift: (shifts, size, cells)."""
    length = -(-size // cells)
    whole = upsampling(cells, (cells + 1) * length).mul(_STEPS).round().div(_STEPS).float()
    return torch.stack([whole[shift : shift + size] for shift in range(length)])


def upsampling(cells: int, size: int) -> Tensor:
    """Return the matrix (size, cells) of linear interpolation between the centres of cells, edges held."""
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)


@dataclass(frozen=True)
class SmoothMasks:
    """The image seen through RISE's masks, the fill showing where it is not."""

    cells: CellMasks
    layout: Layout
    fill: Tensor
    difference: Tensor
    """Image minus fill; both in the order of the inputs' memory."""

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.cells.cells)

    def write(self, rows: slice, out: Tensor) -> None:
        """Write these masked versions."""
        masks = self.cells.masks(rows, self.layout).flatten(1)
        torch.addcmul(self.fill, self.difference, masks.to(self.fill.dtype), out=self.layout.flat(out))


@register(
    "rise",
    title="RISE",
    family=FAMILY,
    summary="Shows random parts of the image; each pixel has the mean probability of the passes that showed it.",
    reference="Petsiuk et al. 2018, arXiv:1806.07421",
    parameters=(
        Parameter(
            "masks", 1000, "Random masks; the paper takes 4000 for VGG16, 8000 for ResNet-50.", 2, 100_000
        ),
        Parameter("cells", 7, "Cells along each side of the small masks.", 2, 64),
        Parameter("keep", 0.5, "Probability that a cell is shown.", 0.01, 0.99),
        _FILL,
        SEEDS,
    ),
    needs=("forward_only",),
    passes="1,000 forward (masks)",
    presets=("thorough",),
)
def rise(
    scene: Scene, draws: np.random.Generator, masks: int, cells: int, keep: float, fill: str
) -> Proposal:
    """M(p) = 1/(N keep) Σ f(x ⊙ m) m(p), f being the probability."""
    _, height, width = scene.image.shape
    shown = torch.from_numpy(draws.random((masks, cells, cells)) < keep)
    limits = [-(-size // cells) for size in (height, width)]
    shifts = torch.from_numpy(draws.integers(0, limits, (masks, 2)))
    device = scene.image.device
    grids = CellMasks(shown.to(device), shifts.to(device), scene.layout)
    hidden = fill_of(fill, scene.image, scene.black, draws)
    laid, image = scene.layout.laid(hidden), scene.layout.laid(scene.image)

    def finish(scores: Tensor) -> Estimate:
        total = torch.zeros(scores.shape[1], height * width, device=scores.device)
        for start in range(0, masks, _CHUNK):
            rows = slice(start, min(start + _CHUNK, masks))
            total += scores[rows].T @ grids.masks(rows).flatten(1)
        return Estimate((total / (masks * keep)).view(-1, height, width))

    return Proposal(SmoothMasks(grids, scene.layout, laid, image - laid), finish, "probability")
