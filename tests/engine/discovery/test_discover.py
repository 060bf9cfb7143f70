"""`discover` over whole runs: planted truths on top, filters that reproduce, and runs about which little can be said."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import RunBusyError, RunDamagedError, RunNotFoundError
from cache.filters import Filter
from cache.findings import Finding, Findings, Rate, load_findings, store_findings
from cache.run import Run
from cache.writer import RunWriter
from engine.discovery import what, where, who
from engine.discovery.audited import Audited, read_audited
from engine.discovery.discover import discover, propose
from engine.discovery.notices import notices
from tests.synthetic import make_run

DESIGN_KEYS = {
    "rank", "kind", "class", "title", "box", "sample_ids", "n", "effect", "ci", "q_value", "verdict", "deletion",
    "transplant", "filter",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("discovered") / "run", 500, seed=3)


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return discover(run)


def test_the_planted_truths_come_out_on_top(run: Path, found: Findings) -> None:
    wolf, fox = (next(f for f in found.findings if f.class_index == c) for c in (0, 2))
    # Snow is there twice at most: as content, and as the brightness that goes with it.
    assert min(wolf.rank, fox.rank) == 1
    assert {f.class_index for f in found.findings[: max(wolf.rank, fox.rank)]} == {0, 2}
    assert max(wolf.rank, fox.rank) <= 3
    assert fox.kind == "where"
    assert fox.box is not None
    x0, y0, x1, y1 = fox.box
    assert x0 <= 0.14 <= x1, "the tag's place, as the synthetic maps have it"
    assert y0 <= 0.9 <= y1
    assert max(f.effect or 0 for f in found.findings[:3] if f.class_index == 0) > 0.4
    assert all(f.q_value is not None and f.q_value < 0.05 for f in (wolf, fox))
    assert all(f.ci is not None and f.ci[0] > 0 for f in (wolf, fox))


def test_filters_reproduce_the_samples_of_both_halves(run: Path, found: Findings) -> None:
    catalog = Catalog(Run.open(run))
    held = dict(zip((a := read_audited(catalog)).sample_ids.tolist(), a.held_back, strict=True))
    assert found.findings
    for finding in found.findings:
        assert tuple(queries.ids(catalog, finding.filter)) == finding.sample_ids
        assert len(finding.sample_ids) == finding.n
        assert {held[i] for i in finding.sample_ids} == {True, False}
        assert Filter.from_param(finding.filter.to_param()) == finding.filter


def test_the_list_is_stored_and_made_again_alike(run: Path, found: Findings) -> None:
    assert load_findings(Run.open(run)) == found
    parts = Run.open(run).manifest.parts["groups"]
    assert discover(run) == found
    assert Run.open(run).manifest.parts["groups"] == parts, "the same grouping is stored once"
    assert len(Run.open(run).manifest.parts["findings"]) == 1


def test_effects_are_those_of_the_held_back_half(run: Path, found: Findings) -> None:
    audited = read_audited(Catalog(Run.open(run)))
    for finding in found.findings:
        rows = audited.held_back & (audited.pred == finding.class_index)
        inside = np.isin(audited.sample_ids, finding.sample_ids)
        wrong = audited.label != audited.pred
        if finding.evidence.get("by_false_calls"):
            rows = audited.held_back & (audited.label != finding.class_index)
            rule = Filter(finding.filter.conditions[1:])
            inside = np.isin(audited.sample_ids, queries.ids(Catalog(Run.open(run)), rule))
            wrong = audited.pred == finding.class_index
        if finding.effect is not None:
            slow = wrong[rows & inside].mean() - wrong[rows & ~inside].mean()
            assert finding.effect == pytest.approx(slow)


def test_the_command_line(run: Path, found: Findings, tmp_path: Path) -> None:
    def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engine", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = json.loads(engine("findings", str(run), "--json").stdout)
    assert [Finding.from_json(entry) for entry in listed] == list(found.findings)
    assert all(set(entry) >= DESIGN_KEYS for entry in listed)
    assert listed[0]["class"] in ("wolf", "fox")
    shown = engine("findings", str(run)).stdout
    assert "engine verify" in shown
    gone = engine("discover", str(tmp_path / "nothing"))
    assert gone.returncode == 2
    assert "Traceback" not in gone.stderr


def test_verification_s_results_come_back(run: Path, tmp_path: Path, found: Findings) -> None:
    rate = Rate(0.7, 0.1, 50, 0.4, 0.7, 0.2, 0.3, float("nan"))
    tested = replace(found.findings[0], transplant=rate, verdict="shortcut", reasons=("It is.",))
    back = Finding.from_json(json.loads(json.dumps(tested.to_json(), allow_nan=False)))
    assert back.transplant == replace(rate, class_high=None)
    assert replace(back, transplant=rate) == tested
    path = make_run(tmp_path / "run", 60)
    with RunWriter(path) as writer:
        store_findings(writer, Findings((replace(tested, rank=2), replace(tested, rank=1)), ("A notice.",)))
    again = load_findings(Run.open(path))
    assert [f.rank for f in again.findings] == [1, 2]
    assert again.notices == ("A notice.",)
    assert not load_findings(Run.open(make_run(tmp_path / "other", 20))).discovered


def one_class(a: Audited) -> Audited:
    return replace(a, pred=np.zeros_like(a.pred), columns=a.columns)


CASES = {
    "no labels": (lambda a: replace(a, label=np.full_like(a.label, -1)), "No sample has a label"),
    "all right": (lambda a: replace(a, label=a.pred.copy()), "Every labelled prediction is right"),
    "all wrong": (lambda a: replace(a, label=(a.pred + 1) % 4), "Every labelled prediction is wrong"),
    "one class": (one_class, "calls every sample the same"),
    "three images": (
        lambda a: replace(a, pred=np.where((a.pred == 3) & (np.cumsum(a.pred == 3) > 3), 0, a.pred)),
        "cat (3)",
    ),
    "constant": (
        lambda a: replace(a, columns=[replace(c, values=np.ones(a.n), levels=()) for c in a.columns]),
        "the same for all images",
    ),
    "no features": (lambda a: replace(a, attended=None), "no attended features"),
    "no maps": (lambda a: replace(a, known=np.zeros(a.n, bool), p=a.p * 0), "no map with positive"),
    "some labels": (lambda a: replace(a, label=np.where(np.arange(a.n) % 2, a.label, -1)), "have no label"),
}


@pytest.mark.parametrize("case", CASES)
def test_runs_about_which_less_can_be_said(run: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "PERMUTATIONS", 60)
    monkeypatch.setattr(what, "PERMUTATIONS", 60)
    monkeypatch.setattr(who, "RULE_PERMUTATIONS", 30)
    monkeypatch.setattr(what, "MOST_COMPARED", 1)
    catalog = Catalog(Run.open(run))
    change, expected = CASES[case]
    changed = change(read_audited(catalog))
    merged = propose(catalog, changed)
    assert any(expected in notice for notice in notices(changed, catalog)), notices(changed, catalog)
    if case == "no labels":
        assert merged, "what leads to a class is found without labels"
        assert all(one.effect.difference is None for one in merged)
    if case in ("all right", "all wrong"):
        assert all(not one.effect.difference for one in merged if one.best.holds is None)


def test_a_small_run_says_so_and_an_empty_one_too(tmp_path: Path) -> None:
    small = discover(make_run(tmp_path / "small", 30))
    assert any("too few" in notice for notice in small.notices)
    for n in (2, 8):
        assert discover(make_run(tmp_path / f"{n}", n)).notices


def test_an_unlabelled_run_without_masks(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 300, labelled=False, masks=False)
    found = discover(path)
    assert all(f.effect is None and f.ci is None and f.q_value is None for f in found.findings)
    catalog = Catalog(Run.open(path))
    for finding in found.findings:
        assert tuple(queries.ids(catalog, finding.filter)) == finding.sample_ids


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError):
        discover(tmp_path / "nothing")
    path = make_run(tmp_path / "run", 40)
    with RunWriter(path), pytest.raises(RunBusyError):
        discover(path)
    part = next((path / "embeddings").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(RunDamagedError, match="damaged"):
        discover(path)
    assert part.name in (path / "run.json").read_text(), "the manifest still says what the run should hold"
