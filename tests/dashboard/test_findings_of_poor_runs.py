"""Runs about which little can be said: the command and the page say what, in the same sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cache.findings import load_findings, store_findings
from cache.run import Run
from cache.writer import RunWriter
from engine.cli import app
from engine.discovery import what, where, who
from tests.dashboard.conftest import OpenPage, texts
from tests.synthetic import make_run
from tests.synthetic_findings import add_findings

Change = Callable[[pa.Table], pa.Table]


def with_columns(**values: Any) -> Change:
    def change(table: pa.Table) -> pa.Table:
        for name, make in values.items():
            column = make(table)
            kind = table.schema.field(name).type
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), pa.array(column, kind)
            )
        return table

    return change


def pred(table: pa.Table) -> np.ndarray:
    return np.asarray(table["pred"].to_numpy())


def few_cats(table: pa.Table) -> pa.Table:
    cats = pred(table) == 3
    return table.filter(pa.array(~cats | (np.cumsum(cats) <= 3)))


CASES: dict[str, tuple[Change, str]] = {
    "all right": (
        with_columns(label=pred, correct=lambda t: [True] * len(t)),
        "Every labelled prediction is right",
    ),
    "all wrong": (
        with_columns(label=lambda t: (pred(t) + 1) % 4, correct=lambda t: [False] * len(t)),
        "Every labelled prediction is wrong",
    ),
    "no labels": (
        with_columns(label=lambda t: [None] * len(t), correct=lambda t: [None] * len(t)),
        "No sample has a label",
    ),
    "one class": (lambda t: t.filter(pc.equal(t["pred"], 0)), "calls every sample the same"),
    "three images": (few_cats, "cat (3)"),
    "constant": (
        with_columns(brightness=lambda t: [0.5] * len(t), contrast=lambda t: [0.1] * len(t)),
        "Brightness, Contrast: the same for all images",
    ),
    "few": (lambda t: t.slice(0, 30), "30 samples are too few"),
}


@pytest.fixture(scope="module", autouse=True)
def few_permutations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "PERMUTATIONS", 40)
        patch.setattr(what, "PERMUTATIONS", 40)
        patch.setattr(who, "RULE_PERMUTATIONS", 20)
        yield


def rewritten(path: Path, change: Change) -> Path:
    """Make a run whose samples are changed."""
    make_run(path, 200, seed=6, chunk=200)
    run = Run.open(path)
    (part,) = run.manifest.parts["samples"]
    table = pq.read_table(path / "samples" / part.name)
    with RunWriter(path) as writer:
        writer.append("samples", change(table))
        writer.publish(drop=[("samples", part.name)])
    return path


@pytest.mark.parametrize("case", CASES)
def test_the_command_and_the_page_say_it(
    case: str, tmp_path: Path, open_page: OpenPage, capsys: pytest.CaptureFixture[str]
) -> None:
    change, sentence = CASES[case]
    path = rewritten(tmp_path / "run", change)
    for name in ("discover", "findings"):
        app([name, str(path)], standalone_mode=False)
        told = " ".join(capsys.readouterr().out.split())
        assert f"Note: {sentence}" in told or sentence in told
        assert "Look " in told, "the summary ends with what to do"
    app_ = open_page("findings", folder=tmp_path, run="run")
    assert not app_.exception
    assert sentence in texts(app_).replace("\\", "")
    listed = load_findings(Run.open(path)).findings
    for finding in listed:
        shown = open_page("findings", folder=tmp_path, run="run", finding=finding.key)
        assert not shown.exception
    assert not open_page("overview", folder=tmp_path, run="run").exception


def test_a_finding_whose_originals_are_gone_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    path = add_findings(make_run(tmp_path / "run", 150, seed=4), verified=False)
    found = load_findings(Run.open(path))
    reason = "Its original images are gone, so that it could not be tested."
    gone = (replace(found.findings[0], reasons=(reason,)), *found.findings[1:])
    with RunWriter(path) as writer:
        store_findings(writer, replace(found, findings=gone))
    app_ = open_page("findings", folder=tmp_path, run="run")
    assert not app_.exception
    assert reason in texts(app_).replace("\\", "")


def test_verification_that_was_stopped_is_told_with_how_to_go_on(open_page: OpenPage, tmp_path: Path) -> None:
    path = add_findings(make_run(tmp_path / "run", 150, seed=4))
    found = load_findings(Run.open(path))
    first, *rest = found.findings
    rest = [replace(f, verdict="untested", deletion=None, transplant=None, imposed=None) for f in rest]
    with RunWriter(path) as writer:
        store_findings(writer, replace(found, findings=(first, *rest)))
    app_ = open_page("findings", folder=tmp_path, run="run")
    assert "1 of 5 findings has been tested" in app_.info[0].value
    assert f"python -m engine verify {path}" in app_.info[0].value
