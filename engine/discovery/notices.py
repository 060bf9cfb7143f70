"""What cannot be said about a run, and why: one sentence each, stored with the findings."""

from __future__ import annotations

import numpy as np

from cache.catalog import Catalog
from cache.fields import class_title
from engine.discovery.audited import Audited
from engine.discovery.candidates import FEW_PREDICTIONS, LEAST_OUTCOMES, searched_classes
from engine.discovery.what import MOST_COMPARED

FEW_SAMPLES = 50
"""Runs of fewer samples say so: halves of fewer than 25 show the crudest effects only."""
MAX_NAMED = 5


def notices(audited: Audited, catalog: Catalog) -> list[str]:
    """Return what cannot be said about a run."""
    if not audited.n:
        return ["The run holds no samples: nothing can be said."]
    return [
        *_about_samples(audited),
        *_about_labels(audited),
        *_about_classes(audited),
        *_about_evidence(audited, catalog),
    ]


def _about_samples(audited: Audited) -> list[str]:
    if audited.n >= FEW_SAMPLES:
        return []
    return [
        f"{audited.n} samples are too few to tell habits from chance: explain at least {FEW_SAMPLES}; what is listed here "
        "is a hint at most."
    ]


def _about_labels(audited: Audited) -> list[str]:
    labelled, wrong = int(audited.labelled.sum()), int(audited.wrong.sum())
    if not labelled:
        return [
            "No sample has a label, so nobody knows which predictions are wrong: only what leads to a class, and content "
            "that is near-identical from image to image, can be found."
        ]
    said = []
    if labelled < audited.n:
        said.append(
            f"{audited.n - labelled:,} of {audited.n:,} samples have no label: error rates are those of the others."
        )
    if not wrong:
        said.append(
            "Every labelled prediction is right, so nothing can go with errors: shortcuts that cause no error here show "
            "by their likeness from image to image alone."
        )
    elif wrong == labelled:
        said.append(
            "Every labelled prediction is wrong, so no group can have more errors than the rest: check that the labels "
            "belong to this model's classes."
        )
    elif wrong < 2 * LEAST_OUTCOMES:
        said.append(f"Only {wrong} predictions are wrong: too few to tell what goes with errors.")
    return said


def _about_classes(audited: Audited) -> list[str]:
    counts = np.bincount(audited.pred, minlength=len(audited.classes))
    said = []
    if len(audited.classes) < 2 or np.count_nonzero(counts) < 2:
        said.append(
            "The model calls every sample the same, so what leads to a class cannot be told from what all images share."
        )
    few = [int(c) for c in np.flatnonzero((counts > 0) & (counts < FEW_PREDICTIONS))]
    if few:
        named = ", ".join(f"{class_title(audited.classes, c)} ({counts[c]})" for c in few[:MAX_NAMED])
        more = f" and {len(few) - MAX_NAMED} more" if len(few) > MAX_NAMED else ""
        said.append(
            f"Classes with fewer than {FEW_PREDICTIONS} predictions are too small to search: {named}{more}."
        )
    return said


def _about_evidence(audited: Audited, catalog: Catalog) -> list[str]:
    said = []
    if not catalog.manifest.methods or not audited.known.any():
        said.append(
            "There is no map with positive attribution, so neither regions nor attended content can be compared."
        )
    elif audited.attended is None:
        said.append(
            "The run holds no attended features (the network has no layer with positions, or they are all empty), so "
            "groups of like content cannot be formed."
        )
    searched = len(searched_classes(audited))
    if audited.attended is not None and searched > MOST_COMPARED:
        said.append(
            f"Groups of near-identical content without errors were looked for in the {MOST_COMPARED} most frequent of "
            f"{searched} classes only."
        )
    constant = [
        column.title
        for column in audited.columns
        if not column.levels and column.origin == "image" and _constant(column.values)
    ]
    if constant:
        named = ", ".join(constant[:MAX_NAMED])
        said.append(f"{named}: the same for all images, so no rule can be about it.")
    return said


def _constant(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    finite = values[np.isfinite(values)]
    return not len(finite) or float(finite.min()) == float(finite.max())
