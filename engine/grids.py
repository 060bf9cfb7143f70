"""Maps on the common 14×14 grid: shares of mass, peaks, connected components and known objects, batched.

Everything stays on the map's device; no step waits for a value to be read back, but for a rare look whether the
component labels have settled.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from cache.maps import area_matrix
from cache.regions import PRESETS
from cache.schema import GRID, MASK_SIZE

CELLS = GRID * GRID
COMPONENT_SHARE = 0.5
"""Share of the peak above which cells count towards `components`."""
LOCALIZATION_SHARE = 0.2
"""Share of the peak above which cells belong to what the map localises (Zhou et al. 2016)."""

_LONGEST_PATH = CELLS // 2
"""A shortest path through neighbouring cells has at most two of the four cells of any 2×2 block."""
_CHECK_EVERY = 8
_TIE = 1 - 1e-5
"""Cells this close to the peak tie with it: resampling a coarse map spreads its peak over several equal cells."""
_CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


class Grid:
    """Maps on the 14×14 grid, with what several statistics share; degenerate maps hold zeros.

    Args:
        maps: (N, H, W), unscaled, any resolution.
        mask: Where the object is, (N, 56, 56) from 0 to 1; rows of zeros where it is unknown.
        boxes: Object boxes x0, y0, x1, y1 in fractions of the view, (N, B, 4); rows of NaN are no box.
    """

    def __init__(self, maps: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None) -> None:
        maps = maps.float()
        self.finite = maps.isfinite().all(2).all(1)
        self.maps = torch.where(self.finite[:, None, None], maps, 0)
        self.positive = self.maps.relu()
        self.largest = self.positive.amax((1, 2))
        self.degenerate = ~(self.finite & (self.largest > 0))
        self._mask = mask
        self._boxes = boxes
        height, width = maps.shape[1:]
        # Divided by the peak first, neither the smallest nor the largest float32 values are lost in the sums.
        relative = self.positive / torch.where(self.largest > 0, self.largest, 1)[:, None, None]
        self.mass = _area(height, maps.device) @ relative @ _area(width, maps.device).T
        total = self.mass.sum((1, 2))
        self.p = self.mass / torch.where(total > 0, total, 1)[:, None, None]
        """Share of the positive mass in each cell, (N, 14, 14)."""

    @cached_property
    def flat(self) -> Tensor:
        """The shares, (N, 196)."""
        return self.p.flatten(1)

    @cached_property
    def ascending(self) -> Tensor:
        """The shares in ascending order, (N, 196)."""
        return self.flat.sort(1).values

    @cached_property
    def peak(self) -> Tensor:
        """Share of the largest cell, (N, 1, 1)."""
        return self.p.amax((1, 2), keepdim=True)

    @cached_property
    def region_masses(self) -> Tensor:
        """Mass in the border, the centre and the four corners, (N, 6)."""
        return (self.flat @ _regions(self.p.device)).clamp(0, 1)

    @cached_property
    def centroid(self) -> tuple[Tensor, Tensor]:
        """Mean x and mean y under p, (N,) each."""
        at = centres(self.p.device)
        return self.p.sum(1) @ at, self.p.sum(2) @ at

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Component labels of the cells above the two shares of the peak and of those that tie with it."""
        above = (
            self.p > COMPONENT_SHARE * self.peak,
            self.p > LOCALIZATION_SHARE * self.peak,
            self.p >= _TIE * self.peak,
        )
        labels = label_components(torch.cat(above))
        count = len(self.p)
        return labels[:count], labels[count : 2 * count], labels[2 * count :]

    @cached_property
    def components(self) -> Tensor:
        """How many separate areas lie above half the peak, (N,)."""
        # Each component keeps exactly one cell's own label.
        return (self._labels[0].flatten(1) == _own_labels(self.p.device)).sum(1)

    @cached_property
    def peak_point(self) -> tuple[Tensor, Tensor]:
        """Centre x and y of the largest cell, or of the plateau it belongs to, (N,) each."""
        labels = self._labels[2]
        chosen = labels.flatten(1).gather(1, self.flat.argmax(1, keepdim=True))
        plateau = (labels == chosen[:, :, None]).float()
        size = plateau.sum((1, 2))
        at = centres(self.p.device)
        return plateau.sum(1) @ at / size, plateau.sum(2) @ at / size

    @cached_property
    def box(self) -> Tensor:
        """What the map localises: x0, y0, x1, y1 of the largest component above 20 % of the peak, (N, 4)."""
        labels = self._labels[1]
        flat = labels.flatten(1).long()
        sizes = torch.zeros(len(flat), CELLS + 1, device=flat.device)
        sizes.scatter_add_(1, flat, torch.ones_like(flat, dtype=sizes.dtype))
        sizes[:, 0] = 0
        # Between components of one size, the one with more mass.
        mass = torch.zeros_like(sizes).scatter_add_(1, flat, self.flat)
        largest = (sizes + 0.5 * mass).argmax(1)
        return _bounds(labels == largest[:, None, None])

    @cached_property
    def mask(self) -> Tensor:
        """Where the object is, (N, 56, 56) from 0 to 1: the mask, or the union of the boxes."""
        if self._mask is not None:
            return self._mask.float()
        assert self._boxes is not None, "a statistic of known objects must declare that it needs them"
        return _box_coverage(self._boxes.float())

    @cached_property
    def has_object(self) -> Tensor:
        """Whether the object is known, (N,)."""
        return self.mask.flatten(1).any(1)

    @cached_property
    def boxes(self) -> Tensor:
        """Known boxes, (N, B, 4), NaN where there is none: those given, or the one that bounds the mask."""
        if self._boxes is not None:
            return self._boxes.float()
        return _bounds(self.mask >= 0.5)[:, None]


