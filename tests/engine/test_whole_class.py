"""A finding that is its whole class: there is no rest of the class to hold it against, and other classes stand in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache.catalog import Catalog
from cache.findings import load_findings
from cache.run import Run
from engine.verification import verify
from tests.engine import habits


def test_a_class_s_own_features_are_no_shortcut_where_the_finding_is_the_whole_class(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(1)
    for i in range(180):
        file = tmp_path / "data" / habits.CLASSES[i % 3] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        habits.draw(generator, 2 - i % 3, marked=False).save(file)
    path = habits.audit(tmp_path / "audit", 0.0, tmp_path / "data")
    table = Catalog(Run.open(path)).query("SELECT sample_id FROM samples WHERE pred = 2 ORDER BY sample_id")
    habits.store(
        path,
        habits.finding(
            tuple(table["sample_id"].to_pylist()), kind="what", box=None, effect=0.6, q_value=0.001
        ),
    )
    verify(path)
    (found,) = load_findings(Run.open(path)).findings
    # Pasting a red patch makes images red, as often as a blue one makes them blue.
    assert found.transplant is not None
    assert found.transplant.rate is not None
    assert found.transplant.class_rate is not None
    assert found.transplant.rate > found.transplant.control_rate
    assert found.transplant.class_rate > 0.5 * found.transplant.rate
    assert found.verdict != "shortcut"
    assert any("make them their own class" in reason for reason in found.reasons)
