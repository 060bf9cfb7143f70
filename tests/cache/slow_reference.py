"""Filters and queries the slow way: plain Python over dictionaries, three-valued as SQL is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cache.conditions import (
    AllOf,
    AnyOf,
    Condition,
    InGroup,
    InProjection,
    Is,
    Not,
    OneOf,
    Range,
    RegionMass,
    Text,
)
from cache.contrasts import RegionContrast
from cache.maps import grid_from_corners
from cache.run import Run
from cache.schema import CORNERS

SINGLE = {"confidence", "margin", "entropy", "loss", "brightness", "contrast"}


class SlowRun:
    """A run read row by row with PyArrow alone."""

    def __init__(self, path: Path) -> None:
        run = Run.open(path)
        self.manifest = run.manifest
        self.samples = [row for part in run.part_paths("samples") for row in pq.read_table(part).to_pylist()]
        for row in self.samples:
            row["labelled"] = row["label"] is not None
            row["masked"] = row["mask"] is not None or bool(row["boxes"])
        self.maps: dict[tuple[str, str, int], dict[str, Any]] = {}
        for method in self.manifest.methods:
            for part in run.part_paths(f"attributions/{method}"):
                for row in pq.read_table(part).to_pylist():
                    self.maps[method, row["content"], row["target"]] = row
        self.groups = {
            (part.key, row["content"], row["group"])
            for part in self.manifest.parts.get("groups", [])
            for row in pq.read_table(run.path / "groups" / part.name).to_pylist()
        }

        self.places = {
            (part.key, row["content"]): (row["x"], row["y"])
            for part in self.manifest.parts.get("projections", [])
            for row in pq.read_table(run.path / "projections" / part.name).to_pylist()
        }

    def map_of(self, row: dict[str, Any], method: str | None, target: str | None) -> dict[str, Any] | None:
        explained = row["label"] if target == "true" else row["pred"]
        return self.maps.get((method or self.manifest.default_method, row["content"], explained))

    def mass(self, row: dict[str, Any], condition: RegionMass) -> float | None:
        found = self.map_of(row, condition.method, condition.target)
        if found is None or found["degenerate"]:
            return None
        p = grid_from_corners([found[name] for name in CORNERS])
        return round(float((p * condition.region.coverage()).sum()), 6)

    def value(self, row: dict[str, Any], name: str, method: str | None, target: str | None) -> Any:
        statistics = {field.name for field in self.manifest.statistics} | {"degenerate"}
        if method is None and target is None and name in row:
            return row[name]
        assert name in statistics
        found = self.map_of(row, method, target)
        return None if found is None else found[name]

    def select(self, conditions: tuple[Condition, ...]) -> list[str]:
        return sorted(
            r["sample_id"] for r in self.samples if all(self.holds(c, r) is True for c in conditions)
        )

    def holds(self, condition: Condition, row: dict[str, Any]) -> bool | None:
        match condition:
            case OneOf(field, values):
                found = row[field]
                if found is None:
                    return True if None in values else None
                if field in ("label", "pred"):
                    classes = self.manifest.classes
                    return found in {
                        v if isinstance(v, int) else classes.index(v) for v in values if v is not None
                    }
                return found in values
            case Range(field, low, high, method, target):
                found = self.value(row, field, method, target)
                if isinstance(low or high, str):
                    low = datetime.fromisoformat(str(low)) if low is not None else None
                    high = datetime.fromisoformat(str(high)) if high is not None else None
                elif field in SINGLE or method or target or field.endswith("mass"):
                    low = None if low is None else float(np.float32(low))
                    high = None if high is None else float(np.float32(high))
                return between(found, low, high)
            case Is(field, value, method, target):
                found = self.value(row, field, method, target)
                if value is None:
                    return found is None
                return None if found is None else found == value
            case Text(field, contains):
                return None if row[field] is None else contains.lower() in row[field].lower()
            case RegionMass(_, low, high):
                return between(self.mass(row, condition), low, high)
            case RegionContrast(region, least, method, target, than_method, than_target):
                more, less = (
                    self.mass(row, RegionMass(region, 0, None, *source))
                    for source in ((method, target), (than_method, than_target))
                )
                return None if more is None or less is None else round(more - less, 6) >= least
            case InGroup(version, group):
                return (version, row["content"], group) in self.groups
            case InProjection(version, polygon):
                place = self.places.get((version, row["content"]))
                return None if place is None else slow_inside(*place, polygon)
            case AnyOf(inner):
                held = [self.holds(c, row) for c in inner]
                return True if True in held else None if None in held else False
            case AllOf(inner):
                held = [self.holds(c, row) for c in inner]
                return False if False in held else None if None in held else True
            case Not(inner_one):
                value = self.holds(inner_one, row)
                return None if value is None else not value


def between(value: Any, low: Any, high: Any) -> bool | None:
    if value is None:
        return None
    return (low is None or value >= low) and (high is None or value <= high)


def slow_inside(x: float, y: float, polygon: tuple[tuple[float, float], ...]) -> bool:
    crossings = 0
    for i, (x0, y0) in enumerate(polygon):
        x1, y1 = polygon[(i + 1) % len(polygon)]
        if (y0 <= y < y1) or (y1 <= y < y0):
            crossings += x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return crossings % 2 == 1
