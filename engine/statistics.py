"""Numbers computed from unscaled maps, by which samples are filtered and ranked.

A statistic is one function of a :class:`~engine.grids.Grid`; built-ins and extensions come in by :func:`register`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from cache.schema import GRID, MASK_SIZE, Direction, Field
from engine.grids import CELLS, Grid, centres


@dataclass(frozen=True)
class Statistic:
    """A registered number.

    Attributes:
        field: Its title, unit, range, direction and formula, as written into the run.
        compute: Function of a :class:`Grid` that returns (N,).
        share: Whether it speaks of p and is therefore NULL for a degenerate map.
        needs_object: Whether it compares the map with a known object.
    """

    field: Field
    compute: Callable[[Grid], Tensor]
    share: bool = True
    needs_object: bool = False


STATISTICS: dict[str, Statistic] = {}
"""Every registered statistic by name, in the order of the columns."""

Compute = TypeVar("Compute", bound=Callable[..., Tensor])


def register(field: Field, *, share: bool = True, needs_object: bool = False) -> Callable[[Compute], Compute]:
    """Return a decorator that registers a function of a :class:`Grid` as a statistic."""

    def enter(compute: Compute) -> Compute:
        if field.name in STATISTICS:
            raise ValueError(f"statistic {field.name!r} is registered already")
        STATISTICS[field.name] = Statistic(field, compute, share, needs_object)
        return compute

    return enter


def statistic_fields(objects: bool = False) -> list[Field]:
    """Return the fields that `measure` fills, those of known objects included where there are any."""
    return [s.field for s in STATISTICS.values() if objects or not s.needs_object]


@dataclass(frozen=True)
class Measures:
    """What a batch of maps measures.

    Attributes:
        names: Statistics, in the order of the columns of `values`.
        values: (N, statistics) float32; NaN stands for NULL.
        corners: Summed-area tables of p, (N, 196) in the order of `cache.schema.CORNERS`; NaN where degenerate.
        degenerate: Whether a map has no positive value or is not finite, (N,) bool.
    """

    names: tuple[str, ...]
    values: Tensor
    corners: Tensor
    degenerate: Tensor

    @property
    def columns(self) -> dict[str, Tensor]:
        """Each statistic's column, (N,)."""
        return {name: self.values[:, i] for i, name in enumerate(self.names)}


def measure(maps: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None) -> Measures:
    """Compute every registered statistic of a batch of maps.

    Args:
        maps: (N, H, W), unscaled, any resolution and sign.
        mask: Object masks over the model's view, (N, 56, 56), bool or coverage from 0 to 1; a row of zeros
            means that the object is unknown. None where the dataset has none.
        boxes: Object boxes over the view, (N, B, 4): x0, y0, x1, y1 in fractions, rows of NaN for fewer.

    Returns:
        The measures; statistics that need an object are among them only where masks or boxes were given.
    """
    grid = Grid(maps, mask, boxes)
    known = mask is not None or boxes is not None
    wanted = [s for s in STATISTICS.values() if known or not s.needs_object]
    columns = []
    for statistic in wanted:
        value = statistic.compute(grid).to(torch.float32)
        defined = ~grid.degenerate if statistic.share else grid.finite
        if statistic.needs_object:
            defined = defined & grid.has_object
        columns.append(torch.where(defined, value, torch.nan))
    corners = grid.p.cumsum(1).cumsum(2).flatten(1)
    return Measures(
        tuple(s.field.name for s in wanted),
        torch.stack(columns, 1),
        torch.where(grid.degenerate[:, None], torch.nan, corners),
        grid.degenerate,
    )


def _share(
    name: str, title: str, direction: Direction, description: str, formula: str, suggests: str
) -> Field:
    """Return a field without unit that runs from 0 to 1."""
    return Field(name, title, "", 0, 1, direction, description, formula, suggests)


@register(
    Field(
        "mass_total",
        "Total mass",
        "",
        0,
        None,
        "none",
        "How much positive attribution the map holds in all.",
        "Σ max(M, 0)",
        "A high value suggests strong evidence for the class.",
    ),
    share=False,
)
def _mass_total(grid: Grid) -> Tensor:
    return grid.positive.sum((1, 2)).clamp(max=torch.finfo(torch.float32).max)


