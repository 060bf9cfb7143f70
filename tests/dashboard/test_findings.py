from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.conditions import InGroup, OneOf
from cache.filters import Filter
from cache.findings import REFUTED, RELIED_ON, Finding, Findings, load_findings, store_findings
from cache.review_events import Subject
from cache.review_views import marks
from cache.reviews import Reviews
from cache.run import Run
from cache.schema import FINDING_COLUMNS, FINDINGS, arrow_schema
from cache.writer import RunWriter
from dashboard.figures import DARK, LIGHT, Look
from dashboard.finding_examples import kinds_of
from dashboard.finding_export import finding_json, samples_csv
from dashboard.finding_figure import trials, trials_figure
from dashboard.finding_words import VERDICTS, class_of, effect_text, region_of, rest_of_class
from dashboard.report import build_report
from tests.dashboard.conftest import OpenPage, texts
from tests.synthetic import make_run
from tests.synthetic_findings import NOTICE, add_findings


@pytest.fixture(scope="module")
def catalog(runs: Path) -> Catalog:
    return Catalog(Run.open(runs / "audited"))


@pytest.fixture(scope="module")
def found(catalog: Catalog) -> Findings:
    return load_findings(catalog.run)


def page_text(app: Any) -> str:
    told = [texts(app), *(e.value for e in app.info), *(element.proto.body for element in app.get("html"))]
    return "\n".join(map(str, told))


def test_the_first_finding_is_shown_with_its_proof(open_page: OpenPage, found: Findings) -> None:
    app = open_page("findings", run="audited")
    assert not app.exception
    said = page_text(app)
    first = found.findings[0]
    assert first.title in said
    assert "Its worst habit: calling images fox while looking at the lower left corner" in said
    assert "Reason for looking at the lower left corner." in said
    assert NOTICE.split(" ")[0] in said
    assert f"<dt>Images</dt><dd>{first.n:,}</dd>" in said
    for finding in found.findings:
        assert f"</b>{finding.verdict}</span>" in said
        assert finding.title in said
    # One of the five waits for its tests, and the page says how to make them.
    assert "4 of 5 findings have been tested" in said
    assert "python -m engine verify" in said


@pytest.mark.parametrize("at", range(5))
def test_every_finding_has_its_page_and_its_link(open_page: OpenPage, found: Findings, at: int) -> None:
    finding = found.findings[at]
    app = open_page("findings", run="audited", finding=finding.key)
    assert not app.exception
    said = page_text(app)
    assert f'gl-finding-title">{finding.title}' in said
    drawn = sum(one.proto.component_name == "gazelake_chart" for one in app.get("bidi_component"))
    assert drawn == (finding.verdict != "untested")
    assert ("What the tests did" in said) == bool(drawn)
    assert any(b.key == "finding_region" for b in app.button) == (finding.box is not None)


def test_choosing_a_card_writes_the_address(open_page: OpenPage, found: Findings) -> None:
    app = open_page("findings", run="audited")
    app.button(key="finding_open_2").click().run()
    assert app.query_params["finding"] in (found.findings[1].key, [found.findings[1].key])
    assert f'gl-finding-title">{found.findings[1].title}' in page_text(app)
    lost = open_page("findings", run="audited", finding="0123456789ab")
    assert not lost.exception
    assert "made anew" in texts(lost)
    assert f'gl-finding-title">{found.findings[0].title}' in page_text(lost)


def test_runs_that_were_not_searched_say_what_to_type(open_page: OpenPage, runs: Path) -> None:
    app = open_page("findings", run="animals")
    assert not app.exception
    assert f"python -m engine discover {runs / 'animals'}" in texts(app)
    assert f"python -m engine verify {runs / 'animals'}" in texts(app)
    overview = open_page("overview", run="animals")
    assert "Nobody has looked for its habits yet." in page_text(overview)


def test_untested_findings_say_what_to_type(open_page: OpenPage, tmp_path: Path) -> None:
    add_findings(make_run(tmp_path / "run", 150, seed=4), verified=False)
    app = open_page("findings", folder=tmp_path, run="run")
    assert not app.exception
    said = page_text(app)
    assert "None of 5 findings has been tested" in said
    assert any(f"python -m engine verify {tmp_path / 'run'}" == code.value for code in app.code)
    assert "5 suspected habits have not been tested yet." in said


