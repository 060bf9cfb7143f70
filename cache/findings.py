"""Findings: what a suspected shortcut is, as JSON, and where a run keeps its list."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cache.errors import FilterError, RunDamagedError
from cache.fields import class_title
from cache.filters import Filter
from cache.manifest import Manifest
from cache.reading import reading_errors
from cache.run import Run
from cache.schema import FINDING_COLUMNS, FINDINGS, GROUPS, PROJECTIONS, arrow_schema
from cache.writer import RunWriter

Kind = Literal["where", "what", "who"]
Verdict = Literal["shortcut", "relied on", "refuted", "inconclusive", "untested"]
Box = tuple[float, float, float, float]
RELIED_ON = 0.2
"""Relied on: the 95 % lower bound of (rate − control) exceeds this in a test."""
REFUTED = 0.1
"""Refuted: the 95 % upper bounds of (rate − control) lie below this in both tests."""
ABOUT = "about"
"""Kind of the one row of `findings` that is no finding: the notices of the list."""


@dataclass(frozen=True)
class Rate:
    """What a causal test measured: how often a prediction changed, against its controls.

    Attributes:
        rate: Share of the tested images whose prediction changed; None where none could be tested.
        control_rate: The same with the equal-area control.
        n: Images tested.
        low: Lower limit of the 95 % interval of rate − control_rate.
        high: Its upper limit.
        class_rate: Transplant only: the share that patches attended by the rest of the class change.
        class_low: Lower limit of the 95 % interval of rate − class_rate.
        class_high: Its upper limit.
    """

    rate: float | None
    control_rate: float | None
    n: int
    low: float | None
    high: float | None
    class_rate: float | None = None
    class_low: float | None = None
    class_high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plain dictionary that stands in the list of findings."""
        return {f.name: _finite(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Rate:
        """Read what `to_json` wrote, ignoring keys of later versions."""
        return cls(**{f.name: data.get(f.name) for f in fields(cls) if f.name != "n"}, n=int(data["n"]))


@dataclass(frozen=True)
class Finding:
    """A suspected shortcut: what leads to a class, which samples show it, and how sure that is.

    Attributes:
        rank: From 1: what deserves a look first.
        kind: Found as a region (where), a group of like content (what) or a rule (who).
        class_index: The predicted class that the shortcut leads to.
        title: One line for people.
        box: x0, y0, x1, y1 in fractions of the view; None for the whole image or content that moves about.
        filter: Reproduces all of its samples, of both halves.
        sample_ids: Those samples.
        n: How many they are.
        effect: On the held-back half: error rate inside minus outside, among samples predicted to be of the class; where
            `evidence` has ``by_false_calls`` the rate of false calls with the property minus without, among other classes;
            where it has ``by_other_classes`` the rate inside minus that of as much of the most error-prone other class.
        ci: The 95 % interval of the effect.
        p_value: Fisher's exact test of the same table, one-sided.
        q_value: The p-value after Benjamini–Hochberg over the findings carried over.
        likeness: How near-identical the attended content is from image to image, 0 to 1.
        outside_object: Share of the attended mass outside the known object; None where no object is known.
        property: Image statistic of a finding about the whole image (a tint, the brightness), else None.
        shows_as: Image statistics by which the content of a finding shows in the whole image (snow by the brightness), the clearest
            first; where one of them was imposed, that one first.
        evidence: Numbers that the title and the page quote.
        deletion: What covering the attended content did.
        transplant: What pasting it into other images did.
        imposed: What imposing the property (of content: what it shows as) on other images did.
        verdict: What the tests prove.
        reasons: Why the verdict is what it is, in sentences.
    """

    rank: int
    kind: Kind
    class_index: int
    title: str
    box: Box | None
    filter: Filter
    sample_ids: tuple[str, ...]
    n: int
    effect: float | None
    ci: tuple[float, float] | None
    p_value: float | None
    q_value: float | None
    likeness: float | None
    outside_object: float | None
    property: str | None
    evidence: dict[str, float]
    deletion: Rate | None = None
    transplant: Rate | None = None
    imposed: Rate | None = None
    verdict: Verdict = "untested"
    reasons: tuple[str, ...] = ()
    shows_as: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """What names it in links and reviews, whatever its rank: 12 hexadecimal digits of its class, kind and filter."""
        text = json.dumps([self.class_index, self.kind, self.filter.to_param()])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @cached_property
    def transfer(self) -> Rate | None:
        """The test that brought it into other images, pasted or imposed; of both the one that shows more beyond its controls."""
        made = [test for test in (self.transplant, self.imposed) if test is not None]
        return max(made, key=lambda test: -math.inf if test.low is None else test.low, default=None)

    def to_json(self, classes: Sequence[str] = ()) -> dict[str, Any]:
        """Return the finding as `findings --json` prints it.

        Args:
            classes: Names of the model's outputs; without them ``class`` is the index.
        """
        named: str | int = class_title(classes, self.class_index) if classes else self.class_index
        return {
            "key": self.key,
            "rank": self.rank,
            "kind": self.kind,
            "class": named,
            "class_index": self.class_index,
            "title": self.title,
            "box": None if self.box is None else list(self.box),
            "sample_ids": list(self.sample_ids),
            "n": self.n,
            "effect": _finite(self.effect),
            "ci": None if self.ci is None else [_finite(limit) for limit in self.ci],
            "p_value": _finite(self.p_value),
            "q_value": _finite(self.q_value),
            "verdict": self.verdict,
            "deletion": _rate(self.deletion),
            "transplant": _rate(self.transplant),
            "imposed": _rate(self.imposed),
            "filter": self.filter.to_param(),
            "likeness": _finite(self.likeness),
            "outside_object": _finite(self.outside_object),
            "property": self.property,
            "shows_as": list(self.shows_as),
            "evidence": {name: _finite(value) for name, value in self.evidence.items()},
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """Read what `to_json` wrote, ignoring keys of later versions."""
        box, ci = data["box"], data["ci"]
        tests: dict[str, Any] = {
            name: Rate.from_json(data[name]) if data.get(name) else None
            for name in ("deletion", "transplant", "imposed")
        }
        plain = ("rank", "kind", "class_index", "title", "n", "effect", "p_value", "q_value", "verdict")
        more = ("likeness", "outside_object", "property")
        given: dict[str, Any] = {name: data[name] for name in plain} | {name: data.get(name) for name in more}
        return cls(
            **given,
            **tests,
            box=None if box is None else (box[0], box[1], box[2], box[3]),
            ci=None if ci is None or None in ci else (ci[0], ci[1]),
            filter=Filter.from_param(data["filter"]),
            sample_ids=tuple(data["sample_ids"]),
            evidence={name: math.nan if v is None else v for name, v in data.get("evidence", {}).items()},
            reasons=tuple(data.get("reasons", ())),
            shows_as=tuple(data.get("shows_as") or ()),
        )


@dataclass(frozen=True)
class Findings:
    """A run's list.

    Attributes:
        findings: By rank.
        notices: Sentences: what cannot be said about this run, and why.
        discovered: Whether `discover` has run at all.
        basis: What `basis_of` said of the run when it was searched; empty where that was not written down.
    """

    findings: tuple[Finding, ...] = ()
    notices: tuple[str, ...] = ()
    discovered: bool = True
    basis: str = ""

    def find(self, key: str) -> Finding | None:
        """Return the finding of a key, or None."""
        return next((finding for finding in self.findings if finding.key == key), None)


def basis_of(manifest: Manifest) -> str:
    """Return a digest of the files that findings rest on: another one says that the run has changed since."""
    tables = sorted(set(manifest.parts) - {FINDINGS, GROUPS, PROJECTIONS, "errors"})
    names = [[table, part.name] for table in tables for part in manifest.parts[table]]
    return hashlib.blake2b(json.dumps(sorted(names)).encode(), digest_size=8).hexdigest()


def store_findings(writer: RunWriter, found: Findings) -> None:
    """Put a list in the place of the run's present one, in one publication; ranks are as given.

    Whatever else was appended to the writer (groups) is published with it.

    Raises:
        RunStorageError: The disk refuses; the list before stays.
    """
    about = {"notices": list(found.notices), "basis": found.basis}
    ordered = sorted(found.findings, key=lambda finding: finding.rank)
    classes = writer.manifest.classes
    rows = {
        "rank": [0, *(f.rank for f in ordered)],
        "kind": [ABOUT, *(f.kind for f in ordered)],
        "class": [None, *(f.class_index for f in ordered)],
        "json": [_text(about), *(_text(f.to_json(classes)) for f in ordered)],
    }
    replaced = [(FINDINGS, part.name) for part in writer.manifest.parts.get(FINDINGS, [])]
    writer.append(FINDINGS, pa.table(rows, schema=arrow_schema(FINDING_COLUMNS)))
    writer.publish(drop=replaced)


def load_findings(run: Run) -> Findings:
    """Read a run's list.

    Raises:
        RunDamagedError: The table cannot be read, or what it holds is no list of findings.
    """
    with reading_errors(run):
        rows = [row for path in run.part_paths(FINDINGS) for row in pq.read_table(path).to_pylist()]
    notices: tuple[str, ...] = ()
    basis = ""
    found = []
    try:
        for row in sorted(rows, key=lambda row: row["rank"]):
            data = json.loads(row["json"])
            if row["kind"] == ABOUT:
                notices, basis = tuple(data["notices"]), str(data.get("basis", ""))
            else:
                found.append(Finding.from_json(data))
    except (ValueError, KeyError, TypeError, IndexError, FilterError) as error:
        raise RunDamagedError(
            f"The list of findings of {run.path} cannot be read: make it anew with `python -m engine discover {run.path}`."
        ) from error
    return Findings(tuple(found), notices, bool(rows), basis)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Number findings from 1 in the order given."""
    return tuple(replace(finding, rank=rank) for rank, finding in enumerate(findings, 1))


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def _rate(rate: Rate | None) -> dict[str, Any] | None:
    return None if rate is None else rate.to_json()


def _finite(value: Any) -> Any:
    """Return a number as JSON can say it: NaN and infinities are unknown."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        return number if math.isfinite(number) else None
    return value
