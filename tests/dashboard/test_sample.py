from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cache import profiles, queries
from cache.catalog import Catalog
from cache.filters import Filter, Is
from cache.manifest import Manifest
from cache.queries import Sort
from cache.run import Run
from dashboard import originals
from dashboard.data import open_catalog
from dashboard.originals import (
    FETCH_VARIABLE,
    LONGEST_SIDE,
    OriginalError,
    original_path,
    original_url,
    read_original,
)
from dashboard.sample_tables import facts_html, standings_html, top_html, verdict_html
from tests.dashboard.conftest import OpenPage, texts
from tests.seeding import rng
from tests.synthetic import make_run

WRONG = Filter((Is("correct", False),))
ROW = {"uri": "a/b.jpg", "width": 64, "height": 48}


@pytest.fixture(scope="module")
def catalog(runs: Path) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def manifest(root: Path | str) -> Manifest:
    return Manifest("x", dataset={"root": str(root)})


def test_the_page_says_what_the_model_made_of_it(open_page: OpenPage, catalog: Catalog) -> None:
    row = queries.page(catalog, WRONG, Sort(), 0, 1).to_pylist()[0]
    app = open_page("sample", id=row["sample_id"])
    assert not app.exception
    shown = "\n".join(str(element.proto.body) for element in app.get("html"))
    classes = catalog.classes
    assert f"{classes[row['label']]}, wrongly predicted {classes[row['pred']]}" in shown
    for standing in profiles.standing(catalog, row["sample_id"]):
        assert standing.field.title in shown
    assert f"{100 * row['top_probabilities'][0]:.1f}%" in shown


def test_previous_and_next_stay_within_the_filter(open_page: OpenPage, catalog: Catalog) -> None:
    sort = Sort("confidence", True)
    ids = queries.ids(catalog, WRONG, sort)
    app = open_page("sample", id=ids[1], filter=WRONG.to_param(), sort="-confidence")
    assert f"2 of {len(ids)} wrong predictions" in texts(app)
    app.button(key="next").click().run()
    assert app.query_params["id"] == ids[2]
    app.button(key="previous").click().run()
    app.button(key="previous").click().run()
    assert app.query_params["id"] == ids[0]
    assert app.button(key="previous").disabled
    outside = next(i for i in queries.ids(catalog, Filter()) if i not in ids)
    assert "Not among the" in texts(open_page("sample", id=outside, filter=WRONG.to_param()))


def test_every_kind_of_sample_has_a_page(runs: Path, open_page: OpenPage, catalog: Catalog) -> None:
    empty = queries.ids(catalog, Filter((Is("degenerate", True, "gradcam", "pred"),)))
    assert empty
    app = open_page("sample", id=empty[0])
    assert not app.exception
    assert "no positive attention" in texts(app)
    assert not open_page("sample", id=empty[0], target="true").exception
    unlabelled = open_page(
        "sample", run="unlabelled", id=queries.ids(_opened(runs, "unlabelled"), Filter(), limit=1)[0]
    )
    assert not unlabelled.exception


@pytest.mark.parametrize("sample_id", ["", "no/such.jpg", "<img src=x onerror=alert(1)>", "x" * 10_000])
def test_an_unknown_sample_is_told_in_words(open_page: OpenPage, sample_id: str) -> None:
    app = open_page("sample", id=sample_id)
    assert not app.exception
    assert "No such image" in texts(app) or "No image chosen" in texts(app)


def test_an_original_below_the_root_is_shown_and_others_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    pixels = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(root / "a" / "b.png")
    Image.fromarray(pixels).save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    found = read_original(manifest(root), {**ROW, "uri": "a/b.png"})
    assert found.pixels is not None
    assert np.array_equal(found.pixels, pixels)
    for uri in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "s3://bucket/x.png", "", "."):
        assert original_path(manifest(root), uri) is None
        assert read_original(manifest(root), {**ROW, "uri": uri}).pixels is None
    assert original_path(manifest(""), "a/b.png") is None


def test_originals_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("RGB", (10, 10)).save(tmp_path / "other.png")
    for uri, words in (
        ("empty.jpg", "cannot be decoded"),
        ("text.jpg", "cannot be decoded"),
        ("gone.jpg", "not at"),
        ("other.png", "has changed"),
    ):
        original = read_original(manifest(tmp_path), {**ROW, "uri": uri})
        assert original.pixels is None
        assert words in original.reason


