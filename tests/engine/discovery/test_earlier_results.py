from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cache.findings import Finding, Findings, Rate, basis_of, load_findings, store_findings
from cache.run import Run
from cache.writer import RunWriter
from engine.discovery import what, where, who
from engine.discovery.discover import discover
from engine.discovery.earlier_results import with_earlier_results
from engine.verifying.verdicts import judge
from tests.synthetic import make_run

STRONG = Rate(0.8, 0.0, 40, 0.6, 0.9, 0.0, 0.6, 0.9)
NONE = Rate(0.0, 0.0, 200, -0.02, 0.02)
NOTE = "What was pasted is the region of each image."
CLASSES = ("wolf", "husky", "fox", "cat")


@pytest.fixture(scope="module", autouse=True)
def few_permutations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "PERMUTATIONS", 60)
        patch.setattr(what, "PERMUTATIONS", 60)
        patch.setattr(who, "RULE_PERMUTATIONS", 30)
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_run(tmp_path_factory.mktemp("kept") / "run", 500, seed=3)
    discover(path)
    return path


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "run"))


def as_tested(finding: Finding, rate: Rate = STRONG) -> Finding:
    found = replace(finding, deletion=rate, transplant=rate)
    verdict, reasons = judge(found, CLASSES[finding.class_index])
    return replace(found, verdict=verdict, reasons=(*reasons, NOTE))


def put(run: Path, findings: tuple[Finding, ...]) -> None:
    with RunWriter(run) as writer:
        store_findings(writer, replace(load_findings(Run.open(run)), findings=findings))


def test_searching_again_keeps_what_was_proven(run: Path) -> None:
    before = load_findings(Run.open(run)).findings
    put(run, (as_tested(before[0]), as_tested(before[1], NONE), *before[2:]))
    again = {f.key: f for f in discover(run).findings}
    assert again == {f.key: f for f in load_findings(Run.open(run)).findings}
    assert set(again) == {f.key for f in before}
    first, second = again[before[0].key], again[before[1].key]
    assert (first.verdict, first.deletion, first.transplant) == ("shortcut", STRONG, STRONG)
    assert first.reasons == as_tested(before[0]).reasons
    assert second.verdict == "refuted"
    # Ranked as `verify` ranks: what is proven first, what is refuted last.
    assert first.rank == 1
    assert second.rank == len(before)
    assert all(f.verdict == "untested" for f in again.values() if f.key not in (first.key, second.key))


def test_searching_again_can_forget(run: Path) -> None:
    before = load_findings(Run.open(run)).findings
    put(run, tuple(as_tested(f) for f in before))
    again = discover(run, forget=True).findings
    assert again == before
    assert all(f.verdict == "untested" and f.transplant is None for f in again)


def test_the_verdict_follows_the_effect_of_now(run: Path) -> None:
    found = load_findings(Run.open(run)).findings[0]
    proven = as_tested(replace(found, effect=0.5, q_value=0.001, likeness=None, outside_object=None))
    assert proven.verdict == "shortcut"
    harmless = replace(found, effect=0.0, q_value=0.9, likeness=None, outside_object=None)
    (kept,) = with_earlier_results([harmless], [proven], CLASSES, 10)
    assert kept.verdict == "relied on"
    assert kept.reasons[-1] == NOTE
    assert not any("Errors go with it" in reason for reason in kept.reasons)
    assert (kept.effect, kept.transplant) == (0.0, STRONG)


def test_other_images_are_told_once(run: Path) -> None:
    found = load_findings(Run.open(run)).findings[0]
    fewer = as_tested(replace(found, sample_ids=found.sample_ids[:5], n=5))
    (kept,) = with_earlier_results([found], [fewer], CLASSES, 10)
    assert "changed since it was tested, when it had 5:" in kept.reasons[-1]
    (again,) = with_earlier_results([replace(found, sample_ids=(), n=0)], [kept], CLASSES, 10)
    assert sum("changed since" in reason for reason in again.reasons) == 1


def test_other_keys_and_untested_findings_keep_nothing(run: Path) -> None:
    found = load_findings(Run.open(run)).findings
    other = as_tested(replace(found[0], class_index=3))
    assert with_earlier_results(found, [other, *found[1:]], CLASSES, 10) == found


def test_the_list_knows_what_it_rests_on(run: Path) -> None:
    opened = Run.open(run)
    found = load_findings(opened)
    assert found.basis == basis_of(opened.manifest)
    put(run, tuple(as_tested(f) for f in found.findings))
    after = Run.open(run)
    assert load_findings(after).basis == basis_of(after.manifest), (
        "verifying changes nothing that it rests on"
    )
    with RunWriter(run) as writer:
        writer.publish(drop=[("samples", writer.manifest.parts["samples"][0].name)])
    assert found.basis != basis_of(Run.open(run).manifest)


def test_a_list_that_cannot_be_read_is_made_anew(run: Path) -> None:
    good = load_findings(Run.open(run))
    with RunWriter(run) as writer:
        store_findings(writer, Findings((replace(good.findings[0], kind="about"),)))  # type: ignore[arg-type]
    assert discover(run).findings == good.findings
