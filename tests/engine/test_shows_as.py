"""Content that shows in the whole image, as snow does by the brightness: where pasting proves nothing, that is imposed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.findings import Finding, load_findings
from cache.run import Run
from engine.verification import verify
from engine.verifying import cases
from tests.engine import habits


def test_content_that_pasting_does_not_prove_is_imposed_as_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = habits.audit(tmp_path / "audit", 20.0, habits.write_images(tmp_path / "data"))
    shown = habits.finding(
        habits.marked(path),
        kind="what",
        box=None,
        shows_as=("flavour", "contrast", "brightness"),
        effect=0.6,
        q_value=0.001,
    )

    def verified() -> Finding:
        habits.store(path, shown)
        verify(path)
        (found,) = load_findings(Run.open(path)).findings
        return found

    assert verified().imposed is None, "pasting proved it"
    monkeypatch.setattr(cases, "makes_the_class", lambda _: False)
    found = verified()
    assert found.imposed is not None
    assert found.imposed.rate is not None
    assert found.imposed.rate < 0.5, "the network looks at the marker, whatever the brightness"
    assert found.shows_as[0] == "brightness", "one after the other, until one proves it"
    assert any(reason.startswith("Imposing its brightness on") for reason in found.reasons)
