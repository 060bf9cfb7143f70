"""What a report says: gathered from a run and its reviews, every text without the places that it may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from cache import queries, review_views
from cache.bundle_privacy import PLACE, Privacy
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.fields import class_title
from cache.filters import Filter, Is, compile_filter
from cache.findings import Box, Finding, load_findings
from cache.intervals import wilson
from cache.queries import Counts, Sort
from cache.review_events import Subject
from cache.review_views import Marks
from cache.reviewed_samples import sample_ids
from cache.reviews import Reviews
from cache.schema import TARGET_PRED, TARGET_TRUE
from dashboard.report_figures import evidence_svg
from dashboard.report_pictures import Picture, mean_picture, sample_pictures

EXAMPLES = 12
"""Images shown of a finding or a selection."""
OF_WRONG = 8
"""Those of them that are wrong predictions, where there are so many."""
REVIEWED = 48
"""Reviewed images shown."""
VERDICT_KINDS = {
    "shortcut": "bad", "relied on": "warn", "refuted": "good", "inconclusive": "open", "untested": "open",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A selection that a report shows.

    Attributes:
        filter: Its samples.
        name: A heading; empty for the filter's own sentence.
        description: What somebody wrote about it.
        method: Whose maps; None for the run's default.
        target: ``pred`` or ``true``.
        sort: In which order; None for the worst mistakes first.
        by: Who saved it, and when.
        trouble: Why it cannot be shown.
    """

    filter: Filter
    name: str = ""
    description: str = ""
    method: str | None = None
    target: str = TARGET_PRED
    sort: Sort | None = None
    by: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Tile:
    """An example image: the picture, what it is and was taken for, and what reviewers said."""

    picture: Picture
    text: str
    alt: str
    mark: str
    sure: str
    name: str
    marks: Marks


@dataclass(frozen=True)
class Section:
    """A finding or a selection, as the template shows it."""

    anchor: str
    title: str
    tiles: list[Tile]
    n: int
    mean: Picture | None = None
    box: Box | None = None
    figure: Markup = field(default_factory=Markup)
    marks: Marks = field(default_factory=Marks)
    facts: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    rank: int = 0
    verdict: str = ""
    verdict_kind: str = ""
    sentence: str = ""
    description: str = ""
    by: str = ""
    trouble: str = ""
    map_title: str = ""


