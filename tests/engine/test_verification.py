"""`verify`: networks with a known habit are caught, others cleared; what is gone, changed or interrupted is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cache.bundle_privacy import Privacy
from cache.errors import ConfigError, DatasetError, ModelError, RunMismatchError
from cache.findings import Finding, load_findings
from cache.manifest import Manifest
from cache.run import Run
from cache.summaries import Totals, summary_sentences
from engine import verification
from engine.cli import app
from engine.verification import verify
from engine.verifying.cases import Case
from engine.verifying.reopening import recalled, remembered
from engine.verifying.subjects import Subject
from engine.verifying.transplant import shapes_of
from tests.engine import habits
from tests.engine.audits import config

ERRORS = {"effect": 0.6, "q_value": 0.001}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return habits.write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A run of the network that looks at the corner."""
    return habits.audit(tmp_path_factory.mktemp("looking"), 20.0, images)


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A run of the network that ignores it."""
    return habits.audit(tmp_path_factory.mktemp("ignoring"), 0.0, images)


@pytest.fixture
def run(looking: Path, tmp_path: Path) -> Path:
    """A copy of the first run, with one finding about its habit."""
    shutil.copytree(looking, tmp_path / "run")
    habits.store(tmp_path / "run", habits.finding(habits.marked(looking), **ERRORS))
    return tmp_path / "run"


def only(path: Path) -> Finding:
    (found,) = load_findings(Run.open(path)).findings
    return found


def test_a_network_that_looks_at_the_corner_is_caught(run: Path) -> None:
    result = verify(run)
    found = only(run)
    assert found.verdict == "shortcut"
    assert found.transplant is not None
    assert found.deletion is not None
    assert found.transplant.rate == 1.0
    assert found.transplant.control_rate == 0.0
    assert found.transplant.low is not None
    assert found.transplant.low > 0.2
    assert found.transplant.class_rate == 0.0
    # A third of the marked images are red besides: covering the marker leaves them red.
    assert found.deletion.rate == pytest.approx(2 / 3, abs=0.2)
    assert result.tested == 1
    assert any("a proven shortcut" in sentence for sentence in result.summary)


def test_the_same_without_errors_is_relied_on_only(run: Path) -> None:
    habits.store(run, habits.finding(habits.marked(run)))
    verify(run)
    assert only(run).verdict == "relied on"


def test_near_identity_proves_it_where_it_makes_no_errors(run: Path) -> None:
    habits.store(run, habits.finding(habits.marked(run), likeness=0.95))
    verify(run)
    assert only(run).verdict == "shortcut"


def test_images_that_a_filter_missed_are_not_the_rest_of_a_near_identical_class(run: Path) -> None:
    ids = tuple(sample_id for sample_id in habits.marked(run) if not sample_id.startswith("red/"))
    rates = []
    for likeness in (None, 0.95):
        habits.store(run, habits.finding(ids, likeness=likeness, **ERRORS))
        verify(run)
        transplant = only(run).transplant
        assert transplant is not None
        rates.append(transplant.class_rate)
    # A third of the red images carry the marker too; compared with them, the marker would be compared with itself.
    assert rates[0] is not None
    assert rates[0] > 0.1
    assert rates[1] == 0.0


def test_where_objects_are_known_the_rest_of_the_class_attends_to_them(tmp_path: Path) -> None:
    data = habits.write_images(tmp_path / "data", 240)
    rows = ["path,label,mask"]
    for file in sorted(data.glob("*/*.png")):
        pixels = np.asarray(habits.Image.open(file))
        name = file.relative_to(data).as_posix()
        mask = tmp_path / "data" / "masks" / name.replace("/", "-")
        mask.parent.mkdir(exist_ok=True)
        habits.Image.fromarray((pixels.max(axis=2) == 230).astype(np.uint8) * 255).save(mask)
        rows.append(f"{name},{file.parent.name},masks/{mask.name}")
    (data / "table.csv").write_text("\n".join(rows))
    path = habits.audit(tmp_path / "audit", 20.0, data / "table.csv")
    ids = tuple(i for i in habits.marked(path) if not i.startswith("red/"))
    habits.store(path, habits.finding(ids, **ERRORS))
    verify(path)
    found = only(path)
    # Red images with the marker attend to it, beside their object: they are not the class's real features.
    assert found.transplant is not None
    assert found.transplant.class_rate == 0.0
    assert found.verdict == "shortcut"


def test_a_network_that_ignores_the_corner_is_cleared(ignoring: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(ignoring, tmp_path / "run"))
    # The finding accuses the corner all the same, with errors that go with it and stamps that are alike.
    habits.store(path, habits.finding(habits.marked(path), likeness=0.95, **ERRORS))
    verify(path)
    found = only(path)
    assert found.verdict == "refuted", found
    assert found.transplant is not None
    assert found.transplant.rate == 0.0


def test_content_that_moves_is_cut_where_each_map_says(run: Path) -> None:
    habits.store(run, habits.finding(habits.marked(run), kind="what", box=None, **ERRORS))
    verify(run)
    found = only(run)
    # The network reads its corner alone, so that the patch works where it lay: at most in the corner.
    assert found.transplant is not None
    assert found.transplant.rate is not None
    assert found.transplant.rate > 0.9
    assert found.verdict == "shortcut"
    assert any("What was pasted" in reason for reason in found.reasons)


def test_a_property_of_the_whole_image_is_imposed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    generator = np.random.default_rng(3)
    for i in range(180):
        path = data / ("red", "green", "blue")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.asarray(habits.draw(generator, i % 3, False)).astype(float)
        if i % 3 == 0:  # a red cast is what the network calls red
            image = 0.6 * image + 0.4 * np.array([250, 20, 20])
        habits.Image.fromarray(image.astype(np.uint8)).save(path)
    path = habits.audit(tmp_path / "audit", 0.0, data)
    ids = tuple(f"red/{i}.png" for i in range(0, 180, 3) if i % 2 == 0)
    whole = {"kind": "who", "box": None, "property": "hue"}
    habits.store(path, habits.finding(ids, **whole, **ERRORS))
    verify(path)
    found = only(path)
    assert found.transplant is None
    assert found.imposed is not None
    assert found.imposed.rate == 1.0
    assert found.imposed.control_rate == 0.0
    assert found.deletion is not None
    assert found.deletion.rate is not None
    assert found.deletion.rate > 0.9
    # The rest of the class has the same cast: what they share is the class, not a habit of the finding.
    assert found.imposed.class_rate == 1.0
    assert found.verdict == "relied on"


def test_an_unknown_property_is_left_untested(run: Path) -> None:
    habits.store(run, habits.finding(habits.marked(run), box=None, property="flavour"))
    assert verify(run).untestable == 1
    assert only(run).verdict == "untested"
    assert "flavour" in " ".join(only(run).reasons)


def test_verifying_twice_gives_the_same_and_computes_nothing(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    verify(run)
    verify(copy, batch_size=3)
    assert only(run) == only(copy)
    generation = Run.open(run).manifest.generation
    result = verify(run)
    assert (result.tested, result.kept) == (0, 1)
    assert Run.open(run).manifest.generation == generation


def test_interrupted_verification_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = habits.marked(run)
    first, second = habits.finding(ids, **ERRORS), habits.finding(ids[:20], title="the same, fewer", **ERRORS)
    habits.store(run, first, second)
    tested, calls = Case.tested, []

    def stop_at_the_second(case: Case) -> Finding:
        calls.append(case.finding.rank)
        if case.finding.rank == 2:
            raise KeyboardInterrupt
        return tested(case)

    monkeypatch.setattr(Case, "tested", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        verify(run)
    assert [f.verdict for f in load_findings(Run.open(run)).findings] == ["shortcut", "untested"]
    monkeypatch.setattr(Case, "tested", lambda case: calls.append(case.finding.rank) or tested(case))
    result = verify(run)
    assert (result.tested, result.kept) == (1, 1)
    assert calls == [1, 2, 2]
    assert {f.verdict for f in load_findings(Run.open(run)).findings} == {"shortcut"}


def test_some_findings_only(run: Path) -> None:
    ids = habits.marked(run)
    habits.store(run, habits.finding(ids[:10]), habits.finding(ids, title="asked for", **ERRORS))
    assert verify(run, ranks=[2]).tested == 1
    found = load_findings(Run.open(run)).findings
    # What is proven comes first afterwards.
    assert [(f.rank, f.title, f.verdict) for f in found] == [
        (1, "asked for", "shortcut"),
        (2, "red: lower left corner", "untested"),
    ]
    with pytest.raises(ConfigError, match="no finding 7"):
        verify(run, ranks=[7])


def test_a_run_without_a_list_says_how_to_make_one(looking: Path) -> None:
    with pytest.raises(ConfigError, match="engine discover"):
        verify(looking)


def test_originals_that_moved_are_found_and_those_that_went_are_missed(tmp_path: Path) -> None:
    path = habits.audit(tmp_path / "audit", 20.0)
    habits.store(path, habits.finding(habits.marked(path), **ERRORS))
    moved = (tmp_path / "audit" / "data").rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="--data-root") as error:
        verify(path)
    assert "can still be looked at" in str(error.value)
    assert only(path).verdict == "untested"
    verify(path, data_root=str(moved))
    assert only(path).verdict == "shortcut"


def test_a_finding_whose_originals_are_gone_is_left_untested(tmp_path: Path) -> None:
    path = habits.audit(tmp_path / "audit", 20.0)
    ids = habits.marked(path)
    rest = tuple(f"red/plain-{i:04d}.png" for i in range(5, 200, 9))
    habits.store(path, habits.finding(ids, **ERRORS), habits.finding(rest, title="the patch", box=None))
    for sample_id in ids:
        (tmp_path / "audit" / "data" / sample_id).unlink()
    result = verify(path)
    found = {f.title: f for f in load_findings(Run.open(path)).findings}
    gone = found["red: lower left corner"]
    assert gone.verdict == "untested"
    assert "gone" in gone.reasons[0]
    assert found["the patch"].verdict != "untested"
    assert result.untestable == 1
    assert any("could not be read" in notice for notice in result.notices)


def test_other_images_under_the_same_names_are_refused(tmp_path: Path) -> None:
    path = habits.audit(tmp_path / "audit", 20.0)
    habits.store(path, habits.finding(habits.marked(path), **ERRORS))
    for file in (tmp_path / "audit" / "data").glob("*/*.png"):
        habits.Image.new("RGB", (32, 32), (0, 0, 200)).save(file)
    with pytest.raises(RunMismatchError, match="predicts other classes"):
        verify(path)


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = habits.audit(tmp_path / "audit", 20.0)
    habits.store(path, habits.finding(habits.marked(path)))
    habits.write_factory(tmp_path / "audit", habits.FACTORY.format(habit=3.0))
    with pytest.raises(RunMismatchError, match="not the one"):
        verify(path)
    (tmp_path / "audit" / "network.py").unlink()
    with pytest.raises(ModelError, match="no file"):
        verify(path)


def test_the_manifest_says_how_to_open_the_model_again(looking: Path, tmp_path: Path) -> None:
    manifest = Run.open(looking).manifest
    assert Path(recalled(manifest)["model"].rpartition(":")[0]).is_absolute()
    given = config("data", tmp_path, "torchvision:resnet18", checkpoint="weights.pt", split="test")
    kept = remembered(given)
    assert Path(kept["checkpoint"]).is_absolute()
    assert kept["split"] == "test"
    assert remembered(config("torchvision:MNIST@there", tmp_path, "m:f"))["data"].startswith(
        "torchvision:MNIST@/"
    )
    # A run from before keeps only its command line.
    old = Manifest("old", model={"source": "timm:x"})
    old.history = [{"command": "python -m engine explain --data 'a b' --model timm:x --checkpoint w.pt"}]
    assert recalled(old) == {"data": "a b", "model": "timm:x", "checkpoint": "w.pt"}


def test_a_bundle_does_not_tell_where_the_model_lay(tmp_path: Path) -> None:
    folder = tmp_path / "private things"
    given = config(folder / "data", tmp_path / "run", f"{folder}/net.py:make", checkpoint=folder / "my w.pt")
    manifest = Manifest("run", dataset={"source": "elsewhere", "root": "", "config": remembered(given)})
    kept = Privacy(manifest, tmp_path / "run").manifest(manifest)["dataset"]["config"]
    assert kept == {"data": "data", "model": "net.py:make", "checkpoint": "my w.pt"}


def test_few_receivers_and_unlabelled_runs_say_what_they_can(tmp_path: Path) -> None:
    data = habits.write_images(tmp_path / "data", 60)
    shutil.rmtree(data / "blue")
    shutil.rmtree(data / "green")
    path = habits.audit(tmp_path / "audit", 20.0, data)
    habits.store(path, habits.finding(habits.marked(path), **ERRORS))
    verify(path)
    found = only(path)
    assert found.transplant is not None
    assert found.transplant.n == 0
    assert found.verdict == "inconclusive"
    assert any("could not be tried" in reason for reason in found.reasons)


def test_the_command_says_everything_in_words(run: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["verify", str(run), "--device", "cpu", "--batch-size", "16"])
    assert result.exit_code == 0, result.output
    assert "1  shortcut" in result.output
    assert "1 finding tested" in result.output
    assert "Its worst habit" in result.output
    assert "python -m dashboard serve" in result.output
    again = runner.invoke(app, ["verify", str(run), "--findings", "1"])
    assert "1 reused" in again.output
    wrong = runner.invoke(app, ["verify", str(run), "--findings", "one"])
    assert isinstance(wrong.exception, ConfigError)


def test_results_stay_readable_as_json(run: Path) -> None:
    verify(run)
    data = json.loads(json.dumps(only(run).to_json(("blue", "green", "red")), allow_nan=False))
    assert data["transplant"]["class_rate"] == 0.0
    assert data["verdict"] == "shortcut"
    assert data["evidence"]["deletion_mean"] == pytest.approx(2 / 3, abs=0.2)


def test_a_list_that_changed_meanwhile_is_not_overwritten(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = verification.open_model

    def replaced(*args: object, **options: object) -> object:
        habits.store(run, habits.finding(habits.marked(run)[:9], title="new"))
        return opened(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "open_model", replaced)
    with pytest.raises(RunMismatchError, match="anew"):
        verify(run)
    assert only(run).title == "new"


def test_the_shape_of_a_frame_is_tried_where_all_edges_are_attended_to() -> None:
    frame = np.ones((14, 14))
    frame[1:-1, 1:-1] = 0
    view = np.zeros((32, 32, 3), np.uint8)
    edge, corner = (
        Subject("a", "a", 0, view, density / density.sum(), None) for density in (frame, np.eye(14))
    )
    found = replace(habits.finding(()), box=None)
    assert [shape.name for shape in shapes_of(found, [edge])][-1] == "the frame"
    assert "the frame" not in [shape.name for shape in shapes_of(found, [corner])]


@pytest.mark.parametrize("verdict", ["shortcut", "relied on", "inconclusive", "refuted", "untested"])
def test_the_summary_speaks_for_every_verdict(verdict: str) -> None:
    totals = Totals(100, 100, 30, {0: (50, 45), 2: (50, 25)})
    found = replace(habits.finding(("a",), effect=0.5), verdict=verdict)
    said = summary_sentences([found], totals, ("blue", "green", "red"))
    assert said[0] == "The model is right on 70% of 100 labelled images."
    assert "blue best (90% right) and red worst (50%)" in said[1]
    assert said[-1].startswith("Look next at")
    assert ("where errors are 50 points more frequent;" in said[-1]) == (verdict == "shortcut")
    assert ("Its worst habit" in said[2]) == (verdict in ("shortcut", "relied on"))


def test_the_summary_of_runs_that_can_say_little() -> None:
    assert "has a label" in summary_sentences([], Totals(5, 0, 0, {}), ())[0]
    assert "made no mistake yet" in summary_sentences([], Totals(5, 5, 0, {0: (5, 5)}), ("a",))[0]
    assert "No habit was found" in summary_sentences([], Totals(5, 5, 1, {0: (5, 4)}), ("a",))[1]
