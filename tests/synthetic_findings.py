"""Findings of a synthetic run: one of each verdict, with filters that select the samples of the story, tested by nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import queries
from cache.catalog import Catalog
from cache.conditions import Condition, InGroup, OneOf, Range, RegionMass
from cache.filters import Filter, Is
from cache.findings import Box, Finding, Findings, Rate, basis_of, ranked, store_findings
from cache.groups import append_groups
from cache.regions import Region
from cache.run import Run
from cache.writer import RunWriter

CORNER: Box = (0.0, 0.72, 0.28, 1.0)
NOTICE = "12 of 150 samples have no label: error rates are those of the others."
CONTROLS = Rate(0.82, 0.02, 40, 0.62, 0.89)
PASTED = Rate(0.6, 0.0, 40, 0.42, 0.74, 0.05, 0.36, 0.71)
HARDLY = Rate(0.05, 0.04, 120, -0.04, 0.07)


def add_findings(path: Path, verified: bool = True, only: int | None = None) -> Path:
    """Put a list of findings into a run and return its path.

    Args:
        path: A run of `make_run` with its four classes.
        verified: Whether they were tested.
        only: How many of them; None for all five.
    """
    catalog = Catalog(Run.open(path))
    with RunWriter(path) as writer:
        wrong_wolves = Filter((OneOf("pred", ("wolf",)), Is("correct", False)))
        contents = sorted(
            {row["content"] for row in queries.page(catalog, wrong_wolves, limit=1_000).to_pylist()}
        )
        version = append_groups(writer, contents, np.zeros(len(contents), np.int32))
        writer.publish()
        catalog = Catalog(Run.open(path))
        box = Region.box(*CORNER)
        listed = [
            _finding(catalog, 2, "where", RegionMass(box, 0.3), says="looking at the lower left corner", box=CORNER,
                     likeness=0.71, outside_object=0.74, deletion=CONTROLS, transplant=PASTED, verdict="shortcut"),
            _finding(catalog, 0, "what", InGroup(version, 0), says="looking at content that is alike", deletion=CONTROLS,
                     transplant=replace(PASTED, rate=0.3, low=0.15, class_low=-0.1), verdict="relied on"),
            _finding(catalog, 1, "where", RegionMass(Region.box(0.3, 0.3, 0.7, 0.7), 0.3), says="looking at the middle",
                     box=(0.3, 0.3, 0.7, 0.7)),
            _finding(catalog, 3, "who", OneOf("meta.camera", ("camera A",)), says="with camera camera A",
                     deletion=replace(CONTROLS, low=0.12, rate=0.2), verdict="inconclusive"),
            _finding(catalog, 3, "who", Range("brightness", 0.4, None), says="with brightness at least 0.4",
                     property="brightness", deletion=HARDLY, imposed=HARDLY, verdict="refuted"),
        ]  # fmt: skip
        if not verified:
            listed = [
                replace(f, verdict="untested", deletion=None, transplant=None, imposed=None, reasons=())
                for f in listed
            ]
        store_findings(writer, Findings(ranked(listed[:only]), (NOTICE,), basis=basis_of(catalog.manifest)))
    return path


def _finding(
    catalog: Catalog, class_index: int, kind: Any, condition: Condition, says: str, **known: Any
) -> Finding:
    name = catalog.classes[class_index]
    chosen = Filter((OneOf("pred", (name,)), condition))
    ids = tuple(queries.ids(catalog, chosen))
    assert ids, says
    inside, called = queries.count(catalog, chosen), queries.count(catalog, Filter(chosen.conditions[:1]))
    evidence = {"predicted": float(called.n)}
    effect = None
    if inside.labelled:
        rest = (called.wrong - inside.wrong) / max(called.labelled - inside.labelled, 1)
        evidence |= {"error_rate": inside.wrong / inside.labelled, "error_rate_rest": rest}
        effect = evidence["error_rate"] - rest
    values: dict[str, Any] = {
        "rank": 0, "kind": kind, "class_index": class_index, "title": f"Predicted {name}, {says}", "box": None,
        "filter": chosen, "sample_ids": ids, "n": len(ids), "effect": effect,
        "ci": None if effect is None else (effect - 0.1, effect + 0.1), "p_value": None,
        "q_value": None if effect is None else 0.0004, "likeness": None, "outside_object": None, "property": None,
        "evidence": evidence, "reasons": (f"Reason for {says}.",),
    }  # fmt: skip
    return Finding(**{**values, **known})