class Gatherer:
    """Reads a run for a report; what it returns names no place and needs nothing but to be escaped."""

    def __init__(self, catalog: Catalog, reviews: Reviews) -> None:
        """Start on a run.

        Args:
            catalog: The run.
            reviews: Its reviews.
        """
        self.catalog, self.reviews = catalog, reviews
        self.manifest = catalog.manifest
        self.privacy = Privacy(catalog.manifest, catalog.run.path)
        names = catalog.query("SELECT sample_id FROM samples")["sample_id"]
        places = pc.match_substring_regex(names, PLACE)
        if pc.any(places).as_py():
            self.privacy.taken = set(names.filter(pc.invert(places)).to_pylist())
        self.whole = queries.count(catalog, Filter())

    def said(self, text: object) -> str:
        """Return somebody's words without the places in them."""
        return str(self.privacy.value(str(text), "said"))

    def findings(self, each: Callable[[], None]) -> tuple[list[Section], list[str], bool]:
        """Return the findings by rank, the notices of their list, and whether there is a list."""
        found = load_findings(self.catalog.run)
        sections = []
        for finding in found.findings:
            sections.append(self._finding(finding))
            each()
        return sections, [self.said(notice) for notice in found.notices], found.discovered

    def views(self) -> list[Asked]:
        """Return the saved views in the order of their list."""
        return [self._asked(view) for view in review_views.views(self.reviews)]

    def selection(self, asked: Asked, number: int, kind: str = "selection") -> Section:
        """Return a selection: how many, how often wrong, where the model looked, the worst of it."""
        sentence = _upper(self.said(asked.filter.sentence(self.manifest))) if not asked.trouble else ""
        heading = self.said(asked.name) or sentence
        described = self.said(asked.description)
        if asked.trouble:
            return Section(
                f"{kind}-{number}", heading, [], 0, description=described, by=asked.by, trouble=asked.trouble
            )
        counts = queries.count(self.catalog, asked.filter)
        method = asked.method or self.manifest.default_method
        rows = self._examples(asked.filter, counts, asked.sort)
        subject = Subject.selection(asked.filter)
        marks = review_views.marks(self.reviews, [subject])[subject] if asked.filter else Marks()
        return Section(
            f"{kind}-{number}",
            heading,
            self._tiles(rows, method, asked.target),
            counts.n,
            mean=mean_picture(self.catalog, asked.filter, method, asked.target),
            marks=self._marks(marks),
            facts=self._facts(counts, asked.filter),
            sentence=sentence if asked.name else "",
            description=described,
            by=asked.by,
            map_title=self._map_title(method, asked.target),
        )

    def reviewed(self) -> tuple[list[Tile], int]:
        """Return images that somebody noted something about or judged, and how many bear any mark at all."""
        contents = review_views.reviewed(self.reviews)
        if not contents:
            return [], 0
        subjects = [Subject.sample(content) for content in contents]
        marks = review_views.marks(self.reviews, subjects)
        worded = [s.key for s in subjects if marks[s].notes or marks[s].verdicts]
        tagged = [s.key for s in subjects if s.key not in set(worded)]
        ids = sample_ids(self.catalog, (worded or tagged)[: 4 * REVIEWED])
        rows: dict[str, dict[str, Any]] = {}
        for row in self._rows(ids):  # of copies of an image the first
            rows.setdefault(row["content"], row)
        shown = list(rows.values())[:REVIEWED]
        return self._tiles(shown, self.manifest.default_method, TARGET_PRED), len(contents)

    def review_counts(self) -> dict[str, list[tuple[str, int]]]:
        """Return how often each tag and verdict was given to images, and who reviewed how much."""
        given = review_views.verdicts(self.reviews)
        return {
            "Tags": [(self.said(t.tag), t.count) for t in review_views.tags(self.reviews)[:30]],
            "Verdicts": [(verdict, n) for verdict, n in given.items() if n],
            "Reviewers": [(self.said(r.name), r.events) for r in review_views.reviewers(self.reviews)[:30]],
        }

    def _asked(self, view: review_views.SavedView) -> Asked:
        by = f"{self.said(view.author)}, {view.time:%-d %b %Y}"
        query = {key: values[-1] for key, values in parse_qs(urlsplit(view.url).query).items()}
        sort = query.get("sort", "")
        name = sort.removeprefix("-")
        order = Sort(name, sort.startswith("-")) if name in self.catalog.kinds() else None
        method = query.get("method")
        try:
            chosen = Filter.from_param(query.get("filter", ""))
            compile_filter(chosen, self.manifest)
        except FilterError as error:
            return Asked(Filter(), view.name, view.description, by=by, trouble=self.said(error))
        return Asked(
            chosen,
            view.name,
            view.description,
            method if method in self.manifest.methods else None,
            TARGET_TRUE if query.get("target") == TARGET_TRUE else TARGET_PRED,
            order,
            by,
        )

    def _finding(self, finding: Finding) -> Section:
        classes = self.manifest.classes
        name = class_title(classes, finding.class_index)
        method = self.manifest.default_method
        counts, mean = Counts(finding.n, 0, 0), None
        try:
            counts = queries.count(self.catalog, finding.filter)
            rows = self._examples(finding.filter, counts)
            mean = mean_picture(self.catalog, finding.filter, method, TARGET_PRED)
        except FilterError:  # a field or a grouping that it names is there no more
            rows = self._rows(finding.sample_ids[:EXAMPLES])
        facts = [("Images", f"{finding.n:,}"), *self._rates(counts)]
        if finding.q_value is not None:
            facts.append(("q-value", _p_text(finding.q_value)))
        if finding.likeness is not None:
            facts.append(("Alike", f"{finding.likeness:.0%}"))
        if finding.outside_object is not None:
            facts.append(("Beside the object", f"{finding.outside_object:.0%}"))
        subject = Subject.finding(finding.key)
        marks = review_views.marks(self.reviews, [subject])[subject]
        return Section(
            f"finding-{finding.rank}",
            self.said(finding.title),
            self._tiles(rows, method, TARGET_PRED),
            finding.n,
            mean=mean,
            box=finding.box,
            figure=evidence_svg(finding, name),
            marks=self._marks(marks),
            facts=facts,
            lines=[self.said(reason) for reason in finding.reasons],
            rank=finding.rank,
            verdict=finding.verdict,
            verdict_kind=VERDICT_KINDS.get(finding.verdict, "open"),
            map_title=self._map_title(method, TARGET_PRED),
        )

    def _examples(self, filter_: Filter, counts: Counts, sort: Sort | None = None) -> list[dict[str, Any]]:
        """Return rows to show: in an order asked for, else the surest mistakes and then the surest hits."""
        sure = Sort("confidence", descending=True)
        if sort is not None or not counts.wrong or filter_.get("correct") is not None:
            rows: list[dict[str, Any]] = queries.page(
                self.catalog, filter_, sort or sure, 0, EXAMPLES
            ).to_pylist()
            return rows
        sides = [
            queries.page(self.catalog, filter_.with_(Is("correct", value)), sure, 0, EXAMPLES).to_pylist()
            for value in (False, True)
        ]
        wrong = sides[0][: max(OF_WRONG, EXAMPLES - len(sides[1]))]
        return [*wrong, *sides[1][: EXAMPLES - len(wrong)]]

    def _rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows of samples by id, in that order; unknown ids are left out."""
        table = self.catalog.query(
            "SELECT sample_id, content, label, pred, correct, confidence FROM samples "
            "WHERE sample_id IN (SELECT unnest($ids))",
            {"ids": list(ids)},
        )
        found = {row["sample_id"]: row for row in table.to_pylist()}
        return [found[one] for one in ids if one in found]

    def _tiles(self, rows: Sequence[Mapping[str, Any]], method: str, target: str) -> list[Tile]:
        classes = self.manifest.classes
        pictures = sample_pictures(self.catalog, [row["sample_id"] for row in rows], method, target)
        subjects = {row["content"]: Subject.sample(row["content"]) for row in rows}
        marks = review_views.marks(self.reviews, subjects.values())
        tiles = []
        for row in rows:
            called = class_title(classes, row["pred"])
            truth = None if row["label"] is None else class_title(classes, row["label"])
            name = self.privacy.name(row["sample_id"])
            sure = "" if row["confidence"] is None else f"{row['confidence']:.0%}"
            text = f"{truth} → {called}" if row["correct"] is False else called
            outcome = {None: "of unknown class", True: "rightly", False: f"wrongly; it is {truth}"}
            alt = f"{name}: predicted {called} {outcome[row['correct']]}{f', {sure} sure' if sure else ''}"
            mark = {None: "open", True: "right", False: "wrong"}[row["correct"]]
            said = self._marks(marks[subjects[row["content"]]])
            tiles.append(Tile(pictures[row["sample_id"]], text, alt, mark, sure, name, said))
        return tiles

    def _marks(self, marks: Marks) -> Marks:
        return Marks(
            [self.said(tag) for tag in marks.tags],
            [
                review_views.Verdict(
                    self.said(v.author), v.verdict, v.time, v.label, self.said(v.label_name or "")
                )
                for v in marks.verdicts
            ],
            [review_views.Note(n.id, self.said(n.author), self.said(n.text), n.time) for n in marks.notes],
        )

    def _facts(self, counts: Counts, filter_: Filter) -> list[tuple[str, str]]:
        share = counts.n / self.whole.n if self.whole.n else 0.0
        # Among wrong predictions only, an error rate of 100 % tells nobody anything.
        rates = self._rates(counts) if filter_.get("correct") is None else []
        return [("Images", f"{counts.n:,} ({share:.1%} of the run)"), *rates]

    def _rates(self, counts: Counts) -> list[tuple[str, str]]:
        if counts.error_rate is None:
            return []
        interval = wilson(counts.wrong, counts.labelled)
        facts = [
            (
                "Error rate",
                f"{counts.error_rate:.1%} ({float(interval.low):.0%} to {float(interval.high):.0%})",
            )
        ]
        rest = Counts(
            self.whole.n - counts.n, self.whole.labelled - counts.labelled, self.whole.wrong - counts.wrong
        )
        if rest.error_rate is not None:
            facts.append(("Everywhere else", f"{rest.error_rate:.1%}"))
        return facts

    def _map_title(self, method: str, target: str) -> str:
        title = str(self.manifest.methods.get(method, {}).get("title", method))
        return f"{title} for the {'true' if target == TARGET_TRUE else 'predicted'} class"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _p_text(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{np.round(value, 3):g}"
