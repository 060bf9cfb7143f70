"""A run in plain words: what the model gets right, its worst habits, and what to look at next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.catalog import Catalog
from cache.fields import class_title
from cache.filters import Filter
from cache.findings import Finding, load_findings
from cache.queries import confusion, count

HABITS = 3
"""Habits that a summary names."""
BEST = 0.9
"""A class whose images are called rightly at least this often is one that the model gets right."""
FEWEST = 10
"""Classes with fewer labelled images say nothing."""
BAD: tuple[str, ...] = ("shortcut", "relied on")


@dataclass(frozen=True)
class Totals:
    """How many samples a run has, and how they went.

    Attributes:
        n: Samples.
        labelled: Those with a label.
        wrong: Those of them that are classified wrongly.
        by_class: Labelled samples and right ones, by true class.
    """

    n: int
    labelled: int
    wrong: int
    by_class: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, catalog: Catalog) -> Totals:
        """Count a run."""
        counts = count(catalog, Filter())
        by_class: dict[int, tuple[int, int]] = {}
        for row in confusion(catalog, Filter()).to_pylist():
            if row["label"] is not None:
                all_, right = by_class.get(row["label"], (0, 0))
                hit = row["n"] if row["label"] == row["pred"] else 0
                by_class[row["label"]] = (all_ + row["n"], right + hit)
        return cls(counts.n, counts.labelled, counts.wrong, by_class)


@dataclass(frozen=True)
class Summary:
    """A run in plain words.

    Attributes:
        right: What the model gets right, in sentences.
        habits: Its worst habits, the worst first; or that none is known.
        next: What to look at next.
        shown: Findings that the habits are about, one a habit; empty where none is known.
    """

    right: tuple[str, ...]
    habits: tuple[str, ...]
    next: str
    shown: tuple[Finding, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it, in order."""
        return (*self.right, *self.habits, self.next)


def run_summary(catalog: Catalog) -> Summary:
    """Return a run in plain words.

    Raises:
        RunDamagedError: The list of findings cannot be read.
    """
    found = load_findings(catalog.run)
    return summarise(found.findings, Totals.of(catalog), catalog.manifest.classes, found.discovered)


def summarise(
    findings: Sequence[Finding], totals: Totals, classes: Sequence[str], discovered: bool = True
) -> Summary:
    """Say what the model gets right, its three worst habits, and what to look at next.

    Args:
        findings: The run's, by rank.
        totals: Its counts.
        classes: Names of the outputs.
        discovered: Whether anybody has looked for findings.
    """
    right = tuple(_right(totals, classes))
    if not discovered:
        return Summary(
            right,
            ("Nobody has looked for its habits yet.",),
            "Look for them next with `discover`, and prove them with `verify`.",
        )
    habits = [finding for finding in findings if finding.verdict in BAD][:HABITS]
    return Summary(
        right, tuple(_habits(habits, findings, classes)), _next(habits, findings, totals), tuple(habits)
    )


def summary_sentences(findings: Sequence[Finding], totals: Totals, classes: Sequence[str]) -> tuple[str, ...]:
    """Return `summarise` as sentences, of a run whose habits were looked for."""
    return summarise(findings, totals, classes).sentences


def _right(totals: Totals, classes: Sequence[str]) -> list[str]:
    if not totals.labelled:
        return [f"None of the {totals.n:,} images has a label, so nobody can say what the model gets right."]
    right = totals.labelled - totals.wrong
    sentences = [
        f"The model is right on {right / totals.labelled:.0%} of {totals.labelled:,} labelled images."
    ]
    if not totals.wrong:
        return [
            "The model is right on every labelled image; a habit can still be there that made no mistake yet."
        ]
    rates = {c: hits / n for c, (n, hits) in totals.by_class.items() if n >= FEWEST}
    if len(rates) > 1:
        ordered = sorted(rates, key=lambda c: (-rates[c], c))
        best, worst = ordered[0], ordered[-1]
        if rates[best] > rates[worst]:
            sentences.append(
                f"It knows {class_title(classes, best)} best ({rates[best]:.0%} right) and "
                f"{class_title(classes, worst)} worst ({rates[worst]:.0%})."
            )
    return sentences


def _habits(habits: Sequence[Finding], findings: Sequence[Finding], classes: Sequence[str]) -> list[str]:
    if not habits:
        untested = sum(finding.verdict == "untested" for finding in findings)
        if untested == 1:
            return ["One suspected habit has not been tested yet."]
        if untested:
            return [f"{untested} suspected habits have not been tested yet."]
        return ["No habit was found that the model surely relies on."]
    said = ("Its worst habit", "Its second habit", "Its third habit")
    return [
        f"{lead}: {_habit(finding, class_title(classes, finding.class_index))}"
        for lead, finding in zip(said, habits, strict=False)
    ]


def _habit(finding: Finding, name: str) -> str:
    """Say what a finding is and what proves it."""
    proof = "a proven shortcut" if finding.verdict == "shortcut" else "relied on, but perhaps rightly"
    title = _plain_title(finding, name)
    moved = finding.transfer
    tests = [test for test in (moved, finding.deletion) if test is not None and test.low is not None]
    if not tests:
        return f"{title}; {proof}."
    # What proves a shortcut is that it makes other images the class.
    test = moved if finding.verdict == "shortcut" and moved else max(tests, key=lambda test: test.low or 0.0)
    if test is moved:
        what = f"its {finding.shows_as[0]}" if finding.shows_as else "it"
        verb = "pasting it onto" if moved is finding.transplant else f"imposing {what} on"
        did = f"{verb} {test.n} other images made {test.rate:.0%} of them {name}"
    else:
        did = (
            f"{'changing' if finding.property else 'covering'} it in {test.n} images changed {test.rate:.0%}"
        )
    return f"{title}; {proof}: {did} (controls {test.control_rate:.0%})."


def _plain_title(finding: Finding, name: str) -> str:
    """Return a title as it goes on after "Its worst habit"."""
    title, lead = finding.title.rstrip("."), f"Predicted {name}, "
    if not title.startswith(lead):
        return title
    rest = title.removeprefix(lead)
    return f"calling images {name} {'while ' if rest.startswith('looking') else ''}{rest}"


def _next(habits: Sequence[Finding], findings: Sequence[Finding], totals: Totals) -> str:
    shortcut = next((finding for finding in habits if finding.verdict == "shortcut"), None)
    if shortcut is not None:
        errors = (
            f"the {shortcut.n} images of finding {shortcut.rank}, where errors are "
            f"{100 * shortcut.effect:.0f} points more frequent"
            if shortcut.effect is not None and shortcut.effect > 0
            else f"the {shortcut.n} images of finding {shortcut.rank}"
        )
        return f"Look next at {errors}; then train with images that break the habit, and audit again."
    if habits:
        return (
            f"Look next at the {habits[0].n} images of finding {habits[0].rank} and say whether what the model uses "
            "there belongs to the class."
        )
    undecided = next((f for f in findings if f.verdict in ("untested", "inconclusive")), None)
    if undecided is not None and undecided.verdict == "untested":
        return f"Look next at finding {undecided.rank}, and have it tested with `verify`."
    if undecided is not None:
        return f"Look next at finding {undecided.rank}, which is inconclusive: more images would decide it."
    if not totals.wrong:
        return "Look next at images of another origin: these give nothing to go by."
    return "Look next at the confident mistakes: what they share may be too rare to be found here."
