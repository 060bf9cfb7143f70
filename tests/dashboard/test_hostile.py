"""Hostile input in one place: a run whose every text would be something else than text, links that mean nothing, reviews
that go away meanwhile, and people who ask for more than they may.

What a bundle may not do stands in ``tests/cache/test_bundles.py``, which original may be read in ``test_sample.py``.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from cache import queries, review_views
from cache.bundle_reading import open_bundle
from cache.bundles import write_bundle
from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf
from cache.regions import PRESETS
from cache.review_events import Subject
from cache.reviews import Reviews
from cache.run import Run
from cache.writer import RunWriter
from dashboard import reviewing
from dashboard.attention import region_to_param
from dashboard.people import Person
from dashboard.report import build_report, write_report
from tests.dashboard.conftest import PAGE_TIMEOUT, OpenPage, serve, texts
from tests.synthetic import make_run
from tests.synthetic_findings import add_findings
from tests.synthetic_projection import add_projections

SCRIPT = "<img src=x onerror=\"window.owned='img'\"><script>window.owned='script'</script>"
QUOTES = "\"><svg onload=\"window.owned='svg'\">' OR 1=1; -- \\"
MARKDOWN = "[x](javascript:window.owned=1) ![x](http://evil.invalid/x.png) **b** $\\frac{1}{2}$ :red[x] `y` :material/home:"
RIGHT_TO_LEFT = "\u202egnp.exe\u202c مرحبا بالعالم"
EMOJI = "🦊👩‍👩‍👧 é"
LONG = "long_" * 2_000
TEXTS = (SCRIPT, QUOTES, MARKDOWN, RIGHT_TO_LEFT, EMOJI, LONG)
FORMULA = '=HYPERLINK("http://evil.invalid")'
CLASSES = (SCRIPT, MARKDOWN, RIGHT_TO_LEFT, LONG)
TABLES = "[data-testid=stDataFrame]"


def rewritten(path: Path) -> None:
    """Give samples, their metadata and the run hostile names."""
    with RunWriter(path) as writer:
        rows = pa.concat_tables([pq.read_table(part) for part in Run.open(path).part_paths("samples")])
        names = rows["sample_id"].to_pylist()
        # No path of a disk holds 10,000 characters, but an id of a table does.
        names[: len(TEXTS)] = [f"{text}/{at}.jpg" for at, text in enumerate(TEXTS)]
        cameras = [TEXTS[at % len(TEXTS)] for at in range(rows.num_rows)]
        for name, values in (("sample_id", names), ("uri", names), ("meta.camera", cameras)):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type))
        old = [("samples", part.name) for part in writer.manifest.parts["samples"]]
        writer.append("samples", rows)
        writer.manifest.name = SCRIPT
        writer.manifest.notices = [MARKDOWN, SCRIPT]
        writer.manifest.model["architecture"] = QUOTES
        writer.publish(drop=old)


def reviewed(path: Path) -> None:
    """Have people say hostile things about the run's first samples, and save hostile views."""
    reviews = Reviews.of_run(path)
    contents = Catalog(Run.open(path)).query("SELECT content FROM samples")["content"].to_pylist()
    for at, text in enumerate((*TEXTS, FORMULA)):
        who, short = text[:60], text[:100]
        subjects = [Subject.sample(contents[at])]
        reviews.tag(who, subjects, short)
        reviews.note(who, subjects, text)
        reviews.judge(who, subjects, "wrong label", 1, CLASSES[1][:100])
        reviews.save_view(who, name=short, url="/browse", description=text[:1_000], order=at)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run ``a``, every text of which is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    run = make_run(folder / "a", samples=60, classes=("wolf", "husky", "fox", "cat"), seed=3, failures=2)
    add_findings(run)
    add_projections(run)
    rewritten(run)
    # Findings' filters name classes, so the classes change last and take their names along.
    manifest = run / "run.json"
    described = json.loads(manifest.read_text())
    described["classes"] = list(CLASSES)
    manifest.write_text(json.dumps(described))
    reviewed(run)
    return folder