def label_components(cells: Tensor) -> Tensor:
    """Label connected cells, diagonal neighbours included.

    Args:
        cells: (N, 14, 14) bool.

    Returns:
        (N, 14, 14) uint8: 0 outside, else the largest 1-based index of a cell in the component.
    """
    # One byte a cell, rows one after the other with an empty column and row between them, and the whole batch in
    # one line: a neighbour is then an offset, and each step a few comparisons of long runs of bytes.
    count, width = len(cells), GRID + 1
    length = count * width * width
    inside = pad(cells, (0, 1, 0, 1)).to(torch.uint8).mul_(255).flatten()
    line = torch.zeros(length + 2 * (width + 1), dtype=torch.uint8, device=cells.device)
    labels = line[width + 1 : width + 1 + length]
    own = pad(_own_labels(cells.device).view(GRID, GRID), (0, 1, 0, 1)).flatten()
    labels.copy_(own.repeat(count).bitwise_and_(inside))
    for step in range(1, _LONGEST_PATH + 1):
        before = labels.clone() if step % _CHECK_EVERY == 0 else None
        across = torch.maximum(line[:-2], line[2:])
        torch.maximum(across, line[1:-1], out=across)
        down = torch.maximum(across[:length], across[2 * width :])
        torch.maximum(down, across[width : width + length], out=down)
        torch.bitwise_and(down, inside, out=labels)
        if before is not None and torch.equal(before, labels):
            break
    return labels.view(count, width, width)[:, :GRID, :GRID]


@lru_cache(maxsize=64)
def _area(count: int, device: torch.device) -> Tensor:
    return torch.tensor(area_matrix(count, GRID), dtype=torch.float32, device=device)


@lru_cache(maxsize=8)
def _own_labels(device: torch.device) -> Tensor:
    return torch.arange(1, CELLS + 1, dtype=torch.uint8, device=device)


@lru_cache(maxsize=8)
def _regions(device: torch.device) -> Tensor:
    """Coverage of the border, the centre and the four corners, (196, 6)."""
    coverages = [PRESETS[name].coverage().ravel() for name in ("border", "center", *_CORNERS)]
    return torch.stack([torch.tensor(c, dtype=torch.float32, device=device) for c in coverages], 1)


@lru_cache(maxsize=8)
def centres(device: torch.device) -> Tensor:
    """Return the centres of the grid's columns (or rows) in fractions of the view, (14,)."""
    return (torch.arange(GRID, device=device, dtype=torch.float32) + 0.5) / GRID


def _bounds(cells: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 in fractions of the box around true cells, (N, 4); NaN where there are none."""
    size = cells.shape[1]
    edges = torch.arange(size, device=cells.device)
    sides = []
    for along in (cells.any(1), cells.any(2)):
        sides.append(torch.where(along, edges, size).amin(1) / size)
        sides.append(torch.where(along, edges + 1, 0).amax(1) / size)
    x0, x1, y0, y1 = sides
    box = torch.stack([x0, y0, x1, y1], 1)
    return torch.where((x1 > x0)[:, None], box, torch.nan)


def _box_coverage(boxes: Tensor) -> Tensor:
    """Return the share of each of 56×56 cells that the boxes cover, (N, 56, 56); of boxes that overlap, the larger."""
    edges = torch.arange(MASK_SIZE, device=boxes.device, dtype=torch.float32)
    low, high = boxes.nan_to_num(0)[..., :2] * MASK_SIZE, boxes.nan_to_num(0)[..., 2:] * MASK_SIZE
    overlap = torch.minimum(high[..., None], edges + 1) - torch.maximum(low[..., None], edges)
    overlap = overlap.clamp(min=0)
    return (overlap[:, :, 1, :, None] * overlap[:, :, 0, None, :]).amax(1)
