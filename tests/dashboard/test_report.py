"""The report: all that an audit found in one file, every word of it as text, and nothing that says where things lay."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from cache import queries
from cache.catalog import Catalog
from cache.errors import ConfigError, RunStorageError
from cache.filters import Filter, Is, OneOf
from cache.reviews import Reviews
from cache.run import Run
from dashboard.report import Contents, build_report, write_report
from dashboard.report_content import Asked
from tests.dashboard.audits import HOSTILE, OPEN, SECRETS, make_audit
from tests.dashboard.conftest import ROOT
from tests.synthetic import make_run


class Reading(HTMLParser):
    """What a browser makes of a report: its elements with their attributes, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def report(audit: Path) -> str:
    return build_report(Catalog(Run.open(audit)), Reviews.of_run(audit))


def pictures(html: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", html)]


def test_nothing_says_where_things_lay(audit: Path, report: str) -> None:
    images = pictures(report)
    assert len(images) > 40
    told = report + "".join(image.decode("latin-1") for image in images)
    for needle in (*SECRETS, str(audit.parents[1]), str(Path.home()) + "/"):
        assert needle not in told, report[max(0, report.find(needle) - 100) :][:250]
    assert OPEN in report
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            assert not opened.getexif()


def test_everybodys_words_are_text(report: str) -> None:
    page = Reading(report)
    assert HOSTILE in page.text  # a class's name
    assert f"First {HOSTILE}" in page.text  # a view's
    assert f"see x.jpg and q.jpg {HOSTILE} مرحبا 🦊" in page.text  # a note
    assert f"{HOSTILE} : wrong label → fox" in page.text  # a reviewer
    assert not page.of("script")
    assert all(source["src"].startswith("data:") for source in page.of("img") if source["src"] is not None)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any("url(" in words for words in page.words)
    assert {link["rel"] for link in page.of("link")} == {"icon"}
    policy = next(meta for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_it_says_what_the_audit_found(audit: Path, report: str) -> None:
    catalog = Catalog(Run.open(audit))
    counts = queries.count(catalog, Filter())
    page = Reading(report)
    assert f"{counts.wrong:,} of {counts.labelled:,} labelled" in page.text
    order = [
        page.text.rindex(title)
        for title in ("looking at the lower left corner", "Like a.jpg", "First <img", "Second", "Elsewhere")
    ]
    assert order == sorted(order)
    assert "controls 10% · difference 95 %: +40 to +80 · n = 40" in page.text
    assert "controls 5% · rest of the class 10% · difference 95 %: +30 to +60 · n = 80" in page.text
    assert "95 %: +20 to +60" in page.text
    assert "Half of animals has no mask." in page.text
    assert "Ask for better labels." in page.text
    assert "There is no class “zebra”" in page.text
    assert "Layer-CAM for the predicted class" in page.text
    assert "snow & ice" in page.text
    assert "weights best.pt" in page.text
    assert "masks = masks.npy" in page.text
    assert "0" * 16 in page.text
    assert "python -m engine explain --data animals --out audit" in page.text
    assert all(image["alt"] is not None for image in page.of("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))
    assert len(report) < 3_000_000


def test_a_selection_is_a_report_of_its_own(audit: Path) -> None:
    catalog = Catalog(Run.open(audit))
    chosen = Filter((OneOf("pred", ("wolf",)),))
    contents = Contents("My <b>title</b>", (Asked(chosen),), findings=False, views=False, reviews=False)
    steps: list[tuple[int, int]] = []
    page = Reading(build_report(catalog, Reviews.of_run(audit), contents, lambda *at: steps.append(at)))
    n = queries.count(catalog, chosen).n
    assert "My <b>title</b>" in page.text
    assert f"{n:,} ({n / 120:.1%} of the run)" in page.text
    assert "Second" not in page.text
    assert "lower left corner" in page.text  # the summary names the worst habit
    assert "Suspected shortcuts" not in page.text
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_runs_without_labels_methods_or_reviews(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", samples=20, labelled=False, masks=False)
    page = Reading(build_report(Catalog(Run.open(run)), Reviews.of_run(run)))
    assert "No image has a label" in page.text
    assert "Nobody has looked for shortcuts" in page.text
    empty = Filter((Is("correct", True),))
    contents = Contents(selections=(Asked(empty),), findings=False, views=False, reviews=False)
    page = Reading(build_report(Catalog(Run.open(run)), Reviews.of_run(run), contents))
    assert "No image of the run meets this." in page.text


def test_a_thousand_classes_stay_readable(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", samples=300, classes=[f"class {i} {'x' * 80}" for i in range(120)])
    html = build_report(Catalog(Run.open(run)), Reviews.of_run(run))
    assert "Confusion matrix of 20 classes" in html
    assert len(Reading(html).of("tr")) < 70


def test_another_file_is_never_replaced(report: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    size = write_report(report, path)
    assert path.stat().st_size == size
    write_report(report.replace("<h2>", "<h2> "), path)
    assert path.stat().st_size > size
    (tmp_path / "photo.html").write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="is no report"):
        write_report(report, tmp_path / "photo.html")
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(report, tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        write_report(report, tmp_path / "nowhere" / "a.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.html", "photo.html"]


def test_a_full_disk_is_a_sentence(report: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunStorageError, match="is full"):
        write_report(report, tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "nothing does not exist: start one with"),
        (["RUN", "-o", "RUN"], "is a folder: name a file for the report with -o."),
        (["RUN", "--filter", '{"v":7,"all":[]}'], "The link's filter has version 7"),
        (["RUN", "--filter", '{"v":1,"all":[["in","pred",["zebra"]]]}'], "There is no class “zebra”"),
        ([], "Missing argument 'RUN'"),
    ],
)
def test_mistakes_are_a_sentence(audit: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "report", *(str(audit) if w == "RUN" else w for w in words)],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