@pytest.fixture(scope="module")
def address(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, url = serve(hostile, tmp_path_factory.mktemp("server") / "log")
    yield url
    process.terminate()
    process.wait(20)


def unharmed(page: Page) -> None:
    """Check that nothing of the run became more than text on the page as it is."""
    assert page.evaluate("window.owned") is None
    assert (
        page.locator("img[src='x'], img[src*='evil.invalid'], a[href^='javascript:'], svg[onload]").count()
        == 0
    )
    assert page.locator(".katex").count() == 0
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


PAGES = {
    "": {},
    "findings": {},
    "browse": {},
    "browse table": {"view": "table", "columns": "meta.camera"},
    "browse map": {"view": "map", "colour": "pred"},
    "browse pairs": {"group": "confusion"},
    "browse cameras": {"group": "meta.camera"},
    "browse like": {"similar": f"{SCRIPT}/0.jpg:attended"},
    "browse only": {
        "filter": Filter((OneOf("label", (SCRIPT, MARKDOWN)), OneOf("meta.camera", TEXTS[:-1]))).to_param()
    },
    "region": {"region": region_to_param(PRESETS["bottom_left"]), "share": "5"},
    "methods": {},
    "contact": {},
    "reviews": {},
    **{f"sample {at}": {"id": f"{text}/{at}.jpg"} for at, text in enumerate(TEXTS)},
}


@pytest.mark.browser
@pytest.mark.parametrize("name", list(PAGES))
def test_pages_show_texts_as_texts(browser_page: Page, address: str, name: str) -> None:
    page = browser_page
    page.goto(f"{address}/{name.split(' ', maxsplit=1)[0]}?{urlencode({'run': 'a', **PAGES[name]})}")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PAGE_TIMEOUT)
    expect(page.locator("h1").first).to_be_visible(timeout=PAGE_TIMEOUT)
    page.wait_for_timeout(800)
    unharmed(page)
    shown = page.evaluate(
        """() => {
          const texts = [], walk = (root) => root.querySelectorAll('*').forEach((one) => {
            if (one.shadowRoot) { texts.push(one.shadowRoot.textContent); walk(one.shadowRoot); }
          });
          walk(document);
          return document.body.textContent + texts.join('');
        }"""
    )
    if name != "":
        assert "onerror" in shown or "javascript:" in shown or "مرحبا" in shown
    # What hovering says: the tiles' titles, and the figure of the page.
    for place in (".tile", ".chart .area", ".js-plotly-plot .nsewdrag"):
        if page.locator(place).count():
            page.locator(place).first.hover()
            page.wait_for_timeout(200)
    unharmed(page)


@pytest.mark.browser
def test_files_to_take_away_have_tame_names(browser_page: Page, address: str, tmp_path: Path) -> None:
    page = browser_page
    page.goto(
        f"{address}/browse?{urlencode({'run': 'a', 'filter': Filter((Is('correct', False),)).to_param()})}"
    )
    expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Prepare the file").click()
    button = page.get_by_role("button", name=re.compile("Download .*csv"))
    expect(button).to_be_visible(timeout=PAGE_TIMEOUT)
    with page.expect_download() as fetched:
        button.click()
    assert re.fullmatch(r"[\w.-]{1,80}\.csv", fetched.value.suggested_filename)
    unharmed(page)


@pytest.mark.browser
def test_the_report_shows_texts_as_texts(chromium: Browser, hostile: Path, tmp_path: Path) -> None:
    run = hostile / "a"
    html = build_report(Catalog(Run.open(run)), Reviews.of_run(run))
    write_report(html, tmp_path / "audit.html")
    context = chromium.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "audit.html").as_uri())
    told = page.locator("body").inner_text()
    for text in (SCRIPT[:40], QUOTES[:20], "javascript:window", "مرحبا", EMOJI[:1]):
        assert text in told, text
    unharmed(page)
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "audit.html").as_uri()]
    context.close()


def test_a_bundle_of_it_has_tame_members_and_the_same_texts(hostile: Path, tmp_path: Path) -> None:
    run = hostile / "a"
    write_bundle(Run.open(run), tmp_path / "audit.zip", reviews=Reviews.of_run(run))
    with zipfile.ZipFile(tmp_path / "audit.zip") as bundle:
        for name in bundle.namelist():
            assert re.fullmatch(r"[\w./-]+", name), name
            assert ".." not in name
    open_bundle(tmp_path / "audit.zip", tmp_path / "there")
    there = Catalog(Run.open(tmp_path / "there"))
    assert there.manifest.classes == list(CLASSES)
    said = review_views.history(Reviews.of_run(tmp_path / "there"))
    assert len(said) == len(review_views.history(Reviews.of_run(run)))
    assert {LONG, SCRIPT, FORMULA} <= {str(entry.payload.get("text")) for entry in said}


NONSENSE = (
    "'; DROP TABLE samples; --",
    SCRIPT,
    "\x00\ud7ff",
    "[" * 5_000,
    LONG,
    '{"v":2,"all":[]}',
    '{"v":1,"all":[["is","correct",false],["sql","1=1"]]}',
    '{"v":1,"all":[["in","label",["zebra"]]]}',
    '{"v":1,"all":[["mass",{"kind":"box","points":[[1e999,0],[1,1]]},0.1,null,"gradcam","pred"]]}',
    "../../../etc/passwd",
    "-1e309",
)


@pytest.mark.parametrize("page", ["overview", "browse", "region", "methods", "contact"])
@pytest.mark.parametrize("text", NONSENSE)
def test_a_nonsense_filter_is_a_sentence(open_page: OpenPage, page: str, text: str) -> None:
    app = open_page(page, filter=text)
    assert not app.exception
    assert "was not applied" in app.warning[0].value
    assert app.title[0].value.lower().startswith(page[:6])
    whole = open_page(page)
    assert texts(whole).replace(whole.warning[0].value if whole.warning else "", "")[:60] in texts(app)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("overview", ("method", "target", "statistic", "matrix")),
        (
            "browse",
            (
                "method",
                "target",
                "sort",
                "page",
                "per_page",
                "group",
                "view",
                "similar",
                "overlay",
                "opacity",
                "tile",
            ),
        ),
        ("browse", ("columns", "features", "colour", "point")),
        ("region", ("region", "regions", "share", "op", "on", "than", "method")),
        ("methods", ("show", "method", "target")),
        ("contact", ("by", "method", "target")),
        ("findings", ("finding", "method")),
        ("sample", ("id", "show", "method", "sort", "similar")),
    ],
)
@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_anywhere_in_the_address_leaves_a_page(
    open_page: OpenPage, page: str, names: tuple[str, ...], text: str
) -> None:
    views = ("table", "map") if names[0] == "columns" else ("",)
    for view in views:
        app = open_page(page, **{**dict.fromkeys(names, text), **({"view": view} if view else {})})
        assert not app.exception
        assert app.title or app.markdown