@register(
    Field(
        "mass_negative",
        "Negative mass",
        "",
        0,
        None,
        "none",
        "How much attribution speaks against the class; 0 for methods that keep the positive part only.",
        "Σ max(−M, 0)",
        "A high value suggests that much of the image argues for another class.",
    ),
    share=False,
)
def _mass_negative(grid: Grid) -> Tensor:
    return (-grid.maps).relu().sum((1, 2)).clamp(max=torch.finfo(torch.float32).max)


@register(
    _share(
        "entropy",
        "Map entropy",
        "higher",
        "How evenly the mass is spread; 1 is everywhere alike.",
        "−Σ p ln p / ln 196",
        "A high value suggests that the model looks at nothing in particular.",
    )
)
def _entropy(grid: Grid) -> Tensor:
    logarithm = grid.flat.clamp(min=torch.finfo(torch.float32).tiny).log()
    return (-(grid.flat * logarithm).sum(1) / math.log(CELLS)).clamp(0, 1)


@register(
    _share(
        "gini",
        "Gini index",
        "higher",
        "How unequal the cells are; 0 is everywhere alike.",
        "Σ (2i − 197) p₍ᵢ₎ / 196, p ascending",
        "A high value suggests that a few cells decide.",
    )
)
def _gini(grid: Grid) -> Tensor:
    ranks = torch.arange(1 - CELLS, CELLS, 2, device=grid.p.device, dtype=torch.float32)
    return (grid.ascending @ ranks / CELLS).clamp(0, 1)


@register(
    _share(
        "centroid_x",
        "Centroid, across",
        "none",
        "Centre of the mass from left to right.",
        "Σ p x",
        "A high value means the right.",
    )
)
def _centroid_x(grid: Grid) -> Tensor:
    return grid.centroid[0]


@register(
    _share(
        "centroid_y",
        "Centroid, down",
        "none",
        "Centre of the mass from top to bottom.",
        "Σ p y",
        "A high value means the bottom.",
    )
)
def _centroid_y(grid: Grid) -> Tensor:
    return grid.centroid[1]


@register(
    Field(
        "spread",
        "Spread",
        "",
        0,
        math.sqrt(0.5),
        "higher",
        "Root mean square distance of the mass from its centre, in sides of the image.",
        "√(Σ p ((x − x̄)² + (y − ȳ)²))",
        "A high value suggests scattered attention.",
    )
)
def _spread(grid: Grid) -> Tensor:
    at = centres(grid.p.device)
    x, y = grid.centroid
    across = (grid.p.sum(1) * (at - x[:, None]) ** 2).sum(1)
    down = (grid.p.sum(2) * (at - y[:, None]) ** 2).sum(1)
    return (across + down).sqrt().clamp(max=math.sqrt(0.5))


@register(
    _share(
        "peak_x",
        "Peak, across",
        "none",
        "Where the largest cell lies from left to right.",
        "x of argmax p (centre of its plateau)",
        "A high value means the right.",
    )
)
def _peak_x(grid: Grid) -> Tensor:
    return grid.peak_point[0]


@register(
    _share(
        "peak_y",
        "Peak, down",
        "none",
        "Where the largest cell lies from top to bottom.",
        "y of argmax p (centre of its plateau)",
        "A high value means the bottom.",
    )
)
def _peak_y(grid: Grid) -> Tensor:
    return grid.peak_point[1]


@register(
    Field(
        "area50",
        "Area of half the mass",
        "",
        0,
        0.5,
        "lower",
        "Smallest share of the image that holds half the mass.",
        "smallest k / 196 with the k largest p summing to ½, interpolated",
        "A low value suggests a small cue, a high one that attention is everywhere.",
    )
)
def _area50(grid: Grid) -> Tensor:
    descending = grid.ascending.flip(1)
    held = descending.cumsum(1)
    count = (held < 0.5).sum(1, keepdim=True).clamp(max=CELLS - 1)
    last = descending.gather(1, count)
    before = held.gather(1, count) - last
    part = ((0.5 - before) / torch.where(last > 0, last, 1)).clamp(0, 1)
    return ((count + part).squeeze(1) / CELLS).clamp(max=0.5)


