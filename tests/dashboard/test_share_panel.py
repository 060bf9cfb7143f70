"""The panel that hands a selection on, without a browser: what it makes, of what, and what it says when it cannot."""

from __future__ import annotations

import csv
import gc
import io
import zipfile
from pathlib import Path
from threading import Event

import pytest
from streamlit.testing.v1 import AppTest

from cache import queries
from cache.bundle_reading import open_bundle
from cache.catalog import Catalog
from cache.filters import Filter, Is
from cache.progress import Progress
from cache.queries import Sort
from cache.run import Run
from dashboard import share_panel
from dashboard.share_work import Place
from tests.dashboard.conftest import OpenPage, texts

WRONG = Filter((Is("correct", False),))


@pytest.fixture(scope="module")
def catalog(runs: Path) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def prepared(app: AppTest) -> bytes:
    """Press the button and return what the file holds that is then offered."""
    finish(app)
    assert not app.exception
    assert not app.error
    path = app.session_state["share_place"].work.path
    label = [button.label for button in app.get("download_button")][-1]
    assert label.startswith(f"Download {escaped(path.name)}")
    return path.read_bytes()


def finish(app: AppTest) -> None:
    """Press the button and wait for the file."""
    app.button(key="share_prepare").click().run()
    app.session_state["share_place"].work.wait(60)
    app.run()


def escaped(name: str) -> str:
    return name.replace("-", "\\-").replace(".", "\\.")


def test_a_table_of_the_selection_in_the_pages_order(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("browse", filter=WRONG.to_param(), sort="-confidence")
    assert "wrong predictions" in texts(app)
    rows = list(csv.DictReader(io.StringIO(prepared(app).decode())))
    assert [row["sample_id"] for row in rows] == queries.ids(
        catalog, WRONG, Sort("confidence", descending=True)
    )
    assert "gradcam.entropy" in rows[0]
    assert "layercam.entropy" not in rows[0]
    app.selectbox(key="share_statistics").set_value("all").run()
    assert not app.get("download_button")  # what was made before is something else
    rows = list(csv.DictReader(io.StringIO(prepared(app).decode())))
    assert "layercam:true.entropy" in rows[0]
    app.segmented_control(key="share_form").set_value("parquet").run()
    assert prepared(app).startswith(b"PAR1")


def test_a_report_of_the_selection(open_page: OpenPage) -> None:
    app = open_page("browse", filter=WRONG.to_param())
    app.segmented_control(key="share_kind").set_value("report").run()
    app.text_input(key="share_title").set_value("<b>mine</b>").run()
    html = prepared(app).decode()
    assert "&lt;b&gt;mine&lt;/b&gt;" in html
    assert 'id="selection-1"' in html
    assert 'id="findings"' not in html
    app.checkbox(key="share_findings").set_value(True).run()
    assert 'id="findings"' in prepared(app).decode()


def test_a_bundle_of_the_selection(open_page: OpenPage, catalog: Catalog, tmp_path: Path) -> None:
    app = open_page("browse", filter=WRONG.to_param())
    app.segmented_control(key="share_kind").set_value("bundle").run()
    (tmp_path / "a.zip").write_bytes(prepared(app))
    assert zipfile.is_zipfile(tmp_path / "a.zip")
    open_bundle(tmp_path / "a.zip", tmp_path / "there")
    there = Catalog(Run.open(tmp_path / "there"))
    assert queries.ids(there, Filter()) == queries.ids(catalog, WRONG)


def test_the_whole_run_is_shared_without_a_filter(open_page: OpenPage) -> None:
    app = open_page("browse")
    assert "the whole run" in texts(app)
    app.segmented_control(key="share_kind").set_value("report").run()
    assert app.checkbox(key="share_findings").value
    assert app.checkbox(key="share_views").value


def test_nothing_is_not_shared(open_page: OpenPage) -> None:
    app = open_page("browse", filter=Filter((Is("correct", False), Is("correct", True))).to_param())
    assert not any(button.key == "share_prepare" for button in app.button)


def test_what_is_too_large_is_left_to_the_command(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_panel, "LARGEST", 1000)
    app = open_page("browse", filter=WRONG.to_param())
    assert "more than a page hands out" in texts(app)
    app.segmented_control(key="share_kind").set_value("bundle").run()
    assert "python -m dashboard bundle animals -o audit.zip --filter" in texts(app)
    assert not any(button.key == "share_prepare" for button in app.button)


def test_a_full_disk_is_a_sentence(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("browse", filter=WRONG.to_param())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cache.exports.os.replace", full)
    finish(app)
    assert "is full" in app.error[0].value
    assert not app.get("download_button")
    assert not app.exception


def test_the_page_says_how_far_it_is_and_can_stop(tmp_path: Path) -> None:
    told, go_on = Event(), Event()

    def slow(path: Path, progress: Progress) -> None:
        for done in range(1, 100):
            progress(done, 100)
            told.set()
            assert go_on.wait(30)
        path.write_text("done")

    place = Place()
    work = place.start("of", "a.txt", slow)
    assert told.wait(30)
    assert work.running
    assert work.share == 0.01
    work.stop()
    go_on.set()
    work.wait(30)
    assert not work.running
    assert not work.ready
    assert place.start("of", "b.txt", lambda path, _: path.write_text("b")).path.parent == place.path
    assert place.work is not None
    place.work.wait(30)
    assert place.work.ready
    folder = place.path
    del place, work
    gc.collect()
    assert not folder.exists()


def test_what_nobody_expected_is_raised_where_it_is_seen() -> None:
    place = Place()
    work = place.start("of", "a.txt", lambda path, _: path / 1)  # type: ignore[operator]
    work.wait(30)
    with pytest.raises(TypeError):
        _ = work.ready