@pytest.mark.parametrize("text", ["../a", "/etc", SCRIPT, "a/../../b", "\x00", LONG])
def test_a_run_that_is_not_served_is_a_sentence(open_page: OpenPage, text: str) -> None:
    app = open_page("browse", run=text)
    assert not app.exception
    assert not app.multiselect
    assert "animals" in texts(app)  # the runs that there are


@pytest.fixture
def one(own_runs: Path) -> tuple[Path, Catalog, str, Subject]:
    catalog = Catalog(Run.open(own_runs / "animals"))
    row = queries.page(catalog, Filter(), limit=1).to_pylist()[0]
    return own_runs / "animals" / "reviews.sqlite", catalog, row["sample_id"], Subject.sample(row["content"])


def test_reviews_that_are_locked_meanwhile(
    open_page: OpenPage,
    own_runs: Path,
    one: tuple[Path, Catalog, str, Subject],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, _, sample, subject = one
    monkeypatch.setattr("cache.reviews.BUSY_SECONDS", 0.2, raising=False)
    Reviews(path).tag("Ann", [subject], "before")
    app = someone(open_page("sample", folder=own_runs, id=sample))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        app.pills(key="sample_verdict").set_value("shortcut").run()
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert not app.exception
    assert app.error
    assert len(review_views.history(Reviews(path))) == 1


def test_reviews_that_are_deleted_meanwhile(
    open_page: OpenPage, own_runs: Path, one: tuple[Path, Catalog, str, Subject]
) -> None:
    path, _, sample, subject = one
    Reviews(path).tag("Ann", [subject], "before")
    app = someone(open_page("sample", folder=own_runs, id=sample))
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    app.pills(key="sample_verdict").set_value("shortcut").run()
    assert not app.exception
    assert app.error
    assert not path.exists()  # nothing is begun anew where something was


@pytest.mark.skipif(os.geteuid() == 0, reason="The superuser writes to what may only be read.")
def test_reviews_that_may_only_be_read(
    open_page: OpenPage, own_runs: Path, one: tuple[Path, Catalog, str, Subject]
) -> None:
    path, _, sample, subject = one
    Reviews(path).tag("Ann", [subject], "before")
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        app = someone(open_page("sample", folder=own_runs, id=sample))
        app.pills(key="sample_verdict").set_value("shortcut").run()
        assert not app.exception
        assert app.error
    finally:
        path.parent.chmod(0o755)


def someone(app: AppTest) -> AppTest:
    """Say who is reviewing."""
    return app.text_input(key="sidebar_reviewer").set_value("Ann").run()


@pytest.mark.parametrize(
    "action",
    [
        lambda reviews, name: reviews.tag(name, [Subject.sample("0" * 64)], "x"),
        lambda reviews, name: reviews.note(name, [Subject.selection(Filter())], "x"),
        lambda reviews, name: reviews.judge(name, [Subject.finding("where/1")], "shortcut"),
        lambda reviews, name: reviews.save_view(name, name="x", url="/browse"),
        lambda reviews, name: reviews.undo(name, "0"),
    ],
)
def test_whatever_a_viewer_sends_changes_nothing(
    own_runs: Path, monkeypatch: pytest.MonkeyPatch, action: object
) -> None:
    """All that pages write goes through one function, which asks who it is at that moment."""
    monkeypatch.setattr(reviewing, "person", lambda: Person("Bob (bob@example.org)", False, True))
    said: list[str] = []
    monkeypatch.setattr(reviewing, "say", said.append)
    catalog = Catalog(Run.open(own_runs / "animals"))
    monkeypatch.setattr(reviewing, "reviews_of", lambda _: Reviews.of_run(own_runs / "animals"))
    assert reviewing.write(catalog, action) is None  # type: ignore[arg-type]
    assert "not change it" in said[0]
    assert review_views.history(Reviews.of_run(own_runs / "animals")) == []


def test_only_one_function_of_the_pages_writes_reviews() -> None:
    """A page that wrote by itself would not ask who is writing."""
    writing = re.compile(r"reviews\w*(?:\([^()]*\))?\.(?:tag|untag|note|judge|save_view|undo|redo)\(")
    lines = [
        line
        for path in Path(reviewing.__file__).parent.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
    ]
    found = [line for line in lines if writing.search(line)]
    assert len(found) > 8
    assert [line for line in found if "lambda reviews" not in line] == []