def test_originals_are_upright_rgb_and_not_too_large(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    left = np.zeros((40, 80, 3), np.uint8)
    left[:, :40] = 255
    Image.fromarray(left).save(tmp_path / "turned.jpg", exif=exif)
    found = read_original(manifest(tmp_path), {"uri": "turned.jpg", "width": 40, "height": 80}).pixels
    assert found is not None
    assert found.shape == (80, 40, 3)
    assert found[:30].mean() > 250
    assert found[-30:].mean() < 5
    Image.fromarray((np.arange(64 * 48).reshape(48, 64) * 20).astype(np.uint16)).save(tmp_path / "deep.png")
    deep = read_original(manifest(tmp_path), {**ROW, "uri": "deep.png"}).pixels
    assert deep is not None
    assert deep[-1, -1, 0] == int((64 * 48 - 1) * 20 / 257)
    Image.new("RGB", (2_000, 1_000), "red").save(tmp_path / "large.png")
    large = read_original(manifest(tmp_path), {"uri": "large.png", "width": 2_000, "height": 1_000}).pixels
    assert large is not None
    assert large.shape == (LONGEST_SIDE // 2, LONGEST_SIDE, 3)


def test_the_page_shows_the_original_where_the_run_names_it(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", samples=20)
    described = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    described["dataset"]["root"] = str(tmp_path / "images")
    (tmp_path / "runs" / "a" / "run.json").write_text(json.dumps(described))
    catalog = Catalog(Run.open(tmp_path / "runs" / "a"))
    row = queries.page(catalog, Filter(), Sort(), 3, 1).to_pylist()[0]
    path = tmp_path / "images" / row["uri"]
    path.parent.mkdir(parents=True)
    Image.new("RGB", (row["width"], row["height"]), "green").save(path)
    app = open_page("sample", folder=tmp_path / "runs", run="a", id=row["sample_id"])
    assert not app.exception
    assert app.segmented_control(key="picture").value == "original"
    app.segmented_control(key="picture").set_value("view").run()
    assert app.query_params["picture"] == "view"
    path.unlink()
    missing = queries.page(catalog, Filter(), Sort(), 4, 1).to_pylist()[0]
    app = open_page("sample", folder=tmp_path / "runs", run="a", id=missing["sample_id"])
    assert "any more" in texts(app)


def test_originals_on_the_net_are_not_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> bytes:
        raise AssertionError("fetched")

    monkeypatch.setattr(originals, "_fetched", refuse)
    monkeypatch.delenv(FETCH_VARIABLE, raising=False)
    found = read_original(manifest(""), {**ROW, "uri": "https://example.org/a.png"})
    assert found.pixels is None
    assert "does not fetch it" in found.reason


@pytest.mark.parametrize(
    ("root", "uri", "url"),
    [
        ("", "https://h/a.png", "https://h/a.png"),
        ("", "S3://bucket/a.png", "S3://bucket/a.png"),
        ("s3://bucket/data/", "x/a.png", "s3://bucket/data/x/a.png"),
        ("https://h/d", "../secret", None),
        ("https://h/d", "/etc/passwd", None),
        ("", "file:///etc/passwd", None),
        ("", "local:///etc/passwd", None),
        ("file:///etc", "passwd", None),
        ("", "https:///a.png", None),
        ("", "github://org:repo@/x", None),
        ("/data", "a.png", None),
    ],
)
def test_only_addresses_of_the_net_are_ever_fetched(root: str, uri: str, url: str | None) -> None:
    assert original_url(manifest(root), uri) == url


def test_fetched_originals_are_shown_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    pixels = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    store.pipe("/h/a.png", buffer.getvalue())
    store.pipe("/h/text.png", b"no image")
    monkeypatch.setenv(FETCH_VARIABLE, "1")
    monkeypatch.setattr(originals, "_options", lambda _: {})
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: _Store(store))
    found = read_original(manifest(""), {**ROW, "uri": "https://h/a.png"})
    assert found.pixels is not None
    assert np.array_equal(found.pixels, pixels)
    assert "cannot be decoded" in read_original(manifest(""), {**ROW, "uri": "https://h/text.png"}).reason
    with pytest.raises(OriginalError, match="could not be fetched"):
        read_original(manifest(""), {**ROW, "uri": "https://h/gone.png"})
    monkeypatch.setattr(originals, "LARGEST_FETCH", 100)
    with pytest.raises(OriginalError, match="too large"):
        read_original(manifest(""), {**ROW, "uri": "https://h/a.png"})


class _Store:
    """A file system whose addresses have a host."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def open(self, url: str, mode: str, **_: object) -> Any:
        return self.store.open("/" + url.partition("://")[2], mode)


def test_a_real_server_is_read_with_a_time_limit_and_without_redirects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("aiohttp")
    pixels = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow.png":
                time.sleep(3)
            elsewhere = self.path == "/elsewhere.png"
            self.send_response(302 if elsewhere else 200)
            if elsewhere:
                self.send_header("Location", "/a.png")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # whoever asked gave up
                self.wfile.write(b"" if elsewhere else buffer.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(FETCH_VARIABLE, "1")
    monkeypatch.setattr(originals, "FETCH_SECONDS", 1)
    try:
        found = read_original(manifest(base), {**ROW, "uri": "a.png"})
        assert found.pixels is not None
        assert np.array_equal(found.pixels, pixels)
        with pytest.raises(OriginalError, match="could not be fetched"):
            read_original(manifest(base), {**ROW, "uri": "slow.png"})
        assert read_original(manifest(base), {**ROW, "uri": "elsewhere.png"}).pixels is None
    finally:
        server.shutdown()
        server.server_close()


def test_tables_escape_whatever_the_run_holds(catalog: Catalog) -> None:
    hostile = "<script>alert('x')</script>"
    described = Manifest(
        "x", classes=[hostile, "b"], meta=[{"name": f"meta.{hostile}", "type": "text"}], default_method="m"
    )
    row = {
        "label": 0, "pred": 1, "correct": False, "top_classes": [1, 0], "top_probabilities": [0.7, 0.3], "uri": hostile,
        "width": 3, "height": 4, f"meta.{hostile}": hostile, "split": hostile,
    }  # fmt: skip
    for html in (verdict_html(described, row), top_html(described, row), facts_html(described, row)):
        assert "<script" not in html
        assert "&lt;script&gt;" in html
    html = standings_html(profiles.standing(catalog, queries.ids(catalog, Filter(), limit=1)[0]))
    assert html.count("<tr>") == 1 + len(catalog.method_fields())


def test_methods_side_by_side_are_chosen_in_the_url(runs: Path, open_page: OpenPage) -> None:
    app = open_page("sample", run="many", id="", show="lime,nonsense,gradcam")
    assert "No image chosen" in texts(app)
    sample_id = queries.ids(_opened(runs, "many"), WRONG, limit=1)[0]
    app = open_page("sample", run="many", id=sample_id, show="lime,nonsense,gradcam")
    assert not app.exception
    chosen = {
        pills.label: pills.value for pills in app.get("button_group") if pills.key.startswith("sample_show")
    }
    assert chosen == {"Activation": ["gradcam"], "Gradient": [], "Perturbation": ["lime"]}
    field = next(g for g in app.get("button_group") if g.label == "Gradient")
    field.set_value(["saliency"]).run()
    assert app.query_params["show"] == "gradcam,saliency,lime"
    app.button(key="sample_show_all").click().run()
    assert "show" not in app.query_params
    app.button(key="sample_show_none").click().run()
    assert "No method is chosen" in texts(app)


def test_superpixels_speak_for_both_classes(runs: Path, open_page: OpenPage) -> None:
    sample_id = queries.ids(_opened(runs, "many"), WRONG, limit=1)[0]
    app = open_page("sample", run="many", id=sample_id, k="3")
    shown = [str(element.proto.body) for element in app.get("html")]
    panels = [body for body in shown if 'class="gl-superpixels"' in body]
    assert len(panels) == 2
    assert all(body.count("<tr>") == 6 for body in panels)
    assert "36 superpixels" in texts(app)
    app.segmented_control(key="superpixel_method").set_value("kernel_shap").run()
    assert app.query_params["superpixels"] == "kernel_shap"
    assert "Kernel SHAP gives the most weight" in texts(app)
    assert "What speaks" not in texts(
        open_page("sample", id=queries.ids(_opened(runs, "animals"), WRONG, limit=1)[0])
    )


def _opened(runs: Path, run: str) -> Catalog:
    return open_catalog(runs / run)