def test_a_changed_run_says_that_its_list_is_old(open_page: OpenPage, runs: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(runs / "audited", tmp_path / "audited"))
    with RunWriter(path) as writer:
        store_findings(writer, replace(load_findings(Run.open(path)), basis="of before"))
    app = open_page("findings", folder=tmp_path, run="audited")
    assert not app.exception
    assert "has changed since it was searched" in texts(app)
    assert "has changed since" not in texts(open_page("findings", folder=runs, run="audited"))


def test_a_finding_that_cannot_be_shown_leaves_the_others_within_reach(
    open_page: OpenPage, tmp_path: Path
) -> None:
    path = add_findings(make_run(tmp_path / "run", 150, seed=4))
    found = load_findings(Run.open(path))
    lost = Filter((OneOf("pred", ("fox",)), InGroup("0123456789abcdef", 0)))
    with RunWriter(path) as writer:
        listed = (replace(found.findings[0], filter=lost, box=None), *found.findings[1:])
        store_findings(writer, replace(found, findings=listed))
    app = open_page("findings", folder=tmp_path, run="run")
    assert not app.exception
    assert "This run does not hold the group" in texts(app)
    app.button(key="finding_open_2").click().run()
    assert not app.exception
    assert f'gl-finding-title">{found.findings[1].title}' in page_text(app)
    assert "This run does not hold the group" not in texts(app)


def test_the_filter_of_other_pages_does_not_apply(open_page: OpenPage, found: Findings) -> None:
    chosen = Filter((OneOf("pred", ("cat",)),))
    app = open_page("findings", run="audited", filter=chosen.to_param())
    assert not app.exception
    assert "about the whole run" in texts(app)
    assert found.findings[0].title in page_text(app)
    assert app.query_params["filter"] in (chosen.to_param(), [chosen.to_param()])


def test_an_empty_list_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 60)
    with RunWriter(path) as writer:
        store_findings(writer, Findings(notices=("Every labelled prediction is wrong.",)))
    app = open_page("findings", folder=tmp_path, run="run")
    assert not app.exception
    assert "No suspected shortcut was found" in page_text(app)
    assert "Every labelled prediction is wrong" in texts(app)


def test_runs_without_labels_have_findings_too(open_page: OpenPage, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 150, seed=4, labelled=False, masks=False)
    labelled = add_findings(make_run(tmp_path / "labelled", 150, seed=4))
    first = load_findings(Run.open(labelled)).findings[0]
    bare = replace(first, effect=None, ci=None, q_value=None, evidence={}, likeness=None, outside_object=None)
    with RunWriter(path) as writer:
        store_findings(writer, Findings((bare,)))
    app = open_page("findings", folder=tmp_path, run="run")
    assert not app.exception
    assert "<dt>Effect, held-back half</dt><dd>–</dd>" in page_text(app)
    assert "has a label" in page_text(app)


@pytest.mark.parametrize("text", ["{", '{"rank": 1}', "[]", '{"notices": 3}'])
def test_a_list_that_is_none_is_told_in_a_sentence(open_page: OpenPage, tmp_path: Path, text: str) -> None:
    path = make_run(tmp_path / "run", 60)
    rows = {"rank": [0, 1], "kind": ["about", "where"], "class": [None, 0], "json": ['{"notices": []}', text]}
    with RunWriter(path) as writer:
        writer.append(FINDINGS, pa.table(rows, schema=arrow_schema(FINDING_COLUMNS)))
        writer.publish()
    app = open_page("findings", folder=tmp_path, run="run")
    assert not app.exception
    assert "engine discover" in texts(app).replace("\\", "")
    overview = open_page("overview", folder=tmp_path, run="run")
    assert not overview.exception
    assert "list of findings" in overview.warning[0].value
    assert overview.metric, "the rest of the page is there"


def test_the_overview_names_the_habits_and_leads_to_the_findings(open_page: OpenPage) -> None:
    app = open_page("overview", run="audited")
    assert "Its worst habit: calling images fox" in page_text(app)
    app.button(key="overview_findings").click().run()
    assert not app.exception
    assert app.title[0].value == "Findings"


