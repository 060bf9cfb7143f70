"""`discover`: the three searches over a run, merged, measured on the held-back half, ranked and stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.conditions import InGroup, OneOf, RegionMass
from cache.errors import RunDamagedError
from cache.fields import class_title
from cache.filter_sql import RegionSource
from cache.filters import Filter
from cache.findings import Finding, Findings, basis_of, load_findings, ranked, store_findings
from cache.groups import append_groups
from cache.locations import Url
from cache.run import Run
from cache.writer import RunWriter
from engine.discovery.audited import Audited, read_audited
from engine.discovery.candidates import Candidate, searched_classes
from engine.discovery.comparison import Comparison
from engine.discovery.earlier_results import with_earlier_results
from engine.discovery.extent import ALL_OVER, Extent
from engine.discovery.likeness import Likeness
from engine.discovery.merging import Merged, merge, named, rank, worth_merging
from engine.discovery.notices import notices
from engine.discovery.statistics import q_values
from engine.discovery.views import Views
from engine.discovery.what import ALIKE, WhatSearch, joined
from engine.discovery.where import WhereSearch
from engine.discovery.who import find_who

NEARLY_ALL = 0.9
"""A rule that holds for this share of a group is told with it."""
MOSTLY_SHOWN = 0.5
"""Moving content found by its likeness alone consists of what shows the same, where that is this part of the group."""
BESIDE = 0.6
"""Groups with this share of their attention outside the known object look beside it."""
Progress = Callable[[int, int, str], None]


def discover(
    path: str | os.PathLike[str] | Url, progress: Progress | None = None, forget: bool = False
) -> Findings:
    """Search a run for shortcuts and store the list in it, in the place of the one before.

    Findings whose key is that of one before keep its tests, with the verdict read from them anew.

    Args:
        path: The run's directory.
        progress: Called with the classes searched, the classes in all, and what is being searched.
        forget: Whether earlier tests are dropped.

    Raises:
        RunNotFoundError: There is no run.
        RunBusyError: Another process is writing it.
        RunDamagedError: A part is missing or holds other bytes.
        RunStorageError: The disk refuses.
    """
    run = Run.open(path)
    _refuse_damaged(run, run.damaged)
    with RunWriter(path) as writer:
        _refuse_damaged(run, writer.damaged)
        catalog = Catalog(Run.open(path))
        audited = read_audited(catalog)
        carried = propose(catalog, audited, progress)
        groups = [one for one in carried if one.best.kind == "what"]
        version = _store_groups(writer, audited, groups)
        for number, one in enumerate(groups):
            one.best.conditions = (InGroup(version, number),)
        listed = _findings(audited, carried)
        before = () if forget else _before(catalog.run)
        listed = with_earlier_results(listed, before, audited.classes, int(audited.wrong.sum()))
        found = Findings(listed, tuple(notices(audited, catalog)), basis=basis_of(catalog.manifest))
        store_findings(writer, found)
    return found


def _before(run: Run) -> tuple[Finding, ...]:
    """Return the list before; none where it cannot be read, since it is made anew."""
    try:
        return load_findings(run).findings
    except RunDamagedError:
        return ()


def _refuse_damaged(run: Run, damaged: Sequence[str]) -> None:
    if damaged:
        raise RunDamagedError(
            f"{len(damaged)} files of {run.path} are missing or damaged: run the same `explain` command again to compute "
            "them anew, then `discover`."
        )


def propose(catalog: Catalog, audited: Audited, progress: Progress | None = None) -> list[Merged]:
    """Search every class, merge what means the same samples, and measure and rank it."""
    where, what = WhereSearch(audited), WhatSearch(audited)
    views = Views(catalog, audited)
    likeness, extent = Likeness(views, audited, what.finest), Extent(catalog, audited, views)
    comparison = Comparison(audited, what.finest)
    classes = searched_classes(audited)
    merged: list[Merged] = []
    for done, class_index in enumerate(classes):
        if progress is not None:
            progress(done, len(classes), class_title(audited.classes, class_index))
        candidates = [*where.find(class_index), *find_who(audited, class_index)]
        candidates += what.find(class_index, likeness, comparison.most_error_prone)
        for candidate in candidates:
            _complete(catalog, audited, candidate, likeness, extent)
        candidates = joined(candidates, likeness)
        for one in merge(audited, worth_merging(audited, candidates, comparison)):
            _measure(audited, one, comparison)
            merged.append(one)
    if progress is not None:
        progress(len(classes), len(classes), "")
    return rank(audited, merged)


def _complete(
    catalog: Catalog, audited: Audited, candidate: Candidate, likeness: Likeness, extent: Extent
) -> None:
    """Measure the likeness of what lies in images and the extent of properties, and give a candidate all of its samples."""
    if candidate.property is not None:
        shown = extent.shown(candidate)
        if shown is not None:
            candidate.evidence |= {"least_shown": shown[0], "most_shown": shown[1]}
            candidate.in_part = shown[0] < ALL_OVER
        return
    if candidate.kind == "where":
        candidate.members = _members_of_region(catalog, audited, candidate)
    if candidate.likeness is None:
        candidate.likeness = likeness.of(candidate.members, candidate.box)
    if candidate.box is None and likeness.along_edges(candidate.members):
        # A fixed place: what is compared there must be as alike as in a box.
        candidate.evidence["along_edges"] = 1.0
    if candidate.kind == "what" and (candidate.likeness or 0.0) >= ALIKE:
        # Groups are formed by features: what shows the same content may have fallen into another one, and other content into these.
        same = likeness.showing_the_same(candidate.members)
        moves = candidate.outcome == "alike" and "along_edges" not in candidate.evidence
        if moves and (same & candidate.members).sum() >= MOSTLY_SHOWN * candidate.members.sum():
            candidate.members = same
        else:
            candidate.members = candidate.members | same


def _members_of_region(catalog: Catalog, audited: Audited, candidate: Candidate) -> NDArray[np.bool_]:
    """Return the samples of a region as its filter selects them, to the last digit of their mass."""
    (condition,) = candidate.conditions
    if not isinstance(condition, RegionMass) or condition.low is None:
        return candidate.members
    table = catalog.masses(RegionSource(catalog.source(), condition.region))
    mass = np.full(audited.n, -1.0)
    mass[table["sample"].to_numpy()] = table["mass"].fill_null(-1.0).to_numpy()
    return np.asarray((audited.pred == candidate.class_index) & (mass >= condition.low))


def _measure(audited: Audited, one: Merged, comparison: Comparison) -> None:
    best = one.best
    one.effect = comparison.measured(best, held_back=True)
    if comparison.nearly_the_class(best):
        best.evidence["by_other_classes"] = 1.0  # what the effect is measured by
    outside = audited.outside[best.members]
    outside = outside[np.isfinite(outside)]
    if len(outside):
        best.evidence["outside_object"] = float(outside.mean())


def _store_groups(writer: RunWriter, audited: Audited, groups: Sequence[Merged]) -> str:
    """Write the groups of the findings; a content in two of them has two rows."""
    contents: list[str] = []
    numbers: list[int] = []
    for number, one in enumerate(groups):
        held = sorted({audited.contents[i] for i in np.flatnonzero(one.best.members)})
        contents += held
        numbers += [number] * len(held)
    return append_groups(writer, contents, np.array(numbers, np.int32)) if contents else ""


def _findings(audited: Audited, carried: Sequence[Merged]) -> tuple[Finding, ...]:
    q = q_values([one.effect.p_value for one in carried])
    return ranked(
        replace(_finding(audited, one), q_value=value) for one, value in zip(carried, q, strict=True)
    )


def _finding(audited: Audited, one: Merged) -> Finding:
    best, effect = one.best, one.effect
    name = class_title(audited.classes, best.class_index)
    known = effect.low is not None and effect.high is not None
    # Two outputs may share a name; the index always says which.
    chosen = (
        best.class_index
        if audited.classes.count(audited.classes[best.class_index]) > 1
        else audited.classes[best.class_index]
    )
    return Finding(
        rank=0,
        kind=best.kind,
        class_index=best.class_index,
        title=f"Predicted {name}, {_says(one)}",
        box=best.box,
        filter=Filter((OneOf("pred", (chosen,)), *best.conditions)),
        sample_ids=tuple(sorted(audited.sample_ids[best.members].tolist())),
        n=int(best.members.sum()),
        effect=effect.difference,
        ci=(effect.low, effect.high) if known else None,  # type: ignore[arg-type]
        p_value=effect.p_value,
        q_value=None,
        likeness=best.likeness,
        outside_object=best.evidence.get("outside_object"),
        property=best.property,
        shows_as=one.shows_as,
        evidence=_evidence(audited, one),
    )


def _says(one: Merged) -> str:
    """Return how the title goes on: what else is known about a group says more than that its content is alike."""
    best = one.best
    if best.kind != "what":
        return best.says
    says = best.says
    if best.evidence.get("outside_object", 0.0) >= BESIDE:
        says += ", beside the object"
    for other in one.others:
        shared = (best.members & other.members).sum() / best.members.sum()
        if named(other) and shared >= NEARLY_ALL:
            return f"{says} (nearly all {other.says})"
    return says


def _evidence(audited: Audited, one: Merged) -> dict[str, float]:
    """Return the numbers that the page quotes: rates of both halves, and what the other candidates add."""
    best, effect = one.best, one.effect
    members = best.members
    told = members & audited.labelled
    called = (audited.pred == best.class_index) & audited.labelled & ~members
    numbers = {
        **best.evidence,
        "score": best.score,
        "p_familywise": best.p_familywise,
        "predicted": float((audited.pred == best.class_index).sum()),
        "labelled": float(told.sum()),
        "errors": float((members & audited.wrong).sum()),
        "held_back": float(effect.n),
    }
    for key, value in (("error_rate", told), ("error_rate_rest", called)):
        if value.any():
            numbers[key] = float(audited.wrong[value].mean())
    for key, rate in (("held_back_rate", effect.rate), ("held_back_rate_rest", effect.other_rate)):
        if rate is not None:
            numbers[key] = rate
    for outcome in sorted(one.outcomes):
        numbers[f"goes_with_{outcome}"] = 1.0
    for kind in ("where", "what", "who"):
        scores = [c.score for c in one.others if c.kind == kind]
        if scores:
            numbers[f"also_{kind}"] = max(scores)
    return numbers