@register(
    _share(
        "border_mass",
        "Border mass",
        "higher",
        "Share of the mass in the outer eighth all round (44 % of the area).",
        "Σ p over the outer eighth",
        "A high value suggests a frame, a watermark or the background.",
    )
)
def _border_mass(grid: Grid) -> Tensor:
    return grid.region_masses[:, 0]


@register(
    _share(
        "center_mass",
        "Centre mass",
        "lower",
        "Share of the mass in the middle half of each side (25 % of the area).",
        "Σ p over the middle half of each side",
        "A low value suggests that the object is passed over, a high one that the middle decides.",
    )
)
def _center_mass(grid: Grid) -> Tensor:
    return grid.region_masses[:, 1]


@register(
    _share(
        "corner_mass",
        "Corner mass",
        "higher",
        "Largest share of the mass in one of the four quarter-by-quarter corners (6 % of the area each).",
        "max over corners of Σ p",
        "A high value suggests a tag or a logo.",
    )
)
def _corner_mass(grid: Grid) -> Tensor:
    return grid.region_masses[:, 2:].amax(1)


@register(
    Field(
        "components",
        "Components",
        "",
        1,
        CELLS // 4,
        "higher",
        "Separate areas above half the peak, diagonal neighbours joined.",
        "connected components of p > ½ max p",
        "A high value suggests scattered evidence.",
    )
)
def _components(grid: Grid) -> Tensor:
    return grid.components


def _box_side(grid: Grid, side: int) -> Tensor:
    return grid.box[:, side]


for _side, (_name, _word, _formula) in enumerate(
    (
        ("box_x0", "left", "min x"),
        ("box_y0", "top", "min y"),
        ("box_x1", "right", "max x"),
        ("box_y1", "bottom", "max y"),
    )
):
    register(
        _share(
            _name,
            f"Localised box, {_word}",
            "none",
            f"The {_word} edge of the box that the map localises: the largest component above 20 % of the peak.",
            f"{_formula} of the largest component of p > 0.2 max p",
            f"A high value means that it lies further {'right' if _name[4] == 'x' else 'down'}.",
        )
    )(partial(_box_side, side=_side))


@register(
    _share(
        "mass_inside",
        "Mass inside the object",
        "lower",
        "Share of the mass on the known object.",
        "Σ p · coverage of each cell by the object",
        "A low value suggests that the model looks elsewhere, a high one that it looks at the object.",
    ),
    needs_object=True,
)
def _mass_inside(grid: Grid) -> Tensor:
    step = MASK_SIZE // GRID
    coverage = grid.mask.view(-1, GRID, step, GRID, step).mean((2, 4))
    return (grid.p * coverage).sum((1, 2)).clamp(0, 1)


@register(
    _share(
        "pointing_hit",
        "Pointing game",
        "lower",
        "1 where the peak lies on the known object, else 0 (Zhang et al. 2018).",
        "1 if the object covers half of the mask's cell at the peak",
        "0 suggests that the strongest evidence is elsewhere, 1 that it is the object.",
    ),
    needs_object=True,
)
def _pointing_hit(grid: Grid) -> Tensor:
    x, y = ((at * MASK_SIZE).long().clamp(0, MASK_SIZE - 1) for at in grid.peak_point)
    return (grid.mask.flatten(1).gather(1, (y * MASK_SIZE + x)[:, None])[:, 0] >= 0.5).float()


@register(
    _share(
        "localization_iou",
        "Localisation IoU",
        "lower",
        "Overlap of the box that the map localises with the best of the known boxes (Zhou et al. 2016).",
        "|box ∩ object| / |box ∪ object|",
        "A low value suggests that the model looks elsewhere, a high one that it looks at the object.",
    ),
    needs_object=True,
)
def _localization_iou(grid: Grid) -> Tensor:
    box, known = grid.box[:, None], grid.boxes
    sides = torch.minimum(box[..., 2:], known[..., 2:]) - torch.maximum(box[..., :2], known[..., :2])
    shared = sides.clamp(min=0).prod(2)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(2) for b in (box, known)]
    iou = shared / (areas[0] + areas[1] - shared)
    return iou.nan_to_num(0).amax(1).clamp(0, 1)