def test_a_finding_its_rest_and_its_class_part_the_samples(catalog: Catalog, found: Findings) -> None:
    for finding in found.findings:
        inside = set(queries.ids(catalog, finding.filter))
        rest = rest_of_class(finding)
        assert rest is not None
        outside = set(queries.ids(catalog, rest))
        every = set(queries.ids(catalog, class_of(finding)))
        assert inside == set(finding.sample_ids)
        assert not inside & outside
        assert inside | outside <= every
        shown = [set(queries.ids(catalog, kind.filter)) for kind in kinds_of(finding, "x", True)]
        assert shown[0] | shown[1] == inside
        assert shown[2] <= outside
    whole = replace(found.findings[0], filter=class_of(found.findings[0]), box=None)
    assert rest_of_class(whole) is None
    assert len(kinds_of(whole, "x", True)) == 2
    assert region_of(whole) is None


@pytest.mark.parametrize("look", [LIGHT, DARK])
def test_the_figure_shows_rates_and_differences_with_their_intervals(found: Findings, look: Look) -> None:
    finding = found.findings[0]
    shown = trials(finding, "<b>fox")
    figure = trials_figure(shown, "<b>fox", look)
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["this finding"].x) == [0.82, 0.6]
    assert list(by_name["control"].x) == [0.02, 0.0]
    assert list(by_name["rest of &lt;b&gt;fox"].x) == [0.05]
    beyond = by_name["beyond the control"]
    assert beyond.xaxis == "x2"
    assert np.allclose(np.array(beyond.x) - np.array(beyond.error_x.arrayminus), [0.62, 0.42])
    assert np.allclose(np.array(beyond.x) + np.array(beyond.error_x.array), [0.89, 0.74])
    lines = {shape.x0 for shape in figure.layout.shapes}
    assert lines == {RELIED_ON, REFUTED}
    assert "<b>fox" not in "".join(figure.layout.yaxis.ticktext)
    assert trials(replace(finding, deletion=None, transplant=None), "fox") == []


def test_words_say_what_is_known() -> None:
    assert set(VERDICTS) == {"shortcut", "relied on", "refuted", "inconclusive", "untested"}
    assert len({look.sign for look in VERDICTS.values()}) == 5, "colour is never alone"
    assert len({look.style for look in VERDICTS.values()}) == 5


def test_a_finding_can_be_taken_away(catalog: Catalog, found: Findings) -> None:
    for finding in found.findings:
        again = Finding.from_json(json.loads(finding_json(finding, catalog.classes)))
        assert again == finding
        assert json.loads(finding_json(finding, catalog.classes))["key"] == finding.key
        rows = list(csv.DictReader(io.StringIO(samples_csv(catalog, finding))))
        assert {row["sample_id"] for row in rows} == set(finding.sample_ids)
        assert ("attention in the region" in rows[0]) == (finding.box is not None)
        assert {row["pred"] for row in rows} == {catalog.classes[finding.class_index]}
    assert effect_text(replace(found.findings[0], effect=-0.5, ci=(-0.7, -0.2), q_value=0.2)) == (
        "−50 pts",
        "95% −70 to −20, q = 0.200",
    )


def test_keys_are_stable_and_tell_findings_apart(found: Findings) -> None:
    keys = [finding.key for finding in found.findings]
    assert len(set(keys)) == len(keys)
    first = found.findings[0]
    assert replace(first, rank=9, title="x", n=1, effect=None).key == first.key
    for other in (
        replace(first, class_index=1),
        replace(first, kind="who"),
        replace(first, filter=Filter()),
    ):
        assert other.key != first.key
    assert found.find(first.key) is first
    assert found.find("nothing") is None


def test_people_have_a_verdict_of_their_own_on_a_finding(
    open_page: OpenPage, runs: Path, tmp_path: Path
) -> None:
    own = tmp_path / "runs"
    shutil.copytree(runs / "audited", own / "audited")
    found = load_findings(Run.open(own / "audited")).findings[0]
    app = open_page("findings", folder=own, run="audited")
    app.text_input(key="sidebar_reviewer").set_value("Ann").run()
    app.pills(key=f"finding_{found.key}_verdict").set_value("real feature").run()
    assert not app.exception
    subject = Subject.finding(found.key)
    given = marks(Reviews.of_run(own / "audited"), [subject])[subject].verdicts
    assert [(v.author, v.verdict) for v in given] == [("Ann", "real feature")]
    report = build_report(Catalog(Run.open(own / "audited")), Reviews.of_run(own / "audited"))
    section = report[report.index(found.title, report.index('id="findings"')) :]
    assert (
        "real feature" in section[: section.index(load_findings(Run.open(own / "audited")).findings[1].title)]
    )
