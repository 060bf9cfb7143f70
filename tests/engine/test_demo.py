"""What the demo does after its images are drawn and its network is trained, on a smaller audit with a known habit."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from cache.findings import basis_of, load_findings
from cache.run import Run
from engine import demo
from engine.cli import main
from engine.demo import audit_demo
from engine.discovery import what, where, who
from engine.verifying.cases import Case
from tests.engine import habits
from tests.engine.audits import config, write_factory


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return habits.write_images(tmp_path_factory.mktemp("demo") / "data")


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "PERMUTATIONS", 60)
    monkeypatch.setattr(what, "PERMUTATIONS", 60)
    monkeypatch.setattr(who, "RULE_PERMUTATIONS", 30)


def test_it_finds_and_proves_and_then_reuses(images: Path, tmp_path: Path) -> None:
    run = habits.audit(tmp_path / "audit", 20.0, images)
    paper = io.StringIO()
    console = Console(file=paper, width=200)
    audit_demo(run, console)
    first = paper.getvalue()
    found = load_findings(Run.open(run))
    assert found.findings[0].verdict == "shortcut"
    assert found.basis == basis_of(Run.open(run).manifest)
    assert f"Found {len(found.findings)} suspected shortcuts" in first
    assert "Its worst habit" in first
    assert "Look next at" in first
    generation = Run.open(run).manifest.generation
    audit_demo(run, console)
    second = paper.getvalue().removeprefix(first)
    assert f"{len(found.findings)} suspected shortcuts reused" in second
    assert f"0 tested · {len(found.findings)} reused" in second
    assert Run.open(run).manifest.generation == generation, "nothing was computed"


def test_the_command_ends_with_the_page(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_factory(tmp_path, habits.FACTORY.format(habit=20.0))
    settings = config(images, tmp_path / "run", model, methods="gradcam")
    monkeypatch.setattr(demo, "prepare_demo", lambda out, console: settings)
    monkeypatch.setattr(sys, "argv", ["engine", "demo", "--out", str(tmp_path / "run"), "--no-serve"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    told = capsys.readouterr().out
    assert told.rstrip().endswith(f"python -m dashboard serve {tmp_path / 'run'} --page findings")
    assert told.index("420 explained") < told.index("suspected shortcuts") < told.index("Its worst habit")
    # Stopped within the tests: what was tested is kept, and the same command goes on.
    monkeypatch.setattr(sys, "argv", ["engine", "discover", str(tmp_path / "run"), "--forget"])
    with pytest.raises(SystemExit):
        main()

    def stopped(case: Case) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Case, "tested", stopped)
        patch.setattr(sys, "argv", ["engine", "demo", "--out", str(tmp_path / "run"), "--no-serve"])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().out
