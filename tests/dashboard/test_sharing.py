"""The commands that hand an audit on: from one machine to another and back, and a sentence for what goes wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cache import queries, review_views
from cache.bundle_checks import ORIGINALS
from cache.catalog import Catalog
from cache.filters import Filter, Is
from cache.review_events import Subject
from cache.reviews import Reviews
from cache.run import Run
from cache.writer import RunWriter
from dashboard.sharing import read_filter, reviews_of, size_text
from tests.dashboard.conftest import ROOT
from tests.dashboard.test_original_files import SECRET, saved
from tests.seeding import rng
from tests.synthetic import make_run

WRONG = Filter((Is("correct", False),))


def dashboard(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dashboard", *map(str, words)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "audit", 90, seed=int(rng.integers(1000)))


def test_there_and_back_again(run: Path, tmp_path: Path) -> None:
    """Make a bundle, open it elsewhere, review there, and take that back: nobody's words are lost or altered."""
    content = Catalog(Run.open(run)).query("SELECT content FROM samples")["content"][0].as_py()
    subject = Subject.sample(content)
    Reviews.of_run(run).note("Ann", [subject], "here before")
    done = dashboard("bundle", run, "-o", "audit.zip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "90 samples and 1 line of reviews" in done.stdout
    assert "python -m dashboard open audit.zip" in done.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = dashboard("open", "../audit.zip", "--no-serve", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    there = elsewhere / "runs" / "audit"
    Reviews.of_run(there).note("Bo", [subject], "from elsewhere")
    Reviews.of_run(run).note("Ann", [subject], "here meanwhile")
    assert dashboard("bundle", there, "-o", tmp_path / "back.zip", cwd=elsewhere).returncode == 0
    for _ in range(2):  # merging again changes nothing
        done = dashboard("merge", run, "back.zip", there, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        notes = review_views.marks(Reviews.of_run(run), [subject])[subject].notes
        assert sorted(note.text for note in notes) == ["from elsewhere", "here before", "here meanwhile"]
    assert "back.zip: 0 new reviews, 2 known already." in done.stdout


def test_a_selection_with_its_originals(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = Catalog(Run.open(run)).query("SELECT * FROM samples").to_pylist()
    with RunWriter(run) as writer:
        writer.manifest.dataset["root"] = str(data)
        writer.save()
    for row in rows[1:]:
        path = data / row["uri"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(Image.new("RGB", (row["width"], row["height"]), "teal"), "JPEG"))
    link = f"http://127.0.0.1:8501/browse?run=a&filter={WRONG.to_param()}"
    done = dashboard("bundle", run, "-o", "a.zip", "--filter", link, "--originals", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = queries.ids(Catalog(Run.open(run)), WRONG)
    assert f"{len(wrong)} of 90 samples" in done.stdout
    assert SECRET.encode() not in (tmp_path / "a.zip").read_bytes()
    assert dashboard("open", "a.zip", "--into", "there", "--no-serve", cwd=tmp_path).returncode == 0
    assert queries.ids(Catalog(Run.open(tmp_path / "there")), Filter()) == wrong
    originals = list((tmp_path / "there" / ORIGINALS).iterdir())
    assert originals
    for path in originals:
        assert SECRET.encode() not in path.read_bytes()


def test_bundles_that_cannot_be_opened(run: Path, tmp_path: Path) -> None:
    assert dashboard("bundle", run, "-o", "good.zip", cwd=tmp_path).returncode == 0
    good = (tmp_path / "good.zip").read_bytes()
    at = int(rng.integers(len(good)))
    slip = io.BytesIO()
    with zipfile.ZipFile(slip, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    files = {
        "text.zip": (b"not a zip", "was not made by Gazelake"),
        "slip.zip": (slip.getvalue(), "is damaged"),  # one with a fitting seal is refused in tests/cache
        "half.zip": (good[: len(good) // 2], "is damaged"),
        "flipped.zip": (good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :], ""),
    }
    before = set(tmp_path.iterdir())
    for name, (data, sentence) in files.items():
        (tmp_path / name).write_bytes(data)
        refused(dashboard("open", name, "--no-serve", cwd=tmp_path), sentence)
        (tmp_path / name).unlink()
        assert set(tmp_path.iterdir()) == before
    refused(dashboard("open", "nothing.zip", "--no-serve", cwd=tmp_path), "There is no file nothing.zip")
    refused(dashboard("open", "good.zip", "--into", "a/b", "--no-serve", cwd=tmp_path), "There is no folder")
    (tmp_path / "mine").mkdir()
    refused(dashboard("open", "good.zip", "--into", "mine", "--no-serve", cwd=tmp_path), "exists already")
    refused(dashboard("open", "good.zip", "--port", "99999", cwd=tmp_path), "is not a port")
    assert not (tmp_path / "runs").exists()
    assert dashboard("open", "good.zip", "--no-serve", cwd=tmp_path).returncode == 0
    refused(dashboard("open", "good.zip", "--no-serve", cwd=tmp_path), "serve runs/good")
    refused(dashboard("bundle", run, "-o", "good.zip", cwd=tmp_path), "exists already")
    nobody = '{"v":1,"all":[["is","correct",true],["is","correct",false]]}'
    refused(
        dashboard("bundle", run, "-o", "b.zip", "--filter", nobody, cwd=tmp_path),
        "No sample of the run meets",
    )
    refused(dashboard("merge", run, "nothing.zip", cwd=tmp_path), "neither a bundle nor a run")
    refused(dashboard("merge", "nothing", "good.zip", cwd=tmp_path), "does not exist")
    assert (tmp_path / "good.zip").read_bytes() == good


def test_a_filter_is_read_out_of_a_link(run: Path) -> None:
    manifest = Run.open(run).manifest
    assert read_filter(WRONG.to_param(), manifest) == WRONG
    assert read_filter("https://example.org/gazelake/browse?run=a", manifest) == Filter()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (43_210_000, "43 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes_are_read_by_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_reviews_are_read_where_the_configuration_keeps_them(run: Path) -> None:
    (run.parent / "words").mkdir()
    (run.parent / "gazelake.toml").write_text('[reviews]\nfolder = "words"\n')
    kept = reviews_of(run)
    assert kept.path == run.parent / "words" / f"{Run.open(run).manifest.run_id}.sqlite"
