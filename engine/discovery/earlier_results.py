"""Earlier results: what `verify` said about a finding stays with it when the list is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cache.fields import class_title
from cache.findings import Finding
from engine.verifying.verdicts import judge, reranked


def with_earlier_results(
    found: Sequence[Finding], before: Sequence[Finding], classes: Sequence[str], wrong: int
) -> tuple[Finding, ...]:
    """Return a new list with the tests of the one before, where the keys are the same.

    The tests stay; the verdict is read from them anew, since the effect and the likeness may have changed with the
    images. Where a test is known the list is ranked as `verify` ranks it.

    Args:
        found: By rank, untested.
        before: The list before, tested or not.
        classes: Names of the model's outputs.
        wrong: Wrong predictions of the whole run.
    """
    known = {finding.key: finding for finding in before if finding.verdict != "untested"}
    kept = tuple(
        _kept(finding, known[finding.key], class_title(classes, finding.class_index))
        if finding.key in known
        else finding
        for finding in found
    )
    return reranked(kept, wrong) if any(finding.key in known for finding in found) else kept


def _kept(finding: Finding, before: Finding, name: str) -> Finding:
    tested = replace(
        finding,
        deletion=before.deletion,
        transplant=before.transplant,
        imposed=before.imposed,
        # What the effect was measured by may be another thing now.
        evidence={k: v for k, v in before.evidence.items() if not k.startswith("by_")} | finding.evidence,
    )
    verdict, reasons = judge(tested, name)
    said = judge(before, name)[1]
    # What follows the verdict's own reasons are the notes of the test: which patch was pasted.
    notes = before.reasons[len(said) :] if before.reasons[: len(said)] == said else ()
    changed = "Its images have changed since it was tested"
    if set(finding.sample_ids) != set(before.sample_ids) and not any(
        note.startswith(changed) for note in notes
    ):
        notes += (f"{changed}, when it had {before.n:,}: `discover --forget`, then `verify`, tests it anew.",)
    return replace(tested, verdict=verdict, reasons=(*reasons, *notes))
