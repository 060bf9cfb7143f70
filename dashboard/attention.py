"""What the Region page says about attention in a region: plain functions from the cache's answers to words and numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache import held
from cache.catalog import Catalog
from cache.errors import RegionError
from cache.filters import Filter, RegionContrast, RegionMass
from cache.profiles import thumbnails
from cache.queries import Histogram, RegionSplit, draw
from cache.regions import PRESETS, Region, percent
from dashboard.figures import ClassRates
from dashboard.intervals import newcombe, wilson
from dashboard.rendering import mean_image

AVERAGED = 200
"""Thumbnails that the mean image averages: more cost time and look the same."""
AT_LEAST, AT_MOST, MORE = "least", "most", "more"
OPERATORS = {AT_LEAST: "at least", AT_MOST: "at most", MORE: "more than by"}
DEFAULT_SHARE = 30.0


def region_to_param(region: Region) -> str:
    """Return a region as the text of a URL parameter."""
    return json.dumps(region.to_json(), separators=(",", ":"))


def region_from_param(text: str) -> Region | None:
    """Read what `region_to_param` wrote; None for an empty text.

    Raises:
        RegionError: The text is no region.
    """
    if not text:
        return None
    try:
        return Region.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise RegionError("The region in the link cannot be read: draw it again.") from error


def share_from_param(text: str) -> float:
    """Return the percentage asked for, 0 to 100; the default where the link holds nonsense."""
    try:
        share = float(text)
    except ValueError:
        return DEFAULT_SHARE
    return min(max(round(share, 1), 0.0), 100.0) if np.isfinite(share) else DEFAULT_SHARE


def mean_photo(
    catalog: Catalog, filter_: Filter, size: tuple[int, int], limit: int = AVERAGED
) -> tuple[NDArray[np.uint8] | None, int]:
    """Average the thumbnails of a selection, and tell how many there were."""
    found = thumbnails(catalog, draw(catalog, filter_, limit))
    return mean_image(found.values(), size), len(found)


def mass_histogram(
    catalog: Catalog, filter_: Filter, condition: RegionMass | RegionContrast, bins: int = 50
) -> Histogram:
    """Count a selection's samples by their mass in a region, or by how much more one map has there than another.

    The bins span 0 (or the least, where it is below) to the largest, rounded away from 0. The condition's bounds do not
    matter, only its region, methods and targets.
    """
    if held.can_hold(catalog):
        every, defined = held.measured(catalog, condition)
        values = every[held.members(catalog, filter_) & defined]
    else:
        compiler = catalog.compiler()
        where = compiler.all_of(filter_.conditions)
        mass = compiler.measured(condition)
        rows = catalog.select(f"{mass} AS mass", compiler, f"({where}) AND {mass} IS NOT NULL")
        values = rows["mass"].to_numpy()
    top = min(max(np.ceil(float(values.max(initial=0.0)) * 20) / 20, 0.05), 1.0)
    low = min(float(np.floor(float(values.min(initial=0.0)) * 20)) / 20, 0.0)
    edges = np.linspace(low, top, bins + 1)
    counts, _ = np.histogram(np.clip(values, low, top), edges)
    return Histogram(edges, counts)


def preset_masses(p: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    """Return each preset with its share of a mean map and of the image, the most attended for its size first."""
    found = [(name, float((p * region.coverage()).sum()), region.area()) for name, region in PRESETS.items()]
    return sorted(found, key=lambda entry: entry[1] / entry[2], reverse=True)


def error_words(split: RegionSplit) -> str:
    """Compare the error rates in a region and in the rest, in plain words with a Newcombe interval."""
    inside, outside = split.inside, split.outside
    if not inside.labelled and not outside.labelled:
        return "Without labels there are no errors to compare."
    if not inside.labelled:
        return "No labelled sample matches, so there is no error rate to compare."
    rate = f"**{_percent(inside.wrong / inside.labelled)}** of them are wrong"
    if not outside.labelled:
        return f"{rate}; there is no rest to compare with."
    difference = newcombe(inside.wrong, inside.labelled, outside.wrong, outside.labelled)
    low, high = float(difference.low) * 100, float(difference.high) * 100
    gap = float(difference.estimate) * 100
    rest = f"of the rest **{_percent(outside.wrong / outside.labelled)}**"
    if not difference.excludes_zero:
        return f"{rate}, {rest}: no clear difference (95% interval {low:+.1f} to {high:+.1f} points)."
    if gap < 0:
        low, high = -high, -low
    more = "more" if gap > 0 else "fewer"
    return f"{rate}, {rest}: **{abs(gap):.1f} points {more}** (95% interval {low:.1f} to {high:.1f})."


def live_words(split: RegionSplit) -> list[str]:
    """Say how many samples meet a condition and how often they are wrong, in parts of which every second is emphasised."""
    inside, outside = split.inside, split.outside
    total = inside.n + outside.n
    if not total:
        return ["No sample of this selection has such a map."]
    told = ["", f"{inside.n:,}", f" of {total:,} samples ({_percent(inside.n / total)})"]
    for side, words in ((inside, "wrong there"), (outside, "wrong in the rest")):
        if side.labelled:
            told[-1] += " · "
            told += [_percent(side.wrong / side.labelled), f" {words}"]
    return told


def left_out_words(split: RegionSplit, method: str) -> str:
    """Say which samples are on neither side, and why; empty where all are on one.

    Args:
        split: The samples on both sides and on neither.
        method: What the method is called; empty where a condition reads several maps, or more than maps.
    """
    told = []
    if split.degenerate:
        told.append(
            f"{split.degenerate:,} with a degenerate {f'{method} ' if method else ''}map (no positive attribution, or not "
            "finite)"
        )
    if split.missing:
        told.append(
            f"{split.missing:,} without such a map" + ("" if method else ", or whose object is not known")
        )
    return f"On neither side: {' and '.join(told)}." if told else ""


def class_rates(table: pa.Table, limit: int) -> ClassRates:
    """Return the classes with the most samples in a region, from `cache.queries.region_by_class`."""
    order = np.argsort(-table["n_inside"].to_numpy(), kind="stable")[:limit]
    names = table["name"].to_pylist()
    columns = ("labelled_inside", "wrong_inside", "labelled_outside", "wrong_outside")
    return ClassRates([names[i] for i in order], *(table[name].to_numpy()[order] for name in columns))


def class_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return each class's counts and rates in a region and in the rest, most samples in the region first."""
    inside, wrong, outside, missed = (
        table[name].to_numpy()
        for name in ("labelled_inside", "wrong_inside", "labelled_outside", "wrong_outside")
    )
    here, rest, gap = (
        wilson(wrong, inside),
        wilson(missed, outside),
        newcombe(wrong, inside, missed, outside),
    )
    rows = [
        {
            "class": row["class"],
            "name": row["name"],
            "n": row["n_inside"],
            "share": row["n_inside"] / max(row["n_inside"] + row["n_outside"], 1),
            "here": _known(here.estimate[i]),
            "rest": _known(rest.estimate[i]),
            "difference": _known(gap.estimate[i] * 100),
            "interval": _points(gap.low[i], gap.high[i]),
        }
        for i, row in enumerate(table.to_pylist())
    ]
    return sorted(rows, key=lambda row: -row["n"])


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _points(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{100 * low:+.0f} to {100 * high:+.0f}"


def _percent(share: float) -> str:
    return f"{percent(share)}%"
